"""What was asked, in words that are the same every time: by it, work that was stopped is known again."""

import re
from inspect import isfunction
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from whycam.engine.request import Request
from whycam.engine.session import Session
from whycam.kit.files import digits
from whycam.network.fingerprint import fingerprint
from whycam.network.pytree import leaves, tensors
from whycam.pictures.photos import Photo


def asked(session: Session, request: Request) -> dict[str, Any]:
    """The network and the request: the same again goes on, anything else is another."""
    modules = {module: name for name, module in session.module.named_modules()}
    how = {name: getattr(request, name) for name in ("fusion", "layout", "output", "views")}
    # one that cannot be told from another by its text is known by its kind, or no other process could go on
    preprocess = re.sub(r" at 0x\w+", "", identity(session.vision.preprocess))
    return {
        "model": session.vision.name,
        "weights": fingerprint(session.module),
        "preprocess": preprocess,
        "methods": [each.name for each in request.methods],
        "layers": [
            [modules.get(spec, str(spec)) if isinstance(spec, nn.Module) else str(spec) for spec in each.specs]
            for each in request.layers
        ],
        "targets": ["own" if is_of_each(each) else identity(each) for each in request.targets],
        "options": {name: {k: identity(v) for k, v in each.items()} for name, each in request.options.items() if each},
        **{name: identity(each) for name, each in how.items() if each is not None},
    }


def is_of_each(value: Any) -> bool:
    """Whether it holds one entry for each image."""
    return isinstance(value, (list, tuple)) or (hasattr(value, "__array__") and value.ndim > 0)


def arrays(value: Any) -> list[Any]:
    """Every tensor and array inside."""
    return [*leaves(value, lambda each: isinstance(each, (Tensor, np.ndarray)))]


def identity(value: Any) -> str:
    """How a value is spelled, so that two that differ are spelled differently, and one in the same way every time.

    Digits tell tensors and arrays inside apart, whose text leaves out most numbers, and functions, whose text is
    another in every process. A function that closes over values keeps that text: what these are is not known.
    """
    if isfunction(value) and value.__closure__ is None:
        code = value.__code__
        held = (code.co_code, code.co_names, code.co_consts, value.__defaults__, value.__kwdefaults__)
        return f"{value.__module__}:{value.__qualname__} {digits([repr(held).encode()])}"
    return " ".join([str(value), *([digits(map(bytes_of, inside))] if (inside := arrays(value)) else [])])


def bytes_of(value: Any) -> bytes:
    """What a value holds: a picture's or numbers' own bytes, or how it is spelled."""
    if isinstance(value, Photo):
        return bytes_of(value.image)
    if isinstance(value, (Tensor, np.generic)) and value.ndim == 0:
        value = value.item()
    if isinstance(value, (Image.Image, np.ndarray)):
        return bytes_of(torch.from_numpy(np.array(value)))
    if isinstance(value, Tensor):
        numbers = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        return f"{value.dtype} {tuple(value.shape)}".encode() + numbers
    inside = [repr(path).encode() + bytes_of(tensor) for path, tensor in tensors(value)]
    return b"".join(inside) or repr(value).encode()
