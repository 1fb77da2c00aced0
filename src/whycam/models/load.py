"""A spec such as `builtin` or `package.module:callable` -> a `VisionModel`. One file per source, found by its name."""

import importlib
import pkgutil
from pathlib import Path

from whycam.errors import WhycamError
from whycam.models.vision_model import VisionModel

#: Sources whose prefix is reserved, so that it is never taken for a module of the caller's.
_TO_COME = {"timm": "timm", "torchvision": "torchvision", "hf": "Hugging Face", "keras": "Keras", "onnx": "ONNX"}


def load(spec: str, *, weights: str | Path | None = None, unsafe_pickle: bool = False) -> VisionModel:
    """The model that a spec names.

    Args:
        spec: `builtin`, or `package.module:callable` for a module or `VisionModel`, or a function that returns one.
        weights: a `.safetensors`, `.pt` or `.pth` file of weights to load into it.
        unsafe_pickle: allow a checkpoint that can only be read by running code stored in it. Whoever made the file can
            then do anything that you can do on this machine.

    Raises:
        WhycamError: a spec of no known form, or weights that do not fit.
        MissingExtraError: the source needs a package that is not installed.
    """
    kind = spec.partition(":")[0]
    if kind in _TO_COME:
        raise WhycamError(
            f"{spec!r}: models from {_TO_COME[kind]} cannot be named yet. Build the model yourself and pass it to "
            "whycam.explain, or name a function that does, as 'package.module:callable'."
        )
    # imported here: a source is a module of this package with the function `source`
    for name in _sources():
        module = importlib.import_module(f"whycam.models.{name}")
        if (found := module.source(spec)) is not None:
            model: VisionModel = found
            break
    else:
        known = [importlib.import_module(f"whycam.models.{name}").FORM for name in _sources()]
        raise WhycamError(f"no model {spec!r}; a model is given as {' or '.join(known)}.")
    if weights is not None:
        from whycam.models.weights import load_weights

        load_weights(model.module, Path(weights), unsafe_pickle=unsafe_pickle)
    return model


def _sources() -> list[str]:
    """The modules of this package that are sources, by their suffix `_source`."""
    package = importlib.import_module("whycam.models")
    return [module.name for module in pkgutil.iter_modules(package.__path__) if module.name.endswith("_source")]
