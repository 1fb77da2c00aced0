"""HiResCAM against its products written out, and against what linear and scale-free layers make of it."""

import numpy as np
import pytest
import torch

from whycam.methods.hires_cam import hires_cam

every_rank = pytest.mark.parametrize("space", [(7,), (5, 7), (2, 3, 4)], ids=["1d", "2d", "3d"])


def test_worked_example():
    activations = torch.tensor([[[1.0, 3.0], [2.0, -2.0]]])
    gradients = torch.tensor([[[2.0, -1.0], [-1.0, 0.5]]])
    torch.testing.assert_close(hires_cam(activations, gradients), torch.tensor([[2.0 - 2.0, -3.0 - 1.0]]))


@every_rank
def test_each_location_sums_its_own_products(space, generator):
    activations, gradients = torch.randn(2, 2, 3, *space, generator=generator, dtype=torch.float64)
    maps = hires_cam(activations, gradients)
    for n in range(2):
        for at in np.ndindex(*space):
            there = sum(activations[(n, k, *at)].item() * gradients[(n, k, *at)].item() for k in range(3))
            assert maps[(n, *at)].item() == pytest.approx(there, abs=1e-12)


@every_rank
def test_adds_up_to_the_score_less_its_bias_under_any_linear_layer(space, generator):
    activations = torch.randn(2, 3, *space, generator=generator, dtype=torch.float64, requires_grad=True)
    readout = torch.randn(3, *space, generator=generator, dtype=torch.float64)
    scores = (activations * readout).flatten(1).sum(1) + 0.7
    (gradients,) = torch.autograd.grad(scores.sum(), activations)
    torch.testing.assert_close(hires_cam(activations.detach(), gradients).flatten(1).sum(1), scores.detach() - 0.7)


def test_a_layer_that_ignores_scale_takes_back_what_it_gives(generator):
    activations = torch.randn(2, 6, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    readout = torch.randn(6, generator=generator, dtype=torch.float64)
    normed = torch.nn.functional.layer_norm(activations.flatten(1), (96,), eps=0).view_as(activations)
    scores = torch.einsum("nkhw,k->n", normed, readout)
    (gradients,) = torch.autograd.grad(scores.sum(), activations)
    maps = hires_cam(activations.detach(), gradients)
    torch.testing.assert_close(maps.sum((1, 2)), torch.zeros(2, dtype=torch.float64), atol=1e-9, rtol=0)
    assert maps.abs().max() > 1e-3


def test_negative_evidence_is_kept():
    activations = torch.ones(1, 2, 3, 3)
    assert hires_cam(activations, -activations).eq(-2).all()


def test_gradients_of_zero_give_no_map():
    activations = torch.ones(1, 2, 3, 3)
    assert not hires_cam(activations, torch.zeros_like(activations)).any()
