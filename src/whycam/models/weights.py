"""Weights from files, without running what is stored in them."""

import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from whycam.errors import ModelError, WhycamError, missing
from whycam.kit.files import at_home

#: Keys under which training code keeps the weights among other things.
_NESTED = ("state_dict", "model_state_dict", "model", "weights")
_PREFIXES = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class ChosenWeights:
    """Which weights a caller wants in a named model: a file's, random ones, or those that the model comes with.

    `unsafe_pickle` and `custom_objects` are what a caller allows and gives to the reading of files.
    """

    file: Path | None = None
    random: bool = False
    unsafe_pickle: bool = False
    custom_objects: Mapping[str, Any] | None = None

    @classmethod
    def of(
        cls,
        given: str | Path | None,
        *,
        unsafe_pickle: bool = False,
        custom_objects: Mapping[str, Any] | None = None,
    ) -> "ChosenWeights":
        """What `weights=` says: a path, the word `random`, or nothing."""
        if given is None or str(given) == "random":
            return cls(None, given is not None, unsafe_pickle, custom_objects)
        return cls(at_home(given), unsafe_pickle=unsafe_pickle, custom_objects=custom_objects)

    @property
    def given(self) -> bool:
        """Whether they are others than those that the model comes with."""
        return self.random or self.file is not None

    def state(self) -> dict[str, Tensor]:
        """The named tensors of the file."""
        assert self.file is not None  # asked of a file only
        return read_state(self.file, unsafe_pickle=self.unsafe_pickle)

    def into(self, module: nn.Module) -> None:
        """Load the file's tensors into a module, if a file was given; every name and shape has to fit."""
        if self.file is None:
            return
        state = self.state()
        if (reason := misfit(module, state)) is not None:
            raise ModelError(f"{self.file.name} does not fit this {type(module).__name__}: {reason}.")
        adopt(module, state)

    def titled(self, name: str) -> str:
        """A model's name that says whose weights it has."""
        return (
            f"{name} (random weights)" if self.random else name if self.file is None else f"{name} ({self.file.name})"
        )


def adopt(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Load named tensors that fit into a module."""
    module.load_state_dict(versioned(state, state, module))


def versioned(tensors: dict[str, Tensor], state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Tensors with the versions of layers that a state carried from its file, or else those that a module has.

    Some layers (MNASNet's) refuse tensors of unknown version, and safetensors files hold none.
    """
    found: Any = OrderedDict(tensors)
    found._metadata = getattr(state, "_metadata", None) or module.state_dict()._metadata  # type: ignore[attr-defined]
    made: dict[str, Tensor] = found
    return made


def misfit(module: nn.Module, state: dict[str, Tensor]) -> str | None:
    """In which names and shapes a module and named tensors differ, if they do."""
    own = module.state_dict()
    absent, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    if not (absent or extra or shapes):
        return None
    parts = []
    if absent:
        parts.append(f"{len(absent)} weights of the model are not in it ({_some(absent)})")
    if extra:
        parts.append(f"it has {len(extra)} that the model lacks ({_some(extra)})")
    if shapes:
        first = min(shapes)
        parts.append(f"{first} has shape {tuple(state[first].shape)}, the model wants {tuple(own[first].shape)}")
    return "; ".join(parts)


def skeleton(build: Callable[[], nn.Module]) -> nn.Module:
    """A network without memory for its weights, where its constructor allows: names and shapes are all there."""
    try:
        with torch.device("meta"):
            return build()
    except (NotImplementedError, RuntimeError):  # it computes with tensors, which takes real ones
        return build()


def classes_in(state: dict[str, Tensor], build: Callable[[int], nn.Module], default: int) -> int:
    """For how many classes a file's classifier is, where that is not the default.

    The classifier is what changes when a network is built for another number of classes: `build` is asked for two. A
    detector's head has several rows for each.
    """
    one, other = (skeleton(partial(build, default + more)).state_dict() for more in (0, 1))
    rows = {
        name: (len(value), len(other[name]) - len(value), len(state[name]))
        for name, value in one.items()
        if value.ndim and name in other and name in state and state[name].ndim and value.shape != other[name].shape
    }
    counts = {default + (there - usual) / each for usual, each, there in rows.values() if each}
    count = counts.pop() if len(counts) == 1 else default
    return int(count) if count == int(count) and count > 0 else default


def read_state(path: Path, *, unsafe_pickle: bool = False) -> dict[str, Tensor]:
    """The named tensors in a file. Wrappers such as `{"state_dict": ...}` and prefixes such as `module.` are undone."""
    if not path.is_file():
        raise ModelError(f"no weights file {path}.")
    if path.suffix == ".safetensors":
        try:
            from safetensors import SafetensorError
            from safetensors.torch import load_file
        except ImportError as error:
            raise missing("safetensors", "safetensors", f"reading {path.name}") from error
        try:
            return _bare(load_file(path))
        except SafetensorError as error:
            raise _unreadable(path, error) from error
    if path.suffix not in (".pt", ".pth", ".bin", ".ckpt"):
        raise ModelError(f"weights come from .safetensors, .pt or .pth files; {path.name} is none of these.")
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=not unsafe_pickle)
    except pickle.UnpicklingError as error:
        # an unknown operation in a plain file is no pickle at all: a page of text, a file cut off
        if unsafe_pickle or ("Unsupported operand" in str(error) and not zipfile.is_zipfile(path)):
            raise _unreadable(path, error) from error
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise ModelError(
            f"{path.name} holds more than tensors{f' ({named[1]})' if named else ''}, and reading it would run code "
            "that is stored in it; it was not read. Save its state_dict alone, best as .safetensors. If you trust "
            "whoever made it, pass unsafe_pickle=True (--unsafe-pickle): that code can then do anything you can do on "
            "this machine."
        ) from error
    except (RuntimeError, EOFError, ValueError, LookupError) as error:
        raise _unreadable(path, error) from error
    if isinstance(found, nn.Module):
        found = found.state_dict()
    if not isinstance(found, dict):
        raise ModelError(f"{path.name} holds a {type(found).__name__}; named tensors (a state_dict) were expected.")
    for key in _NESTED:
        if isinstance(found.get(key), dict):
            found = found[key]
            break
    if not found or not all(isinstance(value, Tensor) for value in found.values()):
        entries = f"its entries are {_some(list(map(str, found)))}" if found else "it is empty"
        raise ModelError(f"{path.name} holds no state_dict: {entries}.")
    return _bare(found)


def _bare(state: dict[str, Tensor]) -> dict[str, Tensor]:
    while prefix := next((each for each in _PREFIXES if state and all(name.startswith(each) for name in state)), None):
        state = {name[len(prefix) :]: value for name, value in state.items()}
    return state


def _unreadable(path: Path, error: Exception) -> WhycamError:
    reason = str(error).partition("\n")[0]
    if isinstance(error, pickle.UnpicklingError):
        reason = "it is not a file that torch.save wrote, or only a part of one"
    return ModelError(f"{path.name} cannot be read as a checkpoint: {reason or 'it ends too early'}.")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
