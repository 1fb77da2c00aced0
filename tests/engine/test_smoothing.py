"""Augmentations: what they do to pixels, and that maps come back to where they belong."""

import numpy as np
import pytest
import torch

from whycam.engine.smoothing import augmentations
from whycam.kit.arrays import Making, making
from whycam.methods.eigen_cam import eigen_cam
from whycam.methods.eigen_grad_cam import eigen_grad_cam
from whycam.methods.grad_cam import grad_cam
from whycam.methods.grad_cam_elementwise import grad_cam_elementwise
from whycam.methods.guided_backprop import guided_backprop
from whycam.methods.hires_cam import hires_cam
from whycam.methods.layer_cam import layer_cam

SPACES = [(7,), (5, 6), (2, 3, 4)]
every_rank = pytest.mark.parametrize("space", SPACES, ids=["1d", "2d", "3d"])


def test_pictures_are_mirrored_and_scaled_by_hand():
    picture = torch.tensor([[[[1.0, 2.0, 4.0], [0.0, -1.0, 10.0]]]])
    mirrored = torch.tensor([[[[4.0, 2.0, 1.0], [10.0, -1.0, 0.0]]]])
    expected = [0.9 * picture, picture, 1.1 * picture, 0.9 * mirrored, mirrored, 1.1 * mirrored]
    found = [each.transform(picture) for each in augmentations()]
    assert len(found) == 6
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert torch.equal(found[1], picture)
    assert [each.name for each in augmentations()][1:4] == ["times 1", "times 1.1", "mirrored, times 0.9"]


@every_rank
def test_maps_come_back_to_where_they_belong(space, generator):
    inputs = torch.randn(2, 3, *space, generator=generator, dtype=torch.float64)
    halves = (slice(None), slice(None), *(slice(None, None, 2) for _ in space[:-1]))
    for each in augmentations(len(space)):
        changed = each.transform(inputs)
        assert changed.shape == inputs.shape
        strength = float(each.name.rpartition(" ")[2])
        # a map on a coarser grid than the inputs, whatever the size of its last axis
        maps = changed[halves].sum(1) / strength
        torch.testing.assert_close(each.inverse(maps), inputs[halves].sum(1))
        torch.testing.assert_close(each.inverse(changed) / strength, inputs)  # as a map of several parts


def test_signals_do_not_run_backwards():
    signal = torch.arange(4.0)[None, None]
    found = [each.transform(signal) for each in augmentations(1)]
    assert [each.argmax().item() for each in found] == [3, 3, 3]
    assert len(augmentations(1)) == 3
    assert len(augmentations(3)) == 6


def test_a_network_that_scales_and_mirrors_with_its_input_has_the_same_map_from_each(generator):
    weights = torch.randn(1, 1, 1, 3, generator=generator, dtype=torch.float64)
    weights = weights + weights.flip(-1)  # a filter that looks alike from both sides
    inputs = torch.rand(2, 1, 4, 8, generator=generator, dtype=torch.float64)
    made = [
        each.inverse(torch.nn.functional.conv2d(each.transform(inputs), weights, padding=(0, 1))[:, 0])
        for each in augmentations()
    ]
    torch.testing.assert_close(torch.stack(made).mean(0), made[1])
    torch.testing.assert_close(made[4], made[1])


@every_rank
def test_hirescam_by_component_is_eigen_grad_cam(space, generator):
    activations, gradients = torch.randn(2, 3, 5, *space, generator=generator, dtype=torch.float64)
    with making(Making(component=True)) as components:
        found = hires_cam(activations, gradients)
    assert components.summed
    torch.testing.assert_close(found, eigen_grad_cam(activations, gradients))


@every_rank
@pytest.mark.parametrize("channels", [4, 30])
def test_methods_take_the_component_of_what_they_would_add(space, channels, generator):
    activations, gradients = torch.randn(2, 3, channels, *space, generator=generator, dtype=torch.float64)
    axes = tuple(range(2, activations.ndim))
    cases = {
        grad_cam: (gradients.mean(axes, keepdim=True) * activations, True),
        layer_cam: (gradients.clamp(min=0) * activations, True),
        grad_cam_elementwise: ((gradients * activations).clamp(min=0), False),
        hires_cam: (gradients * activations, False),
    }
    for method, (products, positive) in cases.items():
        with making(Making(component=True)):
            found = method(activations, gradients)
        for n in range(3):
            rows = products[n].flatten(1).T.numpy()
            rows = rows - rows.mean(0)
            component = rows @ np.linalg.svd(rows)[2][0]
            component *= 1 if component @ rows.sum(1) >= 0 else -1
            expected = np.maximum(component, 0) if positive else component
            np.testing.assert_allclose(found[n].flatten(), expected, atol=1e-10)


def test_methods_that_add_no_channels_say_so_by_leaving_the_block_unused(generator):
    values = torch.rand(2, 3, 5, 5, generator=generator)
    for make in (lambda: eigen_cam(values), lambda: eigen_grad_cam(values, values), lambda: guided_backprop(values)):
        plain = make()
        with making(Making(component=True)) as components:
            assert torch.equal(make(), plain)
        assert not components.summed
