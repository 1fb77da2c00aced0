"""The path of a folder with `config.json` and weights, as transformers or timm saves one."""

from pathlib import Path

from whycam.errors import ModelError
from whycam.kit.files import at_home
from whycam.models.sources.hf import from_folder
from whycam.models.vision_model import VisionModel
from whycam.models.weights import ChosenWeights

FORM = "the path of a folder with config.json"


def source(spec: str, weights: ChosenWeights) -> VisionModel | None:
    """The model in a folder, if `spec` is the path of one."""
    if not spec:
        return None
    folder = at_home(spec)
    if folder.is_dir():
        return from_folder(folder, spec, weights)
    if folder.is_file():
        if Path(spec).suffix in (".keras", ".h5", ".hdf5"):
            raise ModelError(f"{spec!r} is a file; a saved Keras model is named as 'keras:{spec}'.")
        raise ModelError(
            f"{spec!r} is a file; weights alone do not say what network they are of. Name that as the model, and the "
            "file as its weights: --model timm:NAME --weights FILE."
        )
    if spec.startswith((".", "~", "/")):
        raise ModelError(f"no folder {spec!r}.")
    return None
