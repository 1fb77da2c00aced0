"""Weights from files, without running what is stored in them."""

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from whycam.errors import WhycamError, missing

#: Keys under which training code keeps the weights among other things.
_NESTED = ("state_dict", "model_state_dict", "model", "weights")
_PREFIXES = ("module.", "_orig_mod.")


def load_weights(module: nn.Module, path: Path, *, unsafe_pickle: bool = False) -> None:
    """Load a `.safetensors`, `.pt` or `.pth` file into a module, every name matched.

    Raises:
        WhycamError: no such file, a checkpoint that needs full unpickling (unless `unsafe_pickle`), or names and
            shapes that do not fit.
    """
    state = read_state(path, unsafe_pickle=unsafe_pickle)
    own = module.state_dict()
    absent, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    if absent or extra or shapes:
        parts = []
        if absent:
            parts.append(f"{len(absent)} weights of the model are not in it ({_some(absent)})")
        if extra:
            parts.append(f"it has {len(extra)} that the model lacks ({_some(extra)})")
        if shapes:
            first = min(shapes)
            parts.append(f"{first} has shape {tuple(state[first].shape)}, the model wants {tuple(own[first].shape)}")
        raise WhycamError(f"{path.name} does not fit this {type(module).__name__}: {'; '.join(parts)}.")
    module.load_state_dict(state)


def read_state(path: Path, *, unsafe_pickle: bool = False) -> dict[str, Tensor]:
    """The named tensors in a file. Wrappers such as `{"state_dict": ...}` and prefixes such as `module.` are undone."""
    if not path.is_file():
        raise WhycamError(f"no weights file {path}.")
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
        raise WhycamError(f"weights come from .safetensors, .pt or .pth files; {path.name} is none of these.")
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=not unsafe_pickle)
    except pickle.UnpicklingError as error:
        # an unknown operation in a plain file is no pickle at all: a page of text, a file cut off
        if unsafe_pickle or ("Unsupported operand" in str(error) and not zipfile.is_zipfile(path)):
            raise _unreadable(path, error) from error
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise WhycamError(
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
        raise WhycamError(f"{path.name} holds a {type(found).__name__}; named tensors (a state_dict) were expected.")
    for key in _NESTED:
        if isinstance(found.get(key), dict):
            found = found[key]
            break
    if not found or not all(isinstance(value, Tensor) for value in found.values()):
        entries = f"its entries are {_some(list(map(str, found)))}" if found else "it is empty"
        raise WhycamError(f"{path.name} holds no state_dict: {entries}.")
    return _bare(found)


def _bare(state: dict[str, Tensor]) -> dict[str, Tensor]:
    while prefix := next((each for each in _PREFIXES if state and all(name.startswith(each) for name in state)), None):
        state = {name[len(prefix) :]: value for name, value in state.items()}
    return dict(state)


def _unreadable(path: Path, error: Exception) -> WhycamError:
    reason = str(error).partition("\n")[0]
    if isinstance(error, pickle.UnpicklingError):
        reason = "it is not a file that torch.save wrote, or only a part of one"
    return WhycamError(f"{path.name} cannot be read as a checkpoint: {reason or 'it ends too early'}.")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
