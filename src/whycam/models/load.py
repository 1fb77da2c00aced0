"""A spec such as `timm:resnet18` or `package.module:callable` -> a `VisionModel`. One file per source, by its name."""

import re
import warnings
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from whycam.errors import ModelError
from whycam.models.sources import registered
from whycam.models.vision_model import VisionModel
from whycam.models.weights import ChosenWeights


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
            transformers or timm saved, `ultralytics:FILE.pt`, `keras:PATH` (a `.keras` or `.h5` file), `builtin`, or
            `package.module:callable` for a module, a Keras model or a `VisionModel`, or a function that returns one.
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

    Examples:
        >>> whycam.load("builtin").labels[281]                # needs whycam[demo]
        'tabby'
    """
    spec = _forgiven(spec)
    kind, colon, _ = spec.partition(":")
    if kind == "onnx":
        raise ModelError(
            f"{spec!r}: models from ONNX cannot be named yet. Build the model yourself and pass it to whycam.explain, "
            "or name a function that does, as 'package.module:callable'."
        )
    chosen = ChosenWeights.of(weights, unsafe_pickle=unsafe_pickle, custom_objects=custom_objects)
    if custom_objects is not None and kind != "keras":
        raise ModelError("custom_objects= is for 'keras:PATH'; leave it out.")
    sources = registered()
    prefix = kind if colon and any(getattr(each, "PREFIX", "") == kind for each in sources) else None
    for module in (each for each in sources if getattr(each, "PREFIX", None) == prefix):
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
