"""What the score is where a model ends in softmax or sigmoid: the logit where it can be reached, and named if not."""

from typing import Any

import keras
import keras_by_hand as by_hand
import numpy as np
import pytest
import torch

import whycam

layers = keras.layers
BATCH = np.random.RandomState(0).randn(3, 8, 8, 3).astype("float32")


def features() -> tuple[Any, Any]:
    keras.utils.set_random_seed(4)
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, activation="relu", name="conv")(inputs)
    return inputs, layers.GlobalAveragePooling2D(name="mean")(x)


class Own(keras.Model):
    """Ends in a layer with softmax, and nothing tells but the call."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = layers.Conv2D(6, 3, activation="relu", name="conv")
        self.mean = layers.GlobalAveragePooling2D(name="mean")
        self.answer = layers.Dense(4, activation="softmax", name="answer")

    def call(self, x: Any) -> Any:
        return self.answer(self.mean(self.conv(x)))


def in_the_layer(activation: str = "softmax", units: int = 4) -> Any:
    inputs, x = features()
    return keras.Model(inputs, layers.Dense(units, activation=activation, name="answer")(x))


def layer_of_its_own(layer: Any) -> Any:
    inputs, x = features()
    return keras.Model(inputs, layer(layers.Dense(4, name="answer")(x)))


def passed_on() -> Any:
    inputs, x = features()
    x = layers.Dense(4, activation="softmax", name="answer")(x)
    return keras.Model(inputs, layers.Activation("linear", dtype="float32", name="as_float32")(x))


def nested() -> Any:
    inner = in_the_layer()
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, inner(inputs))


def own() -> Any:
    keras.utils.set_random_seed(4)
    model = Own()
    model(BATCH)
    return model


REACHED = {
    "softmax in the layer": in_the_layer,
    "a softmax layer": lambda: layer_of_its_own(layers.Softmax()),
    "an activation layer": lambda: layer_of_its_own(layers.Activation("softmax")),
    "passed on": passed_on,
    "inside another model": nested,
    "a class of one's own": own,
    "sigmoid": lambda: in_the_layer("sigmoid"),
}


def answer(model: Any) -> Any:
    return next(layer for layer in model._flatten_layers() if layer.name == "answer")


@pytest.mark.parametrize("build", REACHED.values(), ids=REACHED)
def test_the_score_is_the_logit(build: Any) -> None:
    model = build()
    kernel, bias = answer(model).get_weights()
    conv = next(layer for layer in model._flatten_layers() if layer.name == "conv")
    logits = by_hand.as_numpy(conv(BATCH)).mean((1, 2)) @ kernel + bias
    found = whycam.explain(model, BATCH, target=1)
    torch.testing.assert_close(found.scores, torch.from_numpy(logits[:, 1]), rtol=1e-5, atol=1e-6)
    assert not any("probabilit" in note for note in found.notes)
    # the layer itself is what it was
    assert by_hand.as_numpy(model(BATCH)).max() <= 1


def test_predictions_are_the_models_own() -> None:
    model = in_the_layer()
    predicted = by_hand.as_numpy(model(BATCH))
    found = whycam.explain(model, BATCH)
    for sample, prediction in enumerate(found.predictions):
        assert prediction.index == predicted[sample].argmax()
        assert prediction.probability == pytest.approx(predicted[sample].max(), rel=1e-5)


def test_one_sigmoid_unit_is_two_classes() -> None:
    model = in_the_layer("sigmoid", units=1)
    predicted = by_hand.as_numpy(model(BATCH))[:, 0]
    found = whycam.explain(model, BATCH, target=1)
    np.testing.assert_allclose(found.scores.sigmoid().numpy(), predicted, rtol=1e-5)


def test_a_softmax_that_cannot_be_reached_is_named() -> None:
    inputs, x = features()
    model = keras.Model(inputs, keras.ops.softmax(layers.Dense(4, name="answer")(x)))
    found = whycam.explain(model, BATCH, target=1)
    np.testing.assert_allclose(found.scores.numpy(), by_hand.as_numpy(model(BATCH))[:, 1], rtol=1e-5)
    assert any("probabilit" in note for note in found.notes), found.notes


def test_softmax_that_others_read_is_left() -> None:
    """A gate is no answer: what is behind it must be given what the layer returns."""
    inputs, x = features()
    gate = layers.Dense(6, activation="sigmoid", name="gate")(x)
    out = layers.Dense(4, name="answer")(layers.Multiply(name="gated")([x, gate]))
    model = keras.Model(inputs, [out, gate])
    found = whycam.explain(model, BATCH, target=1, output="[0]")
    np.testing.assert_allclose(found.scores.numpy(), by_hand.as_numpy(model(BATCH)[0])[:, 1], rtol=1e-5)


def test_softmax_that_is_passed_on_to_others_too_is_left() -> None:
    inputs, x = features()
    x = layers.Dense(4, activation="softmax", name="answer")(x)
    passed = layers.Activation("linear", name="passed")(x)
    model = keras.Model(inputs, [passed, layers.Dense(4, name="more")(passed)])
    for number in (0, 1):
        found = whycam.explain(model, BATCH, target=1, output=f"[{number}]")
        np.testing.assert_allclose(found.scores.numpy(), by_hand.as_numpy(model(BATCH)[number])[:, 1], rtol=1e-5)
