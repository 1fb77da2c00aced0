"""Average gain: the paper's formula, one picture at a time, and on a linear model of four pixels."""

import math

import pytest
import torch
from metrics_by_hand import FourPixels, Small, drawn, probability_of

import whycam
from whycam.metrics import average_gain


@pytest.mark.parametrize("baseline", ["zero", 0.5])
@pytest.mark.parametrize("space", [(7,), (5, 4), (3, 2, 4)], ids=["1d", "2d", "3d"])
def test_is_the_share_of_what_the_probability_lacks(space, baseline):
    net, inputs, maps = Small(axes=len(space)), drawn(12, 3, *space), drawn(12, *space, seed=3)
    found = average_gain(maps, net, inputs, [0, 1, 2] * 4, baseline=baseline)
    behind = 0.0 if baseline == "zero" else baseline
    for n, index in enumerate([0, 1, 2] * 4):
        picture, mask = inputs[n].numpy(), maps[n].numpy().clip(min=0) / maps[n].numpy().max()
        whole = probability_of(net, picture, index)
        shown = probability_of(net, picture * mask + behind * (1 - mask), index)
        assert float(found[n]) == pytest.approx(100 * max(0, shown - whole) / (1 - whole), rel=1e-10)
    assert (found > 0).any()
    assert (found == 0).any()


def test_a_linear_model_of_four_pixels():
    net = FourPixels([[4.0, 3.0, -2.0, -1.0], [0.0] * 4])
    inputs = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    found = average_gain(torch.tensor([[[2.0, 1.0], [0.0, -5.0]]]), net, inputs, 0)
    whole, shown = (1 / (1 + math.exp(-logit)) for logit in (4, 4 + 3 / 2))
    assert float(found) == pytest.approx(100 * (shown - whole) / (1 - whole), rel=1e-12)


def test_of_a_score_that_is_1_or_more_it_is_not_defined():
    net = FourPixels([[4.0, 3.0, -2.0, -1.0], [0.0] * 4], -3.5)
    inputs = torch.ones(2, 1, 2, 2, dtype=torch.float64)
    inputs[1] = 2
    maps = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]] * 2)
    found = average_gain(maps, net, inputs, lambda output: output[:, 0])
    assert float(found[0]) == pytest.approx(100 * (3.5 - 0.5) / (1 - 0.5))
    assert found[1].isnan()


def test_the_masked_picture_is_scored_once_for_all_metrics_that_mask_by_the_same_map():
    net, inputs, rows = Small(), drawn(2, 3, 5, 4), {}
    for metrics in (("average_drop",), ("average_drop", "increase_in_confidence", "average_gain")):
        net.rows = 0
        options = {"layers": ["body"], "controls": False, "sanity": 0}
        found = whycam.evaluate(net, inputs, ["grad_cam", "layer_cam"], metrics=metrics, **options)
        rows[metrics] = net.rows
    assert len(set(rows.values())) == 1
    for method in ("grad_cam", "layer_cam"):
        made = average_gain(whycam.explain(net, inputs, method, layer="body"), net, inputs)
        values = [row["value"] for row in found.rows if (row["method"], row["metric"]) == (method, "average_gain")]
        assert values == pytest.approx(made.tolist(), rel=1e-12)
        assert max(values) > 0
