"""D-RISE: masks are read back from what the network is shown, and weighted by hand, in numpy."""

import numpy as np
import pytest
import torch

from whycam.methods.d_rise import d_rise


class Found:
    """A score in [0, 1] of each sample, which keeps what it was shown."""

    def __init__(self, net):
        self.net, self.seen, self.asked = net, [], []

    def __call__(self, variants, *, probability=False):
        assert probability
        rows = list(variants)
        self.asked.append(len(rows))
        self.seen += [row.clone() for row in rows]
        return torch.stack([self.net(row) for row in rows])


def peak(rows):
    """How much is left of one corner and the middle, not linear in it."""
    return torch.stack([row[0, 1] * row[0, 2] + 0.2 * row[-1, -1] ** 2 for row in rows[:, 0]])


def by_hand(score, count, keep, center):
    """The map of each sample from what was shown of an input of ones, its halves' correlation too."""
    masks = np.stack([row[0, 0].numpy() for row in score.seen[:count]])
    scores = np.stack([score.net(row).numpy() for row in score.seen[:count]])

    def of(chosen):
        made = []
        for sample in range(scores.shape[1]):
            total = np.zeros(masks.shape[1:])
            mean = scores[chosen, sample].mean() if center else 0.0
            for k in chosen:
                total += (scores[k, sample] - mean) * masks[k]
            made.append(total / (len(chosen) * keep))
        return np.stack(made)

    halves = of(range(0, count, 2)), of(range(1, count, 2))
    likeness = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(*halves, strict=True)]
    return of(range(count)), likeness


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("keep", [0.5, 0.3])
def test_it_is_the_centered_mean_of_masks_by_what_each_left(center, keep):
    inputs = torch.ones(2, 1, 9, 7, dtype=torch.float64)
    score = Found(lambda rows: peak(rows) * torch.tensor([1.0, 0.5], dtype=torch.float64))
    found = d_rise(inputs, score, samples=75, grid=3, keep=keep, center=center, until=None)
    maps, likeness = by_hand(score, 75, keep, center)
    np.testing.assert_allclose(found.maps, maps, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.values["split_half_correlation"], likeness, rtol=1e-10)
    assert found.values["masks"].tolist() == [75, 75]
    assert all(each.ok for each in found.status)


def test_a_score_that_never_changes_explains_nothing():
    found = d_rise(
        torch.rand(1, 3, 8, 8, dtype=torch.float64),
        Found(lambda rows: torch.full((1,), 0.7, dtype=torch.float64)),
        samples=40,
        grid=2,
        until=None,
    )
    assert float(found.maps.abs().max()) < 1e-12


def test_it_stops_when_the_halves_agree_in_every_sample():
    inputs = torch.ones(2, 1, 12, 12, dtype=torch.float64)

    def net(rows):  # the second sample's is drowned in what looks like noise
        plain = peak(rows)
        return plain + torch.tensor([0.0, 4.0], dtype=torch.float64) * (1e4 * rows.flatten(1).sum(1)).sin()

    score = Found(net)
    found = d_rise(inputs, score, samples=5000, grid=4, until=0.8)
    likeness = [min(by_hand(score, count, 0.5, True)[1]) for count in range(500, len(score.seen) + 1, 500)]
    assert len(likeness) > 1
    assert score.asked == [500] * len(likeness)
    assert all(each < 0.8 for each in likeness[:-1])
    assert likeness[-1] >= 0.8
    assert found.values["split_half_correlation"].min().item() == pytest.approx(likeness[-1])


def test_a_batch_equals_its_samples_also_where_one_settles_before_the_other():
    def net(rows):  # the second sample's is drowned in what looks like noise
        noise = (1e4 * rows.flatten(1).sum(1)).sin()
        return peak(rows) + (4.0 * noise if len(rows) == 1 else torch.tensor([0.0, 4.0]) * noise)

    inputs = torch.ones(2, 1, 12, 12, dtype=torch.float64)
    both = d_rise(inputs, Found(net), samples=5000, grid=4, until=0.8)
    first = d_rise(inputs[:1], Found(peak), samples=5000, grid=4, until=0.8)
    second = d_rise(inputs[1:], Found(net), samples=5000, grid=4, until=0.8)
    assert both.values["masks"].tolist() == [500, second.values["masks"].item()]
    assert second.values["masks"] > 500
    assert both.values["split_half_correlation"][0] == first.values["split_half_correlation"][0]
    torch.testing.assert_close(both.maps, torch.cat([first.maps, second.maps]), rtol=0, atol=0)


def test_what_has_not_settled_says_so_and_so_does_what_was_never_found():
    inputs = torch.ones(2, 1, 12, 12, dtype=torch.float64)
    noise = torch.Generator().manual_seed(0)
    found = d_rise(
        inputs,
        Found(lambda rows: torch.rand(2, generator=noise, dtype=torch.float64) * torch.tensor([1.0, 0.0])),
        samples=60,
        grid=6,
    )
    assert [each.kind for each in found.status] == ["not converged", "flat map"]
    assert "after 60 masks the map's two halves correlate by" in found.status[0].message
    assert not found.maps[1].any()


def test_in_one_and_three_dimensions():
    for space in ((20,), (5, 6, 4)):
        inputs = torch.ones(1, 2, *space, dtype=torch.float64)
        score = Found(lambda rows: rows.flatten(1).mean(1))
        found = d_rise(inputs, score, samples=30, grid=2, until=None)
        masks = np.stack([row[0, 0].numpy() for row in score.seen])
        weights = masks.reshape(30, -1).mean(1)
        expected = np.tensordot(weights - weights.mean(), masks, 1) / 15
        np.testing.assert_allclose(found.maps[0], expected, rtol=1e-10, atol=1e-12)


def test_halves_that_are_flat_have_nothing_in_common():
    # a score of 0 for the second sample leaves its maps 0 everywhere, and the first as it is
    score = Found(lambda rows: peak(rows) * torch.tensor([1.0, 0.0], dtype=torch.float64))
    found = d_rise(torch.ones(2, 1, 9, 7, dtype=torch.float64), score, samples=75, grid=3, keep=0.5, until=None)
    assert found.values["split_half_correlation"][1] == 0
    assert found.values["split_half_correlation"][0] > 0.5
