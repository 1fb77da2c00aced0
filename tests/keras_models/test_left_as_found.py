"""After an explanation, or an exception in one, a Keras model is what it was, and so is Keras itself."""

import gc
import threading
import weakref
from typing import Any

import keras
import keras_by_hand as by_hand
import keras_twins as twins
import numpy as np
import pytest

import whycam
from whycam.kit.registry import methods
from whycam.network.memory import peak_bytes

layers = keras.layers
METHODS = ["grad_cam", "cam", "score_cam", "ablation_cam", "rise", "smooth_grad_cam_plus_plus", "guided_backprop"]


def trained() -> Any:
    """A model with an optimizer that has made a step, frozen layers, and dropout that always draws."""
    keras.utils.set_random_seed(5)
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(6, 3, activation="relu", name="conv")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Dropout(0.2, name="drop", seed=7)(x)
    x = layers.ReLU(name="last")(x)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    model = keras.Model(inputs, layers.Dense(3, activation="softmax", name="head")(x))
    model.compile("adam", "categorical_crossentropy")
    random = np.random.RandomState(0)
    model.train_on_batch(random.randn(4, 12, 12, 3).astype("float32"), np.eye(3, dtype="float32")[[0, 1, 2, 0]])
    model.get_layer("conv").trainable = False
    return model


def state(model: Any) -> dict[str, Any]:
    """All that a caller could see change."""
    variables = {each.path: np.array(by_hand.as_numpy(each.value)) for each in model.variables}
    variables |= {
        f"optimizer {each.path}": np.array(by_hand.as_numpy(each.value)) for each in model.optimizer.variables
    }
    flags = {layer.name: (layer.trainable, layer.built, len(layer._inbound_nodes)) for layer in model._flatten_layers()}
    attributes = {layer.name: sorted(vars(layer)) for layer in model._flatten_layers()}
    return {"variables": variables, "flags": flags, "attributes": attributes}


def assert_same(now: dict[str, Any], then: dict[str, Any]) -> None:
    assert now["flags"] == then["flags"]
    assert now["attributes"] == then["attributes"]
    assert now["variables"].keys() == then["variables"].keys()
    for name, value in then["variables"].items():
        assert np.array_equal(now["variables"][name], value), name


@pytest.fixture(scope="module")
def model() -> Any:
    return trained()


@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_left(name: str, model: Any) -> None:
    batch = np.random.RandomState(1).randn(2, 12, 12, 3).astype("float32")
    predicted = model.predict(batch, verbose=0)
    original, then = layers.Layer.__call__, state(model)
    options = {option: 3 for option in methods()[name].options if option in ("samples", "steps")}
    whycam.explain(model, batch, name, progress=False, **options)
    assert layers.Layer.__call__ is original
    assert_same(state(model), then)
    assert np.array_equal(model.predict(batch, verbose=0), predicted)


def test_nothing_is_left_after_an_exception(model: Any) -> None:
    batch = np.random.RandomState(1).randn(2, 12, 12, 3).astype("float32")
    original, then = layers.Layer.__call__, state(model)

    def failing(output: Any) -> Any:
        raise KeyError("the caller's own")

    for name in ("grad_cam", "score_cam", "guided_backprop"):
        with pytest.raises(KeyError):
            whycam.explain(model, batch, name, target=failing, progress=False)
        assert layers.Layer.__call__ is original
        assert_same(state(model), then)


def test_a_model_that_was_never_called_still_counts_as_that() -> None:
    """Keras refuses to export a model that was never called; being explained is no call of the owner's."""
    model = twins.functional()
    flags = {layer.name: layer._called for layer in model._flatten_layers()}
    assert not flags["plain"]
    whycam.explain(model, np.ones((1, 12, 12, 3), "float32"), target=1)
    assert {layer.name: layer._called for layer in model._flatten_layers()} == flags


def test_the_memory_of_a_pass_counts_what_a_layer_is_given_and_returns() -> None:
    """Of backends whose allocations torch does not see: two results of the first convolution's size."""
    model = twins.with_weights(twins.functional(), twins.plain_torch())
    network, given = whycam.VisionModel(model).module, twins.pictures()
    network(given)  # what is made once is made
    with peak_bytes() as counter:
        network(given)
    layer = 3 * 6 * 12 * 12 * 4
    assert counter.peak >= 2 * layer
    assert counter.peak <= 2 * layer + 3 * given.nbytes or twins.BACKEND == "torch"


@keras.saving.register_keras_serializable("whycam tests")
class Breaking(layers.Layer):
    """Raises when it is given something wide."""

    def call(self, x: Any) -> Any:
        if (x.shape[0] or 0) > 2:
            raise ZeroDivisionError("inside a layer")
        return x

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


def test_nothing_is_left_when_a_layer_raises() -> None:
    inputs = keras.Input((12, 12, 3), batch_size=None)
    x = Breaking(name="breaking")(layers.Conv2D(4, 3, name="conv")(inputs))
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    original = layers.Layer.__call__
    with pytest.raises(ZeroDivisionError):
        whycam.explain(model, np.ones((3, 12, 12, 3), "float32"), layer="conv", target=0)
    assert layers.Layer.__call__ is original
    assert whycam.explain(model, np.ones((2, 12, 12, 3), "float32"), layer="conv", target=0).maps.shape == (2, 10, 10)


class Always(layers.Layer):
    """Dropout that draws in prediction too."""

    def __init__(self, rate: float, **named: Any) -> None:
        super().__init__(**named)
        self.inner = layers.Dropout(rate, name="inner", seed=7)

    def call(self, x: Any) -> Any:
        return self.inner(x, training=True)


def drawing(rate: float = 0.5) -> Any:
    keras.utils.set_random_seed(5)
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(6, 3, activation="relu", name="conv")(inputs)
    x = Always(rate, name="drop")(x)
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.GlobalAveragePooling2D(name="mean")(x)))


@pytest.mark.parametrize("name", ["grad_cam", "score_cam", "ablation_cam"])
def test_random_generators_go_on_where_they_were(name: str) -> None:
    batch = np.random.RandomState(1).randn(2, 12, 12, 3).astype("float32")
    first, second = drawing(), drawing()
    once = whycam.explain(first, batch, name, layer="conv", target=1, progress=False)
    again = whycam.explain(first, batch, name, layer="conv", target=1, progress=False)
    assert np.array_equal(once.maps, again.maps)  # the same draws
    assert np.array_equal(by_hand.as_numpy(first(batch)), by_hand.as_numpy(second(batch)))


def test_draws_are_noticed() -> None:
    model = drawing()
    network = whycam.VisionModel(model).module
    before = network.drawn()
    model(np.ones((1, 12, 12, 3), "float32"))
    assert network.drawn() != before


def test_variants_of_a_network_that_draws_are_run_alone() -> None:
    batch = np.random.RandomState(1).randn(2, 12, 12, 3).astype("float32")
    for rate in (0.5, 1e-7):  # also where nothing that was drawn has shown yet
        made = whycam.explain(drawing(rate), batch, "score_cam", layer="conv", target=1, progress=False)
        assert made.work[0].alone


def test_threads() -> None:
    """Two models are explained at once, while a third thread predicts with one of them."""
    batch = twins.pictures()
    model, other = (twins.with_weights(twins.functional(), twins.plain_torch(seed)) for seed in (0, 1))
    given = twins.last(batch)
    wanted = [whycam.explain(each, given, layer="relu2", target=1).maps for each in (model, other)]
    predicted = by_hand.as_numpy(model(given))
    failures: list[Any] = []
    done = threading.Event()

    def explain(number: int, each: Any) -> None:
        try:
            for _ in range(8):
                found = whycam.explain(each, given, layer="relu2", target=1).maps
                if not np.allclose(found, wanted[number], rtol=1e-5, atol=1e-7):
                    failures.append(("maps", number))
        except Exception as error:
            failures.append(error)

    def predict() -> None:
        while not done.is_set():
            if not np.allclose(by_hand.as_numpy(model(given)), predicted, rtol=1e-5, atol=1e-6):
                failures.append("prediction")

    original = layers.Layer.__call__
    working = [threading.Thread(target=explain, args=pair) for pair in enumerate((model, other))]
    watching = threading.Thread(target=predict)
    for thread in (watching, *working):
        thread.start()
    for thread in working:
        thread.join()
    done.set()
    watching.join()
    assert not failures
    assert layers.Layer.__call__ is original


def test_a_model_is_not_kept_alive() -> None:
    """What is found out about a model goes with it."""
    model = trained()
    whycam.explain(model, np.ones((1, 12, 12, 3), "float32"), "ablation_cam", progress=False)
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None


def test_a_vision_model_keeps_its_model() -> None:
    asked = whycam.VisionModel(trained())
    gc.collect()
    assert whycam.explain(asked, np.ones((1, 12, 12, 3), "float32")).maps.shape == (1, 10, 10)
