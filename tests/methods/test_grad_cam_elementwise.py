"""Grad-CAM element-wise against its positive products, added one by one."""

import numpy as np
import pytest
import torch

from whycam.methods.grad_cam_elementwise import grad_cam_elementwise

every_rank = pytest.mark.parametrize("space", [(7,), (5, 7), (2, 3, 4)], ids=["1d", "2d", "3d"])


def test_worked_example():
    activations = torch.tensor([[[1.0, 3.0], [2.0, -2.0]]])
    gradients = torch.tensor([[[2.0, -1.0], [-1.0, -0.5]]])
    # products [2, -3] and [-2, 1]
    torch.testing.assert_close(grad_cam_elementwise(activations, gradients), torch.tensor([[2.0, 1.0]]))


@every_rank
def test_adds_the_positive_products(space, generator):
    activations, gradients = torch.randn(2, 2, 3, *space, generator=generator, dtype=torch.float64)
    maps = grad_cam_elementwise(activations, gradients)
    for n in range(2):
        for at in np.ndindex(*space):
            products = [activations[(n, k, *at)].item() * gradients[(n, k, *at)].item() for k in range(3)]
            assert maps[(n, *at)].item() == pytest.approx(sum(p for p in products if p > 0), abs=1e-12)


def test_the_positive_part_comes_before_the_sum(generator):
    activations = torch.ones(1, 2, 3, 3)
    gradients = torch.stack([torch.ones(1, 3, 3), -torch.ones(1, 3, 3)], 1)
    assert grad_cam_elementwise(activations, gradients).eq(1).all()  # after it they would cancel


def test_is_nowhere_below_the_sum_of_all_products(generator):
    activations, gradients = torch.randn(2, 2, 3, 5, 7, generator=generator)
    assert (grad_cam_elementwise(activations, gradients) >= (activations * gradients).sum(1)).all()


def test_gradients_of_zero_give_no_map():
    activations = torch.ones(1, 2, 3, 3)
    assert not grad_cam_elementwise(activations, torch.zeros_like(activations)).any()
