"""The plain helper: overlays of a fixed set of images, every n epochs, from a model that notices nothing of it."""

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed, nn

from whycam.engine.request import MethodLike
from whycam.errors import OptionError, WhycamError
from whycam.explainer import Explainer
from whycam.kit.registry import find
from whycam.models.adopt import Labels, ModelLike
from whycam.models.vision_model import PreprocessLike
from whycam.pictures.photos import read_photo
from whycam.results.drawing import with_words
from whycam.results.explanation import Explanation
from whycam.training.loggers import way_to


class OverlayLogger:
    """Logs overlays of a few images that stay the same, every n epochs, so that one sees what a network goes by.

    It is called where you like: between epochs or inside validation, in training or evaluation mode, under `no_grad`,
    `inference_mode` or autocast. The network is explained as it predicts: in evaluation mode, in which each module is
    put for the moment. Weights, buffers, gradients, modes and random numbers are as they were afterwards, so that
    training goes on as if nothing had been asked. Of several processes the first one logs.

    Below each picture stand the prediction, what is explained, and the map's status. What cannot be explained or logged
    never stops a training: the reason is a warning, once.

    Args:
        images: as for `whycam.explain`: a batch `(N, C, *spatial)` as the model takes it, or photos. Files are read
            now, once.
        logger: a `SummaryWriter` of TensorBoard, a run of Weights & Biases or the module `wandb` (where the step is a
            value of its own, `whycam/step`), the module `mlflow`, a logger of Lightning's around one of these, any
            object with `add_image` or `log_image`, or a function of (tag, picture, step), the picture a uint8 array
            `(height, width, 3)`; or a list of these.
        every: log at epochs that are multiples of this one.
        tag: what the pictures' tags begin with; the name of each photo, or `sample0`, follows.
        module: the dotted name of the part that is explained, such as the network inside a LightningModule; all of it
            unless said.
        method, preprocess, labels, request: as for `whycam.explain`: `target=`, `layer=`, and so on. A target that is
            named stays the same while predictions change.

    Raises:
        WhycamError: a logger that takes no pictures, or no such method.
        PhotoError: a photo that cannot be read.

    Examples:
        >>> seen = []
        >>> overlays = whycam.training.OverlayLogger(batch, lambda *picture: seen.append(picture), every=2, target=1)
        >>> for epoch in range(3):
        ...     made = overlays(net.train(), epoch)       # after what is done in each epoch
        >>> [(tag, step, picture.dtype.name) for tag, picture, step in seen][1:3]
        [('whycam/sample1', 0, 'uint8'), ('whycam/sample0', 2, 'uint8')]
        >>> made.target, net.training
        (('class 1', 'class 1'), True)
    """

    def __init__(
        self,
        images: Any,
        logger: Any,
        *,
        every: int = 1,
        tag: str = "whycam",
        module: str = "",
        method: MethodLike | None = None,
        preprocess: PreprocessLike | None = None,
        labels: Labels | None = None,
        **request: Any,
    ) -> None:
        if every < 1:
            raise OptionError(f"every is 1 or more, not {every}.")
        if method is not None and method != "auto":
            find(method)
        self.logger = logger
        for each in self._loggers():
            if not hasattr(type(each), "experiment"):  # Lightning's make files when they are first looked at
                way_to(each)
        self.images = [_read(each) for each in images] if isinstance(images, (list, tuple)) else _read(images)
        self.every, self.tag, self.module = every, tag, module
        self.method, self.preprocess, self.labels = method, preprocess, labels
        self.request = {"progress": False, **request}
        self._said: set[str] = set()

    def __call__(self, model: ModelLike, epoch: int, step: int | None = None) -> Explanation | None:
        """Log the overlays if this epoch is one of those.

        Args:
            model: the network as it is now, also wrapped for several devices or compiled.
            epoch: a number that counts. `step`: what the logger is told, if that is another.

        Returns:
            The explanation, or `None` where nothing was logged.
        """
        if epoch % self.every or not _first_process():
            return None
        try:
            with _random_numbers_kept():
                explanation = self._explained(model)
                pictures = with_words(explanation)
            for each in self._loggers():
                way_to(each)(self.tag, pictures, epoch if step is None else step)
        except Exception as error:  # a map is not worth a training
            self._warn(error)
            return None
        return explanation

    def _explained(self, model: ModelLike) -> Explanation:
        with _evaluating(model):
            network = model.get_submodule(self.module) if isinstance(model, nn.Module) and self.module else model
            explainer = Explainer(network, preprocess=self.preprocess, labels=self.labels)
            return explainer.explain(self.images, self.method, **self.request)

    def _loggers(self) -> list[Any]:
        several = self.logger if isinstance(self.logger, (list, tuple)) else [self.logger]
        return [*several] or [self.logger]  # an empty list is no logger either

    def _warn(self, error: Exception) -> None:
        reason = str(error) if isinstance(error, WhycamError) else f"{type(error).__name__}: {error}"
        if reason not in self._said:
            self._said.add(reason)
            warnings.warn(f"training goes on without {self.tag!r} overlays: {reason}", UserWarning, stacklevel=3)


def _read(image: Any) -> Any:
    return read_photo(image) if isinstance(image, (str, Path)) else image


def _first_process() -> bool:
    return not (distributed.is_available() and distributed.is_initialized() and distributed.get_rank())


@contextmanager
def _evaluating(model: ModelLike) -> Iterator[None]:
    """A block in which the model's modules are in evaluation mode."""
    modules = [*model.modules()] if isinstance(model, nn.Module) else []
    for each in modules:
        if _spread(each):
            raise WhycamError(
                "the parameters are spread over processes (FSDP, DeepSpeed's ZeRO-3, tensor parallel), and one process "
                "alone cannot run the network. Explain a checkpoint after the training."
            )
    training = [each.training for each in modules]
    try:
        for each in modules:  # not by eval(), which a network may have made do more, such as merge its adapters
            each.training = False
        yield
    finally:
        for each, was in zip(modules, training, strict=True):
            each.training = was


@contextmanager
def _random_numbers_kept() -> Iterator[None]:
    """A block in which a preprocessing of the caller's own may draw; what the network draws is put back anyway."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _spread(module: nn.Module) -> bool:
    """Whether running a module waits for other processes, which would wait for ever."""
    parts = ("device_mesh", "ds_id")  # of DTensor, and what DeepSpeed adds
    spread = any(hasattr(each, name) for each in module.parameters(recurse=False) for name in parts)
    return spread or type(module).__name__ == "FullyShardedDataParallel"
