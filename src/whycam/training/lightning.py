"""Lightning's callback, of `lightning` and of `pytorch_lightning`."""

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from whycam.errors import MissingExtraError, WhycamError
from whycam.training.late import Late
from whycam.training.loggers import way_to
from whycam.training.overlays import OverlayLogger

_PACKAGES = ("lightning.pytorch", "pytorch_lightning")


class LightningCallback(Late):
    """A callback for Lightning's `Trainer`: overlays before the training and after every n-th epoch.

    They are made behind the epoch's validation, in evaluation mode, and the training goes on as if nothing had been
    asked; see `OverlayLogger`. Made, it derives from the `Callback` of whichever package is in use, `lightning` or
    `pytorch_lightning`.

    Args:
        images: as for `OverlayLogger`.
        logger: likewise; the trainer's own loggers unless said, those that take pictures.
        every_n_epochs: how often.
        options: the rest of `OverlayLogger`'s: `target=`, `method=`, `module=`, `preprocess=`, ...

    Raises:
        MissingExtraError: Lightning is not installed.
        WhycamError: as for `OverlayLogger`; when the training begins, also a trainer none of whose loggers takes
            pictures.

    Examples:
        >>> callback = whycam.training.LightningCallback(batch, every_n_epochs=5)   # for Trainer(callbacks=[callback])
        >>> callback.overlays.every
        5
    """

    def __init__(self, images: Any, logger: Any = None, *, every_n_epochs: int = 1, **options: Any) -> None:
        self.asks_trainer = logger is None
        self.overlays = OverlayLogger(images, _nowhere if logger is None else logger, every=every_n_epochs, **options)

    @staticmethod
    def _bases() -> tuple[type, ...]:
        there = [each for each in _PACKAGES if find_spec(each.partition(".")[0])]
        if not there:
            raise MissingExtraError("LightningCallback needs Lightning, which is not installed: pip install lightning")
        in_use = [each for each in there if each in sys.modules]
        return (import_module([*in_use, *there][0]).Callback,)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Find the trainer's loggers, and log what is there before the training."""
        if self.asks_trainer:
            self.overlays.logger = _taking_pictures(trainer.loggers)
        self.overlays(pl_module, trainer.current_epoch, trainer.global_step)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Log if as many epochs are done."""
        self.overlays(pl_module, trainer.current_epoch + 1, trainer.global_step)


def _nowhere(tag: str, picture: Any, step: int) -> None:
    """Stands for the trainer's loggers until these are known."""


def _taking_pictures(loggers: list[Any]) -> list[Any]:
    found = []
    for each in loggers:
        try:
            way_to(each)
        except WhycamError:
            continue  # such as one that writes CSV
        found.append(each)
    if not found:
        names = ", ".join(type(each).__name__ for each in loggers)
        raise WhycamError(
            f"none of the trainer's loggers takes pictures ({names or 'it has none'}); give the trainer one that does, "
            "such as a TensorBoardLogger, or pass LightningCallback(images, logger)."
        )
    return found
