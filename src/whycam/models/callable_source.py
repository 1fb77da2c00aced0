"""`package.module:callable`: a model that the caller's own code builds."""

import importlib
import sys
from pathlib import Path

from torch import nn

from whycam.errors import WhycamError
from whycam.models.vision_model import VisionModel

FORM = "'package.module:callable'"


def source(spec: str) -> VisionModel | None:
    """What the named object is or returns, if `spec` has that form."""
    module_name, colon, path = spec.partition(":")
    if not colon or not path or not all(part.isidentifier() for part in [*module_name.split("."), *path.split(".")]):
        return None
    found = _import(module_name, spec)
    for part in path.split("."):
        if not hasattr(found, part):
            raise WhycamError(f"{spec!r}: {module_name} has no {path!r}.")
        found = getattr(found, part)
    if not isinstance(found, (nn.Module, VisionModel)) and callable(found):
        found = found()
    if isinstance(found, VisionModel):
        return found
    if isinstance(found, nn.Module):
        # a model that is asked what it predicts; one passed as an object is left in the mode it has
        return VisionModel(found.eval(), name=spec)
    raise WhycamError(
        f"{spec!r} gave a {type(found).__name__}; a torch.nn.Module or a whycam.VisionModel was expected."
    )


def _import(name: str, spec: str) -> object:
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)  # as `python -m` does: a user's own file beside them is importable
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            hint = f" Write it without the suffix: {spec.replace('.py:', ':', 1)!r}." if name.endswith(".py") else ""
            raise WhycamError(f"{spec!r}: no module named {error.name!r} can be imported from here.{hint}") from error
        raise
    finally:
        if added:
            sys.path.remove(here)
