"""Nested, shared and odd models: where layers are found, and that what is measured there is what Keras computes."""

from typing import Any

import keras
import keras_by_hand as by_hand
import keras_twins as twins
import numpy as np
import pytest
import torch

import whycam
from whycam.errors import WhycamError

layers = keras.layers


Nested = tuple[Any, Any, Any]


@pytest.fixture(scope="module")
def nested() -> Nested:
    """A network of keras.applications inside a functional model, with augmentation before it and a new head."""
    keras.utils.set_random_seed(3)
    base = keras.applications.MobileNetV2((64, 64, 3), alpha=0.35, include_top=False, weights=None, name="base")
    for layer in base.layers:
        if isinstance(layer, layers.BatchNormalization):  # else hardly anything arrives at the end
            layer.set_weights(
                [np.full_like(each, 1 if number in (0, 3) else 0.1) for number, each in enumerate(layer.get_weights())]
            )
        elif layer.weights:
            layer.set_weights([each * 3 for each in layer.get_weights()])
    return around(base)


@pytest.fixture(scope="module")
def small() -> Nested:
    """The same of two convolutions."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((64, 64, 3))
    x = layers.Conv2D(6, 5, strides=8, activation="relu", name="conv")(inputs)
    x = layers.Conv2D(8, 3, strides=2, name="late")(x)
    return around(keras.Model(inputs, layers.ReLU(name="out_relu")(x), name="base"))


def around(base: Any) -> Nested:
    """The whole model, the network inside it, and the head."""
    head = keras.Sequential(
        [
            keras.Input(base.output_shape[1:]),
            layers.GlobalAveragePooling2D(name="mean"),
            layers.Dropout(0.5, name="drop"),
            layers.Dense(4, activation="softmax", name="answer", kernel_initializer="glorot_normal"),
        ],
        name="top",
    )
    inputs = keras.Input((64, 64, 3))
    x = layers.RandomFlip("horizontal", name="flip")(inputs)
    x = layers.RandomRotation(0.1, name="turn")(x)
    x = layers.Rescaling(1 / 127.5, offset=-1, name="scale")(x)
    return keras.Model(inputs, head(base(x)), name="nested"), base, head


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.random.RandomState(0).uniform(0, 255, (2, 64, 64, 3)).astype("float32")


def logits(head: Any) -> Any:
    """The head without its softmax, on the same weights."""
    kernel, bias = map(keras.ops.convert_to_tensor, head.get_layer("answer").get_weights())
    return lambda maps: keras.ops.mean(maps, (1, 2)) @ kernel + bias


@pytest.mark.parametrize("layer", ["base/out_relu", "base.out_relu", "base"])
def test_a_network_inside_another(nested: Nested, photo: np.ndarray, layer: str) -> None:
    model, base, head = nested
    activations = by_hand.as_numpy(base(photo / 127.5 - 1))
    wanted = by_hand.grad_cam(activations, by_hand.gradient(logits(head), activations, 2))
    found = whycam.explain(model, photo, "grad_cam", layer=layer, target=2)
    assert wanted.max() > 0
    assert twins.apart(found.maps.double(), torch.from_numpy(wanted)) <= 1e-4  # rounding, through 52 layers
    assert found.cost.forwards == found.cost.backwards == 1
    assert found.layer.name == layer.replace(".", "/")


def test_a_layer_deep_inside(nested: Nested, photo: np.ndarray) -> None:
    model, base, head = nested
    layer = base.get_layer("block_13_expand_relu")
    until = keras.Model(base.input, layer.output)
    rest = keras.Model(layer.output, base.output)
    activations = by_hand.as_numpy(until(photo / 127.5 - 1))
    gradients = by_hand.gradient(lambda maps: logits(head)(rest(maps)), activations, 1)
    wanted = by_hand.grad_cam(activations, gradients)
    for named in (layer, "base/block_13_expand_relu"):
        found = whycam.explain(model, photo, layer=named, target=1)
        assert twins.apart(found.maps.double(), torch.from_numpy(wanted)) <= 1e-4


def test_the_layer_is_chosen_inside(nested: Nested, photo: np.ndarray) -> None:
    found = whycam.explain(nested[0], photo, "layer_cam", target=2)
    assert found.layer.name in ("base/out_relu", "base")
    assert found.maps.shape == (2, 2, 2)


@pytest.mark.parametrize("which", ["small", pytest.param("nested", marks=pytest.mark.slow)])
def test_ablation_runs_the_part_above_alone(which: str, photo: np.ndarray, request: pytest.FixtureRequest) -> None:
    model, base, head = request.getfixturevalue(which)
    found = whycam.explain(model, photo, "ablation_cam", layer="base/out_relu", target=2, progress=False)
    assert (found.cost.forwards, found.work[0].fallback) == (1, "")
    activations = by_hand.as_numpy(base(photo / 127.5 - 1))
    above = logits(head)
    score = by_hand.as_numpy(above(activations))[:, 2].astype("float64")
    drops = []
    for some in np.array_split(np.arange(activations.shape[-1]), -(-activations.shape[-1] // 128)):
        edited = np.repeat(activations[None], len(some), 0)
        edited[np.arange(len(some)), ..., some] = 0
        left = by_hand.as_numpy(above(edited.reshape(-1, *activations.shape[1:])))[:, 2].reshape(len(some), -1)
        drops += list((score - left) / np.abs(score))
    wanted = np.maximum(np.einsum("kb,bhwk->bhw", np.array(drops), activations), 0)
    # differences of nearly equal scores: rounding of 1e-7 in them is 1e-4 of what is left
    assert twins.apart(found.maps.double(), torch.from_numpy(wanted)) <= 1e-3


def shared() -> Any:
    """One convolution called twice, one after the other."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 3))
    once = layers.Conv2D(3, 3, padding="same", name="again")
    x = layers.ReLU(name="between")(once(inputs))
    return keras.Model(inputs, layers.Dense(3, name="out")(layers.Flatten(name="flat")(once(x))), name="shared")


def test_a_layer_called_twice() -> None:
    model = shared()
    batch = np.random.RandomState(0).randn(2, 8, 8, 3).astype("float32")
    once, between = model.get_layer("again"), model.get_layer("between")
    first = by_hand.as_numpy(once(batch))
    second = by_hand.as_numpy(once(between(first)))

    def from_second(maps: Any) -> Any:
        return model.get_layer("out")(model.get_layer("flat")(maps))

    for number, activations, above in (
        (0, first, lambda maps: from_second(once(between(maps)))),
        (1, second, from_second),
    ):
        wanted = by_hand.grad_cam(activations, by_hand.gradient(above, activations, 1))
        found = whycam.explain(model, batch, layer=f"again#{number}", target=1)
        assert twins.apart(found.maps.double(), torch.from_numpy(wanted)) <= 1e-5
    both = whycam.compare(model, batch, layers=["again#0", "again#1"], targets=[1])
    assert len(both) == 2


def two_inputs() -> Any:
    keras.utils.set_random_seed(2)
    left, right = keras.Input((8, 8, 3), name="left"), keras.Input((2,), name="right")
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(left)
    x = layers.Concatenate(name="join")([layers.GlobalAveragePooling2D(name="mean")(x), right])
    return keras.Model([left, right], layers.Dense(3, name="out")(x), name="two")


def test_several_inputs() -> None:
    model = two_inputs()
    random = np.random.RandomState(0)
    picture, numbers = random.randn(2, 8, 8, 3).astype("float32"), random.randn(2, 2).astype("float32")
    activations = by_hand.as_numpy(model.get_layer("conv")(picture))
    above = lambda maps: model.get_layer("out")(  # noqa: E731
        keras.ops.concatenate([keras.ops.mean(maps, (1, 2)), keras.ops.convert_to_tensor(numbers)], -1)
    )
    wanted = torch.from_numpy(by_hand.grad_cam(activations, by_hand.gradient(above, activations, 0)))
    for given in ((picture, numbers), [picture, numbers], {"left": picture, "right": numbers}):
        found = whycam.explain(model, given, layer="conv", target=0)
        assert twins.apart(found.maps.double(), wanted) <= 1e-5


def test_names_that_do_not_exist(nested: Nested, photo: np.ndarray) -> None:
    with pytest.raises(WhycamError, match=r"no layer 'base/out_rellu'.*Did you mean 'base/out_relu'"):
        whycam.explain(nested[0], photo, layer="base/out_rellu")
    with pytest.raises(WhycamError, match="'elsewhere' is no part of this model"):
        whycam.explain(nested[0], photo, layer=layers.ReLU(name="elsewhere"))


def test_a_model_that_changed_is_looked_at_anew() -> None:
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3, name="first", activation="relu")])
    batch = np.random.RandomState(0).randn(1, 8, 8, 3).astype("float32")
    model.add(layers.GlobalAveragePooling2D(name="mean"))
    assert whycam.explain(model, batch, target=0).layer.name == "first"
    model.pop()
    model.add(layers.Conv2D(5, 3, name="second", activation="relu"))
    model.add(layers.GlobalAveragePooling2D(name="other"))
    assert whycam.explain(model, batch, target=0).layer.name == "second"


def test_refusals() -> None:
    picture = np.zeros((1, 12, 12, 3), "float32")
    with pytest.raises(WhycamError, match="has no weights yet"):
        whycam.explain(twins.Subclassed(), picture)
    with pytest.raises(WhycamError, match="expected, not a Conv2D layer"):
        whycam.explain(layers.Conv2D(3, 3), picture)
    with pytest.raises(WhycamError, match=r"precision=.*this is a Keras model"):
        whycam.explain(twins.functional(), picture + 1, "score_cam", precision="float32", progress=False)


def test_a_sum_that_is_looked_at_too_hands_gradients_to_all_its_parts() -> None:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((12, 12, 3))
    first = layers.Conv2D(6, 3, padding="same", activation="relu", name="first")(inputs)
    second = layers.Conv2D(6, 3, padding="same", activation="relu", name="second")(first)
    x = layers.GlobalAveragePooling2D(name="mean")(layers.Add(name="sum")([first, second]))
    model = keras.Model(inputs, layers.Dense(4, name="out")(x))
    batch = np.random.RandomState(0).randn(2, 12, 12, 3).astype("float32")
    made = whycam.compare(model, batch, layers=["first", "second", "sum"], targets=[1])
    for name in ("first", "second", "sum"):
        alone = whycam.explain(model, batch, layer=name, target=1)
        assert twins.apart(made["grad_cam", name, 1].maps.double(), alone.maps.double()) <= 1e-5
        assert alone.maps.any()
