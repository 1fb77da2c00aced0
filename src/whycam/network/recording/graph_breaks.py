"""Where the graph breaks: the first module whose input is in autograd's graph and whose output is not.

One forward with gradients on follows a layer's output (or the inputs) by the graph that autograd builds. Whether a
tensor depends on it is read from that graph and not from `requires_grad`, which every trainable weight sets anew.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from whycam.network.hooks import Inputs, call, watching
from whycam.network.layer_refs import LayerRef
from whycam.network.outputs import answer
from whycam.network.preserve_state import as_found
from whycam.network.pytree import detached_copy, mapped, tensors
from whycam.network.unwrap import eager, unwrapped

_DATA = Tensor.data.__get__  # type: ignore[attr-defined]  # what `tensor.data` calls
#: The node of an operation whose derivative nobody wrote; it passes nothing back.
_UNKNOWN = "torch::autograd::WarnNotImplemented"
#: Functions that take a tensor's values out of torch.
_LEAVING = {"item", "tolist", "numpy", "__array__", "__float__", "__int__"}


class Cut(NamedTuple):
    """One place where the gradient's way ends: a module's dotted name (`""`: the network's own forward), and how."""

    module: str
    what: str

    def __str__(self) -> str:
        return f"{self.module!r}, which {self.what}" if self.module else f"the network's own forward, which {self.what}"


class Trail(NamedTuple):
    """How far the gradient's way goes: whether it `arrives` at the answer, and the cuts on it in running order.

    `whole` is whether it arrives at anything in the output.
    """

    arrives: bool
    cuts: tuple[Cut, ...]
    whole: bool = False


def cuts(model: nn.Module, inputs: Inputs, layer: LayerRef | None = None) -> list[Cut]:
    """What keeps gradients from going back from a network's answer to a layer, or to its inputs: the first cut first.

    Empty where the answer depends on the layer, and where nothing was cut: the layer comes after or beside what the
    answer is computed from. Of modules inside each other the innermost is named. Costs one forward.
    """
    trail = follow(model, inputs, layer)
    return [] if trail.arrives else list(trail.cuts)


def follow(
    model: nn.Module, inputs: Inputs, layer: LayerRef | None = None, read: Callable[[Any], Tensor] | None = None
) -> Trail:
    """Follow a layer's output, or the inputs, through one forward to the answer (as `read` finds it in the output)."""
    model = unwrapped(model)
    run = _Follower(layer)
    with as_found(model), eager(model), ExitStack() as stack:
        given = detached_copy(inputs)
        if layer is None:
            run.leaves = [tensor.requires_grad_() for _, tensor in tensors(given) if tensor.is_floating_point()]
        for name, module in model.named_modules():
            if name and not isinstance(module, torch.jit.ScriptModule):  # which takes no hook
                stack.enter_context(watching(module, "input", partial(run.entered, name)))
                stack.enter_context(watching(module, "output", partial(run.left, name, module)))
        torch.set_grad_enabled(True)  # put back by the guard around this pass
        stack.enter_context(_Functions(run))
        run.frames = [_Frame("", alive=layer is None)]
        output = call(model, mapped(given, torch.clone))
        whole = run.depends(output)
        arrives = run.depends(read(output) if read is not None else answer(output)[1])
        if not arrives:
            run.ended(run.frames[0], model)
    return Trail(arrives, tuple(run.cuts), whole)


@dataclass
class _Frame:
    """One call of a module while it runs."""

    name: str
    alive: bool = False  # whether it holds a tensor that depends on what is followed
    off: bool = False  # whether gradients were off when it began
    last: str = ""  # the module inside it that last returned such a tensor
    lost: list[tuple[str, bool, bool]] = field(default_factory=list)  # function, gradients off, made decimals
    inside: int = 0  # how many cuts were known when it began


class _Follower:
    """What the hooks and the functions of one pass found."""

    def __init__(self, layer: LayerRef | None) -> None:
        self.layer = layer
        self.calls = 0
        self.leaves: list[Tensor] = []
        self.frames: list[_Frame] = []
        self.cuts: list[Cut] = []
        self.known: dict[Any, bool] = {}

    def depends(self, value: Any) -> bool:
        """Whether any tensor inside depends on what is followed."""
        return any(self._reaches(tensor) for _, tensor in tensors(value))

    def _reaches(self, tensor: Tensor) -> bool:
        if not tensor.requires_grad:
            return False
        if tensor.grad_fn is None:
            return any(tensor is leaf for leaf in self.leaves)
        # depth first, without recursion; a node is looked at again once all it comes from is known
        todo = [tensor.grad_fn]
        while todo:
            node = todo[-1]
            if node in self.known:
                todo.pop()
                continue
            sources = [source for source, _ in node.next_functions if source is not None]
            if unknown := [source for source in sources if source not in self.known]:
                todo += unknown
                continue
            variable = getattr(node, "variable", None)
            self.known[node] = node.name() != _UNKNOWN and (
                any(variable is leaf for leaf in self.leaves) or any(self.known[source] for source in sources)
            )
            todo.pop()
        return self.known[tensor.grad_fn]

    def entered(self, name: str, value: Any, _: Any) -> Any:
        replaced = None
        if self._is_layer(name, "input"):
            replaced = self._start(value)
            value = value if replaced is None else replaced
        self.frames.append(
            _Frame(name, alive=self.depends(value), off=not torch.is_grad_enabled(), inside=len(self.cuts))
        )
        return replaced

    def left(self, name: str, module: nn.Module, value: Any, _: Any) -> Any:
        frame = self.frames.pop()
        while frame.name != name:  # what raised and was caught by the network itself
            frame = self.frames.pop()
        replaced = None
        if self._is_layer(name, "output"):
            replaced = self._start(value)
            value = value if replaced is None else replaced
        if self.depends(value):
            self.frames[-1].alive, self.frames[-1].last = True, name
        elif value is not None:
            self.ended(frame, module)
        return replaced

    def ended(self, frame: _Frame, module: nn.Module) -> None:
        """Note the cut of a call that held what is followed and did not return it, unless one inside it is known."""
        if len(self.cuts) > frame.inside or not frame.alive:
            return
        given = not frame.last  # it was handed in, and no module inside returned it
        if not frame.lost and not given:
            return  # what a module inside returned was not used for anything
        off = next((outer for outer in [*self.frames, frame] if outer.off), None)
        behind = f", behind {frame.last!r}" if frame.last else ""
        if off is not None:
            self.cuts.append(Cut(off.name, "runs with gradients off (torch.no_grad)"))
        elif "quantized" in type(module).__module__:
            self.cuts.append(Cut(frame.name, f"is quantized ({type(module).__name__}) and has no gradient"))
        elif frame.lost:
            name, without, _ = next((each for each in frame.lost if each[2]), frame.lost[-1])
            how = "computes without gradients (torch.no_grad, or a function of its own)" if without else f"calls {name}"
            self.cuts.append(Cut(frame.name, how + behind))
        elif frame.name:
            self.cuts.append(Cut(frame.name, f"returns a result without a gradient ({type(module).__name__})"))

    def _is_layer(self, name: str, side: str) -> bool:
        """Whether this is the call that is followed; of several calls without a number, the first."""
        if self.layer is None or (self.layer.module, self.layer.side) != (name, side):
            return False
        self.calls += 1
        wanted = self.layer.call if isinstance(self.layer.call, int) and self.layer.call >= 0 else 0
        return self.calls - 1 == wanted

    def _start(self, value: Any) -> Any:
        """Begin to follow what the layer returned (or is given): the tensors inside, from here on."""
        torch.set_grad_enabled(True)

        def leaf(tensor: Tensor) -> Tensor:
            if not tensor.is_floating_point():
                return tensor
            self.leaves.append(tensor.detach().requires_grad_())
            return self.leaves[-1].clone()  # which may be written to in place

        return mapped(value, leaf)


class _Functions(TorchFunctionMode):
    """Notes, for the module that runs, each function that is given what is followed and returns nothing of it."""

    def __init__(self, run: _Follower) -> None:
        super().__init__()
        self.run = run

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        result = func(*args, **kwargs)
        if (name == "__get__" and func != _DATA) or name.endswith("_like") or not self.run.frames:
            return result
        off = not torch.is_grad_enabled()
        given = (args, kwargs) if off else args[:1]  # what comes later may be a mere example: x.to(other)
        made = [tensor for _, tensor in tensors(result)]
        if (made or name in _LEAVING) and not self.run.depends(made) and self.run.depends(given):
            spelled = (resolve_name(func) or name).rpartition(".")[2] if func != _DATA else "data"
            decimals = any(tensor.is_floating_point() for tensor in made)
            self.run.frames[-1].lost.append((spelled, off, decimals))
        return result
