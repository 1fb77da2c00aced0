"""ShapleyCAM against its forms written out, and against exact Shapley values where second order is exact."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.autograd.functional import hvp

from whycam.methods.grad_cam import grad_cam
from whycam.methods.shapley_cam import shapley_cam

every_rank = pytest.mark.parametrize("space", [(7,), (5, 7), (2, 3, 4)], ids=["1d", "2d", "3d"])
FORMS = ["mean", "hires", "xgrad", "elementwise"]
every_form = pytest.mark.parametrize("form", FORMS)


def by_loops(activations, gradients, curvature, form):
    batch, channels, *space = activations.shape
    places = list(np.ndindex(*space))
    maps = np.zeros((batch, *space))
    for n in range(batch):
        for k in range(channels):
            values = {at: activations[(n, k, *at)].item() for at in places}
            steep = {at: gradients[(n, k, *at)].item() - 0.5 * curvature[(n, k, *at)].item() for at in places}
            mean = math.fsum(steep.values()) / len(places)
            sum_of_values = math.fsum(values.values())
            shared = math.fsum(steep[at] * values[at] for at in places) / sum_of_values if sum_of_values else 0.0
            for at in places:
                maps[(n, *at)] += {
                    "mean": mean * values[at],
                    "hires": steep[at] * values[at],
                    "xgrad": shared * values[at],
                    "elementwise": max(0.0, steep[at] * values[at]),
                }[form]
    return torch.from_numpy(np.maximum(maps, 0))


def test_worked_example():
    activations = torch.tensor([[[1.0, 3.0], [2.0, -2.0]]])
    gradients = torch.tensor([[[2.0, 0.0], [1.0, 1.0]]])
    curvature = torch.tensor([[[2.0, -2.0], [0.0, 4.0]]])
    made = {form: shapley_cam(activations, gradients, curvature, form=form).tolist() for form in FORMS}
    # corrected gradients (1, 1) and (1, -1), products (1, 3) and (2, 2)
    assert made == {"mean": [[1, 3]], "hires": [[3, 5]], "xgrad": [[1, 3]], "elementwise": [[3, 5]]}


@every_rank
@every_form
def test_is_the_formula(space, form, generator):
    quantities = torch.randn(3, 2, 3, *space, generator=generator, dtype=torch.float64)
    found = shapley_cam(*quantities, form=form)
    torch.testing.assert_close(found, by_loops(*quantities, form))
    assert found.any()


@every_rank
def test_without_curvature_the_mean_form_is_grad_cam(space, generator):
    activations, gradients = torch.randn(2, 2, 3, *space, generator=generator, dtype=torch.float64)
    found = shapley_cam(activations, gradients, torch.zeros_like(gradients))
    torch.testing.assert_close(found, grad_cam(activations, gradients))


def test_a_score_of_second_order_gets_its_exact_shapley_values(generator):
    """Locations of one channel as players against 0: the products are the Shapley values, enumerated here."""
    activations = torch.rand(1, 1, 5, generator=generator, dtype=torch.float64)
    bend = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    slope = torch.randn(5, generator=generator, dtype=torch.float64)

    def net(maps):
        return maps[0, 0] @ bend @ maps[0, 0] + slope @ maps[0, 0] + 3

    exact = torch.zeros(5, dtype=torch.float64)
    for order in itertools.permutations(range(5)):
        kept = torch.zeros_like(activations)
        for one in order:
            without = net(kept)
            kept[0, 0, one] = activations[0, 0, one]
            exact[one] += (net(kept) - without) / math.factorial(5)
    leaf = activations.clone().requires_grad_()
    (gradients,) = torch.autograd.grad(net(leaf), leaf)
    _, curvature = hvp(net, activations, activations)
    found = shapley_cam(activations, gradients, curvature, form="hires")
    torch.testing.assert_close(found[0], exact.relu())
    assert (exact < 0).any()  # the positive part was taken


@every_form
def test_a_batch_is_its_samples(form, generator):
    quantities = torch.randn(3, 3, 4, 5, 7, generator=generator, dtype=torch.float64)
    together = shapley_cam(*quantities, form=form)
    for n in range(3):
        torch.testing.assert_close(together[n : n + 1], shapley_cam(*quantities[:, n : n + 1], form=form))


@every_form
def test_scales_with_the_score(form, generator):
    activations, gradients, curvature = torch.randn(3, 2, 3, 5, 7, generator=generator, dtype=torch.float64)
    one = shapley_cam(activations, gradients, curvature, form=form)
    torch.testing.assert_close(shapley_cam(activations, 10 * gradients, 10 * curvature, form=form), 10 * one)


def test_trap_r1_a_channel_that_sums_to_zero_gets_no_weight_in_the_xgrad_form():
    activations = torch.tensor([[[1.0, -1.0], [1.0, 1.0]]])
    found = shapley_cam(activations, activations, torch.zeros_like(activations), form="xgrad")
    assert found.tolist() == [[1, 1]]


@every_form
def test_nothing_for_the_target_gives_no_map(form):
    activations, nothing = torch.ones(1, 2, 3, 3), torch.zeros(1, 2, 3, 3)
    assert not shapley_cam(activations, nothing, nothing, form=form).any()
    assert not shapley_cam(activations, -activations, nothing, form=form).any()
    assert not shapley_cam(activations, activations, 3 * activations, form=form).any()
