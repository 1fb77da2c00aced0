"""`ultralytics:FILE.pt`: a network of ultralytics'. Of one that is passed as an object nothing is imported."""

from typing import Any

from torch import nn

from whycam.errors import ModelError
from whycam.kit.files import at_home
from whycam.models.packages import optional
from whycam.models.vision_model import VisionModel, as_labels
from whycam.models.weights import ChosenWeights
from whycam.network.unwrap import unwrapped
from whycam.pictures.preprocess import Preprocess

FORM, PREFIX = "'ultralytics:FILE.pt'", "ultralytics"


def source(spec: str, weights: ChosenWeights) -> VisionModel:
    """The network that `ultralytics.YOLO` makes of a file of its own, or of a structure (YAML) with random weights.

    Raises:
        WhycamError: a file of weights that the caller does not trust: reading it runs what is stored in it; or weights
            beside it.
        MissingExtraError: ultralytics is absent.
    """
    path = at_home(spec.partition(":")[2])
    if weights.given:
        raise ModelError(f"{spec!r} has its own weights; build the model yourself to load others, and pass it.")
    if path.suffix != ".yaml" and not path.is_file():
        raise ModelError(f"there is no file {path}; 'ultralytics:' takes the path of a .pt file of ultralytics'.")
    if path.suffix != ".yaml" and not weights.unsafe_pickle:
        raise ModelError(
            f"{path.name} holds a network as ultralytics pickles it, and reading it would run code that is stored in "
            "it; it was not read. If you trust whoever made it, pass unsafe_pickle=True (--unsafe-pickle): that code "
            "can then do anything you can do on this machine."
        )
    package = optional("ultralytics", "ultralytics", f"{spec!r}")
    return described(unwrapped(package.YOLO(path)).eval(), spec)


def described(network: nn.Module, name: str) -> VisionModel:
    """The network with its labels, and with the letterbox of the size that it was trained at."""
    about: Any = network
    settings = getattr(about, "args", None)
    side = settings.get("imgsz") if isinstance(settings, dict) else None
    side = side if isinstance(side, int) else 640
    fit = Preprocess((side, side), "letterbox", mean=(0, 0, 0), std=(1, 1, 1), fill=(114, 114, 114))
    note = f"photos are fitted into {side} x {side} pixels with gray beside them, as ultralytics' letterbox does"
    return VisionModel(network, fit, as_labels(getattr(about, "names", None)), name, note)
