"""A Keras model as a tree of torch modules, whose hooks fire where Keras calls their layers."""

import importlib
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

import keras
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from whycam.errors import WhycamError
from whycam.network import memory
from whycam.network.adapted import Adapted, Linear
from whycam.network.keras import calls, heads, state
from whycam.network.keras.calls import UnseenError
from whycam.network.keras.layers import KerasLayer, everything, tree
from whycam.network.pytree import is_tensor, leaves, mapped
from whycam.network.recording import guided

#: How many tensors that crossed last are known again, so that what is passed on unchanged is the same tensor.
_KNOWN = 16


class KerasNetwork(Adapted):
    """A Keras 3 model. Takes and gives torch tensors, images as `(N, C, *spatial)` whatever the model's data format.

    A softmax or sigmoid that the model ends in is left out where it can be, so that its answer is logits.
    """

    framework = "Keras model"

    def __init__(self, model: Any) -> None:
        """The caller keeps the model alive."""
        super().__init__()
        # not by assignment: with Keras' torch backend a model is a module, and would become a part of this one; and
        # with names that no layer has, since those are the modules'
        vars(self)["_reference"] = weakref.ref(model)
        self._modules_by_layer, self._spelled = tree(model, self, _run)
        self._backend = backend()
        self.in_torch = keras.config.backend() == "torch"
        self._channels_last = data_format(model) == "channels_last"
        self._axes = image_axes(model)
        self._last = heads.last_layers(model)
        self._built_as = tuple(map(id, everything(model)))
        self.eval()  # as Keras calls a model outside of fit

    @property
    def model(self) -> Any:
        """The Keras model."""
        found = vars(self)["_reference"]()
        if found is None:
            raise WhycamError("the Keras model is gone: keep it as long as it is to be explained.")
        return found

    def changed(self) -> bool:
        """Whether the model is made of other layers now than when this was made."""
        return self._built_as != tuple(map(id, everything(self.model)))

    @property
    def channels_last(self) -> bool:
        """Whether the model takes images as `(N, *spatial, C)`."""
        return self._channels_last

    def module_of(self, layer: Any) -> KerasLayer | None:
        """The module of a layer; none for one that was made later."""
        found: KerasLayer | None = self._modules_by_layer.get(id(layer))
        return found

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's answer to one input, to several, or to inputs by name."""
        return _Run(self).answer(_as_built(self.model, kwargs if kwargs else list(args)))

    def kept(self) -> AbstractContextManager[None]:
        """A block in which running the model leaves no trace on it."""
        return state.kept(self.model, self._backend)

    def drawn(self) -> bytes:
        """The state of the layers' random generators and of Keras' global one."""
        return b"".join(keras.ops.convert_to_numpy(each.value).tobytes() for each in state.seeds(self.model))

    def own_twin(self) -> "KerasNetwork":
        """Another tree of modules for the same model."""
        return KerasNetwork(self.model)

    def linears(self) -> list[Linear]:
        """Dense layers and convolutions of one pixel, in the model's order."""
        found = []
        for layer in reversed(list(everything(self.model))):
            if isinstance(layer, (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)):
                weight = self._backend.to_torch(layer.kernel.value).detach()
                if weight.ndim > 2 and weight[..., 0, 0].numel() > 1:
                    continue
                bias = self._backend.to_torch(layer.bias.value).detach() if layer.use_bias else None
                found.append(Linear(weight.flatten(0, -2).mT, bias))
        return found

    def named(self, layer: Any) -> Any:
        """A layer object, or `"resnet50/conv5_block3_out"`, as the dotted name of its module."""
        if isinstance(layer, keras.layers.Layer):
            found = next((name for name, each in self.named_modules() if _layer_of(each) is layer), None)
            if found is None:
                raise WhycamError(f"the layer {layer.name!r} is no part of this model; pass one of its own, or a name.")
            return found
        if isinstance(layer, str):
            name, mark, rest = _split(layer)
            by_keras = {path: dotted for dotted, path in self._spelled.items()}
            return by_keras.get(name, name.replace("/", ".")) + mark + rest
        return layer

    def spell(self, name: str) -> str:
        """`"resnet50/conv5_block3_out"` for `"resnet50.conv5_block3_out"`."""
        return self._spelled.get(name, name)

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """Where Keras' backend is torch, its weights; they tell the device."""
        if self.in_torch:
            for variable in self.model.weights:
                yield f"{prefix}{variable.path}", variable.value


def backend() -> ModuleType:
    """The file for Keras' backend, which is fixed when Keras is imported.

    Raises:
        WhycamError: a backend that cannot be differentiated, or is not known here.
    """
    name = keras.config.backend()
    if name not in ("torch", "tensorflow", "jax"):
        raise WhycamError(
            f"Keras runs on its backend {name!r}, which whycam does not follow; set KERAS_BACKEND to torch, tensorflow "
            "or jax before Keras is imported."
        )
    return importlib.import_module(f"whycam.network.keras.on_{name}")


def data_format(model: Any) -> str:
    """Where a model's layers expect the channels: as the first of them says, else as Keras is configured."""
    for layer in _in_order(model):
        said = getattr(layer, "data_format", None)
        if said in ("channels_last", "channels_first"):
            return str(said)
    return str(keras.config.image_data_format())


def _in_order(model: Any) -> Iterator[Any]:
    for layer in getattr(model, "layers", None) or model._flatten_layers(include_self=False, recursive=False):
        yield layer
        yield from _in_order(layer)


def image_axes(model: Any) -> int:
    """How many axes the model's images have, with the batch and the channels: 4, or what its first input has."""
    shapes = [tuple(each.shape) for each in getattr(model, "inputs", None) or ()]
    return max((len(shape) for shape in shapes if len(shape) > 2), default=4)


def _as_built(model: Any, given: Any) -> Any:
    """The inputs in the structure in which the model was built to take them."""
    wanted = getattr(model, "_inputs_struct", None)
    if isinstance(given, list) and isinstance(wanted, Mapping) and len(given) == len(wanted):
        return dict(zip(wanted, given, strict=True))
    return given if isinstance(wanted, (list, tuple)) or not isinstance(given, list) or len(given) > 1 else given[0]


def _layer_of(module: nn.Module) -> Any:
    return vars(module).get("layer")


def _split(layer: str) -> tuple[str, str, str]:
    """A layer's name, and what picks a call or a side of it."""
    ends = [at for mark in ("#", ":input", ":output") if (at := layer.find(mark)) >= 0]
    at = min(ends, default=len(layer))
    return layer[:at], layer[at:], ""


class _Run:
    """One forward of the network."""

    def __init__(self, network: KerasNetwork) -> None:
        self.network = network
        self.backend = network._backend
        self.tape = network._backend.Tape()
        self.shown: OrderedDict[int, tuple[Any, Tensor]] = OrderedDict()
        self.known: OrderedDict[int, tuple[Tensor, Any]] = OrderedDict()
        self.given: Any = None  # (torch arguments, native arguments) of the pending call
        self.returned: Any = None  # what the module that was called last showed
        self.logits: list[tuple[Any, Any]] = []  # of each layer that may be the last: what it returned, and the logits
        self.made = [0]  # bytes that layers returned, in turn
        self.guided = guided.asked()

    # the whole network

    def answer(self, inputs: Any) -> Any:
        rule = self.backend.guided_relu() if self.guided else nullcontext()
        structure: list[Any] = []

        def run() -> list[Any]:
            given = mapped(inputs, self._entered)
            # as `predict` does: called without it, layers for augmentation take it that they train
            how = {"training": False} if self.network.model._call_has_training_arg else {}
            made = self._logits_of(self.network.model(given, **how))
            structure.append(made)
            return list(leaves(made, self.backend.is_tensor))

        with calls.intercepted(self), rule:
            try:
                found = self.tape.run(run)
            except Exception as error:
                if "RESOURCE_EXHAUSTED" in str(error) or type(error).__name__ == "ResourceExhaustedError":
                    raise RuntimeError(f"out of memory: {error}") from error
                raise
        outputs = [self.backend.to_torch(each) for each in found]
        memory.note(sum(sorted(self.made)[-2:]))  # of one layer, what it was given and what it returned
        if self.tape.sources:
            outputs = list(_Joined.apply(self.tape, outputs, *self.tape.sources))  # type: ignore[no-untyped-call]
        stream = iter([self._turned(each) for each in outputs])
        return mapped(structure[0], lambda _: next(stream), self.backend.is_tensor)

    def _entered(self, tensor: Tensor) -> Any:
        """An input of the network in the backend's terms, and known again when the first layer is given it."""
        made = self._new(tensor, None)
        self._remember(made, tensor)
        return made

    def _logits_of(self, outputs: Any) -> Any:
        def logits(value: Any) -> Any:
            return next((before for after, before in self.logits if after is value), value)

        return mapped(outputs, logits, self.backend.is_tensor)

    # one layer

    def called(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a layer returns when Keras calls it: through its module where anything looks at that."""
        module = self.network.module_of(layer)
        if module is None or _symbolic((args, kwargs)):
            return calls.original(layer, *args, **kwargs)
        watched = module._forward_hooks or module._forward_pre_hooks or type(module).__call__ is not nn.Module.__call__
        if not watched:
            return self._run(layer, args, kwargs)
        try:
            given, named = self._shown((args, kwargs))
        except UnseenError:
            return self._run(layer, args, kwargs)  # inside code that the backend compiles: no hook can be asked
        self.given = (args, kwargs), (given, named)
        made = module(*given, **named)
        shown, self.returned, self.given = self.returned, None, None
        return self._native(made, shown)

    def inside(self, module: KerasLayer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the module of a layer does when it is called: run the layer, on what hooks made of its arguments."""
        (_, shown), self.given = self.given or (None, (args, kwargs)), None
        given, named = self._native((args, kwargs), shown)
        self.returned = self._shown(self._run(_layer_of(module), given, named))
        return self.returned

    def _run(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        last = self.network._last
        before = heads.bare(layer) if last is None or id(layer) in last else None
        if before is None:
            made = calls.original(layer, *args, **kwargs)
        else:
            made = before(*args) if before is heads._same else calls.original(before, *args, **kwargs)
            if last is None and self.backend.is_tensor(made):
                after = heads.activated(layer, made)
                self.logits.append((after, made))
                made = after
        if self.backend.is_tensor(made) and not any(True for _ in module_children(self.network, layer)):
            self.made.append(_bytes(made))
        return made

    # between the two

    def _shown(self, value: Any) -> Any:
        """The backend's tensors as torch's, channels first; the same for the same."""

        def show(native: Any) -> Tensor:
            known = self.shown.get(id(native))
            if known is not None and known[0] is native:
                return known[1]
            made = self._turned(self.backend.to_torch(self.tape.concrete(native)))
            self._remember(native, made)
            return made

        return mapped(value, show, self.backend.is_tensor)

    def _native(self, value: Any, shown: Any) -> Any:
        """Torch's tensors as the backend's: what was shown is what it was, and anything else takes its place."""
        before = leaves(shown, is_tensor)

        def back(tensor: Tensor) -> Any:
            old = next(before, None)
            known = self.known.get(id(tensor))
            if known is not None and known[0] is tensor:
                return known[1]
            place = self.known.get(id(old)) if old is not None else None
            return self._new(tensor, place[1] if place is not None and place[0] is old else None)

        return mapped(value, back)

    def _new(self, tensor: Tensor, place: Any) -> Any:
        raw = self._turned(tensor, back=True)
        return self.tape.join(place, raw) if raw.requires_grad else self.backend.from_torch(raw)

    def _remember(self, native: Any, shown: Tensor) -> None:
        for table, key, pair in ((self.shown, native, (native, shown)), (self.known, shown, (shown, native))):
            table[id(key)] = pair
            if len(table) > _KNOWN:
                table.popitem(last=False)

    def _turned(self, tensor: Tensor, *, back: bool = False) -> Tensor:
        """An image's channels before its places, or back."""
        if not self.network._channels_last or tensor.ndim != self.network._axes or not tensor.is_floating_point():
            return tensor
        return tensor.movedim(1, -1) if back else tensor.movedim(-1, 1)


def module_children(network: KerasNetwork, layer: Any) -> Iterator[nn.Module]:
    """The modules inside a layer's."""
    module = network.module_of(layer)
    return iter(()) if module is None else module.children()


def _run(module: KerasLayer, *args: Any, **kwargs: Any) -> Any:
    run = calls.current()
    if not isinstance(run, _Run):
        raise WhycamError("a layer of a Keras model runs only inside its model; call the model.")
    return run.inside(module, args, kwargs)


class _Joined(torch.autograd.Function):
    """Hangs a network's outputs on its sources, as if torch had computed them."""

    @staticmethod
    def forward(ctx: Any, tape: Any, outputs: list[Tensor], *sources: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.tape = tape
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        return None, None, *ctx.tape.gradients(gradients)


def _bytes(native: Any) -> int:
    size = 4
    for side in native.shape:
        size *= int(side or 1)
    return size


def _symbolic(value: Any) -> bool:
    return any(True for _ in leaves(value, lambda each: isinstance(each, keras.KerasTensor)))
