"""A private copy of a network that shares its memory: what is replaced or hooked there, the user's model never sees."""

import copy
import functools
import threading
import types
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whycam.errors import WhycamError
from whycam.network.adapted import Adapted

_ATOMS = {int, float, bool, complex, str, bytes, type(None), type, torch.dtype, torch.device, torch.Size}
#: Shared and not copied: what holds numbers, and what cannot be copied and has no state that a pass leaves behind.
_SHARED = (Tensor, np.ndarray, torch.fx.Node, types.ModuleType, type(threading.Lock()), type(threading.RLock()))
_TRIES = 3


def twin(model: nn.Module, become: Callable[[Tensor], Tensor] | None = None) -> nn.Module:
    """A copy of a network's modules on the same parameters, buffers and other tensors, or on what these `become`.

    What refers to a module of the network refers to its copy in the twin: parents, lists, bound methods, partials,
    closures and hooks, which are the user's and act in the twin as they do in the model. Code that was compiled for
    the model is not taken over, so the twin runs eagerly; its modules have the same names. Writing into a buffer (batch
    statistics in training mode) writes into the model's; putting another tensor in its place does not.

    Raises:
        WhycamError: something in the network cannot be copied.
    """
    if isinstance(model, Adapted):
        return model.own_twin()
    for left in reversed(range(_TRIES)):
        memo: dict[int, Any] = {}
        try:
            return _copied(model, memo, become)
        except WhycamError:
            raise
        except Exception as error:
            # another thread put a hook on the model, or took one off
            if isinstance(error, RuntimeError) and "during iteration" in str(error) and left:
                continue
            raise WhycamError(_words(model, error)) from error
    raise AssertionError


def _copied(model: nn.Module, memo: dict[int, Any], become: Callable[[Tensor], Tensor] | None) -> nn.Module:
    originals = list(model.modules())
    numbers = {id(module) for module in originals}
    functions: list[types.FunctionType] = []
    for each in _reachable(model):
        if isinstance(each, _SHARED):
            memo[id(each)] = become(each) if become is not None and isinstance(each, Tensor) else each
        elif isinstance(each, torch.Generator):
            memo[id(each)] = _same_draws(each)
        elif isinstance(each, types.FunctionType) and _reaches(each, numbers):
            functions.append(each)
    opened = [module for module in originals if _inner(module) is not None]
    memo |= {id(module): _Opened() for module in opened}
    memo |= {id(function): _emptied(function) for function in functions if _compiled(function) is None}
    hooks = [each for module in originals for name, each in list(vars(module).items()) if _is_hooks(name, each)]
    memo |= {id(each): type(each)() for each in hooks}

    made = copy.deepcopy(model, memo)

    for module in opened:
        where, inner = _inner(module) or ("", module)
        memo[id(module)]._modules[where] = copy.deepcopy(inner, memo)
        memo[id(module)].training = module.training
    for function in functions:
        if (plain := _compiled(function)) is not None:
            memo[id(function)] = copy.deepcopy(plain, memo)
        else:
            _fill(memo[id(function)], function, numbers, memo)
    for module in originals:
        if id(module) in memo:
            _settle(module, memo[id(module)], numbers, memo)
    for each in _reachable(made):
        if isinstance(each, nn.Module) and id(each) in numbers and each is not memo.get(id(each)):
            name = next(name for name, module in model.named_modules() if module is each)
            raise WhycamError(
                f"no private copy of this {type(model).__name__} can be made: something in the copy still refers to "
                f"the model's own {name or 'whole'!r}, in a way that copying does not follow."
            )
    return made


def _settle(module: nn.Module, made: nn.Module, numbers: set[int], memo: dict[int, Any]) -> None:
    """What copying leaves out: hooks, and attributes that it takes over as they are although they lead to a module."""
    now = vars(made)
    for name, value in list(vars(module).items()):
        if _is_hooks(name, value):
            # a graph of functions (torch.fx) makes its copy anew, without hooks
            now[name] = type(value)(
                (key, _mapped(copy.deepcopy(hook, memo), hook, memo))
                for key, hook in list(value.items())
                if not getattr(hook, "__module__", "").startswith("whycam.network.hooks")  # another thread's
            )
        elif isinstance(value, (types.FunctionType, weakref.ref)) and name in now:
            now[name] = _mapped(now[name], value, memo)
    now["_non_persistent_buffers_set"] = set(vars(module)["_non_persistent_buffers_set"])
    now.pop("_compiled_call_impl", None)


def _mapped(made: Any, original: Any, memo: Mapping[int, Any]) -> Any:
    if isinstance(original, weakref.ref):
        target = memo.get(id(original()))
        return made if target is None else weakref.ref(target)
    return memo.get(id(original), made) if isinstance(original, types.FunctionType) else made


def _is_hooks(name: str, value: Any) -> bool:
    return "_hooks" in name and isinstance(value, dict)


def _reachable(root: Any) -> Iterator[Any]:
    """Everything that attributes, containers, methods, partials, closures and weak references lead to, once each."""
    seen: set[int] = set()
    stack = [root]
    while stack:
        each = stack.pop()
        if type(each) in _ATOMS or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        stack.extend(_parts(each))


def _parts(value: Any) -> Any:
    if isinstance(value, (*_SHARED, type, types.BuiltinFunctionType)):
        return ()
    if isinstance(value, nn.Module):
        return [part for name, part in list(vars(value).items()) if name != "_compiled_call_impl"]
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    if isinstance(value, types.MethodType):
        return value.__self__, value.__func__
    if isinstance(value, types.FunctionType):
        return [*_contents(value).values(), *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    if isinstance(value, functools.partial):
        return value.func, value.args, value.keywords
    if isinstance(value, weakref.ref):
        return (value(),)
    return list(getattr(value, "__dict__", {}).values())


def _contents(function: types.FunctionType) -> dict[int, Any]:
    cells = enumerate(function.__closure__ or ())
    return {number: cell.cell_contents for number, cell in cells if cell != types.CellType()}  # those assigned to


def _reaches(value: Any, numbers: set[int]) -> bool:
    """Whether a value leads to one of those modules."""
    return any(id(each) in numbers for each in _reachable(value))


def _emptied(function: types.FunctionType) -> types.FunctionType:
    """The same code, to be given what it closes over."""
    cells = tuple(types.CellType() for _ in function.__closure__ or ())
    made = types.FunctionType(function.__code__, function.__globals__, function.__name__, None, cells or None)
    made.__qualname__, made.__module__ = function.__qualname__, function.__module__
    made.__dict__.update(function.__dict__)
    return made


def _fill(made: types.FunctionType, function: types.FunctionType, numbers: set[int], memo: dict[int, Any]) -> None:
    def mine(value: Any) -> Any:
        return copy.deepcopy(value, memo) if _reaches(value, numbers) else value

    for number, value in _contents(function).items():
        assert made.__closure__ is not None
        made.__closure__[number].cell_contents = mine(value)
    made.__defaults__ = function.__defaults__ and tuple(map(mine, function.__defaults__))
    made.__kwdefaults__ = function.__kwdefaults__ and {
        key: mine(value) for key, value in function.__kwdefaults__.items()
    }


def _compiled(function: types.FunctionType) -> Any:
    """What was compiled into a function (`module.forward = torch.compile(module.forward)`), if it was."""
    return getattr(function, "_torchdynamo_orig_callable", None)


def _inner(module: nn.Module) -> tuple[str, nn.Module] | None:
    """The module inside a wrapper that runs it in a way of its own (compiled, or on several devices), and its name."""
    parallel = isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel))
    name = "module" if parallel else "_orig_mod"
    if name not in module._modules:
        return None
    inner = module._modules[name]
    return (name, inner) if inner is not None else None


class _Opened(nn.Module):
    """In a wrapper's place: its module under the same name, and nothing else."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return next(self.children())(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(next(self.children()), name)


def _same_draws(generator: torch.Generator) -> torch.Generator:
    """A generator that will draw the same numbers."""
    made = torch.Generator(generator.device)
    made.set_state(generator.get_state())
    return made


def _words(model: nn.Module, error: Exception) -> str:
    for name, module in model.named_modules():
        for attribute, value in list(vars(module).items()):
            if attribute in ("_parameters", "_buffers", "_modules"):
                continue
            memo = {id(each): each for each in _reachable(value) if isinstance(each, (nn.Module, *_SHARED))}
            try:
                copy.deepcopy(value, memo)
            except Exception:
                where = f"its {f'{name}.' if name else ''}{attribute} is a {type(value).__name__} that"
                return _sentence(model, f"{where} cannot be copied", error)
    return _sentence(model, "it cannot be copied", error)


def _sentence(model: nn.Module, why: str, error: Exception) -> str:
    said = str(error).strip() or type(error).__name__
    return (
        f"no private copy of this {type(model).__name__} can be made: {why} ({said.splitlines()[0].rstrip('.')}). "
        "Give its class a __deepcopy__, or take it off the model."
    )
