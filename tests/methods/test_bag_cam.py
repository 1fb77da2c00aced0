"""BagCAM against its formula in loops, with gradients of the logarithm by autograd."""

import itertools

import numpy as np
import pytest
import torch

from whycam.methods.bag_cam import bag_cam
from whycam.methods.grad_cam_elementwise import grad_cam_elementwise

every_rank = pytest.mark.parametrize("space", [(7,), (4, 5), (2, 3, 4)], ids=["1d", "2d", "3d"])


def by_loops(activations, gradients):
    """Of gradients of the logarithm, as the authors' code has them."""
    a, g = activations.numpy(), gradients.numpy()
    maps = np.zeros((a.shape[0], *a.shape[2:]))
    for n, k in itertools.product(range(a.shape[0]), range(a.shape[1])):
        products = a[n, k] * g[n, k]
        factor = sum(products[at] + 1 for at in np.ndindex(products.shape)) / products.size
        for at in np.ndindex(products.shape):
            maps[(n, *at)] += max(factor * products[at], 0.0)
    return torch.from_numpy(maps)


def squares(activations, head, bias):
    """A score that is no sum over locations."""
    return (activations.flatten(2) ** 2).mean(2) @ head + activations.flatten(2).mean(2) @ head.flip(0) + bias


def measured(space, generator, bias):
    activations = torch.randn(3, 4, *space, generator=generator, dtype=torch.float64).requires_grad_()
    head = torch.randn(4, generator=generator, dtype=torch.float64)
    scores = squares(activations, head, bias)
    (gradients,) = torch.autograd.grad(scores.sum(), activations, retain_graph=True)
    return activations, gradients, scores


@every_rank
def test_is_the_formula_of_the_log_score(space, generator):
    activations, gradients, scores = measured(space, generator, bias=20.0)
    assert (scores > 0).all()
    (of_log,) = torch.autograd.grad(scores.log().sum(), activations)
    found = bag_cam(activations.detach(), gradients, scores.detach())
    torch.testing.assert_close(found.maps, by_loops(activations.detach(), of_log))
    assert found.maps.any()
    assert all(status.ok for status in found.status)


def test_worked_example():
    activations = torch.tensor([[[1.0, 2.0], [3.0, 1.0]]])
    gradients = torch.tensor([[[4.0, -1.0], [-2.0, -8.0]]])
    # over a score of 2: products 2, -1 with factor 1.5; and -3, -4 with factor -2.5
    found = bag_cam(activations, gradients, torch.tensor([2.0]))
    torch.testing.assert_close(found.maps, torch.tensor([[3.0 + 7.5, 0.0 + 10.0]]))


@every_rank
def test_a_score_below_zero_counts_by_its_magnitude_and_says_so(space, generator):
    activations, gradients, scores = measured(space, generator, bias=-20.0)
    assert (scores < 0).all()
    found = bag_cam(activations.detach(), gradients, scores.detach())
    # the gradient of log(-score) has the other sign: what speaks for the score would be dropped
    (of_log,) = torch.autograd.grad((-scores).log().sum(), activations)
    torch.testing.assert_close(found.maps, by_loops(activations.detach(), -of_log))
    assert found.maps.isfinite().all()
    assert {status.kind for status in found.status} == {"score not positive"}
    assert f"is {scores[0].item():.4g} here" in found.status[0].message


def test_a_score_of_zero_has_no_map_and_leaves_the_others_alone(generator):
    activations, gradients, scores = measured((4, 5), generator, bias=20.0)
    scores = scores.detach()
    expected = bag_cam(activations.detach(), gradients, scores)
    scores[1] = 0
    found = bag_cam(activations.detach(), gradients, scores)
    assert found.maps[1].eq(0).all()
    torch.testing.assert_close(found.maps[[0, 2]], expected.maps[[0, 2]])
    assert [status.ok for status in found.status] == [True, False, True]
    assert "at 0 the map is 0" in found.status[1].message


def test_the_scores_scale_changes_nothing_and_a_constant_does(generator):
    activations, gradients, scores = measured((4, 5), generator, bias=20.0)
    activations, scores = activations.detach(), scores.detach()
    once = bag_cam(activations, gradients, scores).maps
    torch.testing.assert_close(bag_cam(activations, 10 * gradients, 10 * scores).maps, once)
    assert not torch.allclose(bag_cam(activations, gradients, scores + 1).maps, once)


def test_is_near_the_element_wise_grad_cam_over_the_score_under_pooling(generator):
    activations = torch.rand(2, 8, 7, 7, generator=generator, dtype=torch.float64)
    head = torch.rand(8, generator=generator, dtype=torch.float64)
    scores = activations.flatten(2).mean(2) @ head
    gradients = (head / 49)[None, :, None, None].expand_as(activations)
    found = bag_cam(activations, gradients, scores).maps
    plain = grad_cam_elementwise(activations, gradients) / scores[:, None, None]
    torch.testing.assert_close(found, plain, rtol=0.02, atol=0)
    assert not torch.allclose(found, plain, rtol=1e-4)


@every_rank
def test_a_batch_is_its_samples(space, generator):
    activations, gradients, scores = measured(space, generator, bias=20.0)
    together = bag_cam(activations.detach(), gradients, scores.detach()).maps
    for n in range(3):
        alone = bag_cam(activations[n : n + 1].detach(), gradients[n : n + 1], scores[n : n + 1].detach())
        assert torch.equal(together[n : n + 1], alone.maps)


def test_gradients_of_zero_give_no_map():
    found = bag_cam(torch.ones(1, 2, 3, 3), torch.zeros(1, 2, 3, 3), torch.tensor([2.0]))
    assert found.maps.eq(0).all()


def test_what_is_not_finite_shows_and_stays_alone(generator):
    activations, gradients, scores = measured((4, 5), generator, bias=20.0)
    expected = bag_cam(activations.detach(), gradients, scores.detach()).maps
    scores = scores.detach().clone()
    scores[1] = torch.nan
    found = bag_cam(activations.detach(), gradients, scores)
    assert found.maps[1].isnan().all()
    torch.testing.assert_close(found.maps[[0, 2]], expected[[0, 2]])
