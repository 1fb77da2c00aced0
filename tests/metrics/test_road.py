"""ROAD: pixels removed and imputed in loops, by a dense system; and what peers get wrong, M1 to M5."""

import math

import numpy as np
import pytest
import torch
from metrics_by_hand import FourPixels, Small, by_evidence, drawn, imputed, probability_of, scores_of

import whycam
from whycam.errors import OptionError
from whycam.metrics import road


class Asked:
    """`answers` of a pure metric, which keeps the variants."""

    def __init__(self):
        self.variants = []

    def __call__(self, variants):
        made = [each.clone() for each in variants]
        self.variants += made
        scores = torch.stack([each.flatten(1).mean(1) for each in made])
        return scores, (scores > 0).double()


def gone(variant, inputs):
    """How many pixels of each sample are not what they were."""
    return (variant != inputs).any(1).flatten(1).sum(1).tolist()


def without(picture, places):
    removed = np.zeros(picture.shape[1:], dtype=bool)
    removed[tuple(zip(*places, strict=True))] = True
    return imputed(picture, removed)


def test_is_the_papers_curves_and_half_their_distance(monkeypatch):
    monkeypatch.setattr("whycam.kit.imputation.noise", lambda shape, seed: torch.zeros(shape, dtype=torch.float64))
    net, inputs, maps = Small(), drawn(6, 3, 5, 4), drawn(6, 5, 4, seed=3)
    fractions = (0.1, 0.3, 0.62)
    found = road(maps, net, inputs, [0, 1, 2] * 2, fractions=fractions, curves=True)
    assert found.at == fractions
    for n, index in enumerate([0, 1, 2] * 2):
        picture, places = inputs[n].numpy(), by_evidence(maps[n].numpy())
        curves = {}
        for order, ranked in (("most", places), ("least", places[::-1])):
            edited = [without(picture, ranked[: int(share * 20)]) for share in fractions]
            curves[f"{order}_probability"] = [probability_of(net, each, index) for each in edited]
            curves[f"{order}_accuracy"] = [float(scores_of(net, each).argmax() == index) for each in edited]
        np.testing.assert_allclose(found.curve[n], curves["most_probability"], rtol=1e-9)
        for name, curve in curves.items():
            assert float(found.parts[name][n]) == pytest.approx(sum(curve) / 3, rel=1e-9)
        apart = sum(curves["least_probability"]) / 3 - sum(curves["most_probability"]) / 3
        assert float(found.values[n]) == pytest.approx(apart / 2, rel=1e-9)
    assert 0 < float(found.parts["most_accuracy"].mean()) < 1


def test_a_linear_model_of_four_pixels_by_hand(monkeypatch):
    monkeypatch.setattr("whycam.kit.imputation.noise", lambda shape, seed: torch.zeros(shape, dtype=torch.float64))
    net = FourPixels([[4.0, 3.0, 2.0, 1.0], [0.0] * 4], [-5.0, 0.0])
    inputs = torch.tensor([[[[2.0, 1.0], [0.0, 0.0]]]], dtype=torch.float64)
    found = road(torch.tensor([[[4.0, 3.0], [2.0, 1.0]]]), net, inputs, 0, fractions=(0.25,), curves=True)
    # each pixel has two neighbors of 1/6 and one of 1/12: the first becomes (2 * 1 + 2 * 0 + 0) / 5, the last 4 / 5
    most, least = 4 * 0.4 + 3 - 5, 8 + 3 + (2 + 2 * 1) / 5 - 5
    assert found.curve.tolist() == [[pytest.approx(1 / (1 + math.exp(-most)), rel=1e-12)]]
    apart = 1 / (1 + math.exp(-least)) - 1 / (1 + math.exp(-most))
    assert float(found.values) == pytest.approx(apart / 2, rel=1e-12)
    assert {name: float(each) for name, each in found.parts.items() if "accuracy" in name} == {
        "most_accuracy": 0,
        "least_accuracy": 1,
    }


def test_m1_the_accuracy_of_the_paper_is_given_beside_the_difference_of_probabilities():
    found = road(drawn(2, 5, 4), Small(), drawn(2, 3, 5, 4), curves=True)
    assert set(found.parts) == {
        f"{order}_{what}" for order in ("most", "least") for what in ("accuracy", "probability")
    }
    assert (
        road(drawn(2, 5, 4), Small(), drawn(2, 3, 5, 4), lambda output: output[:, 0], curves=True)
        .parts["most_accuracy"]
        .isnan()
        .all()
    )  # of what is no class


def test_m2_a_map_that_is_98_percent_zero_removes_exact_counts():
    """Pixels that are chosen by a percentile are all of them, whichever it is."""
    maps = torch.zeros(2, 10, 20, dtype=torch.float64)
    maps[:, 7, :4] = torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64)
    inputs, asked = drawn(2, 3, 10, 20), Asked()
    road.function(maps, inputs, asked)
    counts = [20, 40, 60, 80, 100, 120, 140, 160, 180]
    assert [gone(each, inputs) for each in asked.variants] == [[count] * 2 for count in counts * 2]
    bright = [(each != inputs).any(1)[:, 7, :4].all() for each in asked.variants]
    assert [bool(each) for each in bright] == [True] * 9 + [False] * 9
    assert not (asked.variants[-1] != inputs).any(1)[:, 7, :4].any()


def test_m3_pictures_in_color_in_batches_of_any_size_say_the_same():
    net, inputs, maps = Small(), drawn(6, 3, 5, 4), drawn(6, 5, 4, seed=3)
    whole = road(maps, net, inputs, curves=True)
    parts = [road(maps[n : n + 2], net, inputs[n : n + 2], curves=True) for n in (0, 2, 4)]
    torch.testing.assert_close(torch.cat([each.values for each in parts]), whole.values, rtol=1e-9, atol=1e-12)
    accuracy = torch.cat([each.parts["most_accuracy"] for each in parts])
    torch.testing.assert_close(accuracy, whole.parts["most_accuracy"])


def test_m4_where_nearly_all_is_removed_there_is_still_one_answer():
    """`int(0.99 * 20)` is 19: all but one pixel, which all others become."""
    inputs, maps, asked = drawn(1, 3, 5, 4), drawn(1, 5, 4, seed=3), Asked()
    road.function(maps, inputs, asked, fractions=(0.99,))
    left = inputs.flatten(2)[:, :, int(maps.argmin())]
    torch.testing.assert_close(asked.variants[0], left[..., None, None].expand_as(inputs), rtol=0, atol=0.05)


def test_m5_the_noise_follows_the_seed_alone():
    net, inputs, maps = Small(), drawn(3, 3, 5, 4), drawn(3, 5, 4, seed=3)
    torch.manual_seed(1)
    first = road(maps, net, inputs, 0, seed=3)
    torch.manual_seed(2)
    assert torch.equal(first, road(maps, net, inputs, 0, seed=3))
    assert not torch.equal(first, road(maps, net, inputs, 0, seed=4))


@pytest.mark.parametrize("fractions", [(0.1, 0.3), (0.1, 0.2, 0.3, 0.4)])
def test_it_takes_two_forwards_for_each_fraction(fractions):
    net = Small()
    road(drawn(2, 5, 4, seed=3), net, drawn(2, 3, 5, 4), 0, fractions=fractions)
    needed = 2 * 2 * len(fractions)
    assert needed < net.rows <= needed + 2 + 2 + 2 * 2  # the record, a pair on trial, two variants seen by themselves


@pytest.mark.parametrize("fractions", [(), (0.0, 0.5), (0.5, 1.0), 0.5, ("half",)])
def test_fractions_are_shares(fractions):
    with pytest.raises(OptionError, match="'fractions' of road takes one or more numbers above 0 and below 1"):
        road(drawn(1, 5, 4), Small(), drawn(1, 3, 5, 4), fractions=fractions)


def test_evaluate_counts_the_accuracy_of_all_images():
    found = whycam.evaluate(Small(), drawn(4, 3, 5, 4), ["grad_cam"], ["body"], ["road"], controls=False, sanity=0)
    assert {row["metric"] for row in found.rows} > {"road", "road.most_accuracy", "road.least_probability"}
