"""How maps are made besides the method: signed, channel by channel, smoothed in several ways; what else comes back."""

import inspect

import nets
import numpy as np
import pytest
import torch

import whycam
from whycam.engine.smoothing import Smoothing, augmentations
from whycam.errors import OptionError, WhycamError
from whycam.kit.arrays import resize
from whycam.kit.registry import list_methods

#: The methods whose last step is the positive part of a weighted sum.
RECTIFIED = ["ablation_cam", "grad_cam", "grad_cam_plus_plus", "layer_cam", "score_cam", "xgrad_cam", "is_cam"]


@pytest.fixture
def model():
    return nets.plain()


def by_autograd(model, inputs, target=1):
    """The weighted channels of Grad-CAM at conv2, `(batch, channel, height, width)`, in float64."""
    kept = []
    handle = model.conv2.register_forward_hook(lambda *args: kept.append(args[2]))
    output = model(inputs)
    handle.remove()
    (gradient,) = torch.autograd.grad(output[:, target].sum(), kept[0])
    return (gradient.flatten(2).mean(2)[:, :, None, None] * kept[0]).detach()


def test_signed_leaves_the_positive_part_out(model):
    inputs = nets.images()
    expected = by_autograd(model, inputs).sum(1)
    assert (expected < 0).any()
    found = whycam.explain(model, inputs, target=1, layer="conv2", signed=True)
    torch.testing.assert_close(found.maps, expected.float())
    assert any("signed" in note for note in found.notes)
    plain = whycam.explain(model, inputs, target=1, layer="conv2")
    torch.testing.assert_close(plain.maps, expected.clamp(min=0).float())


@pytest.mark.parametrize("method", RECTIFIED)
def test_the_positive_part_of_a_signed_map_is_the_map(model, method):
    inputs = nets.images()
    signed = whycam.explain(model, inputs, method, layer="relu2", target=1, signed=True)
    plain = whycam.explain(model, inputs, method, layer="relu2", target=1)
    torch.testing.assert_close(signed.maps.clamp(min=0), plain.maps)


def test_signed_is_refused_where_it_changes_nothing(model):
    for method in ("hires_cam", "eigen_cam"):
        with pytest.raises(WhycamError, match="signed=True changes nothing"):
            whycam.explain(model, nets.images(), method, layer="relu2", signed=True)


def test_what_each_channel_adds(model):
    inputs = nets.images()
    expected = by_autograd(model, inputs)
    found = whycam.explain(model, inputs, target=1, layer="conv2", per_channel=True)
    torch.testing.assert_close(found.channels, expected)
    torch.testing.assert_close(found.maps, expected.sum(1).relu().float())
    torch.testing.assert_close(found[1].channels, expected[1:2])
    assert whycam.explain(model, inputs, target=1, layer="conv2").channels is None
    with pytest.raises(WhycamError, match="does not add channels up"):
        whycam.explain(model, inputs, "eigen_cam", layer="conv2", per_channel=True)
    with pytest.raises(WhycamError, match="keeps what the channels of one layer add, and 2 layers are fused"):
        whycam.explain(model, inputs, target=1, layer=["conv1", "conv2"], per_channel=True)
    with pytest.raises(WhycamError, match="exclude each other"):
        whycam.explain(model, inputs, layer="conv2", per_channel=True, smoothing="augmentations")


def test_both_smoothings_together(model):
    inputs = nets.images()
    index = [1] * len(inputs)
    found = whycam.explain(
        model, inputs, "hires_cam", layer="relu2", target=index, smoothing=["augmentations", "component"]
    )
    expected = torch.stack(
        [
            each.inverse(
                whycam.explain(
                    model, each.transform(inputs), "hires_cam", layer="relu2", target=index, smoothing="component"
                ).maps
            )
            for each in augmentations()
        ]
    ).mean(0)
    torch.testing.assert_close(found.maps, expected)
    assert sum("smoothed" in note for note in found.notes) == 2


def test_an_augmentation_of_ones_own(model):
    inputs = nets.images()
    own = whycam.Augmentation("upside down", lambda x: x.flip(2), lambda maps: maps.flip(-2))
    found = whycam.explain(model, inputs, "hires_cam", layer="relu2", target=1, smoothing=own)
    turned = whycam.explain(model, inputs.flip(2), "hires_cam", layer="relu2", target=1).maps.flip(1)
    plain = whycam.explain(model, inputs, "hires_cam", layer="relu2", target=1).maps
    torch.testing.assert_close(found.maps, (plain + turned) / 2)


@pytest.mark.parametrize("wrong", ["augment", 3, ["component", "x"], True])
def test_other_smoothings_are_refused(wrong):
    with pytest.raises(OptionError, match="smoothing is 'augmentations', 'component'"):
        Smoothing.of(wrong)


def test_the_models_answer_comes_back(model):
    inputs = nets.images()
    found = whycam.explain(model, inputs, target=1)
    torch.testing.assert_close(found.outputs, model(inputs).detach())
    torch.testing.assert_close(found[1].outputs, model(inputs).detach()[1:2])


def test_the_first_sample_without_the_batch_axis(model):
    found = whycam.explain(model, nets.images(), target=1)
    first = found.first
    assert torch.equal(first.map, found.maps[0])
    assert first.score == pytest.approx(float(found.scores[0]))
    assert (first.prediction, first.target, first.status) == (found.predictions[0], found.target[0], found.status[0])
    assert torch.equal(first.output, found.outputs[0])
    assert whycam.explain(model, nets.images(), "eigen_cam").first.target == ""


def test_ways_to_enlarge(model):
    found = whycam.explain(model, nets.images(), target=1, layer="relu2")
    height, width = found.maps.shape[1:]
    blocks = found.heatmaps((2 * height, 2 * width), "none", enlarge="nearest")
    torch.testing.assert_close(blocks, found.maps.repeat_interleave(2, 1).repeat_interleave(2, 2))
    linear, cubic = (found.heatmaps(normalize="none", enlarge=each) for each in ("bilinear", "cubic"))
    assert linear.shape == cubic.shape
    assert not torch.allclose(linear, cubic)
    assert cubic.amax() >= linear.amax()
    with pytest.raises(OptionError, match="enlarge is 'nearest', 'bilinear' or, for two axes, 'cubic'"):
        inspect.unwrap(resize)(found.maps, (9, 9), "lanczos")
    with pytest.raises(OptionError, match="enlarge is"):
        resize(torch.ones(1, 4), (9,), "cubic")
    assert found.overlay(enlarge="nearest").tobytes() != found.overlay().tobytes()


@pytest.mark.parametrize("method", ["guided_backprop", "guided_grad_cam"])
def test_the_colored_picture(model, method):
    inputs = nets.images()
    found = whycam.explain(model, inputs, method, target=1)
    assert found.colors.shape == inputs.shape
    torch.testing.assert_close(found.colors.sum(1).float(), found.maps)
    picture = np.asarray(found.colored()[0], dtype=np.float64)
    values = found.colors[0].double().permute(1, 2, 0).numpy()
    expected = np.clip((values - values.mean()) / values.std() * 0.1 + 0.5, 0, 1) * 255
    assert np.abs(picture - expected).max() <= 0.5 + 1e-9
    assert len(found.colored()) == len(inputs)
    with pytest.raises(WhycamError, match="has no map for each of three colors"):
        whycam.explain(model, inputs).colored()


def test_every_method_with_a_last_positive_part_is_listed():
    """A method that takes the positive part of its sum by itself could not be asked for its signed map."""
    for method in list_methods():
        source = inspect.getsource(inspect.unwrap(method.function))
        assert "weighted_sum(weights, activations).relu()" not in source
