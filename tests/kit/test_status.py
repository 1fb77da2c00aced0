"""What a map may be taken for."""

import nets
import pytest
import torch

import whycam
from whycam.kit.registry import methods
from whycam.kit.status import Evidence, Status, judge, judge_all, worst
from whycam.targets import LogProbability, Probability

MAP = torch.tensor([[0.0, 1.0], [-2.0, 3.0]])
CASES = [
    (MAP, Evidence(1.0), False, "ok", ""),
    (MAP, Evidence(1.0, signed=True), False, "ok", ""),
    (MAP, Evidence(1.0, signed=True), True, "signed activations", "assumes activations of at least zero"),
    (MAP, Evidence(0.99999, is_probability=True), False, "saturated probability", "0.999990"),
    (MAP, Evidence(0.99, is_probability=True), False, "ok", ""),
    (MAP, Evidence(7.0), False, "ok", ""),
    (0 * MAP, Evidence(1.0, gradient_is_zero=True), False, "zero gradient", "dead ReLU"),
    (0 * MAP, Evidence(1.0, gradient_is_zero=True, gradient_elsewhere=True), False, "zero gradient", "class token"),
    (0 * MAP, Evidence(1.0, gradient_is_zero=True, disconnected=True), False, "zero gradient", "does not depend"),
    (0 * MAP, Evidence(1.0, gradient_is_zero=False), False, "no positive evidence", "speaks for the target."),
    (-MAP.abs(), Evidence(1.0), False, "no positive evidence", "all is against it"),
    (0 * MAP + 2, Evidence(1.0), False, "flat map", "same value"),
    (MAP * torch.nan, Evidence(1.0), False, "non-finite", "the gradient is not"),
    (MAP / 0, Evidence(1.0, first_non_finite="layer 'conv'"), False, "non-finite", "first appears in layer 'conv'"),
    (MAP, Evidence(float("nan"), first_non_finite="the input"), False, "non-finite", "the score is NaN.*the input"),
    (MAP * torch.nan, Evidence(1.0, gradient_is_zero=True), True, "non-finite", ""),
    (0 * MAP, Evidence(1.0, True, gradient_is_zero=True), False, "saturated probability", ""),
]


@pytest.mark.parametrize(("map_", "evidence", "assumes", "kind", "message"), CASES)
def test_the_most_serious_finding_wins(map_, evidence, assumes, kind, message):
    import re

    found = judge(map_, evidence, title="A method", assumes_non_negative=assumes)
    assert found.kind == kind
    assert re.search(message, found.message)
    assert found.ok == (kind == "ok")
    assert str(found) == (f"{kind}: {found.message}" if found.message else kind)


def test_a_fused_map_has_its_own_status_before_its_parts():
    bad = Status("flat map", "x.")
    assert worst(bad, [("a", Status("zero gradient", "y."))]) is bad
    assert worst(Status(), [("a", Status()), ("b", bad)]) == Status("flat map", "at b: x.")
    assert worst(Status(), [("a", Status())]) == Status()


def test_each_sample_has_its_own():
    model, inputs = nets.plain(), nets.images()
    with torch.no_grad():
        model.conv1.bias.fill_(-1.0)
        model.conv2.bias.fill_(-0.5)
    inputs[1] = 0  # nothing passes either ReLU
    found = whycam.explain(model, inputs, layer="conv2")
    assert found.status[1].kind == "zero gradient"
    assert "dead ReLU" in found.status[1].message
    assert found.status[0].kind != "zero gradient"
    assert not found.ok


def test_a_sure_probability_is_said_and_its_logarithm_is_not():
    model, inputs = nets.plain(), nets.images()
    model.head.bias.data[2] = 100.0
    found = whycam.explain(model, inputs, target=Probability(2), layer="relu2")
    assert {status.kind for status in found.status} == {"saturated probability"}
    for target in (LogProbability(2), 2):
        kinds = {status.kind for status in whycam.explain(model, inputs, target=target, layer="relu2").status}
        assert "saturated probability" not in kinds


def test_a_network_that_ends_in_softmax_is_noticed():
    class Sure(nets.Plain):
        def forward(self, x):
            return super().forward(x).softmax(1)

    model = nets.fixed(Sure())
    found = whycam.explain(model, nets.images(), layer="relu2")
    assert any("already is a probability" in note for note in found.notes)
    torch.testing.assert_close(torch.tensor([each.probability for each in found.predictions]), found.scores.float())
    model.head.bias.data[2] = 100.0
    found = whycam.explain(model, nets.images(), layer="relu2")
    assert {status.kind for status in found.status} == {"saturated probability"}


def test_a_score_that_is_not_finite_is_said_of_a_map_that_is():
    model, inputs = nets.plain(), nets.images()
    inputs[1, 0, 0, 0] = torch.nan
    found = whycam.explain(model, inputs, "guided_backprop")
    assert found.scores[1].isnan()
    assert found.status[1].kind == "non-finite"
    assert "the input" in found.status[1].message
    assert found.status[0].kind != "non-finite"


@pytest.mark.parametrize("method", [name for name, each in methods().items() if each.assumes_non_negative])
def test_methods_for_rectified_layers_say_so_at_signed_ones(method):
    found = whycam.explain(nets.plain(), nets.images(), method, layer="conv1")
    assert {status.kind for status in found.status} <= {"signed activations", "no positive evidence"}
    assert "signed activations" in {status.kind for status in found.status}
    found = whycam.explain(nets.plain(), nets.images(), method, layer="relu1")
    assert "signed activations" not in {status.kind for status in found.status}


@pytest.mark.parametrize("name", ["guided_backprop", "guided_grad_cam"])
def test_maps_of_pixels_say_that_they_are_detail(name):
    e = whycam.explain(nets.plain(), nets.images(), name)
    assert {status.kind for status in e.status} == {"pixel detail"}
    assert "worse than a random map" in e.status[0].message


def test_a_batch_is_judged_as_its_samples_are():
    maps = torch.tensor([[[1.0, 2.0]], [[-1.0, -2.0]], [[3.0, 3.0]], [[torch.nan, 1.0]]])
    kinds = ["ok", "no positive evidence", "flat map", "non-finite"]
    found = judge_all(maps, [Evidence(1.0)] * 4, title="m", assumes_non_negative=False)
    assert [status.kind for status in found] == kinds
    alone = [judge(each, Evidence(1.0), title="m", assumes_non_negative=False) for each in maps]
    assert alone == found


@pytest.mark.parametrize(("score", "kind"), [(1 - 1.1e-4, "ok"), (1 - 0.9e-4, "saturated probability")])
def test_a_probability_is_saturated_where_one_part_of_ten_thousand_is_left(score, kind):
    found = judge(MAP, Evidence(score, is_probability=True), title="A method", assumes_non_negative=False)
    assert found.kind == kind
