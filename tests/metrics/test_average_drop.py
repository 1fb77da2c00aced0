"""Average drop: the paper's formula, one picture at a time, and on a linear model of four pixels."""

import math

import numpy as np
import pytest
import torch
from metrics_by_hand import FourPixels, Small, drawn, probability_of

from whycam.metrics import average_drop


def scaled(values, how):
    """To [0, 1]: by the largest value, what is negative to 0; or from the least to the largest."""
    low, high = (0.0, values.max()) if how == "max" else (values.min(), values.max())
    made = np.zeros_like(values)
    for at in np.ndindex(*values.shape):
        made[at] = max(0.0, (values[at] - low) / (high - low))
    return made


@pytest.mark.parametrize("normalize", ["max", "minmax"])
@pytest.mark.parametrize("baseline", ["zero", 0.5])
@pytest.mark.parametrize("space", [(7,), (5, 4), (3, 2, 4)], ids=["1d", "2d", "3d"])
def test_is_the_share_of_the_probability_that_is_lost(space, baseline, normalize):
    net, inputs, maps = Small(axes=len(space)), drawn(12, 3, *space), drawn(12, *space, seed=3)
    found = average_drop(maps, net, inputs, [0, 1, 2] * 4, normalize=normalize, baseline=baseline)
    behind = 0.0 if baseline == "zero" else baseline
    for n, index in enumerate([0, 1, 2] * 4):
        picture, mask = inputs[n].numpy(), scaled(maps[n].numpy(), normalize)
        whole = probability_of(net, picture, index)
        shown = probability_of(net, picture * mask + behind * (1 - mask), index)
        assert float(found[n]) == pytest.approx(100 * max(0, whole - shown) / whole, rel=1e-10)
    assert (found > 0).any()
    assert (found == 0).any()


def test_a_linear_model_of_four_pixels():
    net = FourPixels([[4.0, 3.0, 2.0, 1.0], [0.0] * 4])
    inputs = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    found = average_drop(torch.tensor([[[2.0, 1.0], [0.0, -5.0]]]), net, inputs, 0)
    whole, shown = (1 / (1 + math.exp(-logit)) for logit in (10, 4 + 3 / 2))
    assert float(found) == pytest.approx(100 * (whole - shown) / whole, rel=1e-12)


def test_the_drop_is_a_share_of_the_score():
    # pytorch-grad-cam gives the drop itself
    net = FourPixels([[0.0] * 4, [0.0] * 4, [0.0] * 4, [0.0] * 4], [0.0, 5.0, 5.0, 5.0])
    net.weights[0, 0] = 2.0
    inputs = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    found = average_drop(torch.tensor([[[0.0, 1.0], [1.0, 1.0]]]), net, inputs, 0)
    rest = 3 * math.exp(5)
    whole, shown = math.exp(2) / (math.exp(2) + rest), 1 / (1 + rest)
    assert float(found) == pytest.approx(100 * (1 - shown / whole), rel=1e-12)
    assert float(found) > 80 > 100 * (whole - shown)


def test_negative_scores_have_no_drop():
    # torchcam of logits gives negative drops, where it divides by what is below 0
    net = FourPixels([[4.0, 3.0, 2.0, 1.0]] * 2, -20.0)
    inputs, maps = torch.ones(2, 1, 2, 2, dtype=torch.float64), torch.ones(2, 2, 2)
    inputs[1] *= 3
    maps[:, 0, 0] = 0
    found = average_drop(maps, net, inputs, lambda output: output[:, 0])
    assert found.isnan().tolist() == [True, False]
    assert float(found[1]) == pytest.approx(120)  # of 10 before, -2 are left without 12


def test_what_speaks_against_the_target_stays_hidden():
    # xplique takes the map's magnitude first
    net = FourPixels([[1.0, 0.0, 0.0, -9.0], [0.0] * 4])
    inputs = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    assert float(average_drop(torch.tensor([[[1.0, 0.0], [0.0, -9.0]]]), net, inputs, 0)) == 0


def test_one_forward_more_than_the_record():
    net = Small()
    average_drop(drawn(2, 5, 4, seed=3), net, drawn(2, 3, 5, 4), 0)
    assert net.rows == 2 + 2 + 2  # the record, a pair on trial, and the masked batch
