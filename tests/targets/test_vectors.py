"""Similarities, triplets and estimated numbers, with what their maps add up to."""

import math

import nets
import numpy as np
import pytest
import torch
from torch import nn

import whycam
from whycam.targets import Similarity, Towards, Triplet, Value


class Encoder(nn.Module):
    """Features, pooled, and a projection without bias: the embedding is linear in the features."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(6, 5, bias=False)

    def forward(self, inputs):
        return self.head(self.body(inputs).mean((2, 3)))


@pytest.fixture(scope="module")
def case():
    model = nets.fixed(Encoder()).double()
    torch.manual_seed(3)
    return model, torch.rand(2, 3, 8, 10, dtype=torch.float64), torch.rand(1, 3, 8, 10, dtype=torch.float64)


def cosine(one, other):
    dot = sum(float(a) * float(b) for a, b in zip(one, other, strict=True))
    return dot / math.sqrt(sum(float(a) ** 2 for a in one)) / math.sqrt(sum(float(b) ** 2 for b in other))


def test_a_similarity_adds_up_to_itself_and_its_literal_derivative_to_nothing(case):
    model, inputs, reference = case
    here, there = model(inputs).detach(), model(reference).detach()[0]
    expected = [cosine(row, there) for row in here]
    for norm, total in (("fixed", expected), ("live", [0.0, 0.0])):
        target = Similarity(reference, norm)
        found = whycam.explain(model, inputs, "hires_cam", target=target, layer="body")
        assert found.scores.tolist() == pytest.approx(expected, rel=1e-6)
        assert found.maps.sum((1, 2)).tolist() == pytest.approx(total, rel=1e-5, abs=1e-6)
        assert found.predictions == ()


def test_a_reference_may_be_a_vector_or_one_for_each_sample(case):
    model, inputs, reference = case
    vector = model(reference).detach()
    one = whycam.explain(model, inputs, target=Similarity(reference), layer="body")
    for same in (vector, vector[0], vector[0].tolist(), vector.expand(2, -1)):
        found = whycam.explain(model, inputs, target=Similarity(same), layer="body")
        torch.testing.assert_close(found.maps, one.maps)
    both = torch.cat([vector, -vector])
    found = whycam.explain(model, inputs, target=Similarity(both), layer="body")
    assert float(found.scores[1]) == pytest.approx(-float(one.scores[1]), rel=1e-6)
    with pytest.raises(whycam.TargetError, match=r"the reference has shape \(1, 3\); the embeddings are \(2, 5\)"):
        whycam.explain(model, inputs, target=Similarity([1.0, 0.0, 0.0]), layer="body")


def test_a_triplet_is_the_difference(case):
    model, inputs, reference = case
    near, far = model(reference).detach()[0], model(inputs[:1]).detach()[0]
    found = whycam.explain(model, inputs, target=Triplet(near, far), layer="body")
    expected = [cosine(row, near) - cosine(row, far) for row in model(inputs).detach()]
    assert found.scores.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_a_value_in_its_own_unit_and_less_of_it(case):
    model, inputs, _ = case
    outputs = model(inputs).detach()
    more = whycam.explain(model, inputs, "hires_cam", target=Value(2), layer="body")
    less = whycam.explain(model, inputs, "hires_cam", target=-Value(2), layer="body")
    assert more.scores.tolist() == pytest.approx(outputs[:, 2].tolist(), rel=1e-6)
    torch.testing.assert_close(more.maps, -less.maps)
    assert less.target[0].startswith("less of value 2")


def test_towards_a_reference_goes_the_right_way_also_at_it(case):
    model, inputs, _ = case
    outputs = model(inputs).detach()[:, 1].tolist()
    up, down = max(outputs) + 1, min(outputs) - 1
    value = whycam.explain(model, inputs, "hires_cam", target=Value(1), layer="body").maps
    for goal, sign in ((up, 1), (down, -1)):
        found = whycam.explain(model, inputs, "hires_cam", target=Towards(goal, 1), layer="body")
        torch.testing.assert_close(found.maps, sign * value)
        assert found.scores.tolist() == pytest.approx([-abs(goal - each) for each in outputs], rel=1e-5)
    there = whycam.explain(model, inputs[:1], target=Towards(outputs[0], 1), layer="body")
    assert there.status[0].kind != "zero gradient"


def test_methods_that_edit_the_input_ask_about_the_same_thing(case):
    model, inputs, reference = case
    found = whycam.explain(model, inputs[:1], "occlusion", target=Similarity(reference), probability=False)
    assert found.status[0].kind in ("ok", "no positive evidence")


def test_what_has_no_direction_is_similar_to_nothing(case):
    model, inputs, _ = case
    for bad in (torch.zeros(5), torch.full((5,), math.nan)):
        with pytest.raises(whycam.TargetError, match="no direction"):
            whycam.explain(model, inputs, target=Similarity(bad), layer="body")
    dark = nn.Sequential(model.body, nn.Threshold(9.0, 0.0), nn.AdaptiveAvgPool2d(1), nn.Flatten(), model.head)
    found = whycam.explain(dark, inputs, "shap_cam", target=Similarity([1.0, 0, 0, 0, 0]), layer="0", samples=2)
    assert found.scores.tolist() == [0, 0]
    assert bool(found.maps.isfinite().all())


@pytest.mark.parametrize("kind", ["array", "whole numbers"])
def test_a_reference_as_it_is_read_from_a_file(case, kind):
    model, inputs, _ = case
    vector = [1, 0, 0, 2, 0]
    same = np.array(vector, dtype=np.float32) if kind == "array" else torch.tensor(vector)
    found = whycam.explain(model, inputs, target=Similarity(same), layer="body")
    expected = whycam.explain(model, inputs, target=Similarity([float(each) for each in vector]), layer="body")
    torch.testing.assert_close(found.maps, expected.maps)


def test_a_similarity_is_found_by_the_target_that_was_asked_and_in_every_tile(case):
    model, inputs, _ = case
    asked = Similarity(inputs[:1])
    made = whycam.compare(model, inputs, ["hires_cam"], layers=["body"], targets=[asked])
    assert [target for _, _, target in made] == [asked]
    tiled = whycam.explain(model, inputs, "hires_cam", layer="body", target=Similarity([1.0, 0, 0, 0, 0]), tiles=4)
    assert tiled.tile_scores is not None
    corner = whycam.explain(model, inputs[..., :4, :4], "hires_cam", layer="body", target=Similarity([1.0, 0, 0, 0, 0]))
    torch.testing.assert_close(tiled.tile_scores[:, 0, 0], corner.scores)
