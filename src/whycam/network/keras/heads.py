"""The logits behind a softmax or sigmoid that a Keras model ends in."""

from typing import Any

import keras

#: Layers whose activation is the last thing they do.
_ENDING = (keras.layers.Dense, keras.layers.EinsumDense)
_FUNCTIONS = (keras.activations.softmax, keras.activations.sigmoid)


def bare(layer: Any) -> Any | None:
    """A stand-in for a layer that gives logits in place of probabilities, on the same weights; `None` if it gives none.

    The layer itself is not changed, so other threads may call it in the meantime.
    """
    if isinstance(layer, keras.layers.Softmax) and layer.axis in (-1, 1):
        return _same
    function = getattr(layer, "activation", None)
    if function not in _FUNCTIONS:
        return None
    if isinstance(layer, keras.layers.Activation):
        return _same
    if not isinstance(layer, _ENDING):
        return None
    made = object.__new__(type(layer))
    vars(made).update(vars(layer))
    vars(made)["activation"] = keras.activations.linear
    return made


def activated(layer: Any, logits: Any) -> Any:
    """What the layer would have returned."""
    if isinstance(layer, keras.layers.Softmax):
        return keras.activations.softmax(logits, axis=layer.axis)
    return layer.activation(logits)


def _same(inputs: Any, *args: Any, **kwargs: Any) -> Any:
    return inputs


def last_layers(model: Any) -> set[int] | None:
    """The layers whose output is the model's and goes nowhere else, by their ids; `None` where no graph tells."""
    if isinstance(model, keras.Sequential):
        ends = [layer for layer in model.layers if not _passes(layer)]
        return None if not ends else last_layers(ends[-1]) if isinstance(ends[-1], keras.Model) else {id(ends[-1])}
    outputs = getattr(model, "_outputs", None)
    if outputs is None or not isinstance(model, keras.Model):
        return None
    found: set[int] = set()
    taken = {id(each) for node in _nodes(model) for each in node.input_tensors}
    for output in outputs:
        layer = output._keras_history.operation
        while _passes(layer) and id(output) not in taken and len(layer._inbound_nodes) == 1:
            (output,) = layer._inbound_nodes[0].input_tensors
            taken.discard(id(output))  # by the layer that passes it on
            layer = output._keras_history.operation
        if id(output) in taken:
            continue
        if isinstance(layer, keras.Model):
            found |= last_layers(layer) or set()
        else:
            found.add(id(layer))
    return found


def _passes(layer: Any) -> bool:
    """Whether a layer passes on what it is given, as the last of a model in mixed precision does."""
    linear = isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.linear
    return linear or isinstance(layer, (keras.layers.Identity, keras.layers.ActivityRegularization))


def _nodes(model: Any) -> list[Any]:
    return [node for nodes in model._nodes_by_depth.values() for node in nodes if not node.is_input]
