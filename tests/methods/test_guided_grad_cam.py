"""Guided Grad-CAM against Grad-CAM's equations and linear interpolation, both worked by hand in numpy."""

import math

import numpy as np
import pytest
import torch

from whycam.methods.guided_grad_cam import guided_grad_cam

every_rank = pytest.mark.parametrize(
    ("space", "size"),
    [((3,), (11,)), ((3, 4), (12, 8)), ((2, 3, 2), (5, 6, 4))],
    ids=["1d", "2d", "3d"],
)

MERGES = {
    "sum": math.fsum,
    "max": lambda values: max(abs(v) for v in values),
    "norm": lambda values: math.hypot(*values),
}


def interpolation(small, large):
    """The matrix that resizes one axis: pixel centers are at (i + 1/2) / length, the border is held."""
    matrix = np.zeros((large, small))
    for i in range(large):
        at = min(max((i + 0.5) * small / large - 0.5, 0), small - 1)
        low = math.floor(at)
        matrix[i, low] += 1 - (at - low)
        matrix[i, min(low + 1, small - 1)] += at - low
    return matrix


def by_hand(activations, gradients, guided, colors):
    activations, gradients, guided = (each.double().numpy() for each in (activations, gradients, guided))
    batch, count, *size = guided.shape
    maps = np.zeros((batch, *size))
    for n in range(batch):
        cam = np.maximum(sum(g.mean() * a for a, g in zip(activations[n], gradients[n], strict=True)), 0)
        for axis, length in enumerate(size):
            cam = np.moveaxis(np.tensordot(interpolation(cam.shape[axis], length), cam, (1, axis)), 0, axis)
        for at in np.ndindex(*size):
            maps[(n, *at)] = MERGES[colors]([guided[(n, c, *at)] * cam[at] for c in range(count)])
    return torch.from_numpy(maps)


def measured(space, size, generator):
    activations, gradients = torch.randn(2, 2, 4, *space, generator=generator, dtype=torch.float64)
    return activations, gradients, torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)


def test_worked_example():
    activations, gradients = torch.tensor([[[0.0, 4.0]]]), torch.ones(1, 1, 2)
    guided = torch.tensor([[[1.0, 1.0, 1.0, 1.0], [1.0, -2.0, 2.0, -3.0]]])
    # Grad-CAM [0, 4] resized to 4 places is [0, 1, 3, 4]
    expected = torch.tensor([[0.0, 1.0 - 2, 3.0 + 6, 4.0 - 12]])
    torch.testing.assert_close(guided_grad_cam(activations, gradients, guided), expected)


@every_rank
@pytest.mark.parametrize("colors", MERGES)
def test_is_the_product_by_hand(space, size, colors, generator):
    quantities = measured(space, size, generator)
    torch.testing.assert_close(guided_grad_cam(*quantities, colors=colors), by_hand(*quantities, colors))


def test_the_default_is_the_signed_sum(generator):
    quantities = measured((3, 4), (12, 8), generator)
    assert guided_grad_cam(*quantities).equal(guided_grad_cam(*quantities, colors="sum"))
    assert guided_grad_cam(*quantities).min() < 0


def test_trap_r15_grad_cam_is_resized_linearly_not_to_the_nearest_and_corners_are_not_aligned():
    activations, gradients = torch.tensor([[[0.0, 4.0]]]), torch.ones(1, 1, 2)
    resized = guided_grad_cam(activations, gradients, torch.ones(1, 1, 4))
    torch.testing.assert_close(resized, torch.tensor([[0.0, 1.0, 3.0, 4.0]]))
    # nearest would give [0, 0, 4, 4], aligned corners [0, 4/3, 8/3, 4]


def test_negative_evidence_is_dropped_before_resizing():
    activations, gradients = torch.tensor([[[-4.0, 4.0]]]), torch.ones(1, 1, 2)
    # resized first, the negative half would pull the middle down to [-, 0, 2, 4]
    resized = guided_grad_cam(activations, gradients, torch.ones(1, 1, 4))
    torch.testing.assert_close(resized, torch.tensor([[0.0, 1.0, 3.0, 4.0]]))


def test_doubling_the_score_makes_it_fourfold(generator):
    activations, gradients, guided = measured((3, 4), (12, 8), generator)
    torch.testing.assert_close(
        guided_grad_cam(activations, 2 * gradients, 2 * guided), 4 * guided_grad_cam(activations, gradients, guided)
    )


def test_layer_gradients_of_zero_give_no_map(generator):
    activations, gradients, guided = measured((3, 4), (12, 8), generator)
    assert not guided_grad_cam(activations, 0 * gradients, guided).any()
