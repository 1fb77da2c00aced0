"""Optional packages, imported when they are needed; what is absent or broken is said in one sentence."""

import functools
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from whycam.errors import MissingExtraError, WhycamError, missing


def optional(name: str, extra: str, purpose: str) -> Any:
    """An optional module.

    Raises:
        MissingExtraError: it, or something that it needs itself, is absent, or torchvision is there and broken.
    """
    with importing(name, extra, purpose):
        return importlib.import_module(name)


@contextmanager
def importing(package: str, extra: str, purpose: str) -> Iterator[None]:
    """A block that imports, perhaps deep inside a library; what fails because of a package is said in a sentence.

    Raises:
        MissingExtraError: as for `optional`. Errors that are no package's go through.
    """
    try:
        yield
    except WhycamError:
        raise
    except Exception as error:  # a broken torchvision raises RuntimeError, AttributeError or OSError when imported
        if not isinstance(error, (ImportError, RuntimeError, AttributeError, OSError)):
            raise
        if (broken := _broken_torchvision()) is not None:
            if package == "transformers":
                broken += ". Or uninstall torchvision, which transformers does without"
            raise MissingExtraError(
                f"{purpose} needs torchvision, and the one that is installed does not work: {broken}"
            ) from error
        if not isinstance(error, ImportError):
            raise
        if (absent := _absent(error)) is not None:
            raise missing(absent, extra, purpose) from error
        reason = str(error).strip().partition("\n")[0]
        raise MissingExtraError(f"{purpose} needs a package that is not in order here ({package}: {reason})") from error


def _absent(error: BaseException | None) -> str | None:
    """The package whose absence an import failed for; libraries that import late keep it in the cause."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            return error.name.partition(".")[0]
        error = error.__cause__
    return None


@functools.cache
def _broken_torchvision() -> str | None:
    """What is wrong with torchvision, if it is there and cannot be imported."""
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "torchvision":
            return None
        reason = str(error)
    except Exception as error:
        reason = str(error)
    else:
        return None
    try:
        own = version("torchvision")
    except PackageNotFoundError:
        own = "(of unknown version)"
    return (
        f"torchvision {own} and torch {torch.__version__} do not fit together ({reason.partition(chr(10))[0]}). "
        "Install both anew from one place: pip install --force-reinstall torch torchvision"
    )
