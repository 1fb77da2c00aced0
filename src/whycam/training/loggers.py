"""How a picture is handed to a logger: TensorBoard's, Weights & Biases', MLflow's, Lightning's, or any like them."""

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from PIL.Image import Image

from whycam.errors import WhycamError

#: Hands on a tag, pictures by name, and the step that they belong to.
Send: TypeAlias = Callable[[str, Mapping[str, Image], int], None]

#: What loggers call the parameters of their `log_image`.
_PICTURE, _TAG, _STEP = ("images", "image", "image_data"), ("key", "tag", "name"), ("step", "global_step")


def way_to(logger: Any) -> Send:
    """How pictures are handed to a logger, by what it has. No logger's package is imported that is not there already.

    Raises:
        WhycamError: nothing that takes pictures.
    """
    for way in (_wandb, _add_image, _log_image, _experiment, _function):
        if (send := way(logger)) is not None:
            return send
    kind = logger.__name__ if isinstance(logger, ModuleType) else type(logger).__name__
    raise WhycamError(
        "a logger is a SummaryWriter of TensorBoard, a run of wandb, the module wandb or mlflow, Lightning's logger "
        "around one of these, any object with add_image(tag, picture, global_step, dataformats=) or log_image(key, "
        f"image, step), or a function of (tag, picture, step); {kind} is none. Pass a function that hands pictures on."
    )


def _wandb(logger: Any) -> Send | None:
    home = logger.__name__ if isinstance(logger, ModuleType) else type(logger).__module__
    if home.partition(".")[0] != "wandb":
        return None
    image = import_module("wandb").Image

    def send(tag: str, pictures: Mapping[str, Image], step: int) -> None:
        # The step is a value: as log(step=) it would drop whatever is logged with a smaller one, or be dropped itself.
        shown = [image(picture, caption=name) for name, picture in pictures.items()]
        logger.log({tag: shown, f"{tag}/step": step})

    return send


def _add_image(logger: Any) -> Send | None:
    if not hasattr(logger, "add_image"):
        return None

    def send(tag: str, pictures: Mapping[str, Image], step: int) -> None:
        for name, picture in pictures.items():
            logger.add_image(f"{tag}/{name}", np.asarray(picture), global_step=step, dataformats="HWC")

    return send


def _log_image(logger: Any, **given: Any) -> Send | None:
    if not hasattr(logger, "log_image"):
        return None
    known = inspect.signature(logger.log_image).parameters
    picture, tag, step = (next(filter(known.__contains__, names), None) for names in (_PICTURE, _TAG, _STEP))
    needed = {name for name, each in known.items() if each.default is each.empty and each.kind < each.VAR_POSITIONAL}
    if picture is None or tag is None or step is None or not needed <= {picture, tag, step, *given}:
        return None
    of_picture, of_tag, of_step = picture, tag, step

    def send(tag: str, pictures: Mapping[str, Image], step: int) -> None:
        if of_picture == "images":
            logger.log_image(**{of_tag: tag, of_picture: [*pictures.values()], of_step: step}, **given)
            return
        for name, each in pictures.items():
            logger.log_image(**{of_tag: f"{tag}/{name}", of_picture: each, of_step: step}, **given)

    return send


def _experiment(logger: Any) -> Send | None:
    """Lightning's loggers hold what logs, and MLflow's client is told which run it is."""
    if not hasattr(logger, "experiment"):
        return None
    given = {"run_id": logger.run_id} if hasattr(logger, "run_id") else {}
    return _add_image(logger.experiment) or _log_image(logger.experiment, **given)


def _function(logger: Any) -> Send | None:
    if not callable(logger):
        return None

    def send(tag: str, pictures: Mapping[str, Image], step: int) -> None:
        for name, picture in pictures.items():
            logger(f"{tag}/{name}", np.asarray(picture), step)

    return send
