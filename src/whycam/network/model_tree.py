"""The modules of a network, walked once, and what follows from their kinds: kept by an `Explainer` between calls."""

import threading
from functools import cached_property
from operator import is_
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import UninitializedParameter


class ModelTree:
    """One walk over a network.

    Attributes:
        model: the network.
        names, modules: as `named_modules()` gives them, each module once.
        training: the mode of each module.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.names: list[str] = []
        self.modules: list[nn.Module] = []
        self._walk(model, "", set())
        self.training = [module.training for module in self.modules]
        self._seen = self._look()
        self.found: dict[Any, Any] = {}  # layers by what was asked for

    def _walk(self, module: nn.Module, name: str, seen: set[nn.Module]) -> None:
        seen.add(module)
        self.names.append(name)
        self.modules.append(module)
        start = f"{name}." if name else ""
        for key, child in module._modules.items():
            if child is not None and child not in seen:
                self._walk(child, start + key, seen)

    def _look(self) -> list[Any]:
        """What a walk depends on, in comprehensions alone, since a call for each module would cost."""
        modules = self._plain
        return [
            *[each._modules[key] for each in modules for key in each._modules],
            *[each._parameters[key] for each in modules for key in each._parameters],
            *[each._buffers[key] for each in modules for key in each._buffers],
            *[part for each in self.modules for part in (each.training, not each._forward_pre_hooks)],
            *[each._compiled_call_impl for each in modules],
        ]

    def unchanged(self) -> bool:
        """Whether every module, mode, parameter and hook is the one that the walk found."""
        now, then = self._look(), self._seen
        return len(now) == len(then) and all(map(is_, now, then))

    def module(self, name: str) -> nn.Module:
        """The module of that name, which may be one of several that it has."""
        found = self._by_name.get(name)
        return found if found is not None else self.model.get_submodule(name)

    @cached_property
    def _plain(self) -> list[nn.Module]:
        """The modules that keep dicts, as scripted ones do not."""
        return [each for each in self.modules if type(each._modules) is dict]

    @cached_property
    def _by_name(self) -> dict[str, nn.Module]:
        return dict(zip(self.names, self.modules, strict=True))

    @cached_property
    def kinds(self) -> frozenset[type[nn.Module]]:
        """The classes of the modules."""
        return frozenset({type(module) for module in self.modules})

    @cached_property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters, in the order of the modules."""
        dicts = [module._parameters for module in self._plain]
        return [each for held in dicts for key in held if (each := held[key]) is not None]

    @cached_property
    def _buffers(self) -> list[torch.Tensor]:
        dicts = [module._buffers for module in self._plain]
        return [each for held in dicts for key in held if (each := held[key]) is not None]

    @cached_property
    def code(self) -> int:
        """A number that stands for the names, modules and modes of this walk."""
        return hash((tuple(self.names), tuple(self.modules), tuple(self.training)))

    def of_kind(self, *kinds: type[nn.Module]) -> list[nn.Module]:
        """The modules of these classes or derived from them."""
        found = {kind for kind in self.kinds if issubclass(kind, kinds)}
        return [module for module in self.modules if type(module) in found] if found else []

    @cached_property
    def recurrent(self) -> list[nn.RNNBase]:
        """Recurrent layers, which cuDNN may run so that they cannot be differentiated."""
        return [each for each in self.of_kind(nn.RNNBase) if isinstance(each, nn.RNNBase)]

    @cached_property
    def is_compiled(self) -> bool:
        """Whether some module runs compiled code: by `compile()`, `torch.compile(module)` or of its `forward`."""
        if {module._compiled_call_impl for module in self._plain} - {None}:
            return True
        if any(hasattr(getattr(each, "forward", None), "_torchdynamo_orig_callable") for each in self.kinds):
            return True
        if True in ["_orig_mod" in module._modules for module in self.modules]:
            return True
        own = [module for module in self.modules if "forward" in module.__dict__]
        return any(hasattr(module.forward, "_torchdynamo_orig_callable") for module in own)

    @cached_property
    def written(self) -> list[tuple[nn.Module, str]]:
        """The buffers that a forward pass may write to: evaluating a normalization writes nothing."""
        norms = {kind for kind in self.kinds if issubclass(kind, _NormBase)}
        return [
            (module, name)
            for module in self.modules
            if module._buffers and (module.training or type(module) not in norms)
            for name in module._buffers
            if module._buffers[name] is not None
        ]

    @cached_property
    def keeping(self) -> list[nn.Module]:
        """The modules that may keep something of a pass: none of PyTorch's own, unless a hook of theirs does."""
        plain = {kind for kind in self.kinds if kind.__module__.startswith("torch.nn.modules.")}
        return [module for module in self.modules if module._forward_pre_hooks or type(module) not in plain]

    @property
    def devices(self) -> list[torch.device]:
        """The devices of the parameters and then of the buffers now, each once, in the order of the modules."""
        held = [*self.parameters, *self._buffers] or self.model.parameters()  # Keras' are in no module of PyTorch's
        return list(dict.fromkeys([each.device for each in held]))

    @cached_property
    def classes(self) -> int | None:
        """How many classes the model says it has, as timm's and transformers' do."""
        for owner, name in ((self.model, "num_classes"), (getattr(self.model, "config", None), "num_labels")):
            value = getattr(owner, name, None)
            if isinstance(value, int) and value > 0:
                return value
        return None

    @cached_property
    def lazy(self) -> str:
        """The name of a parameter that does not exist before the first forward, else empty."""
        lazy = {kind for kind in {type(each) for each in self.parameters} if issubclass(kind, UninitializedParameter)}
        return next((name for name, each in self.model.named_parameters() if type(each) in lazy), "") if lazy else ""


_in_use = threading.local()


def tree_of(model: nn.Module) -> ModelTree:
    """The walk over a network that this thread works with, else a new one."""
    found: ModelTree | None = getattr(_in_use, "tree", None)
    return found if found is not None and found.model is model else ModelTree(model)


class working_with:
    """A block in which `tree_of` finds this walk on this thread."""

    __slots__ = ("_before", "_tree")

    def __init__(self, tree: ModelTree) -> None:
        self._tree = tree

    def __enter__(self) -> None:
        self._before = getattr(_in_use, "tree", None)
        _in_use.tree = self._tree

    def __exit__(self, *_: object) -> None:
        _in_use.tree = self._before
