"""One file for each form of model spec. A file put here is found by `whycam.load`; there is no list to edit."""

import functools
import importlib
import pkgutil
from collections.abc import Callable
from types import ModuleType
from typing import Any


def adopted(model: object) -> Any:
    """A `VisionModel` for a model of another framework than torch that a caller passed; `None` for anything else."""
    found = (each(model) for each in _adopters())
    return next((each for each in found if each is not None), None)


@functools.cache
def _adopters() -> list[Callable[[object], Any]]:
    return [each.from_object for each in registered() if hasattr(each, "from_object")]


@functools.cache
def registered() -> list[ModuleType]:
    """The modules of this package.

    Each has `FORM`, what a spec of it looks like; perhaps `PREFIX`, what stands before the colon in every spec of its
    own; `source(spec, weights)`, asked for specs of its prefix or, without one, for those of no prefix, which returns
    `None` for other forms; and perhaps `from_object(object)`, which returns `None` for what is not its framework's.
    """
    return [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
