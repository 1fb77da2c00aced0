"""A module for each layer of a Keras model, under the layer's name."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
from torch import nn

from whycam.network.adapted import AdaptedLayer, LayerRole

_ACTIVATIONS = (
    keras.layers.Activation, keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.PReLU, keras.layers.ELU,
    keras.layers.Softmax,
)  # fmt: skip
_RESAMPLING = (
    keras.layers.UpSampling1D, keras.layers.UpSampling2D, keras.layers.UpSampling3D, keras.layers.ZeroPadding1D,
    keras.layers.ZeroPadding2D, keras.layers.ZeroPadding3D, keras.layers.Cropping1D, keras.layers.Cropping2D,
    keras.layers.Cropping3D, keras.layers.Rescaling, keras.layers.Resizing, keras.layers.CenterCrop,
    keras.layers.Dropout, keras.layers.SpatialDropout1D, keras.layers.SpatialDropout2D, keras.layers.SpatialDropout3D,
    keras.layers.AlphaDropout, keras.layers.GaussianDropout, keras.layers.GaussianNoise,
    keras.layers.ActivityRegularization, keras.layers.Identity,
)  # fmt: skip


class KerasLayer(AdaptedLayer):
    """The place of one Keras layer among the modules; hooks on it fire when Keras calls the layer."""

    def __init__(self, layer: Any, run: Callable[..., Any]) -> None:
        super().__init__()
        # not by assignment: with Keras' torch backend a layer is a module, and would become a part of this one
        vars(self)["layer"] = layer
        vars(self)["run"] = run
        self.role = _role(layer)
        self.has_weights = bool(layer._trainable_variables or layer._non_trainable_variables)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the layer makes of torch tensors, channels first."""
        return vars(self)["run"](self, *args, **kwargs)

    def extra_repr(self) -> str:
        """The layer's name."""
        return str(vars(self)["layer"].name)


def kind_of(layer: Any) -> type[KerasLayer]:
    """A class of modules that is called as the layer's class is."""
    return _kind(type(layer).__name__, type(layer).__module__)


@functools.cache
def _kind(name: str, home: str) -> type[KerasLayer]:
    return type(name, (KerasLayer,), {"__module__": home, "__doc__": KerasLayer.__doc__})


def tree(model: Any, root: nn.Module, run: Callable[..., Any]) -> tuple[dict[int, KerasLayer], dict[str, str]]:
    """Give `root` a module for each layer; they by their layers' ids, and each dotted name in Keras' own spelling.

    A layer that is a part of several others has one module under several names.
    """
    modules: dict[int, KerasLayer] = {}
    spelled: dict[str, str] = {}

    def grow(owner: Any, module: nn.Module, dotted: str, path: str) -> None:
        for layer in inside(owner):
            if isinstance(layer, keras.layers.InputLayer):
                continue
            name = _free(str(layer.name), module)
            known = id(layer) in modules
            if not known:
                modules[id(layer)] = kind_of(layer)(layer, run)
            module.add_module(name, modules[id(layer)])
            spelled[f"{dotted}{name}"] = f"{path}{layer.name}"
            if not known:
                grow(layer, modules[id(layer)], f"{dotted}{name}.", f"{path}{layer.name}/")

    grow(model, root, "", "")
    return modules, spelled


def inside(layer: Any) -> Iterator[Any]:
    """The layers that a model or a layer is made of, not those inside them."""
    if isinstance(layer, keras.Model):
        yield from layer.layers
    else:
        yield from layer._flatten_layers(include_self=False, recursive=False)


def everything(model: Any) -> Iterator[Any]:
    """The model and all layers in it, once each."""
    seen: set[int] = set()
    stack = [model]
    while stack:
        layer = stack.pop()
        if id(layer) not in seen:
            seen.add(id(layer))
            yield layer
            stack.extend(inside(layer))


def _free(name: str, module: nn.Module) -> str:
    """A name that a module may have and no sibling has."""
    name = name.replace(".", "_")
    number, free = 1, name
    while hasattr(module, free):
        free = f"{name}_{number}"
        number += 1
    return free


def _role(layer: Any) -> LayerRole:
    if isinstance(layer, _ACTIVATIONS):
        return "activation"
    if isinstance(layer, _RESAMPLING) or type(layer).__module__.startswith("keras.src.layers.pooling."):
        return "resampling"
    return "step"
