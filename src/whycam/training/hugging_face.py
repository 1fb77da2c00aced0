"""The callback for transformers' `Trainer`."""

from importlib import import_module
from typing import Any

from whycam.errors import missing
from whycam.training.late import Late
from whycam.training.overlays import OverlayLogger


class HuggingFaceCallback(Late):
    """A `TrainerCallback` of transformers': overlays before the training and after every n-th epoch.

    They are made in evaluation mode, and the training goes on as if nothing had been asked; see `OverlayLogger`. Made,
    it derives from `transformers.TrainerCallback`.

    Args:
        images, logger: as for `OverlayLogger`: a trainer's callbacks do not see its loggers, so pass a `SummaryWriter`,
            or the module `wandb` or `mlflow` where the trainer reports there.
        every_n_epochs: how often.
        options: the rest of `OverlayLogger`'s: `target=`, `preprocess=` (the image processor), ...

    Raises:
        MissingExtraError: transformers is not installed.
        WhycamError: as for `OverlayLogger`.

    Examples:
        >>> callback = whycam.training.HuggingFaceCallback(batch, lambda tag, picture, step: ..., every_n_epochs=5)
        >>> callback.overlays.every
        5
    """

    def __init__(self, images: Any, logger: Any, *, every_n_epochs: int = 1, **options: Any) -> None:
        self.overlays = OverlayLogger(images, logger, every=every_n_epochs, **options)

    @staticmethod
    def _bases() -> tuple[type, ...]:
        try:
            return (import_module("transformers").TrainerCallback,)
        except ModuleNotFoundError as error:
            raise missing("transformers", "hf", "HuggingFaceCallback") from error

    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:
        """Log what is there before the training."""
        self._log(state, model)

    def on_epoch_end(self, args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:
        """Log if as many epochs are done."""
        self._log(state, model)

    def _log(self, state: Any, model: Any) -> None:
        self.overlays(model, round(state.epoch or 0), state.global_step)
