"""Faithfulness correlation: sets of pixels are read back from what the network is shown, and correlated by numpy."""

import numpy as np
import pytest
import torch
from metrics_by_hand import FourPixels, Seen, Small, drawn, scores_of

import whycam
from whycam.metrics import faithfulness_correlation


def removed_sets(variants, inputs):
    """Which pixels of each variant are not what they were, `(variant, batch, *space)`."""
    return np.stack([(each != inputs).any(1).numpy() for each in variants])


def by_hand(net, picture, values, sets, behind, index):
    sums, drops = [], []
    for removed in sets:
        edited = picture.copy()
        for at in np.argwhere(removed):
            edited[(slice(None), *at)] = behind
        sums.append(sum(values[tuple(at)] for at in np.argwhere(removed)))
        drops.append(scores_of(net, picture)[index] - scores_of(net, edited)[index])
    return np.corrcoef(sums, drops)[0, 1]


@pytest.mark.parametrize(("baseline", "behind"), [("zero", 0.0), (0.5, 0.5)])
@pytest.mark.parametrize("space", [(30,), (5, 6), (3, 2, 5)], ids=["1d", "2d", "3d"])
def test_is_pearsons_correlation_of_sums_and_drops_of_the_score(space, baseline, behind):
    net, inputs, maps = Small(axes=len(space)), drawn(3, 3, *space), drawn(3, *space, seed=3)
    seen = Seen(lambda pictures: net(pictures).detach()[:, 1])
    options = {"share": 0.2, "samples": 15, "baseline": baseline, "seed": 4}
    found = faithfulness_correlation.function(maps, inputs, seen, **options)
    sets = removed_sets(seen.variants, inputs)
    assert sets.reshape(15, 3, -1).sum(2).tolist() == [[6] * 3] * 15  # one size, in all colors at once
    for n in range(3):
        expected = by_hand(net, inputs[n].numpy(), maps[n].numpy(), sets[:, n], behind, 1)
        assert float(found[n]) == pytest.approx(expected, rel=1e-9)
    # called by itself it reads the target's own score
    torch.testing.assert_close(faithfulness_correlation(maps, net, inputs, 1, **options), found, rtol=1e-9, atol=1e-12)


def test_sets_are_random_and_the_same_for_each_sample():
    inputs, maps = drawn(2, 3, 5, 8), drawn(2, 5, 8, seed=3)
    drawn_sets = {}
    for seed in (0, 1):
        seen = Seen(lambda pictures: pictures.flatten(1).sum(1))
        faithfulness_correlation.function(maps, inputs, seen, share=0.25, samples=400, seed=seed)
        drawn_sets[seed] = removed_sets(seen.variants, inputs)
    sets = drawn_sets[0]
    assert (sets[:, 0] == sets[:, 1]).all()
    assert len(np.unique(sets[:, 0], axis=0)) == 400
    often = sets[:, 0].mean(0)
    assert often.mean() == 0.25
    assert abs(often - 0.25).max() < 5 * (0.25 * 0.75 / 400) ** 0.5
    assert not (sets == drawn_sets[1]).all()


def test_a_linear_model_is_followed_by_what_each_of_its_four_pixels_adds():
    net = FourPixels([[4.0, -3.0, 2.0, 1.0], [0.0] * 4])
    inputs = torch.tensor([[[[1.0, 2.0], [-1.0, 3.0]]]], dtype=torch.float64)
    added = torch.tensor([[[4.0, -6.0], [-2.0, 3.0]]], dtype=torch.float64)
    for share in (0.25, 0.5, 0.75):
        assert float(faithfulness_correlation(added, net, inputs, 0, share=share)) == pytest.approx(1)
        assert float(faithfulness_correlation(7 - 2 * added, net, inputs, 0, share=share)) == pytest.approx(-1)


def test_it_is_pearsons_and_not_a_correlation_of_ranks():
    # xplique takes Spearman's, of which a map in the right order has 1
    net = FourPixels([[4.0, 3.0, 2.0, 1.0], [0.0] * 4])
    inputs = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    steep = torch.tensor([[[1000.0, 10.0], [1.0, 0.0]]], dtype=torch.float64)
    found = float(faithfulness_correlation(steep, net, inputs, 0, share=0.25, samples=400))
    assert found == pytest.approx(np.corrcoef([1000, 10, 1, 0], [4, 3, 2, 1])[0, 1], abs=0.03)
    assert found < 0.85


def test_a_flat_map_and_a_network_that_does_not_care_have_none():
    inputs = drawn(2, 3, 5, 4)
    maps = torch.stack([torch.full((5, 4), 0.1, dtype=torch.float64), drawn(5, 4)])
    found = faithfulness_correlation(maps, Small(), inputs, 0, samples=9)
    assert found.isnan().tolist() == [True, False]
    deaf = FourPixels([[0.0] * 60, [0.0] * 60], [1.0, 9.0])
    assert faithfulness_correlation(maps, deaf, inputs, 0, samples=9).isnan().all()


def test_it_takes_its_samples_and_no_more_and_once_for_all_methods():
    rows = {}
    for methods in (["grad_cam"], ["grad_cam", "layer_cam", "hires_cam"]):
        net = Small()
        options = {"layers": ["body"], "controls": True, "sanity": 0}
        whycam.evaluate(
            net,
            drawn(2, 3, 5, 4),
            methods,
            metrics=["faithfulness_correlation", "sensitivity_n"],
            **options,
            options={
                "faithfulness_correlation": {"samples": 20, "share": 0.3},
                "sensitivity_n": {"shares": (0.3, 0.5), "samples": 20},
            },
        )
        rows[len(methods)] = net.rows
    # 20 sets of each size; sensitivity-n finds those of 0.3 scored already
    assert rows[1] == rows[3]
    assert 2 * 2 * 20 < rows[3] <= 2 * 2 * 20 + 2 + 2 + 2 * 2
