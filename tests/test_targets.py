"""What is explained, by hand."""

import math

import jaxtyping
import nets
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import whycam
from whycam.errors import WhycamError
from whycam.targets import (
    ClassReading,
    ClassScore,
    Contrast,
    Counterfactual,
    LogProbability,
    MultiLabel,
    Probability,
    ReST,
    Target,
    is_one_unit,
    key,
    resolve,
)  # fmt: skip

Y = torch.tensor([[2.0, -1.0, 0.5, 1.5], [0.0, 3.0, 2.5, -2.0]], dtype=torch.float64)
P = (Y.exp() / Y.exp().sum(1, keepdim=True)).double()


def _finer(of, others, strength):
    """The authors' sum: of each rival its probability times the difference, over the rivals' probabilities."""
    shares = [[float(row[i]) for i in others] for row in P]
    gaps = [[float(row[of]) - strength * float(row[i]) for i in others] for row in Y]
    return [
        sum(p * gap for p, gap in zip(*pair, strict=True)) / sum(pair[0]) for pair in zip(shares, gaps, strict=True)
    ]


LABELS = ["tabby cat", "Dog", "tiger cat", "crane"]
BY_HAND = [
    (None, [2.0, 3.0]),
    (2, [0.5, 2.5]),
    ([3, 0], [1.5, 0.0]),
    ((None, 2), [2.0, 2.5]),
    ("dog", [-1.0, 3.0]),
    (["  Tiger CAT ", 0], [0.5, 0.0]),
    (ClassScore(2), [0.5, 2.5]),
    (ClassScore([3, 0]), [1.5, 0.0]),
    (Counterfactual(2), [-0.5, -2.5]),
    (Probability(1), P[:, 1].tolist()),
    (LogProbability(1), P[:, 1].log().tolist()),
    (ReST(1), (Y[:, 1] + P[:, 1].log()).tolist()),
    (Contrast(0, against=3), [0.5, 2.0]),
    (Contrast(0, against=[1, "crane"], strength=0.5), [2.0 - 0.25 * (-1.0 + 1.5), 0.0 - 0.25 * (3.0 - 2.0)]),
    (Contrast(rivals=1), [2.0 - 0.6 * 1.5, 3.0 - 0.6 * 2.5]),
    (Contrast(rivals=2), [2.0 - 0.3 * (1.5 + 0.5), 3.0 - 0.3 * (2.5 + 0.0)]),
    (Contrast([2, 0], rivals=1, strength=1.0), [0.5 - 1.5, 0.0 - -2.0]),
    (Contrast(0, against=[1, 2], weights="probability"), _finer(0, [1, 2], 1.0)),
    (Contrast(0, against=[1, 2], weights="probability", strength=0.3), _finer(0, [1, 2], 0.3)),
    (MultiLabel((0, "crane")), [3.5, -2.0]),
    (MultiLabel(), [2.0 + 0.5 + 1.5, 3.0 + 2.5]),
    (MultiLabel(threshold=0.99), [2.0, 3.0]),
    (lambda output: output[:, 0] * 2, [4.0, 0.0]),
    ([ClassScore(1), Probability(2)], [-1.0, float(P[1, 2])]),
    ([lambda output: output.sum(1), 3], [3.0, -2.0]),
]


@pytest.mark.parametrize(("spec", "scores"), BY_HAND)
def test_scores_are_what_they_say(spec, scores):
    bound = resolve(spec, Y, LABELS)
    torch.testing.assert_close(bound(Y), torch.tensor(scores, dtype=torch.float64))
    assert len(bound.texts) == 2
    assert all(bound.texts)


@pytest.mark.parametrize(
    ("spec", "texts"),
    [
        (None, ("tabby cat", "Dog")),
        (Probability("crane"), ("probability of crane",) * 2),
        (LogProbability(3), ("log-probability of crane",) * 2),
        (ReST(3), ("logit + log-probability of crane",) * 2),
        (Counterfactual(), ("against tabby cat", "against Dog")),
        (Contrast(0, against=("Dog", 3)), ("tabby cat rather than Dog, crane",) * 2),
        (Contrast(0, rivals=2), ("tabby cat rather than its 2 nearest rivals",) * 2),
        (Contrast(0, against=3, weights="probability"), ("tabby cat rather than crane by probability",) * 2),
        (MultiLabel((0, 1)), ("tabby cat + Dog",) * 2),
        (MultiLabel(threshold=0.99), ("tabby cat (top class; none above 0.99)", "Dog (top class; none above 0.99)")),
        ([0, Probability(3)], ("tabby cat", "probability of crane")),
    ],
    ids=str,
)
def test_targets_say_in_words_what_they_explain(spec, texts):
    assert resolve(spec, Y, LABELS).texts == texts


def test_without_labels_classes_are_numbered():
    assert resolve(3, Y).texts == ("class 3", "class 3")


@pytest.mark.parametrize(
    "spec",
    [
        np.int64(2),
        np.array([2, 2]),
        torch.tensor(2),
        torch.tensor([2, 2]),
        np.array(2),
        [np.int64(2), torch.tensor(2)],
        (2, 2),
        range(2, 3),
    ],
    ids=repr,
)
def test_an_index_may_come_from_anywhere(spec):
    if isinstance(spec, range):
        spec = [*spec, *spec]
    bound = resolve(spec, Y)
    assert bound(Y).tolist() == [0.5, 2.5]
    assert bound.class_index.tolist() == [2, 2]
    assert key(spec) in (2, (2, 2))


@pytest.mark.parametrize("of", [[1, 2], (1, 2), range(1, 3)], ids=repr)
def test_every_ready_target_takes_a_class_for_each_sample(of):
    assert resolve(ClassScore(of), Y)(Y).tolist() == [-1.0, 2.5]
    assert hash(key(ClassScore(of))) == hash(ClassScore((1, 2)))
    assert ClassScore(of) == ClassScore((1, 2))


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (4, "class 4 is out of range; this model has 4 classes, 0 to 3"),
        (-1, "class -1 is out of range"),
        (Probability(9), "class 9 is out of range"),
        ([0, 7], "class 7 is out of range"),
        ([0, 1, 2], "3 targets came for 2 samples"),
        ([0], "1 targets came for 2 samples"),
        (ClassScore((0, 1, 2)), "3 targets came for 2 samples"),
        ([Probability(0)] * 3, "3 targets came for 2 samples"),
        (torch.tensor([1, 2, 3]), "3 targets came for 2 samples"),
        (True, "not True"),
        ([True, False], "not True"),
        (torch.tensor(True), "not True"),
        (np.bool_(True), "not True"),
        (1.5, "not float"),
        ([0.0, 1.0], "not float"),
        ("dgo", "no class is called 'dgo'.*Did you mean 'Dog'"),
        ("cat", "no class is called 'cat'.*Did you mean 'tabby cat' or 'tiger cat'"),
        (Contrast(0, against=0), "class 0 cannot be contrasted with itself"),
        (Contrast(against=1), "class 1 cannot be contrasted with itself"),
        (Contrast(0, rivals=4), "rivals must lie between 1 and 3"),
        (MultiLabel(()), "at least one class"),
        (MultiLabel((0, 9)), "class 9 is out of range"),
        (object(), "a target is a class index"),
    ],
)
def test_wrong_targets_get_a_sentence(spec, sentence):
    with pytest.raises(WhycamError, match=sentence):
        resolve(spec, Y, LABELS)


@pytest.mark.parametrize("make", [ClassScore, Probability, Counterfactual])
def test_true_is_no_class_for_a_ready_target_either(make):
    with pytest.raises(WhycamError, match="not True"):
        make(True)


@pytest.fixture
def unchecked():
    """The types of arguments are checked in the tests alone; here it is the package that has to."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


OF_CONTRAST = [
    ({"strength": "0.6"}, "strength is a finite number, 0 or more, not '0.6'"),
    ({"strength": math.nan}, "strength is a finite number, 0 or more, not nan"),
    ({"strength": math.inf}, "strength is a finite number, 0 or more, not inf"),
    ({"strength": -0.1}, "strength is a finite number, 0 or more, not -0.1"),
    ({"strength": True}, "strength is a finite number, 0 or more, not True"),
    ({"rivals": 1.5}, "rivals is a number of classes, 1 or more, not 1.5"),
    ({"rivals": True}, "rivals is a number of classes, 1 or more, not True"),
    ({"rivals": 0}, "rivals is a number of classes, 1 or more, not 0"),
    ({"weights": "softmax"}, "weights is 'equal' or 'probability', not 'softmax'"),
    ({"against": []}, "against is empty"),
    ({"against": [2, 2]}, "against names other classes, each once"),
    ({"against": [None]}, "against names other classes, each once"),
    ({"against": 2.0}, r"a class is an index or a label text, not 2\.0"),
    ({"against": [[1, 2], [0, 3]]}, r"a class is an index or a label text, not \[1, 2\]"),
    ({"against": [True]}, "a class is an index or a label text, not True"),
]


@pytest.mark.parametrize(("options", "sentence"), OF_CONTRAST, ids=str)
@pytest.mark.usefixtures("unchecked")
def test_each_option_of_a_contrast_is_checked_with_one_sentence(options, sentence):
    with pytest.raises(WhycamError, match=sentence):
        Contrast(0, **options)


@pytest.mark.parametrize("options", [{"strength": 0}, {"strength": 0.6}, {"rivals": 1}, {"against": [1]}], ids=str)
def test_options_at_the_edge_of_what_is_allowed_are_taken(options):
    assert resolve(Contrast(0, **options), Y)(Y).isfinite().all()


@pytest.mark.parametrize("threshold", ["0.5", -0.1, 1.1, True, math.nan])
@pytest.mark.usefixtures("unchecked")
def test_the_threshold_of_several_labels_is_a_probability(threshold):
    with pytest.raises(WhycamError, match="threshold is a probability between 0 and 1"):
        MultiLabel(threshold=threshold)
    assert [MultiLabel(threshold=edge).threshold for edge in (0, 1)] == [0, 1]


class Margin(Target):
    """A new target, by somebody else: how far a class is above the mean."""

    def over(self, classes, logits, index):
        return lambda output: classes.logits(output).gather(1, index[:, None])[:, 0] - classes.logits(output).mean(1)

    def describe(self, name):
        return f"margin of {name}"


class MarginOfOne(Margin):
    side = "for"


PROBABILITIES = [
    (1, P[:, 1]),
    (ReST(1), P[:, 1]),
    (LogProbability(1), P[:, 1]),
    (Counterfactual(1), 1 - P[:, 1]),
    (MarginOfOne(1), P[:, 1]),
    ([2, Counterfactual(1)], torch.stack([P[0, 2], 1 - P[1, 1]])),
]


@pytest.mark.parametrize(("spec", "expected"), PROBABILITIES, ids=str)
def test_a_target_says_itself_which_probability_is_its_own(spec, expected):
    torch.testing.assert_close(resolve(spec, Y).as_probability()(Y), expected)
    torch.testing.assert_close(resolve(spec, P).as_probability()(P), expected)  # which are probabilities already


@pytest.mark.parametrize(
    "spec", [Margin(1), Contrast(1), MultiLabel((0, 1)), lambda output: output[:, 1], [1, Margin(1)]]
)
def test_the_probability_of_what_is_no_one_class_is_refused(spec):
    with pytest.raises(WhycamError, match="is no single class; pass probability=False"):
        resolve(spec, Y).as_probability()


ONE = torch.tensor([0.2, 0.9], dtype=torch.float64)


@pytest.mark.parametrize("shape", [(2,), (2, 1), (2, 1, 1), (2, 1, 1, 1)])
def test_one_unit_has_two_sides_and_a_probability_knows_its_own(shape):
    output = ONE.reshape(shape)
    known, score = resolve(None, output, probability=True), resolve(None, output)
    assert known.class_index.tolist() == [0, 1]
    assert score.class_index.tolist() == [1, 1]
    torch.testing.assert_close(known(output), torch.tensor([0.8, 0.9], dtype=torch.float64))
    torch.testing.assert_close(known.as_probability()(output), torch.tensor([0.8, 0.9], dtype=torch.float64))
    torch.testing.assert_close(score(output), ONE)
    torch.testing.assert_close(score.as_probability()(output), ONE.sigmoid())
    assert known.is_probability
    assert not score.is_probability


@pytest.mark.parametrize("axes", [(1,), (1, 1), (1, 1, 1)])
def test_classes_are_read_past_axes_of_one_location(axes):
    assert torch.equal(resolve(3, Y.reshape(*Y.shape, *axes))(Y.reshape(*Y.shape, *axes)), Y[:, 3])


def test_the_advice_for_maps_of_classes_names_a_class_that_there_is():
    for classes, named in ((1, 0), (3, 2), (9, 7)):
        with pytest.raises(WhycamError, match=rf"output\[:, {named}\]"):
            resolve(None, torch.zeros(2, classes, 4, 4))


def test_text_without_labels_and_an_ambiguous_label_get_a_sentence():
    with pytest.raises(WhycamError, match="comes without labels"):
        resolve("dog", Y)
    with pytest.raises(WhycamError, match="2 classes are called 'crane': 1, 3"):
        resolve("crane", Y, ["cat", "crane", "dog", "crane"])
    with pytest.raises(WhycamError, match="2 classes are called 'CRANE': 1, 3"):
        resolve("CRANE", Y, ["cat", "crane", "dog", "Crane"])
    assert resolve("Crane", Y, ["cat", "crane", "dog", "Crane"]).class_index.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("score", "came"),
    [
        (lambda output: output.sum(), r"shape \(\)"),
        (lambda output: output, r"shape \(2, 4\)"),
        (lambda output: output[:1, 0], r"shape \(1,\)"),
        (lambda output: 3.0, "a float"),
        (lambda output: None, "a NoneType"),
    ],
)
def test_a_function_must_return_one_score_per_sample(score, came):
    with pytest.raises(WhycamError, match=f"the target returned {came}"):
        resolve(score, Y)(Y)


def test_settled_targets_ask_about_the_same_classes_of_another_output():
    other = Y.flip(1)
    assert resolve(None, Y)(other).tolist() == [1.5, 2.5]
    rivals = resolve(Contrast(rivals=1, strength=1.0), Y)
    assert rivals(other).tolist() == [1.5 - 2.0, 2.5 - 3.0]


def test_no_gradient_flows_through_the_choice_of_rivals():
    y = Y.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(resolve(Contrast(0, rivals=1, strength=0.6), y)(y).sum(), y)
    assert gradient.tolist() == [[1.0, 0.0, 0.0, -0.6], [1.0, 0.0, 0.0, -0.6]]


def test_the_weights_of_rivals_by_probability_have_gradients():
    score = resolve(Contrast(0, rivals=2, weights="probability"), Y)  # strength 1, as today's code has it
    for row, others in ((0, (3, 2)), (1, (3, 2))):
        y = Y[row].clone().requires_grad_()
        p = y.softmax(0)
        by_hand = sum(p[i] * (y[0] - y[i]) for i in others) / sum(p[i] for i in others)
        full = Y.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(score(full)[row], full)
        torch.testing.assert_close(score(Y)[row], by_hand.detach())
        torch.testing.assert_close(gradient[row], torch.autograd.grad(by_hand, y)[0])


def test_rivals_by_probability_where_the_output_is_one():
    score = resolve(Contrast(0, against=[1, 2], weights="probability"), P)
    shares = P[:, 1:3] / P[:, 1:3].sum(1, keepdim=True)
    torch.testing.assert_close(score(P), P[:, 0] - (shares * P[:, 1:3]).sum(1))


@pytest.mark.parametrize("shape", [(2, 1), (2,)])
def test_one_unit_is_two_sides(shape):
    y = torch.tensor([1.5, -0.5], dtype=torch.float64).reshape(shape)
    assert is_one_unit(y)
    assert ClassReading().logits(y).tolist() == [[-1.5, 1.5], [0.5, -0.5]]
    assert resolve(None, y).texts == ("class 1", "class 0")
    assert resolve(None, y)(y).tolist() == [1.5, 0.5]
    assert resolve(1, y)(y).tolist() == [1.5, -0.5]
    sides = y.flatten() * torch.tensor([1.0, -1.0])
    torch.testing.assert_close(resolve(Probability(), y)(y), sides.sigmoid())
    torch.testing.assert_close(resolve(LogProbability(), y)(y), F.logsigmoid(sides))
    with pytest.raises(WhycamError, match="2 classes"):
        resolve(2, y)


def test_an_output_without_classes_gets_a_sentence():
    with pytest.raises(WhycamError, match=r"the output has shape \(2, 4, 8, 8\).*pass a target"):
        resolve(1, torch.zeros(2, 4, 8, 8))


@pytest.mark.parametrize("classes", [1, 2])
def test_one_unit_heads_are_explained_for_the_predicted_side_which_is_named(classes):
    model, inputs = nets.plain(classes=classes), nets.images()
    found = whycam.explain(model, inputs, labels=["no", "yes"], layer="relu2")
    logits = model(inputs).detach()
    sides = (logits[:, 0] > 0).long() if classes == 1 else logits.argmax(1)
    assert found.target == tuple(("no", "yes")[int(side)] for side in sides)
    assert [each.index for each in found.predictions] == sides.tolist()
    expected = logits.softmax(1).amax(1) if classes == 2 else logits[:, 0].abs().sigmoid()
    assert [each.probability for each in found.predictions] == pytest.approx(expected.tolist())
    assert any("one unit" in note for note in found.notes) == (classes == 1)
    if classes == 1:
        torch.testing.assert_close(found.scores, logits[:, 0].abs())
