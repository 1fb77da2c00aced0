"""Smoothing as an option of any method, and fusions that ask for more than maps."""

from functools import partial

import nets
import pytest
import torch

import whycam
from whycam import fusions
from whycam.engine.smoothing import augmentations
from whycam.errors import WhycamError
from whycam.kit.arrays import Making, making
from whycam.methods.hires_cam import hires_cam


def channel_mean(activations, gradients):
    """A method that sums no channels by the common function."""
    return (activations * gradients).mean(1)


def test_augmented_maps_are_averaged_with_the_target_settled_before():
    model, inputs = nets.fixed(nets.Plain(), seed=1), nets.images()
    index = model(inputs).argmax(1).tolist()
    changed = [each.transform(inputs) for each in augmentations()]
    assert any(model(each).argmax(1).tolist() != index for each in changed)  # else the test would not tell
    found = whycam.explain(model, inputs, "hires_cam", layer="relu2", smoothing="augmentations")
    expected = torch.stack(
        [
            each.inverse(whycam.explain(model, each.transform(inputs), "hires_cam", layer="relu2", target=index).maps)
            for each in augmentations()
        ]
    ).mean(0)
    torch.testing.assert_close(found.maps, expected)
    assert found.cost.forwards == found.cost.backwards == 6
    assert any("6 augmentations" in note for note in found.notes)
    torch.testing.assert_close(found.scores, whycam.explain(model, inputs, layer="relu2").scores)


def test_methods_that_run_the_network_are_smoothed_too():
    model, inputs = nets.plain(), nets.images()
    index = model(inputs).argmax(1).tolist()
    found = whycam.explain(model, inputs, "ablation_cam", layer="relu2", smoothing="augmentations")
    expected = torch.stack(
        [
            each.inverse(
                whycam.explain(model, each.transform(inputs), "ablation_cam", layer="relu2", target=index).maps
            )
            for each in augmentations()
        ]
    ).mean(0)
    torch.testing.assert_close(found.maps, expected)


def test_a_principal_component_stands_in_for_the_sum():
    model, inputs = nets.plain(), nets.images()
    plain = whycam.explain(model, inputs, "hires_cam", layer="relu2")
    found = whycam.explain(model, inputs, "hires_cam", layer="relu2", smoothing="component")
    activations = model.relu2(model.conv2(model.relu1(model.conv1(inputs)))).detach().requires_grad_()
    logits = model.head(activations.flatten(2).mean(2))
    (gradients,) = torch.autograd.grad(logits.amax(1).sum(), activations)
    with making(Making(component=True)):
        expected = hires_cam(activations.detach(), gradients)
    torch.testing.assert_close(found.maps, expected.float())
    assert not torch.allclose(found.maps, plain.maps)
    assert any("principal component" in note for note in found.notes)


def test_where_no_channels_are_summed_a_component_is_refused():
    for method in (channel_mean, "guided_backprop"):
        with pytest.raises(WhycamError, match="sums no channels"):
            whycam.explain(nets.plain(), nets.images(), method, smoothing="component")


def test_an_unknown_smoothing_is_refused():
    with pytest.raises((WhycamError, TypeError), match="smoothing"):
        whycam.explain(nets.plain(), nets.images(), smoothing="gaussian")


def test_a_fusion_gets_what_it_asks_for():
    model, inputs = nets.plain(), nets.images()
    layers = ["relu1", "relu2"]
    single = whycam.compare(model, inputs, ["grad_cam"], layers)
    given = []

    def look(maps, gradients):
        given.extend(gradients)
        return fusions.mean(maps)

    whycam.explain(model, inputs, "eigen_cam", layer=layers, fusion=look)  # which needs no gradients itself
    winsor = whycam.explain(model, inputs, layer=layers, fusion=partial(fusions.winsor, percentile=50.0))
    expected = fusions.winsor(
        [each.maps for each in single.values()], [each.float() for each in given], percentile=50.0
    )
    torch.testing.assert_close(winsor.maps, expected)
    assert "winsor" in winsor.layer.why


def test_a_method_of_several_layers_brings_its_layers_and_its_fusion():
    model, inputs = nets.plain(), nets.images()
    found = whycam.explain(model, inputs, "poly_cam", target=1)
    assert " + " in found.layer.name
    assert "poly" in found.layer.why
    parts = whycam.compare(model, inputs, ["poly_cam"], found.layer.name.split(" + "), [1])
    torch.testing.assert_close(found.maps, fusions.poly([each.maps for each in parts.values()]))


def test_parts_and_values_reach_the_explanation():
    model, inputs = nets.plain(), nets.images()
    found = whycam.explain(model, inputs, "deep_feature_factorization", layer="relu2")
    assert found.parts is not None
    assert found.parts.shape[:1] == (3,)
    assert found[1].parts.shape[0] == 1
    gap = whycam.explain(model, inputs, "full_grad").values["completeness_gap"]
    assert gap.shape == (3,)
    assert gap.abs().max() < 1e-6
