"""Shap-CAM against Shapley values by their definition, every coalition enumerated."""

import itertools
import math

import pytest
import torch

from whycam.methods.shap_cam import shap_cam

small = pytest.mark.parametrize("space", [(4,), (2, 2), (1, 2, 2)], ids=["1d", "2d", "3d"])


def scoring(net):
    """What a network is to a method; `asked` holds the number of variants."""

    def score_from(variants, *, probability=False):
        assert not probability
        score_from.asked = len(variants)
        return torch.stack([net(variant) for variant in variants])

    return score_from


def bent(activations, generator):
    """A score in which locations and channels act together."""
    readout = torch.randn(activations[0].shape, generator=generator, dtype=torch.float64)
    mixing = torch.randn(activations[0].numel(), 6, generator=generator, dtype=torch.float64)
    return lambda maps: (maps * readout).flatten(1).sum(1).square() + (maps.flatten(1) @ mixing).relu().sum(1) + 0.5


def shapley_values(net, activations, players):
    """The definition: over all coalitions, with the weight |C|! (n - |C| - 1)! / n!. `(batch, player)`."""
    rows = activations.flatten(2)
    count = rows.shape[2 if players == "locations" else 1]

    def worth(coalition):
        kept = torch.zeros_like(rows)
        for one in coalition:
            if players == "locations":
                kept[:, :, one] = rows[:, :, one]
            else:
                kept[:, one] = rows[:, one]
        return net(kept.reshape(activations.shape))

    values = torch.zeros(len(activations), count, dtype=torch.float64)
    for player in range(count):
        others = [one for one in range(count) if one != player]
        for size in range(count):
            weight = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
            for coalition in itertools.combinations(others, size):
                values[:, player] += weight * (worth({*coalition, player}) - worth(coalition))
    return values


def test_worked_example():
    activations = torch.tensor([[[2.0, 3.0]]])
    net = lambda maps: maps[:, 0, 0] * maps[:, 0, 1] + maps[:, 0, 1] + 7  # noqa: E731
    # from the left 0 then 9, from the right 6 then 3: the means of both orders
    torch.testing.assert_close(shap_cam(activations, scoring(net), samples=2), torch.tensor([[3.0, 6.0]]))


@small
def test_tends_to_the_shapley_values_of_the_locations(space, generator):
    activations = torch.rand(2, 3, *space, generator=generator, dtype=torch.float64)
    net = bent(activations, generator)
    exact = shapley_values(net, activations, "locations").reshape(2, *space)
    found = shap_cam(activations, scoring(net), samples=1000)
    torch.testing.assert_close(found, exact, rtol=0, atol=0.05 * float(exact.abs().max()))
    rough = shap_cam(activations, scoring(net), samples=1)
    assert (found - exact).abs().max() < (rough - exact).abs().max() / 5


@small
def test_tends_to_the_shapley_values_of_the_channels(space, generator):
    activations = torch.rand(2, 3, *space, generator=generator, dtype=torch.float64)
    net = bent(activations, generator)
    weights = shapley_values(net, activations, "channels")
    exact = torch.einsum("nk,nk...->n...", weights, activations).relu()
    found = shap_cam(activations, scoring(net), players="channels", samples=1000)
    torch.testing.assert_close(found, exact, rtol=0, atol=0.05 * float(exact.abs().max()))
    rough = shap_cam(activations, scoring(net), players="channels", samples=1)
    assert (found - exact).abs().max() < (rough - exact).abs().max() / 5


@pytest.mark.parametrize("players", ["locations", "channels"])
def test_an_order_and_its_reverse_are_exact_for_a_score_of_second_order(players, generator):
    activations = torch.rand(2, 3, 2, 3, generator=generator, dtype=torch.float64)
    bend = torch.randn(18, 18, generator=generator, dtype=torch.float64)
    net = lambda maps: torch.einsum("ni,ij,nj->n", maps.flatten(1), bend, maps.flatten(1)) + maps.flatten(1).sum(1)  # noqa: E731
    exact = shapley_values(net, activations, players)
    exact = (
        exact.reshape(2, 2, 3) if players == "locations" else torch.einsum("nk,nkhw->nhw", exact, activations).relu()
    )
    torch.testing.assert_close(shap_cam(activations, scoring(net), players=players, samples=2), exact)


@pytest.mark.parametrize("samples", [1, 2, 3])
@pytest.mark.parametrize("space", [(7,), (5, 7), (2, 3, 4)], ids=["1d", "2d", "3d"])
def test_efficiency_the_map_adds_up_to_the_score_less_that_of_an_empty_layer(space, samples, generator):
    activations = torch.randn(2, 3, *space, generator=generator, dtype=torch.float64)
    net = bent(activations, generator)
    found = shap_cam(activations, scoring(net), samples=samples)
    torch.testing.assert_close(found.flatten(1).sum(1), net(activations) - net(torch.zeros_like(activations)))


def test_symmetry_and_nothing_for_who_does_nothing(generator):
    activations = torch.rand(1, 2, 1, generator=generator, dtype=torch.float64).expand(1, 2, 4).clone()
    net = lambda maps: maps[:, :, 0].sum(1) * maps[:, :, 3].sum(1)  # noqa: E731
    (found,) = shap_cam(activations, scoring(net), samples=2)
    assert found[1] == found[2] == 0
    torch.testing.assert_close(found[0], found[3])
    assert found[0] > 0


@pytest.mark.parametrize("space", [(7,), (5, 7), (2, 3, 4)], ids=["1d", "2d", "3d"])
def test_under_pooling_and_a_linear_layer_one_order_gives_cam_over_area(space, generator):
    activations = torch.randn(2, 3, *space, generator=generator, dtype=torch.float64)
    head = torch.randn(3, generator=generator, dtype=torch.float64)
    found = shap_cam(activations, scoring(lambda maps: maps.flatten(2).mean(2) @ head - 2), samples=1)
    cam = sum(head[k] * activations[:, k] for k in range(3))
    torch.testing.assert_close(found, cam / torch.Size(space).numel())


@pytest.mark.parametrize("players", ["locations", "channels"])
def test_a_batch_is_its_samples(players, generator):
    activations = torch.rand(3, 4, 3, 2, generator=generator, dtype=torch.float64)
    net = bent(activations, generator)
    together = shap_cam(activations, scoring(net), players=players, samples=3)
    for n in range(3):
        alone = shap_cam(activations[n : n + 1], scoring(net), players=players, samples=3)
        torch.testing.assert_close(together[n : n + 1], alone)


def test_the_seed_decides_and_torchs_own_random_state_is_left_alone(generator):
    activations = torch.rand(1, 2, 3, 3, generator=generator, dtype=torch.float64)
    net, state = bent(activations, generator), torch.get_rng_state()
    first, again, other = (shap_cam(activations, scoring(net), samples=1, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert torch.equal(state, torch.get_rng_state())


def test_draws_differ_and_every_second_is_the_one_before_it_backwards(generator):
    activations = torch.rand(1, 1, 6, generator=generator, dtype=torch.float64)
    seen = []
    shap_cam(
        activations,
        lambda variants, **_: torch.stack([seen.append(v[0, 0] > 0) or v.sum((1, 2)) for v in variants]),
        samples=4,
    )
    chains = torch.stack(seen[2:]).unflatten(0, (4, 5))
    came = chains.long().sum(1)  # who came first is there most often
    assert torch.equal(came[0], 5 - came[1])
    assert torch.equal(came[2], 5 - came[3])
    assert not torch.equal(came[0], came[2])


@pytest.mark.parametrize(("players", "count"), [("locations", 6), ("channels", 4)])
def test_runs_once_for_every_player_of_every_order_and_leaves_the_activations_alone(players, count, generator):
    activations = torch.rand(2, 4, 3, 2, generator=generator)
    before, score_from = activations.clone(), scoring(lambda maps: maps.sum((1, 2, 3)))
    shap_cam(activations, score_from, players=players, samples=5)
    assert score_from.asked == 2 + 5 * (count - 1)
    assert torch.equal(activations, before)


def test_one_player_has_all_of_it():
    activations = torch.tensor([[[2.0], [1.0]]])
    net = lambda maps: maps.sum((1, 2)).square() + 4  # noqa: E731
    assert shap_cam(activations, scoring(net)).item() == 9
    assert shap_cam(activations[:, :1], scoring(net), players="channels").item() == 2 * 4


def test_locations_keep_their_sign_and_channels_their_positive_part():
    activations = torch.ones(1, 2, 3)
    against = scoring(lambda maps: -maps.sum((1, 2)))
    torch.testing.assert_close(shap_cam(activations, against), torch.full((1, 3), -2.0))
    assert not shap_cam(activations, against, players="channels").any()


def test_a_score_that_ignores_the_layer_gives_no_map():
    assert not shap_cam(torch.ones(1, 2, 3, 3), scoring(lambda maps: torch.ones(1))).any()
