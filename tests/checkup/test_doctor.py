"""The doctor: each finding where it was planted and nowhere else, and what each method costs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import nets
import pytest
import torch
from few import OF_TOKENS
from one_pass import BACKWARDS, FORWARDS
from torch import Tensor, nn

import whycam
from whycam import Preprocess, VisionModel, WhycamError, doctor
from whycam.checkup.doctor import Checkup, trial_input
from whycam.checkup.findings import CHECKS
from whycam.kit.quantities import FUNCTIONS
from whycam.kit.registry import methods
from whycam.models.conversion import NoPhotos

LABELS = ["a", "b", "c", "d", "e"]
#: Operations of one prediction by `nets.Plain`: two for each product of its convolutions and its linear layer.
CONV1, CONV2, HEAD = 2 * 64 * 27 * 6, 2 * 16 * 54 * 8, 2 * 8 * 5
PLAIN = CONV1 + CONV2 + HEAD


@pytest.fixture(autouse=True)
def quick(monkeypatch, request):
    """Leave out what runs the network many times, unless `every_method` is asked for: estimates add time alone."""
    if "every_method" not in request.fixturenames:
        some = {name: each for name, each in methods().items() if not each.needs & FUNCTIONS}
        monkeypatch.setattr("whycam.checkup.doctor.methods", lambda: some)


@pytest.fixture
def every_method():
    """Have no method left out."""


def healthy(module: nn.Module, **given: Any) -> VisionModel:
    """A network with all that can be said about it."""
    return VisionModel(module, **{"preprocess": Preprocess.imagenet(8, 8), "labels": LABELS, **given})


def kinds(made: Checkup) -> dict[str, str]:
    """What was found, with its severity."""
    return {each.kind: each.severity for each in made.findings if each.severity != "fine"}


def only(made: Checkup, kind: str) -> Any:
    (found,) = [each for each in made.findings if each.kind == kind]
    return found


# --- the healthy ones


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_healthy_network_has_no_findings(rank):
    made = doctor(replace(healthy(nets.plain(rank)), preprocess=Preprocess.imagenet(8, 8)), nets.images(2, rank))
    assert kinds(made) == {}
    assert [each.kind for each in made.findings] == list(CHECKS)
    assert made.ok
    assert made.verdict == "no problem"
    assert made.inputs == (1, 3, *[8] * rank)


def test_the_built_in_network_is_healthy_and_says_that_its_activations_run_twice():
    made = doctor("builtin")
    assert kinds(made) == {"repeated": "worth knowing"}
    assert made.verdict == "no problem, 1 thing worth knowing"
    assert only(made, "repeated").module == "_blocks.1._swish"
    assert "runs 2 times (and 15 others repeatedly)" in only(made, "repeated").text
    assert (made.layer.name, made.output.classes, made.inputs) == ("_bn1", 1000, (1, 3, 224, 224))


# --- what is planted is found


class Planted(NamedTuple):
    """A network with a fault, what is found, and words of the sentence."""

    build: Callable[[], Any]
    kind: str
    severity: str
    module: str
    says: str
    inputs: Callable[[], Any] = lambda: nets.images(1)
    besides: tuple[str, ...] = ()  # what follows from it


def changed(**values: Any) -> nn.Module:
    """A plain network with values of its modules and weights replaced, by dotted name with `__` for the dot."""
    model = nets.plain()
    for name, value in values.items():
        owner, _, attribute = name.replace("__", ".").rpartition(".")
        found = model.get_submodule(owner)
        if isinstance(value, float):
            getattr(found, attribute).data.fill_(value)
        else:
            setattr(found, attribute, value)
    return model


class Detaches(nets.Plain):
    """Cuts the gradient, before its head or before its second convolution."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def features(self, x: Tensor) -> Tensor:
        x = self.relu1(self.conv1(x))
        x = self.relu2(self.conv2(x.detach() if self.where == "early" else x))
        return x.detach() if self.where == "late" else x


class Square(nets.Plain):
    """As many channels as rows and columns."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(6, 8, 3, padding=1)


class Washed(nn.Module):
    """Seventeen tokens that all hold the same picture, so that nothing tells where any of them lies."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 2, stride=2)
        self.wash = Washing()
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.wash(self.embed(x).flatten(2).mT).square().mean(1))


class Washing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(8, 8)
        self.places = nn.Parameter(torch.zeros(1, 17, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x.mean(1, keepdim=True)) + self.places


class UpsideDown(nets.Plain):
    """All that it makes lies the other way round than its input."""

    def forward(self, inputs):
        return super().forward(inputs.flip(2))


class Turned(nn.Module):
    """Tokens in the order of the picture turned upside down."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 2, stride=2)
        self.turn = Turning(after)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.turn(self.embed(x).flatten(2).mT).relu().mean(1))


class Turning(nn.Module):
    """A norm before it is turned and so many after it; of three, none of the latest lies right."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(8), nn.ModuleList(nn.LayerNorm(8) for _ in range(after))

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x).flip(1)
        for norm in self.after:
            x = norm(x)
        return x


class Returns(nets.Plain):
    """Returns something else than class scores."""

    def __init__(self, make: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Tensor) -> Any:
        features = self.features(x)
        return self.make(features, self.head(nets.spatial_mean(features)))


class NoWayBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise ValueError("no way back")


def raising(features: Tensor, logits: Tensor) -> Tensor:
    raise LookupError("no\nsuch")


def half() -> nn.Module:
    return nets.plain().half()


def traced() -> nn.Module:
    with torch.no_grad():
        return torch.jit.trace(nets.plain(), nets.images(1))


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return nets.Plain().eval()


def infinite() -> nn.Module:
    model = changed(conv1__bias=1e308)
    model.conv2.weight.data *= 1e10
    return model


PLANTED = {
    "weights not finite": Planted(
        lambda: changed(conv2__bias=float("nan")), "weights", "problem", "conv2.bias", "'conv2.bias' is not finite",
        besides=("non-finite",),
    ),
    "weights not there": Planted(
        on_meta, "weights", "problem", "conv1.weight", "'conv1.weight' and 5 other weights are on the meta device"
    ),
    "training mode": Planted(
        lambda: nets.fixed(nets.Training()).train(), "training mode", "problem", "bn",
        "'bn' and 1 other module are in training mode and act differently there",
    ),
    "half precision": Planted(
        half, "precision", "worth knowing", "", "The weights are float16", inputs=lambda: nets.images(1).half()
    ),
    "traced": Planted(traced, "scripted", "problem", "", "cannot be recorded"),
    "scripted inside": Planted(
        lambda: changed(relu1=torch.jit.script(nn.ReLU().eval())), "scripted", "worth knowing", "relu1",
        "'relu1' is scripted or traced",
    ),
    "checkpointing": Planted(
        lambda: changed(conv2__grad_checkpointing=True), "checkpointing", "worth knowing", "conv2", "a second time"
    ),
    "no preprocessing": Planted(
        lambda: healthy(nets.plain(), preprocess=None), "preprocessing", "worth knowing", "", "does not say how a photo"
    ),
    "unknown geometry": Planted(
        lambda: healthy(nets.plain(), preprocess=lambda photo: photo), "preprocessing", "worth knowing", "",
        "Where the input lies on a photo is not known",
    ),
    "a preprocessing that takes no photos": Planted(
        lambda: healthy(nets.plain(), preprocess=NoPhotos("this network takes spectra")), "preprocessing",
        "worth knowing", "", "This network takes spectra.",
    ),
    "no labels": Planted(
        lambda: healthy(nets.plain(), labels=None), "labels", "worth knowing", "", "classes go by number"
    ),
    "wrong labels": Planted(
        lambda: healthy(nets.plain(), labels=["a"]), "labels", "problem", "", "1 label for 5 classes"
    ),
    "too many labels": Planted(
        lambda: healthy(nets.plain(), labels=[*LABELS, "f"]), "labels", "problem", "", "6 labels for 5 classes"
    ),
    "raises": Planted(
        nets.plain, "forward", "problem", "conv1", "cannot be run on inputs of shape (1, 2, 8, 8) float64",
        inputs=lambda: nets.images(1)[:, :2],
    ),
    "raises by itself": Planted(
        lambda: nets.fixed(Returns(raising)), "forward", "problem", "",
        "The network raises LookupError on this input: no.",
    ),
    "repeated": Planted(
        lambda: nets.fixed(nets.Shared()), "repeated", "worth knowing", "conv2",
        "'conv2' runs 2 times (and 1 other repeatedly)",
    ),
    "unused": Planted(
        lambda: changed(spare=nn.Linear(2, 2).double().eval()), "unused", "worth knowing", "spare",
        "'spare' is not used",
    ),
    "dead layer": Planted(
        lambda: changed(conv1__weight=0.0, conv1__bias=0.0), "dead layer", "worth knowing", "conv1",
        "'conv1' returns nothing but zeros",
    ),
    "dead chosen layer": Planted(
        lambda: changed(conv2__bias=-1e3), "dead layer", "problem", "relu2", "where the map is made",
        besides=("zero gradient",),
    ),
    "two answers": Planted(
        lambda: nets.fixed(nets.TwoHeads()), "answer", "worth knowing", "",
        "several outputs of shape (1, 5): output.logits is explained, and output.auxiliary not",
    ),
    "no answer": Planted(
        lambda: nets.fixed(Returns(lambda features, logits: "cat")), "answer", "problem", "",
        "Cannot tell which part of the model's output to explain: a str",
    ),
    "no classes": Planted(
        lambda: nets.fixed(Returns(lambda features, logits: features)), "answer", "problem", "",
        "shape (1, 8, 4, 4), from which no class can be read",
    ),
    "an embedding": Planted(
        lambda: nets.fixed(Returns(lambda features, logits: {"embedding": logits})), "answer", "problem", "",
        "The output.embedding is an embedding (it is called 'embedding')",
    ),
    "no batch": Planted(
        lambda: nets.fixed(Returns(lambda features, logits: torch.cat([logits, logits]))), "answer", "problem", "",
        "shape (2, 5) for 1 sample",
    ),
    "probability": Planted(
        lambda: nets.fixed(Returns(lambda features, logits: logits.softmax(1))), "probability", "worth knowing", "",
        "already is a probability",
    ),
    "one unit": Planted(
        lambda: healthy(nets.plain(classes=1), labels=["no", "yes"]), "one unit", "worth knowing", "",
        "class 1 is its own side",
    ),
    "constant answer": Planted(
        lambda: changed(head__weight=0.0, head__bias=2.0), "constant answer", "problem", "",
        "All 5 classes have the same score, 2", besides=("zero gradient",),
    ),
    "non-finite output": Planted(infinite, "non-finite", "problem", "", "first appears in layer 'conv2'"),
    "non-finite input": Planted(
        nets.plain, "non-finite", "problem", "", "first appears in the input",
        inputs=lambda: nets.images(1) * float("nan"),
    ),
    "cut before the layer": Planted(
        lambda: nets.fixed(Detaches("early")), "cut gradient", "worth knowing", "", "behind 'relu1'"
    ),
    "cut behind the layer": Planted(
        lambda: nets.fixed(Detaches("late")), "cut gradient", "problem", "",
        "No map can be made from gradients: the score does not depend on",
    ),
    "frozen by no_grad": Planted(
        lambda: nets.fixed(nets.InnerNoGrad()), "cut gradient", "worth knowing", "conv1", "gradients off"
    ),
    "no way back": Planted(
        lambda: nets.fixed(Returns(lambda features, logits: NoWayBack.apply(logits))), "cut gradient", "problem", "",
        "ValueError: no way back.",
    ),
    "no layer": Planted(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 5)).double().eval(), "layer", "problem", "",
        "no layer can be chosen",
    ),
    "ambiguous axes": Planted(
        lambda: nets.fixed(Square()), "layout", "worth knowing", "relu2",
        "(1, 8, 8, 8), can be read in 2 ways: as channels first, which was taken, or as channels last",
    ),
    "several token readings": Planted(
        lambda: nets.fixed(Washed()), "layout", "worth knowing", "wash",
        "as tokens on a grid of 4x4 after 1, which was taken, or as tokens on a grid of 3x3 after 8",
        besides=("location",),
    ),
    "location undetermined": Planted(
        lambda: nets.fixed(Washed()), "location", "worth knowing", "wash", "cannot be told where in the input",
        besides=("layout",),
    ),
    "location refuted": Planted(
        lambda: nets.fixed(UpsideDown()), "location", "problem", "", "do not lie as in the input"
    ),
    "dead units behind the layer": Planted(
        lambda: changed(conv2__bias=-1e3), "zero gradient", "problem", "conv2", "does not change with any location",
        besides=("dead layer",),
    ),
}  # fmt: skip


#: Networks that cannot be compared with themselves: NaN is unlike itself, and what is not there like nothing.
INCOMPARABLE = ("weights not finite", "weights not there", "traced")


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_found_and_nothing_else_and_the_network_is_left_as_found(name, monkeypatch):
    few = {each: methods()[each] for each in ("eigen_cam", "grad_cam", "guided_backprop", "hires_cam")}
    monkeypatch.setattr("whycam.checkup.doctor.methods", lambda: few)  # one of each kind; the others add time alone
    planted = PLANTED[name]
    model, inputs = planted.build(), planted.inputs()
    model = model if isinstance(model, VisionModel) else healthy(model)
    kept = inputs.clone()
    before = nets.state(model.module) if name not in INCOMPARABLE else {}
    made = doctor(model, inputs)
    found = only(made, planted.kind)
    assert found.severity == planted.severity
    assert found.module == planted.module
    assert planted.says in found.text
    assert found.advice.endswith(".")
    assert found.text.endswith(".")
    assert set(kinds(made)) == {planted.kind, *planted.besides}
    assert made.ok == ("problem" not in kinds(made).values())
    assert nets.differences(before, nets.state(model.module) if before else {}) == []
    torch.testing.assert_close(inputs, kept, equal_nan=True, rtol=0, atol=0)


def test_there_is_a_planted_network_for_every_check():
    assert {each.kind for each in PLANTED.values()} == CHECKS.keys()


def test_what_only_hands_on_may_run_twice():
    class Twice(nets.Plain):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout()

        def features(self, x: Tensor) -> Tensor:
            return self.drop(self.drop(super().features(x)))

    assert kinds(doctor(healthy(nets.fixed(Twice())), nets.images(1))) == {}


def test_a_branch_without_a_gradient_beside_one_that_has_it_cuts_nothing():
    class Stops(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach()

    class Beside(nets.Plain):
        def __init__(self) -> None:
            super().__init__()
            self.stops = Stops()

        def features(self, x: Tensor) -> Tensor:
            x = super().features(x)
            return x + self.stops(x)

    assert "cut gradient" not in kinds(doctor(healthy(nets.fixed(Beside())), nets.images(1)))


def test_problems_come_first():
    made = doctor(VisionModel(nets.fixed(nets.Training()).train()), nets.images(1))
    assert [each.severity for each in made.findings[:3]] == ["problem", "worth knowing", "worth knowing"]
    assert made.verdict == "1 problem, 2 things worth knowing"
    assert [each.kind for each in made.problems] == ["training mode"]


def test_a_named_layers_own_convolution_leaves_no_doubt_about_its_axes():
    # the convolution chosen for Grad-CAM has the same square output as the activation behind it
    assert only(doctor(healthy(nets.fixed(Square())), nets.images(1)), "layout").module == "relu2"


# --- what it costs


def method(made: Checkup, name: str) -> Any:
    (found,) = [each for each in made.methods if each.name == name]
    return found


def test_costs_against_counts_by_hand():
    made = doctor(healthy(nets.plain()), nets.images(1))
    assert made.flops == PLAIN
    weighing = 2 * 8 * 16  # eight channels at sixteen locations
    for name, layer, forwards, backwards, flops in (
        ("fem", "relu2", 1, 0, PLAIN),
        ("random_cam", "relu2", 1, 0, PLAIN + weighing),
        ("hires_cam", "relu2", 1, 1, PLAIN + HEAD),
        ("grad_cam", "conv2", 1, 1, PLAIN + HEAD + weighing),
        ("guided_backprop", "", 1, 1, 2 * PLAIN),
        ("guided_grad_cam", "conv2", 2, 2, PLAIN + HEAD + weighing + 2 * PLAIN),
    ):
        found = method(made, name)
        assert (found.layer, found.forwards, found.backwards) == (layer, forwards, backwards), name
        assert found.flops == pytest.approx(flops / PLAIN, rel=1e-12), name


def test_every_method_is_tried_once_and_has_a_status(every_method):
    made = doctor(healthy(nets.plain()), nets.images(1))
    assert [each.name for each in made.methods] == [each.name for each in whycam.list_methods()]
    running = [each.name for each in whycam.list_methods() if each.needs & FUNCTIONS]
    assert {"ablation_cam", "cameras", "opti_cam", "rise"} < set(running)
    assert {each.name: each.status for each in made.methods if each.status != "ok"} == {
        "guided_backprop": "pixel detail", "guided_grad_cam": "pixel detail", **dict.fromkeys(running, "not run"),
        **dict.fromkeys(OF_TOKENS, "not possible"),
    }  # fmt: skip


def test_what_runs_the_network_many_times_is_estimated_and_not_run(every_method):
    model = nets.fixed(Counting())
    made = doctor(model, nets.images(1))
    for name, layer, forwards, backwards, parts, flops in (
        # two runs to see that the part can be run by itself, and two of variants that ran among others
        ("ablation_cam", "relu2", 1, 0, 8 + 2 + 2, PLAIN + 12 * HEAD),
        ("opti_cam", "relu2", 1 + 50, 50, 0, 101 * PLAIN),
        # one of two rows to see that they can be run together, and two as above
        ("rise", "", 1 + 4000 + 1 + 2, 0, 0, 4004 * PLAIN),
    ):
        found = method(made, name)
        assert (found.status, found.layer) == ("not run", layer)
        assert "runs the network many times" in found.message
        assert (found.forwards, found.backwards, found.parts) == (forwards, backwards, parts), name
        assert found.flops == pytest.approx(flops / PLAIN, rel=0.01), name
    assert made.cost.forwards == model.counter[0] < 150
    assert made.cost.backwards < 60
    assert sum(each.forwards or 0 for each in made.methods) > 4000


def test_an_estimate_reads_what_the_doctor_reads(every_method, monkeypatch):
    some = {name: methods()[name] for name in ("ablation_cam", "grad_cam", "hires_cam", "opti_cam")}
    monkeypatch.setattr("whycam.checkup.doctor.methods", lambda: some)
    model = nets.fixed(Returns(lambda features, logits: {"logits": logits, "frozen": (logits * 2).detach()}))
    made = doctor(model, nets.images(1))
    assert [method(made, name).status for name in ("ablation_cam", "opti_cam")] == ["not run", "not run"]
    made = doctor(model, nets.images(1), output="frozen")
    assert method(made, "ablation_cam").status == "not run"
    refused = method(made, "opti_cam")
    assert (refused.status, refused.forwards, refused.parts) == ("not possible", None, None)
    # an answer without classes: the largest entry is explained
    made = doctor(nets.fixed(Returns(lambda features, logits: features)), nets.images(1))
    assert method(made, "ablation_cam").status == "not run"


def test_what_is_not_possible_says_why():
    made = doctor(healthy(nets.fixed(nets.Tokens())), nets.images(1))
    refused = method(made, "cam")
    assert refused.status == "not possible"
    assert "CAM needs a network that ends in global average pooling" in refused.message
    assert (refused.forwards, refused.backwards, refused.flops) == (None, None, None)
    made = doctor(healthy(nets.fixed(Detaches("late"))), nets.images(1))
    assert method(made, "grad_cam").status == method(made, "guided_backprop").status == "not possible"
    assert "the gradient ends at" in method(made, "guided_grad_cam").message
    assert method(made, "eigen_cam").status == "ok"
    assert made.layer.name == "relu2"


def test_a_frozen_part_costs_a_second_forward():
    made = doctor(healthy(nets.fixed(nets.InnerNoGrad())), nets.images(1))
    assert method(made, "grad_cam").forwards == 2
    assert method(made, "eigen_cam").forwards == 1


class Counting(nets.Plain):
    """Counts its own forwards."""

    def __init__(self) -> None:
        super().__init__()
        self.counter = [0]

    def forward(self, x: Tensor) -> Any:
        self.counter[0] += 1
        return super().forward(x)


@pytest.mark.parametrize("samples", [1, 3])
def test_the_doctors_own_forwards_are_counted(samples):
    model = nets.fixed(Counting())
    made = doctor(model, nets.images(samples))
    assert (
        made.cost.forwards == model.counter[0] == 5 + FORWARDS + 3
    )  # guided Grad-CAM and both FullGrads take a second
    assert made.cost.backwards == 1 + BACKWARDS + 5  # a second of those three, and two more of ShapleyCAM
    assert made.prepares == 2  # the features, and where attention runs
    assert doctor(model, nets.images(samples)).prepares == 0  # what was found is kept


def test_forwards_that_end_in_an_error_are_counted():
    assert doctor(nets.plain(), nets.images(1)[:, :2]).cost.forwards == 1
    assert doctor(nets.plain(), nets.images(1) * float("nan")).cost.forwards == 2


# --- inputs and outputs


def test_the_answer():
    made = doctor(healthy(nets.plain()), nets.images(2))
    said = nets.plain()(nets.images(2))[0].detach().softmax(0)
    assert (made.output.part, made.output.shape, made.output.classes) == ("", (1, 5), 5)
    assert made.output.prediction.label == LABELS[int(said.argmax())]
    assert made.output.prediction.probability == pytest.approx(float(said.max()), rel=1e-5)
    wrapped = nets.fixed(nets.Wrapped(lambda features, logits: nets.ModelOutput(hidden=features, logits=logits)))
    made = doctor(healthy(wrapped), nets.images(1))
    assert kinds(made) == {}
    assert made.output.part == ".logits"


def test_several_inputs():
    made = doctor(nets.fixed(nets.TwoInputs()), (torch.ones(2, 2, dtype=torch.float64), nets.images(2)), labels=LABELS)
    assert kinds(made) == {"preprocessing": "worth knowing"}
    assert made.layer.name == "conv2"


def test_the_part_that_is_asked_about():
    model = nets.fixed(Returns(lambda features, logits: {"logits": logits, "frozen": (logits * 2).detach()}))
    assert only(doctor(model, nets.images(1)), "answer").module == ""
    assert not doctor(model, nets.images(1)).problems
    made = doctor(model, nets.images(1), output="frozen")
    assert made.output.part == ".frozen"
    assert "output.frozen is explained, and output.logits not" in only(made, "answer").text
    assert [each.kind for each in made.problems] == ["cut gradient"]
    assert "which calls detach" in made.problems[0].text


def test_a_part_that_a_function_makes_is_no_choice_among_several():
    made = doctor(healthy(nets.plain()), nets.images(1), output=lambda raw: raw * 2)
    assert kinds(made) == {}
    assert made.output.part == " through <lambda>"


def test_a_mistake_of_this_packages_own_is_no_finding(monkeypatch):
    space = {"__name__": "whycam.engine.maps"}
    exec("def notes(self): raise LookupError('a bug')", space)
    monkeypatch.setattr("whycam.engine.maps.MapBuilder._notes", space["notes"])
    with pytest.raises(LookupError, match="a bug"):
        doctor(nets.plain(), nets.images(1))


class TwoPictures(nets.Plain):
    """One picture beside the other, through the same layers in turn or at once."""

    def __init__(self, *, folded: bool) -> None:
        super().__init__(inplace=True)
        self.folded = folded

    def forward(self, *pictures: Tensor) -> Any:
        if self.folded:
            (both,) = pictures
            return self.head(nets.spatial_mean(self.features(both.flatten(0, 1))).unflatten(0, both.shape[:2]).sum(1))
        return self.head(sum(nets.spatial_mean(self.features(each)) for each in pictures))


@pytest.mark.parametrize("folded", [False, True])
def test_networks_that_look_at_two_pictures(folded):
    pictures = nets.images(1, seed=1), nets.images(1, seed=2)
    made = doctor(nets.fixed(TwoPictures(folded=folded)), torch.stack(pictures, 1) if folded else pictures)
    assert made.layer.name == "conv2#1"
    assert len([each for each in made.findings if each.kind == "location"]) == 1
    assert method(made, "grad_cam").forwards == 1
    assert made.prepares > 2  # which picture is whose takes some as well


def test_noise_of_the_models_own_size():
    model = healthy(nets.plain())
    made = doctor(model)
    assert made.inputs == (1, 3, 8, 8)
    noise = trial_input(model)
    assert noise.dtype == torch.float64
    assert float(noise.std()) == pytest.approx(1, abs=0.2)
    assert torch.equal(noise, trial_input(model))
    assert trial_input(model, (1, 9, 7)).shape == (1, 1, 9, 7)


def test_a_model_without_a_size_needs_an_input():
    with pytest.raises(WhycamError, match="does not say what size its input has; pass --size"):
        doctor(nets.plain())


def test_inputs_that_no_model_takes_are_an_error_and_no_finding():
    with pytest.raises(WhycamError, match="For a single image"):
        doctor(nets.plain(), nets.images(1)[0])


def test_ctrl_c_in_the_network_is_not_a_finding():
    model = nets.fixed(nets.Raising())
    model.error = KeyboardInterrupt()
    before = nets.state(model)
    with pytest.raises(KeyboardInterrupt):
        doctor(model, nets.images(1))
    assert nets.differences(before, nets.state(model)) == []


def test_in_words():
    text = str(doctor(nets.plain(inplace=True), nets.images(1)))
    assert text.splitlines()[0] == "Plain: no problem, 2 things worth knowing"
    assert "worth knowing: labels: No labels are known, so classes go by number. Pass labels=" in text
    assert "\nfine: weights, training mode, " in text
    assert "\ngrad_cam: ok at conv2, 1 forward, 1 backward, 1.0 times the operations of a prediction\n" in text
    assert f"\nthis took {FORWARDS + 9} forwards, {BACKWARDS + 6} backwards, " in text
    refused = str(doctor(nets.fixed(Detaches("late")), nets.images(1)))
    (line,) = [line for line in refused.splitlines() if "hires_cam" in line]
    assert "guided_grad_cam, hires_cam, layer_cam, " in line
    assert ": not possible: the score" in line
