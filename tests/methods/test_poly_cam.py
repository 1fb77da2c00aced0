"""Poly-CAM's map of one layer against the authors' weights, channel by channel in numpy."""

import masks_by_hand as by_hand
import numpy as np
import pytest
import torch

from whycam.kit.registry import find
from whycam.methods.poly_cam import poly_cam

every_rank = pytest.mark.parametrize(
    ("space", "size"), [((4,), (9,)), ((2, 3), (5, 7)), ((2, 1, 2), (3, 4, 2))], ids=["1d", "2d", "3d"]
)
every_kind = pytest.mark.parametrize("weights", ["plus", "minus", "both"])


def by_loops(activations, inputs, net, weights, *, probability=True, behind=0.0):
    maps = []
    for n in range(len(inputs)):
        total = np.zeros(activations.shape[2:])
        picture = inputs[n].numpy()
        whole = by_hand.of_one(net, picture, probability=probability)
        for channel in activations[n].numpy():
            if channel.max() == channel.min():
                continue
            low, high = np.percentile(channel, [0.1, 99.9])
            mask = by_hand.resized((np.clip(channel, low, high) - low) / (high - low), inputs.shape[2:])
            kept = by_hand.of_one(net, mask * picture + (1 - mask) * behind, probability=probability)
            left = by_hand.of_one(net, (1 - mask) * picture + mask * behind, probability=probability)
            gains = {"plus": kept, "minus": max(whole - left, 0), "both": max(kept + whole - left, 0)}
            total += gains[weights] * channel
        maps.append(np.maximum(total, 0))
    return torch.from_numpy(np.stack(maps))


def case(generator, space=(2, 3), size=(5, 7)):
    activations = torch.randn(3, 4, *space, generator=generator, dtype=torch.float64)
    inputs = torch.randn(3, 2, *size, generator=generator, dtype=torch.float64)
    return activations, inputs, by_hand.network(generator, (2, *size), strength=0.1)


@pytest.mark.parametrize(
    ("weights", "expected", "runs"),
    [("plus", [15.0, 40.0], 3), ("minus", [10.0, 35.0], 3), ("both", [25.0, 75.0], 5)],
)
def test_worked_example(weights, expected, runs):
    # masks [1, 0] and [0, 1] keep [3, 0] and [0, 8] of [3, 8] and leave [0, 8] and [3, 0]. The score is the sum less
    # a 24th of the product, 10 of the whole: kept are 3 and 8, lost 10 - 8 and 10 - 3
    score = by_hand.Scored(lambda x: x.sum((1, 2)) - x.prod(2).sum(1) / 24)
    activations, inputs = torch.tensor([[[5.0, 0.0], [0.0, 5.0]]]), torch.tensor([[[3.0, 8.0]]])
    found = poly_cam(activations, inputs, score, weights=weights, probability=False)
    torch.testing.assert_close(found.maps, torch.tensor([expected]))
    assert score.runs == runs


@every_rank
@every_kind
@pytest.mark.parametrize("probability", [True, False])
def test_is_the_authors_map(space, size, weights, probability, generator):
    activations, inputs, net = case(generator, space, size)
    activations[0, 1] = 0.3
    options = {"weights": weights, "probability": probability}
    found = poly_cam(activations, inputs, by_hand.Scored(net), **options)
    expected = by_loops(activations, inputs, net, **options)
    torch.testing.assert_close(found.maps, expected)
    assert expected.any()


@every_kind
def test_outliers_of_a_fine_layer_are_clipped(weights, generator):
    activations, inputs, net = case(generator, (40, 50), (5, 7))
    activations[:, :, 3, 3], activations[:, :, 9, 9] = 500.0, -500.0
    found = poly_cam(activations, inputs, by_hand.Scored(net), weights=weights)
    torch.testing.assert_close(found.maps, by_loops(activations, inputs, net, weights))


@every_kind
def test_what_is_hidden_is_what_was_asked_for(weights, generator):
    activations, inputs, net = case(generator)
    found = poly_cam(activations, inputs, by_hand.Scored(net), weights=weights, baseline=0.6)
    torch.testing.assert_close(found.maps, by_loops(activations, inputs, net, weights, behind=0.6))


def test_by_default_both_are_weighed_by_probabilities(generator):
    activations, inputs, net = case(generator)
    found = poly_cam(activations, inputs, by_hand.Scored(net))
    torch.testing.assert_close(found.maps, by_loops(activations, inputs, net, "both"))


def test_of_a_score_that_adds_up_kept_and_lost_are_the_same(generator):
    activations, inputs, _ = case(generator)
    score = by_hand.Scored(lambda x: x.sum((1, 2, 3)))
    plus, minus, both = (
        poly_cam(activations, inputs.abs(), score, weights=weights, probability=False).maps
        for weights in ("plus", "minus", "both")
    )
    torch.testing.assert_close(plus, minus)
    torch.testing.assert_close(both, 2 * plus)


@pytest.mark.parametrize("weights", ["minus", "both"])
def test_a_channel_that_hides_more_than_it_shows_has_no_weight(weights, generator):
    activations, inputs, _ = case(generator)
    score = by_hand.Scored(lambda x: -x.abs().sum((1, 2, 3)))
    found = poly_cam(activations, inputs, score, weights=weights, probability=False)
    assert not found.maps.any()
    assert found.values["effective_channels"].tolist() == [0, 0, 0]


@every_kind
def test_a_batch_is_its_samples(weights, generator):
    activations, inputs, net = case(generator)
    activations[1, 2] = 4.0
    together = poly_cam(activations, inputs, by_hand.Scored(net), weights=weights)
    for n in range(3):
        each = slice(n, n + 1)
        alone = poly_cam(activations[each], inputs[each], by_hand.Scored(net), weights=weights)
        torch.testing.assert_close(together.maps[each], alone.maps, rtol=1e-13, atol=1e-14)
        assert together.status[n] == alone.status[0]


@every_kind
def test_flat_channels_are_neither_run_nor_weighed(weights, generator):
    activations, inputs, net = case(generator)
    dead = torch.cat([activations, torch.full_like(activations, 2.0)], 1)
    few, many = by_hand.Scored(net), by_hand.Scored(net)
    one = poly_cam(activations, inputs, few, weights=weights)
    other = poly_cam(dead, inputs, many, weights=weights)
    torch.testing.assert_close(one.maps, other.maps)
    assert few.runs == many.runs


@every_kind
@pytest.mark.parametrize("space", [(3, 3), (1, 1)], ids=["flat", "one location"])
def test_where_every_channel_is_flat_there_is_no_map(weights, space):
    score = by_hand.Scored(lambda x: x.sum((1, 2, 3)))
    assert not poly_cam(torch.ones(2, 4, *space), torch.ones(2, 1, 6, 6), score, weights=weights).maps.any()


def test_it_is_a_method_of_several_stages():
    assert (find("poly_cam").fusion, find("poly_cam").stages) == ("poly", 5)
