"""Seg-XRes-CAM block by block, and the two methods between which it lies."""

import itertools

import pytest
import torch

from whycam.methods.grad_cam import grad_cam
from whycam.methods.hires_cam import hires_cam
from whycam.methods.seg_xres_cam import seg_xres_cam


@pytest.mark.parametrize("space", [(7,), (5, 8), (3, 4, 5)])
@pytest.mark.parametrize("window", [1, 2, 3])
@pytest.mark.parametrize("pool", ["mean", "max"])
def test_each_location_has_the_gradient_of_its_block(space, window, pool, generator):
    activations, gradients = torch.randn(2, 2, 3, *space, generator=generator, dtype=torch.float64)
    maps = seg_xres_cam(activations, gradients, window=window, pool=pool)
    for n in range(2):
        for at in itertools.product(*map(range, space)):
            block = [
                range(p // window * window, min(p // window * window + window, s))
                for p, s in zip(at, space, strict=True)
            ]
            total = 0.0
            for k in range(3):
                inside = [float(gradients[(n, k, *other)]) for other in itertools.product(*block)]
                weight = sum(inside) / len(inside) if pool == "mean" else max(inside)
                total += weight * float(activations[(n, k, *at)])
            assert float(maps[(n, *at)]) == pytest.approx(max(0.0, total), abs=1e-12)


@pytest.mark.parametrize("space", [(7,), (5, 8), (3, 4, 5)])
def test_it_lies_between_hires_cam_and_grad_cam(space, generator):
    activations, gradients = torch.randn(2, 2, 3, *space, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(seg_xres_cam(activations, gradients, window=1), hires_cam(activations, gradients).relu())
    torch.testing.assert_close(seg_xres_cam(activations, gradients, window=99), grad_cam(activations, gradients))
