"""The path of a folder with `config.json` and weights, as transformers or timm saves one."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whycam.errors import ModelError
from whycam.models.packages import optional
from whycam.models.sources import timm as timm_source
from whycam.models.sources.hf import from_transformers
from whycam.models.vision_model import VisionModel
from whycam.models.weights import ChosenWeights, read_state

FORM = "the path of a folder with config.json"

#: Weights in a folder of timm's, the first that is there; those that need no unpickling first.
TIMM_FILES = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")


def source(spec: str, weights: ChosenWeights) -> VisionModel | None:
    """The model in a folder, if `spec` is the path of one."""
    if not spec:
        return None
    folder = Path(spec).expanduser()
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


def from_folder(folder: Path, spec: str, weights: ChosenWeights) -> VisionModel:
    """The model that transformers or timm saved there.

    Raises:
        WhycamError: no `config.json` of either, or weights that are not there or do not fit.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"the folder {spec!r} has no config.json, as transformers and timm save it with a model.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is no JSON: {error}.") from error
    kind = config.get("model_type") if isinstance(config, Mapping) else None
    if isinstance(config, Mapping) and "architecture" in config and kind in (None, "timm_wrapper"):
        return _timm(folder, spec, weights)
    if kind is None:
        raise ModelError(
            f"{path} says neither model_type, as transformers' do, nor architecture, as timm's do; what network the "
            "folder holds is not known."
        )
    return from_transformers(str(folder), spec, weights)


def _timm(folder: Path, spec: str, weights: ChosenWeights) -> VisionModel:
    timm = optional("timm", "timm", f"{spec!r}")
    name = f"local-dir:{folder}"
    try:
        module = timm.create_model(name, pretrained=False)
    except RuntimeError as error:  # an architecture of another version's, or the user's own
        raise ModelError(f"{spec!r}: {error}, says timm {timm.__version__}.") from error
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise ModelError(
            f"{spec!r}: timm {timm.__version__} cannot build the network that {folder / 'config.json'} describes "
            f"({said}); look at the values in it."
        ) from error
    if weights.random:
        return timm_source.described(module, weights.titled(spec))
    file = weights.file or next((folder / each for each in TIMM_FILES if (folder / each).is_file()), None)
    if file is None:
        raise ModelError(f"the folder {spec!r} has no weights; looked for {', '.join(TIMM_FILES)}.")
    state = read_state(file, unsafe_pickle=weights.unsafe_pickle)
    config: Mapping[str, Any] = module.pretrained_cfg
    return timm_source.described(timm_source.built(name, config, state, file.name), weights.titled(spec))
