"""A spec such as `timm:resnet18` or `package.module:callable` -> a `VisionModel`. One file per source, by its name."""

import functools
import importlib
import pkgutil
import re
import warnings
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from whycam.errors import ModelError
from whycam.models.vision_model import VisionModel
from whycam.models.weights import ChosenWeights

#: Prefixes that are reserved, so that they are never taken for a module of the caller's.
_TO_COME = {"onnx": "ONNX"}


def load(
    spec: str,
    *,
    weights: str | Path | None = None,
    unsafe_pickle: bool = False,
    custom_objects: Mapping[str, Any] | None = None,
) -> VisionModel:
    """The model that a spec names.

    Args:
        spec: `timm:NAME`, `torchvision:NAME[/WEIGHTS]`, `hf:NAME` (a repository or a folder), the path of a folder that
            transformers or timm saved, `keras:PATH` (a `.keras` or `.h5` file), `builtin`, or `package.module:callable`
            for a module, a Keras model or a `VisionModel`, or a function that returns one.
        weights: a `.safetensors`, `.pt` or `.pth` file of weights to load into it, for which no hub is asked;
            `"random"` for none, to look at the structure. Without it, those that the model comes with: from this
            machine if they are here, else from their hub, which is announced by a warning.
        unsafe_pickle: allow a checkpoint that can only be read by running code stored in it. Whoever made the file can
            then do anything that you can do on this machine.
        custom_objects: for `keras:PATH`, the classes and functions that the model was built with and that are not
            Keras' own, by the names under which they were saved.

    Raises:
        WhycamError: a spec of no known form, an unknown name (near ones are suggested), weights that do not fit, or
            that are not here and cannot be fetched.
        MissingExtraError: the source needs a package that is not installed, or not in working order.
    """
    spec = _forgiven(spec)
    kind, colon, _ = spec.partition(":")
    if colon and kind in _TO_COME:
        raise ModelError(
            f"{spec!r}: models from {_TO_COME[kind]} cannot be named yet. Build the model yourself and pass it to "
            "whycam.explain, or name a function that does, as 'package.module:callable'."
        )
    chosen = ChosenWeights.of(weights, unsafe_pickle=unsafe_pickle, custom_objects=custom_objects)
    if custom_objects is not None and kind != "keras":
        raise ModelError("custom_objects= is for 'keras:PATH'; leave it out.")
    sources = _sources()
    owners = [each for each in sources if colon and getattr(each, "PREFIX", None) == kind]
    for module in owners or sources:
        found: VisionModel | None = module.source(spec, chosen)
        if found is not None:
            return found
    forms = [each.FORM for each in sources]
    hint = ""
    if get_close_matches(spec, ["builtin"]):
        hint = " Did you mean 'builtin'?"
    elif re.fullmatch(r"[\w.-]+", spec):
        hint = f" A model by name needs its library: 'timm:{spec}', 'torchvision:{spec}'."
    raise ModelError(f"no model {spec!r}; a model is given as {', '.join(forms[:-1])} or {forms[-1]}.{hint}")


def _forgiven(spec: str) -> str:
    """`timm/resnet18` and `timm:timm/resnet18` are read as `timm:resnet18`, and that is said."""
    spelled = re.fullmatch(r"(timm|torchvision|hf)(?:/|:(?=\1/)\1/)(.+)", spec)
    if spelled is None or Path(spec).is_dir():
        return spec
    meant = f"{spelled[1]}:{spelled[2]}"
    warnings.warn(f"{spec!r} is read as {meant!r}", stacklevel=3)
    return meant


def adopted(model: object) -> VisionModel | None:
    """A model of another framework than torch that a caller passed, worn as a module; `None` for anything else."""
    found = (each(model) for each in _adopters())
    return next((each for each in found if each is not None), None)


@functools.cache
def _adopters() -> list[Callable[[object], VisionModel | None]]:
    return [each.from_object for each in _sources() if hasattr(each, "from_object")]


def _sources() -> list[ModuleType]:
    """The modules of `whycam.models.sources`.

    Each has `FORM`, what a spec of it looks like; `source(spec, weights)`, which returns `None` for specs of other
    forms; and perhaps `PREFIX`, what stands before the colon in every spec of its own, and `from_object(object)`, which
    returns `None` for objects that are not its framework's.
    """
    package = importlib.import_module("whycam.models.sources")
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return [importlib.import_module(f"{package.__name__}.{name}") for name in names]
