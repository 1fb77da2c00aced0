"""`ultralytics:FILE.pt`: a network of ultralytics'. Of one that is passed as an object nothing is imported."""

from typing import Any

from torch import nn

from whycam.models.packages import optional
from whycam.models.vision_model import VisionModel, as_labels
from whycam.models.weights import ChosenWeights
from whycam.network.unwrap import unwrapped
from whycam.pictures.preprocess import Preprocess

FORM, PREFIX = "'ultralytics:FILE.pt'", "ultralytics"


def source(spec: str, weights: ChosenWeights) -> VisionModel:
    """The network that `ultralytics.YOLO` makes of a file, which it may fetch.

    Raises:
        MissingExtraError: ultralytics is absent.
    """
    package = optional("ultralytics", "ultralytics", f"{spec!r}")
    model = package.YOLO(spec.partition(":")[2])
    return described(unwrapped(model), spec)


def described(network: nn.Module, name: str) -> VisionModel:
    """The network with its labels, and with the letterbox of the size that it was trained at."""
    about: Any = network
    settings = getattr(about, "args", None)
    side = settings.get("imgsz") if isinstance(settings, dict) else None
    side = side if isinstance(side, int) else 640
    fit = Preprocess((side, side), "letterbox", mean=(0, 0, 0), std=(1, 1, 1), fill=(114, 114, 114))
    note = f"photos are fitted into {side} x {side} pixels with gray beside them, as ultralytics' letterbox does"
    return VisionModel(network, fit, as_labels(getattr(about, "names", None)), name, note)
