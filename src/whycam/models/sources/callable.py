"""`package.module:callable`: a model that the caller's own code builds."""

import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import nn

from whycam.errors import ModelError, WhycamError
from whycam.models.sources import adopted
from whycam.models.vision_model import VisionModel
from whycam.models.weights import ChosenWeights

FORM = "'package.module:callable'"


def source(spec: str, weights: ChosenWeights) -> VisionModel | None:
    """What the named object is or returns, if `spec` has that form.

    Raises:
        WhycamError: there is no such object, it is no model, or the caller's own code failed; its error is the cause.
    """
    if not names_an_object(spec):
        return None
    if weights.random:
        raise ModelError(f"{spec!r}: 'random' weights are for models by name; here your own code decides on them.")
    found, path = named_object(spec), spec.partition(":")[2]
    if not isinstance(found, (nn.Module, VisionModel)) and callable(found) and adopted(found) is None:
        try:
            found = found()
        except WhycamError:
            raise
        except Exception as error:
            raise _failed(f"{spec!r}: calling {path}()", error) from error
    if (other := adopted(found)) is not None:
        if weights.given:
            raise ModelError(f"{spec!r} is a model of another framework; load its weights with that.")
        made: VisionModel = replace(other, name=spec)
        return made
    if isinstance(found, VisionModel):
        weights.into(found.module)
        return found
    if isinstance(found, nn.Module):
        weights.into(found)
        # a model that is asked what it predicts; one passed as an object is left in the mode it has
        with suppress(NotImplementedError):  # an exported graph has one mode, which it was exported in
            found.eval()
        return VisionModel(found, name=spec)
    raise ModelError(f"{spec!r} gave a {type(found).__name__}; a torch.nn.Module or a whycam.VisionModel was expected.")


def names_an_object(spec: str) -> bool:
    """Whether a text has the form `package.module:name`."""
    module, colon, path = spec.partition(":")
    return bool(colon and path) and all(part.isidentifier() for part in [*module.split("."), *path.split(".")])


def importable(module: str) -> bool:
    """Whether a module is there to be imported from here; nothing of its own runs but the packages it lies in."""
    with _here(), suppress(ImportError, ValueError):
        return importlib.util.find_spec(module) is not None
    return False


def named_object(spec: str) -> Any:
    """The object that `package.module:name` names, importable from here.

    Raises:
        ModelError: there is no such module or object, or importing it failed; its error is the cause.
    """
    module, _, path = spec.partition(":")
    found: Any = _import(module, spec)
    for part in path.split("."):
        if not hasattr(found, part):
            raise ModelError(f"{spec!r}: {module} has no {path!r}.")
        found = getattr(found, part)
    return found


def _import(name: str, spec: str) -> object:
    try:
        with _here():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            hint = f" Write it without the suffix: {spec.replace('.py:', ':', 1)!r}." if name.endswith(".py") else ""
            if near := get_close_matches(name, ["timm", "torchvision", "hf"], n=1):
                hint = f" Did you mean {spec.replace(name, near[0], 1)!r}?"
            raise ModelError(f"{spec!r}: no module named {error.name!r} can be imported from here.{hint}") from error
        raise _failed(f"{spec!r}: importing {name}", error) from error
    except WhycamError:
        raise
    except Exception as error:
        raise _failed(f"{spec!r}: importing {name}", error) from error


@contextmanager
def _here() -> Iterator[None]:
    """A block in which a user's own file beside them is importable, as `python -m` does."""
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if added:
            sys.path.remove(here)


def _failed(what: str, error: Exception) -> WhycamError:
    """The error for code of the caller's that raised, with the line where it did."""
    if isinstance(error, SyntaxError):
        where, reason = f"{error.filename}, line {error.lineno}", error.msg
    else:
        frames = traceback.extract_tb(error.__traceback__)
        own = [each for each in frames if not re.search(r"site-packages|dist-packages|^<", each.filename)]
        last = own[-1] if own else frames[-1]
        where, reason = f"{last.filename}, line {last.lineno}", str(error)
    said = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    return ModelError(f"{what} raised {said} ({where}).")
