"""Segmenters of every family: which part of their answer is read, and the layers they are explained at."""

import pytest
import segmenters
import torch

import whycam
from whycam.targets import Region


@pytest.mark.parametrize("name", segmenters.FAMILIES)
def test_each_family_has_its_scores_and_its_layers(name):
    model, inputs, by_hand, bottleneck, stage = segmenters.built(name)
    found = whycam.compare(model, inputs, ["hires_cam"], targets=[Region(1, "everywhere"), Region(2, "everywhere")])
    state = torch.random.get_rng_state()
    with torch.no_grad():
        scores = by_hand(model(inputs))
    torch.random.set_rng_state(state)
    assert [each.layer.name for each in found.values()][::2] == [bottleneck, *([stage] if stage else [])]
    for number, each in enumerate(found.values()):
        expected = scores[:, 1 + number % 2].flatten(1).double().mean(1)
        torch.testing.assert_close(each.scores.double(), expected, rtol=1e-4, atol=1e-5)
    one = whycam.explain(model, inputs, target=Region(1, "everywhere"))
    assert one.layer.name.removesuffix(":input") == bottleneck or bottleneck in one.layer.name
    assert "coarsest grid" in one.layer.why
    assert one.maps.shape[1:] == one.layer.grid
