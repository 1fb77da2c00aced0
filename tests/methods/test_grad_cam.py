"""Grad-CAM against the paper's two equations worked some other way, never against this package's own parts."""

import numpy as np
import pytest
import torch

from whycam.methods.grad_cam import grad_cam

every_rank = pytest.mark.parametrize("space", [(7,), (5, 7), (2, 3, 4)], ids=["1d", "2d", "3d"])


def by_loops(activations, gradients):
    """Eq. 1, then eq. 2, one number at a time."""
    batch, channels, *space = activations.shape
    maps = np.zeros((batch, *space))
    for n in range(batch):
        sums = [sum(gradients[(n, k, *at)].item() for at in np.ndindex(*space)) for k in range(channels)]
        weights = [each / np.prod(space) for each in sums]
        for at in np.ndindex(*space):
            maps[(n, *at)] = max(0.0, sum(weights[k] * activations[(n, k, *at)].item() for k in range(channels)))
    return torch.from_numpy(maps)


def test_worked_example():
    activations = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[4.0, 3.0], [2.0, 1.0]]]])
    gradients = torch.tensor([[[[4.0, 0.0], [0.0, 0.0]], [[-1.0, -1.0], [-1.0, -1.0]]]])
    # channel weights 1 and -1, so [[1 - 4, 2 - 3], [3 - 2, 4 - 1]] with the negatives dropped
    torch.testing.assert_close(grad_cam(activations, gradients), torch.tensor([[[0.0, 0.0], [1.0, 3.0]]]))


@every_rank
def test_is_the_papers_two_equations(space, generator):
    activations, gradients = torch.randn(2, 2, 3, *space, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(grad_cam(activations, gradients), by_loops(activations, gradients))


@every_rank
def test_trap_r17_weights_are_means_so_that_raw_values_do_not_grow_with_the_area(space, generator):
    activations = torch.randn(2, 3, *space, generator=generator, dtype=torch.float64, requires_grad=True)
    head = torch.randn(3, generator=generator, dtype=torch.float64)
    score = activations.flatten(2).mean(-1) @ head
    (gradients,) = torch.autograd.grad(score.sum(), activations)

    cam = sum(head[k] * activations[:, k] for k in range(3)).detach()

    torch.testing.assert_close(grad_cam(activations.detach(), gradients), cam.relu() / torch.Size(space).numel())


def test_trap_r16_the_positive_part_is_taken(generator):
    activations, gradients = torch.randn(2, 4, 6, 5, 5, generator=generator)
    maps = grad_cam(activations, gradients)
    assert maps.min() == 0
    assert maps.max() > 0


@every_rank
def test_scales_with_the_score(space, generator):
    activations, gradients = torch.randn(2, 2, 3, *space, generator=generator)
    torch.testing.assert_close(grad_cam(activations, 10 * gradients), 10 * grad_cam(activations, gradients))


def test_tiny_gradients_keep_their_map(generator):
    activations, gradients = torch.randn(2, 2, 3, 5, 7, generator=generator, dtype=torch.float64)
    tiny = grad_cam(activations, 1e-30 * gradients)
    torch.testing.assert_close(1e30 * tiny, by_loops(activations, gradients))


def test_a_target_the_layer_does_not_reach_gives_no_map():
    activations = torch.ones(1, 2, 3, 3)
    assert not grad_cam(activations, torch.zeros_like(activations)).any()


def test_negative_evidence_alone_gives_no_map():
    activations = torch.ones(1, 2, 3, 3)
    assert not grad_cam(activations, -activations).any()
