"""A private copy of a network on the same weights: what is replaced or hooked there, the user's model never sees."""

import copy
import threading
import types
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor, nn

from whycam.errors import WhycamError
from whycam.network.adapted import Adapted
from whycam.network.pytree import leaves

#: Shared with the copy: what holds numbers, and what Python cannot copy and no pass changes.
_SHARED = (Tensor, np.ndarray, types.ModuleType, type(threading.Lock()), type(threading.RLock()))

_PLAIN = (bool, int, float, str, type(None))
#: The tables of modules, parameters and hooks that every module has, most of them empty.
_TABLES = {key for key, value in vars(nn.Module()).items() if isinstance(value, (dict, set))}
#: How classes say that they are copied in a way of their own.
_COPYING = {"__deepcopy__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__new__", "__slots__"}


def twin(model: nn.Module, become: Callable[[Tensor], Tensor] | None = None) -> nn.Module:
    """A deep copy of a network's modules on the same parameters, buffers and other tensors, or on what they `become`.

    Hooks that are the user's act in the copy too. Functions are not copied: one that closes over a module runs the
    model's own. Whoever runs a part of a copy has to check that the copy asked for that part, and that it answers as
    the network did.

    Raises:
        WhycamError: something in the network cannot be copied.
    """
    if isinstance(model, Adapted):
        return model.own_twin()
    for left in (2, 1, 0):
        try:
            every = [(module, dict(vars(module))) for module in model.modules()]
            deep = [
                {k: v for k, v in mine.items() if type(v) not in _PLAIN and (k not in _TABLES or v)}
                for _, mine in every
            ]
            found = (leaf for values in deep for leaf in leaves(values, _is_shared))
            memo = {id(each): become(each) if become and isinstance(each, Tensor) else each for each in found}
            # what `deepcopy` does with a module, which by itself takes ten times as long
            kinds = {kind: _is_usual(kind) for kind in {type(module) for module, _ in every}}
            memo |= {id(module): object.__new__(type(module)) for module, _ in every if kinds[type(module)]}
            for (module, mine), values in zip(every, deep, strict=True):
                if kinds[type(module)]:
                    own = memo[id(module)].__dict__
                    own.update(mine)
                    # what was empty above; another thread may have put a hook there since
                    own.update({key: type(mine[key])() for key in (_TABLES & mine.keys()) - values.keys()})
                    own.update({key: copy.deepcopy(value, memo) for key, value in values.items()})
            made = copy.deepcopy(model, memo)
            break
        except Exception as error:
            if left and "during iteration" in str(error):  # another thread put a hook on the model, or took one off
                continue
            said = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise WhycamError(
                f"no private copy of this {type(model).__name__} can be made: {said}. Give the class of what cannot be "
                "copied a __deepcopy__, or take it off the model."
            ) from error
    for module in made.modules():
        vars(module).pop("_compiled_call_impl", None)  # compiled code, which no later hook changes
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key in [key for key, hook in hooks.items() if hook.__module__ == "whycam.network.hooks"]:
                del hooks[key]  # another thread's recording
    return made


def _is_usual(kind: type[nn.Module]) -> bool:
    """Whether copying a module is copying its attributes: its class says nothing else about it."""
    own = (base for base in kind.__mro__ if base is not object and not base.__module__.startswith("torch.nn.modules."))
    return not any(_COPYING & vars(base).keys() for base in own)


def _is_shared(value: Any) -> bool:
    return isinstance(value, _SHARED)
