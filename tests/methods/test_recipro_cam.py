"""Recipro-CAM against its masks written out location by location, and against what linear networks must give."""

import itertools
import math

import pytest
import torch

from whycam.methods.recipro_cam import recipro_cam

every_rank = pytest.mark.parametrize("space", [(7,), (5, 7), (2, 3, 4)], ids=["1d", "2d", "3d"])
every_show = pytest.mark.parametrize("show", ["location", "spread", "neighbors"])


def scoring(net):
    """What a network is to a method; a probability is a sigmoid of the score here."""

    def score_from(variants, *, probability=False):
        score_from.asked = len(variants)
        scores = torch.stack([net(variant) for variant in variants])
        return scores.sigmoid() if probability else scores

    return score_from


def bent(space, generator):
    """A score that sees where things are and what is beside them."""
    readout = torch.randn(3, *space, generator=generator, dtype=torch.float64)
    return lambda maps: (maps * readout).flatten(1).sum(1).tanh() + maps.square().flatten(1).sum(1) / 9 + 0.3


def by_loops(net, activations, show):
    """Each masked layer entry by entry: the window is a product of 1/4, 1/2, 1/4 along each axis."""
    maps = torch.zeros(len(activations), *activations.shape[2:], dtype=torch.float64)
    places = list(itertools.product(*map(range, activations.shape[2:])))
    for n in range(len(activations)):
        for middle in places:
            kept = torch.zeros_like(activations[n : n + 1])
            for place in places:
                away = [abs(a - b) for a, b in zip(place, middle, strict=True)]
                window = math.prod({0: 0.5, 1: 0.25}.get(step, 0.0) for step in away)
                source = {"location": middle, "spread": middle, "neighbors": place}[show]
                share = float(place == middle) if show == "location" else window
                for k in range(activations.shape[1]):
                    kept[(0, k, *place)] = share * activations[(n, k, *source)]
            maps[(n, *middle)] = net(kept).item()
    return maps


def test_worked_example():
    activations = torch.tensor([[[1.0, 3.0, 2.0]]])
    net = lambda maps: maps[:, 0] @ torch.tensor([1.0, 10.0, 100.0])  # noqa: E731

    def made(show):
        return recipro_cam(activations, scoring(net), show=show, probability=False)

    assert made("location").tolist() == [[1, 30, 200]]
    # 1 * (1/2, 1/4), 3 * (1/4, 1/2, 1/4), 2 * (1/4, 1/2), each times (1, 10, 100)
    assert made("spread").tolist() == [[0.5 + 2.5, 0.75 + 15 + 75, 5 + 100]]
    # (1/2, 3/4), (1/4, 3/2, 2/4), (3/4, 2/2)
    assert made("neighbors").tolist() == [[0.5 + 7.5, 0.25 + 15 + 50, 7.5 + 100]]


@every_rank
@every_show
def test_each_location_alone(space, show, generator):
    activations = torch.randn(2, 3, *space, generator=generator, dtype=torch.float64)
    net = bent(space, generator)
    expected = by_loops(net, activations, show)
    found = recipro_cam(activations, scoring(net), show=show, probability=False)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(recipro_cam(activations, scoring(net), show=show), expected.sigmoid())


def test_the_window_is_that_of_the_papers():
    activations = torch.zeros(1, 1, 5, 5)
    activations[0, 0, 2, 2] = 16
    seen = []
    recipro_cam(
        activations,
        lambda variants, **_: torch.stack([seen.append(v) or v.sum((1, 2, 3)) for v in variants]),
        show="spread",
    )
    window = [[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]
    assert seen[12][0, 0, 1:4, 1:4].tolist() == window
    assert seen[12].sum() == 16


@every_rank
def test_under_pooling_and_a_linear_layer_it_is_cam_over_area_plus_the_bias(space, generator):
    activations = torch.randn(2, 3, *space, generator=generator, dtype=torch.float64)
    head = torch.randn(3, generator=generator, dtype=torch.float64)
    net = lambda maps: maps.flatten(2).mean(2) @ head + 0.7  # noqa: E731
    cam = sum(head[k] * activations[:, k] for k in range(3))
    found = recipro_cam(activations, scoring(net), probability=False)
    torch.testing.assert_close(found, cam / torch.Size(space).numel() + 0.7)


def test_trap_s13_a_batch_is_its_samples_each_with_its_own_class(generator):
    activations = torch.randn(3, 3, 5, 7, generator=generator, dtype=torch.float64)
    heads = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    together = recipro_cam(activations, scoring(lambda maps: (maps.mean((2, 3)) * heads).sum(1)))
    for n in range(3):
        alone = scoring(lambda maps, n=n: maps.mean((2, 3)) @ heads[n])
        torch.testing.assert_close(together[n : n + 1], recipro_cam(activations[n : n + 1], alone))


def test_runs_once_for_every_location_and_leaves_the_activations_alone(generator):
    activations = torch.rand(2, 6, 3, 4, generator=generator)
    before, score_from = activations.clone(), scoring(lambda maps: maps.sum((1, 2, 3)))
    for show in ("location", "spread", "neighbors"):
        recipro_cam(activations, score_from, show=show)
    assert score_from.asked == 12
    assert torch.equal(activations, before)


def test_trap_s12_a_layer_that_says_nothing_gives_a_flat_map_and_no_nan():
    found = recipro_cam(torch.zeros(1, 2, 3, 3), scoring(lambda maps: maps.sum((1, 2, 3)) - 1), probability=False)
    assert found.eq(-1).all()


def test_one_location_is_the_score_itself():
    activations = torch.tensor([[[2.0], [1.0]]])
    assert recipro_cam(activations, scoring(lambda maps: maps.sum((1, 2))), probability=False).item() == 3
