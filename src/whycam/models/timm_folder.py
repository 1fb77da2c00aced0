"""A folder as timm's `save_pretrained` writes it: an architecture in `config.json`, and weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whycam.errors import ModelError
from whycam.models.packages import optional
from whycam.models.sources import timm as timm_source
from whycam.models.vision_model import VisionModel
from whycam.models.weights import ChosenWeights, read_state

#: Weights in a folder of timm's, the first that is there; those that need no unpickling first.
TIMM_FILES = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")


def from_timm_folder(folder: Path, spec: str, weights: ChosenWeights) -> VisionModel:
    """The model that timm saved there.

    Raises:
        ModelError: a network that timm cannot build, or weights that are not there or do not fit.
    """
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
