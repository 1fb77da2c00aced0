"""The same weights in a Keras network and in a torch network give the same maps, by every method, on every backend."""

import keras
import keras_twins as twins
import numpy as np
import pytest
import torch
from few import OF_ANY, few

import whycam
from whycam.errors import WhycamError
from whycam.network.memory import peak_bytes

TABLE = OF_ANY
#: What looks into torch's functions; the first on any backend, the others where they are not torch's.
NOWHERE = {name for name, each in TABLE.items() if "bias_gradients" in each.needs}
IN_TORCH = {name for name, each in TABLE.items() if each.needs & {"curvature", "relevance"}}
offered = [name for name in TABLE if name not in NOWHERE and (twins.BACKEND == "torch" or name not in IN_TORCH)]
refused = [name for name in TABLE if name not in offered]
#: The two networks hand the layer on in other orders of memory: rounding turns a small eigenvalue, and Adam's first
#: steps are as long for a gradient of nearly nothing as for any other. D-RISE and occlusion subtract scores that are
#: near to each other: rounding of 1e-7 in them is 1e-5 of what is left, more or less as the machine's kernels add.
LOOSE = {"d_rise": 1e-4, "occlusion": 1e-4, "kpca_cam": 1e-4, "deep_feature_factorization": 1e-3, "opti_cam": 5e-2}


def both(name: str, keras_model: object, *, layer: str | None = "relu2", **more: object) -> tuple[object, object]:
    batch, torch_model = twins.pictures(), twins.plain_torch()
    given = {"progress": False, **few(TABLE[name]), **more}
    if TABLE[name].has_layer and layer is not None:
        given["layer"] = layer
    if TABLE[name].class_specific:
        given["target"] = [2, None, 4]
    theirs = whycam.explain(keras_model, twins.last(batch), name, **given)
    return theirs, whycam.explain(torch_model, batch, name, **given)


@pytest.fixture(scope="module")
def network() -> object:
    return twins.with_weights(twins.functional(side=None), twins.plain_torch())


@pytest.mark.parametrize("name", offered)
def test_maps_are_the_torch_networks(name: str, network: object) -> None:
    theirs, ours = both(name, network)
    assert float(ours.maps.abs().amax()) > 0
    assert twins.apart(theirs.maps, ours.maps) <= LOOSE.get(name, 1e-5)
    assert [each.kind for each in theirs.status] == [each.kind for each in ours.status]


@pytest.mark.parametrize("name", refused)
def test_what_is_not_offered_is_refused_in_words(name: str, network: object) -> None:
    with pytest.raises(WhycamError, match="this is a Keras model; use "):
        both(name, network)


@pytest.mark.parametrize("name", ["grad_cam", "grad_cam_plus_plus", "score_cam", "ablation_cam", "rise", "cam"])
@pytest.mark.parametrize("build", [twins.sequential, twins.subclassed], ids=["sequential", "subclassed"])
def test_however_the_model_is_written(name: str, build: object) -> None:
    theirs, ours = both(name, twins.with_weights(build(), twins.plain_torch()))
    assert twins.apart(theirs.maps, ours.maps) <= 1e-5


@pytest.mark.parametrize("name", ["grad_cam", "layer_cam", "score_cam", "ablation_cam", "smooth_grad_cam_plus_plus"])
@pytest.mark.skipif(twins.BACKEND == "tensorflow", reason="TensorFlow's CPU kernels take channels last only")
def test_channels_first(name: str) -> None:
    model = twins.with_weights(twins.functional("channels_first"), twins.plain_torch())
    batch = twins.pictures()
    given = {"layer": "relu2", "target": 1, "progress": False, **few(TABLE[name])}
    theirs = whycam.explain(model, batch.numpy(), name, **given)
    ours = whycam.explain(twins.plain_torch(), batch, name, **given)
    assert twins.apart(theirs.maps, ours.maps) <= 1e-5


def test_several_layers_methods_and_targets_at_once(network: object) -> None:
    batch = twins.pictures()
    asked = {"methods": ["grad_cam", "layer_cam", "hires_cam", "ablation_cam"], "layers": ["relu1", "conv2", "relu2"]}
    theirs = whycam.compare(network, twins.last(batch), targets=[0, 3], progress=False, **asked)
    ours = whycam.compare(twins.plain_torch(), batch, targets=[0, 3], progress=False, **asked)
    assert len(theirs) == len(ours) == 4 * 3 * 2
    for key, wanted in ours.items():
        assert twins.apart(theirs[key].maps, wanted.maps) <= 1e-5, key
    assert (theirs.cost.forwards, theirs.cost.backwards) == (ours.cost.forwards, ours.cost.backwards)


@pytest.mark.parametrize("name", ["grad_cam", "grad_cam_plus_plus", "score_cam", "ablation_cam", "rise"])
def test_cost_is_counted_as_for_torch(name: str, network: object) -> None:
    theirs, ours = (each.cost for each in both(name, network))
    assert (theirs.forwards, theirs.backwards) == (ours.forwards, ours.backwards)
    assert theirs.parts == ours.parts


@pytest.mark.parametrize("layer", ["relu1", "pool:input", "conv2", "norm", "mean:input"])
def test_at_every_layer_and_side(layer: str, network: object) -> None:
    theirs, ours = both("grad_cam", network, layer=layer)
    assert twins.apart(theirs.maps, ours.maps) <= 1e-5


def test_scores_are_the_logits(network: object) -> None:
    theirs, ours = both("grad_cam", network)
    torch.testing.assert_close(theirs.scores, ours.scores, rtol=1e-5, atol=1e-5)


def test_guided_backprop_refuses_what_is_no_relu() -> None:
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="gelu", name="conv")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(WhycamError, match="defined for ReLU alone, and this network uses gelu"):
        whycam.explain(model, np.ones((1, 8, 8, 3), "float32"), "guided_backprop", target=0)
    assert whycam.explain(model, np.ones((1, 8, 8, 3), "float32"), target=0).maps.shape == (1, 6, 6)


def test_the_part_above_a_layer_is_run_in_a_tree_of_its_own() -> None:
    """What answers from a record there must not answer in the next explanation, nor stay."""
    model, torch_model = twins.with_weights(twins.functional(), twins.plain_torch()), twins.plain_torch()
    whycam.explain(model, twins.last(twins.pictures()), "ablation_cam", layer="norm", target=1, progress=False)
    modules = whycam.VisionModel(model).module.modules()
    assert all(type(each).__call__ is torch.nn.Module.__call__ for each in modules)
    other = twins.pictures(seed=9)
    theirs = whycam.explain(model, twins.last(other), "layer_cam", layer="relu1", target=1)
    ours = whycam.explain(torch_model, other, "layer_cam", layer="relu1", target=1)
    assert twins.apart(theirs.maps, ours.maps) <= 1e-5


def test_memory_is_counted_where_torch_does_not_see_it(network: object) -> None:
    """Rows at once follow from it: the first convolution's output and what the ReLU makes of it."""
    module = whycam.VisionModel(network).module
    with peak_bytes() as counter, torch.no_grad():
        module(twins.pictures(4))
    assert counter.peak >= 2 * 4 * 4 * 6 * 12 * 12
