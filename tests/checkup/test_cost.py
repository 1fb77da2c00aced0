"""What a method would cost, told without running it: the numbers that explanations have afterwards."""

from collections import Counter

import nets
import pytest
import torch
from few import OF_ANY, few
from torch import nn

import whycam
from whycam import WhycamError, estimate_cost
from whycam.checkup import cost as estimating
from whycam.checkup.cost import Estimate, Runs
from whycam.kit.arrays import lazily
from whycam.kit.quantities import FUNCTIONS
from whycam.network.diagnosis.flops import counted
from whycam.network.variants import scoring

TABLE = OF_ANY
FEW = {name: few(method) for name, method in TABLE.items()}
#: Methods that read every quantity between them: by name, each reads one that those before it do not.
KINDS = [
    name
    for number, (name, method) in enumerate(sorted(TABLE.items()))
    if method.needs.difference(*(before.needs for _, before in sorted(TABLE.items())[:number]))
]
#: Those whose cost depends on what they do with the functions that they are given.
RUNNING = [name for name, method in TABLE.items() if method.needs & FUNCTIONS]
HEAD, PLAIN = 2 * 8 * 5, 2 * 64 * 27 * 6 + 2 * 16 * 54 * 8 + 2 * 8 * 5


class FixedSize(nets.Plain):
    """Takes pictures of one size alone, through a layer on all of its locations."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8 * 16, nets.CLASSES)

    def forward(self, x):
        return self.head(self.features(x).flatten(1))


class Clock:
    """Stands still but for what is said to take time."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(estimating, "time", made)
    return made


class Busy(nets.Plain):
    """Takes a second for each row of 64 pixels; keeps how many rows it was given in each call."""

    def __init__(self, clock) -> None:
        super().__init__()
        self.clock, self.rows = clock, []

    def features(self, x):
        self.rows.append(len(x))
        self.clock.now += x[:, 0].numel() / 64
        return super().features(x)


#: Networks under which passes are counted in different ways.
NETWORKS = {
    "layer chosen": (nets.Plain, {}),
    "gradients off inside": (nets.InnerNoGrad, {"layer": "relu2"}),
    "in training": (nets.Training, {"layer": ["relu1", "relu2"]}),
    "one size": (FixedSize, {"layer": "conv1", "target": 1}),
}


@pytest.fixture(scope="module", params=NETWORKS)
def estimated(request):
    """A network, how it is asked, and the estimates of all methods by name."""
    kind, asked = NETWORKS[request.param]
    model = nets.fixed(kind())
    if kind is nets.Training:
        model.train()
    some = sorted({*KINDS, *RUNNING}) if request.param == "layer chosen" else KINDS
    found = estimate_cost(model, nets.images(2), some, options={name: FEW[name] for name in some}, **asked)
    return model, asked, {each.name: each for each in found}


def explained(model, asked, name):
    """The real thing, with what `explain` refuses left out."""
    method = TABLE[name]
    layer = asked.get("layer") if method.has_layer else None
    target = asked.get("target") if method.class_specific else None
    return whycam.explain(model, nets.images(2), name, layer=layer, target=target, **FEW[name])


@pytest.mark.filterwarnings("ignore:the model is in training mode")
def test_the_passes_are_those_that_explanations_have(estimated):
    model, asked, found = estimated
    for estimate in found.values():
        agrees(estimate, model, asked)


def agrees(estimate, model, asked):
    """Assert that the explanation is as it was estimated, or is refused for that reason."""
    name = estimate.name
    if not estimate.possible:
        with pytest.raises(WhycamError) as refused:
            explained(model, asked, name)
        assert str(refused.value) == estimate.reason
        return
    made = explained(model, asked, name)
    assert estimate.forwards == made.cost.forwards - made.cost.choosing, name
    assert estimate.backwards == made.cost.backwards, name
    parts = Counter()
    for work in made.work:
        parts[work.part] += work.parts
    assert {each.part: each.number for each in estimate.parts} == +parts, name
    assert estimate.layer == (made.layer.name if TABLE[name].has_layer else ""), name
    assert estimate.fallback == next((work.fallback for work in made.work if work.fallback), ""), name


@pytest.mark.filterwarnings("ignore:the model is in training mode")
def test_half_of_the_methods_at_least_can_be_run_on_each_kind_of_network(estimated):
    _, _, found = estimated
    able = [each.possible for name, each in found.items() if name in TABLE]
    assert sum(able) >= len(able) / 2


@pytest.mark.parametrize(
    ("layer", "names"), [("conv1", RUNNING), ("relu2", ["ablation_cam", "integrated_grad_cam", "opti_cam", "rise"])]
)
def test_operations_are_those_that_are_counted_when_it_is_run(layer, names):
    model, inputs = nets.plain(), nets.images(1)
    options = {name: dict.fromkeys(FEW[name], 6) for name in names}
    found = estimate_cost(model, inputs, names, layer=layer, options=options)
    with counted() as counter:
        model(inputs)
    one = counter.get_total_flops()
    assert one == PLAIN
    for each in found:
        place = layer if TABLE[each.name].has_layer else None
        with counted() as counter:
            whycam.explain(model, inputs, each.name, layer=place, **options[each.name])
        # one run to make ready is of two rows; what methods multiply themselves counts beside so small a network; and
        # the rows of a larger input are whole numbers, which those of an estimate are not
        assert each.total == pytest.approx(counter.get_total_flops() / one, rel=0.07, abs=2), each


def test_the_share_of_the_part_above_the_layer_by_hand():
    (found,) = estimate_cost(nets.plain(), nets.images(3), ["ablation_cam"], layer="relu2")
    # eight channels; two runs to see that the part can be run by itself, and two of variants that ran among others
    assert found.parts == (Runs("the part above relu2", 8 + 2 + 2, HEAD / PLAIN),)
    assert found.total == pytest.approx(1 + 12 * HEAD / PLAIN)
    assert found.passes == "1 forward, 12 runs of the part above relu2 (0.0023 of the network each)"
    assert str(found).startswith(f"Ablation-CAM: {found.passes}, 1.03 forwards' worth of operations, about ")


def test_in_words():
    assert Estimate("a", "A", forwards=4001).passes == "4,001 forwards"
    assert Estimate("a", "A", forwards=1, backwards=1).passes == "1 forward, 1 backward"
    assert Estimate("a", "A", forwards=1, parts=(Runs("the part above x", 1, None),)).passes == (
        "1 forward, 1 run of the part above x"
    )
    assert str(Estimate("a", "A", forwards=2, seconds=150)) == "A: 2 forwards, about 2 min"
    assert str(Estimate("a", "A", reason="no layer.")) == "A: not possible: no layer."
    assert [Estimate("a", "A", total=total).worth for total in (None, 1.0, 1.234, 99.4, 4001.2)] == [
        "", "1", "1.23", "99.4", "4,001",
    ]  # fmt: skip


def test_what_is_dear_is_not_run(clock, monkeypatch):
    monkeypatch.setattr(scoring, "MOST_ROWS", 8)
    model = nets.fixed(Busy(clock))
    (found,) = estimate_cost(model, nets.images(1), ["rise"])
    assert 4000 < found.forwards < 4010
    assert sum(model.rows) < 50


def test_variants_are_counted_and_few_of_them_made(monkeypatch):
    monkeypatch.setattr(scoring, "MOST_ROWS", 8)
    made = []

    def mine(inputs, score):
        def make(number):
            made.append(number)
            return inputs

        return score(lazily(make, range(1000))).sum() * inputs[:, 0]

    (found,) = estimate_cost(nets.plain(), nets.images(1), [mine])
    assert made == [*range(8), 0]  # the first once more, to see how long making one takes
    assert found.forwards == whycam.explain(nets.plain(), nets.images(1), mine).cost.forwards > 1000


def test_variants_without_a_known_number_are_drawn_and_counted():
    def mine(inputs, score):
        return score(inputs * factor for factor in range(9)).sum() * inputs[:, 0]

    (found,) = estimate_cost(nets.plain(), nets.images(1), [mine])
    assert found.forwards == whycam.explain(nets.plain(), nets.images(1), mine).cost.forwards > 9


def test_no_variants_at_all_are_a_reason():
    def mine(inputs, score):
        return score([]).sum() * inputs[:, 0]

    (found,) = estimate_cost(nets.plain(), nets.images(1), [mine])
    assert found.reason == "mine asked for the scores of no variants."


@pytest.mark.parametrize("probability", [False, True])
def test_answers_are_those_of_the_first_variants_again_and_again(monkeypatch, probability):
    monkeypatch.setattr(scoring, "MOST_ROWS", 2)
    model, images = nets.plain(), nets.images(2)
    seen = {}

    def mine(activations, inputs, score, trace, differentiate):
        seen["scores"] = score([inputs * factor for factor in range(1, 21)], probability=probability)
        seen["runs"] = list(trace([inputs] * 3))
        seen["slopes"] = [differentiate(inputs, probability=probability) for _ in range(3)]
        return activations.sum(1)

    (found,) = estimate_cost(model, images, [mine], layer="relu2")
    assert found.forwards > 1 + 20 + 3 + 3
    assert found.backwards == 3 + 3
    picture = images.clone().requires_grad_()
    classes = model(picture).argmax(1)
    answers = [model(picture * factor) for factor in range(1, 5)]
    expected = torch.stack([
        (each.softmax(1) if probability else each)[range(2), classes] for each in answers
    ])  # fmt: skip
    assert torch.allclose(seen["scores"], expected.repeat(5, 1))
    (slope,) = torch.autograd.grad(expected[0].sum(), picture, retain_graph=True)
    for scores, gradients in seen["slopes"]:
        assert torch.allclose(scores, expected[0])
        assert torch.allclose(gradients, slope)
    maps = model.features(picture)
    assert [torch.allclose(run.activations, maps) for run in seen["runs"]] == [True] * 3
    assert all(torch.allclose(run.scores, answers[0][range(2), classes]) for run in seen["runs"])


def test_inputs_of_other_sizes_are_traced_at_two_and_counted_by_their_pixels(clock):
    model = nets.fixed(Busy(clock))

    def mine(inputs, trace):
        assert len(list(trace(nn.functional.interpolate(inputs, scale_factor=factor) for factor in (1, 2, 3, 4)))) == 4
        return inputs[:, 0]

    (found,) = estimate_cost(model, nets.images(1), [mine], layer="relu2")
    assert (found.forwards, found.backwards) == (5, 4)
    assert found.total == pytest.approx(1 + 30, rel=0.01)
    assert found.seconds == pytest.approx(1 + 30, rel=0.01)
    assert max(model.rows) == 1


@pytest.mark.parametrize("way", [torch.inference_mode, torch.enable_grad, torch.no_grad])
def test_under_whatever_the_caller_works(way):
    names = ["grad_cam", "ablation_cam", "opti_cam"]
    options = {name: FEW[name] for name in names}
    model = nets.plain()
    with way():
        found = estimate_cost(model, nets.images(1), names, layer="relu2", options=options)
    plain = estimate_cost(model, nets.images(1), names, layer="relu2", options=options)
    assert [(each.passes, each.reason) for each in found] == [(each.passes, each.reason) for each in plain]


def test_a_network_of_one_size_says_so():
    (found,) = estimate_cost(nets.fixed(FixedSize()), nets.images(1), ["cameras"])
    assert "(1, 3, 12, 12)" in found.reason
    assert found.seconds == found.forwards == 0


def test_a_target_that_is_no_class_has_no_probability():
    (found,) = estimate_cost(nets.plain(), nets.images(1), ["rise"], target=lambda output: output[:, 0])
    assert "is no single class" in found.reason
    options = {"RISE": {"probability": False, "samples": 3}}
    (found,) = estimate_cost(nets.plain(), nets.images(1), ["rise"], target=lambda out: out[:, 0], options=options)
    assert found.possible


def test_what_the_network_raises_is_a_reason_and_a_mistake_of_ours_is_not(monkeypatch):
    class NoWay(nets.Plain):
        def forward(self, x):
            if torch.is_grad_enabled():
                raise ValueError("no\nway")
            return super().forward(x)

    found = estimate_cost(nets.fixed(NoWay()), nets.images(1), ["fem", "opti_cam"], layer="relu2")
    assert [each.reason for each in found] == ["", "ValueError: no\nway"]
    space = {"__name__": "whycam.engine.maps"}
    exec("def judge(*_, **__): raise LookupError('a bug')", space)
    monkeypatch.setattr("whycam.engine.maps.MapBuilder._judge", space["judge"])
    with pytest.raises(LookupError, match="a bug"):
        estimate_cost(nets.plain(), nets.images(1), ["fem"])


@pytest.mark.parametrize("most", [1, 4])
def test_seconds_are_those_it_takes(monkeypatch, clock, most):
    monkeypatch.setattr(scoring, "MOST_ROWS", most)
    model = nets.fixed(Busy(clock))
    for name, options in (("rise", {"samples": 20}), ("opti_cam", {"steps": 20}), ("grad_cam", {}), ("cameras", {})):
        clock.now = 0.0
        (found,) = estimate_cost(model, nets.images(1), [name], options={name: options})
        clock.now, spent = 0.0, clock.now
        whycam.explain(model, nets.images(1), name, **options)
        assert found.seconds == pytest.approx(clock.now, rel=0.02, abs=1.1), name
        assert spent < 25  # of which most go into timing what then is said to take so long


def test_time_that_methods_take_for_themselves_counts(clock):
    def mine(inputs, score):
        scores = score([inputs] * 3)
        clock.now += 2
        return inputs[:, 0] * scores[0, 0]

    def lazy(inputs, score):
        def slowly(_):
            clock.now += 0.5
            return inputs

        return score(lazily(slowly, range(1000))).sum() * inputs[:, 0]

    def tracing(inputs, trace):
        for _ in trace([inputs] * 3):
            clock.now += 1
        return inputs[:, 0]

    found = estimate_cost(nets.plain(), nets.images(1), [mine, lazy, tracing], layer="relu2")
    assert [each.seconds for each in found] == [2, 500, 3]


def test_the_fast_copys_comparison_counts():
    model, inputs = nets.plain().float(), nets.images(1).float()
    for name, layer in (("rise", None), ("ablation_cam", "relu2")):
        (found,) = estimate_cost(
            model, inputs, [name], layer=layer, options={name: FEW[name]}, precision="float32"
        )  # fmt: skip
        made = whycam.explain(model, inputs, name, layer=layer, precision="float32", **FEW[name])
        assert found.forwards == made.cost.forwards - made.cost.choosing
        assert sum(each.number for each in found.parts) == made.cost.parts


def test_networks_without_operations_that_are_counted():
    class Means(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x):
            return self.relu(x).mean((2, 3))

    found = estimate_cost(Means().eval(), nets.images(1), ["fem", "ablation_cam", "occlusion"], layer="relu")
    assert [each.total for each in found] == [None] * 3
    assert str(found[1].parts[0]) == "7 runs of the part above relu"
    assert all(each.seconds > 0 for each in found)


def test_the_network_is_left_as_it_was_and_nothing_is_shown(capsys):
    model, inputs = nets.plain(inplace=True), nets.images(2)
    kept = inputs.clone()
    before = nets.state(model)
    estimate_cost(model, inputs, KINDS, options={name: FEW[name] for name in KINDS})
    assert nets.differences(before, nets.state(model)) == []
    assert torch.equal(inputs, kept)
    assert capsys.readouterr() == ("", "")


def test_ctrl_c_passes_through():
    model = nets.fixed(nets.Raising())
    model.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        estimate_cost(model, nets.images(1))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"methods": "rise"}, r"methods is a list, such as methods=\['rise'\]"),
        ({"methods": ["rize"]}, "no method 'rize'"),
        ({"options": {"rise": {"speed": 1}}}, "rise has no option 'speed'"),
        ({"methods": ["fem"], "options": {"rise": {}}}, "options came for 'rise'"),
        ({"fusion": "meen"}, "no fusion 'meen'"),
    ],
)
def test_mistakes(wrong, sentence):
    with pytest.raises(WhycamError, match=sentence):
        estimate_cost(nets.plain(), nets.images(1), **wrong)


def test_a_layer_that_does_not_exist_is_the_reason_of_those_that_need_one():
    found = {
        each.name: each for each in estimate_cost(nets.plain(), nets.images(1), ["fem", "occlusion"], layer="conv9")
    }
    assert "no layer 'conv9'" in found["fem"].reason
    assert found["occlusion"].possible
