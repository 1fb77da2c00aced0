"""Which part of a model's output is its answer."""

import collections

import nets
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import whycam
from whycam.errors import WhycamError
from whycam.network.outputs import answer, embedding, number_of_classes, read

LOGITS, OTHER, MAPS = torch.zeros(2, 5), torch.ones(2, 5), torch.ones(2, 4, 3, 3)
Named = collections.namedtuple("Named", "features logits")


@pytest.mark.parametrize(
    ("output", "name"),
    [
        (LOGITS, ""),
        ((LOGITS, OTHER), "[0]"),
        ([MAPS, LOGITS], "[1]"),
        ({"auxiliary": OTHER, "logits": LOGITS}, ".logits"),
        ({"out": LOGITS, "aux": OTHER}, ".out"),
        ({"features": MAPS, "labels": LOGITS}, ".labels"),
        (nets.Answer(torch.tensor(0.5), LOGITS, (OTHER,)), ".logits"),
        (nets.ModelOutput(hidden=(MAPS,), logits=LOGITS), ".logits"),
        (Named(OTHER, LOGITS), ".logits"),
        ({"only": LOGITS[:, 0]}, ".only"),
        ((torch.tensor(3), (LOGITS,)), "[1][0]"),
        ({"loss": torch.tensor(0.5), "result": {"logits": LOGITS, "hidden": OTHER}}, ".result.logits"),
        ((nets.ModelOutput(logits=LOGITS), OTHER), "[0].logits"),
        ({"aux": {"logits": OTHER}, "main": {"logits": LOGITS}}, ".main.logits"),
        ({"deep": {"logits": OTHER}, "out": LOGITS}, ".out"),
        ({"logits": [LOGITS, OTHER]}, ".logits[0]"),
        ({"pooler_output": OTHER, "classes": LOGITS}, ".classes"),
        ({"aux_classes": OTHER, "classes": LOGITS}, ".classes"),
    ],
    ids=str,
)
def test_the_answer_is_found_by_its_usual_name_or_its_shape(output, name):
    assert answer(output)[0] == name
    assert torch.equal(answer(output)[1], LOGITS if name != ".only" else LOGITS[:, 0])


@pytest.mark.parametrize(
    ("output", "held"),
    [
        ({"a": MAPS, "b": MAPS}, r"mapping \(dict\) with \.a \(2, 4, 3, 3\), \.b"),
        ((torch.tensor([1, 2]), "x"), "tuple with no floating-point tensor"),
        (None, "NoneType with no floating-point tensor"),
    ],
)
def test_what_cannot_be_told_is_listed(output, held):
    with pytest.raises(WhycamError, match=held):
        answer(output)


@pytest.mark.parametrize(
    ("output", "samples", "classes", "name"),
    [
        ((torch.ones(7, 3), LOGITS), 2, None, "[1]"),  # prototypes beside the scores
        ((torch.ones(7, 3), LOGITS), None, None, "[0]"),
        ((torch.ones(2, 8), LOGITS), 2, 5, "[1]"),  # features beside the scores
        ((torch.ones(2, 8), LOGITS), 2, 9, "[0]"),
        ((torch.ones(5, 2), torch.ones(2, 8)), 2, 2, "[1]"),  # the number of samples counts for more
    ],
)
def test_what_is_known_of_samples_and_classes_tells_matrices_apart(output, samples, classes, name):
    assert answer(output, samples, classes)[0] == name


NESTED = {"out": LOGITS, "aux": [nets.Answer(None, OTHER), OTHER + 1]}


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        (None, ".out", LOGITS),
        ("aux[0].logits", ".aux[0].logits", OTHER),
        (".aux[0].logits", ".aux[0].logits", OTHER),
        ("aux.0.logits", ".aux[0].logits", OTHER),
        ("aux[1]", ".aux[1]", OTHER + 1),
        (lambda output: output["aux"][1] * 2, " through <lambda>", 2 * (OTHER + 1)),
    ],
)
def test_a_part_can_be_asked_for(part, name, value):
    found = read(NESTED, part)
    assert found[0] == name
    assert torch.equal(found[1], value)


def test_a_part_of_a_tuple_is_asked_for_by_position():
    assert read((OTHER, LOGITS), 1)[0] == read((OTHER, LOGITS), "[1]")[0] == "[1]"
    assert read(LOGITS, lambda output: output + 1)[1][0, 0] == 1


@pytest.mark.parametrize(
    ("output", "part", "sentence"),
    [
        (NESTED, "aux", r"no part 'aux'; there is \.out \(2, 5\), \.aux\[0\]\.logits"),
        (LOGITS, "logits", "no part 'logits'; there is nothing but itself"),
        ((OTHER, LOGITS), 2, r"no part 2; there is \[0\]"),
        (NESTED, lambda output: output["out"].argmax(1), "int64 tensor of shape"),
        (NESTED, lambda output: output, "it returned <class 'dict'>"),
    ],
)
def test_a_part_that_is_not_there_gets_a_sentence(output, part, sentence):
    with pytest.raises(WhycamError, match=sentence):
        read(output, part)


def test_what_cannot_be_told_says_how_to_say_it():
    with pytest.raises(WhycamError, match=r"Say which with output=, a path such as 'aux\.logits'"):
        answer({"a": MAPS, "b": MAPS})


class Heads(nets.Plain):
    """Two heads in a tuple, the features first."""

    def __init__(self):
        super().__init__()
        self.other = nn.Linear(8, nets.CLASSES)

    def forward(self, x):
        pooled = nets.spatial_mean(self.features(x))
        return pooled, {"main": self.head(pooled), "side": self.other(pooled)}


def by_hand(model, head, index=None):
    """Grad-CAM at relu2 for one head's class (its top one), by plain autograd."""
    activations = model.features(nets.images())
    logits = head(nets.spatial_mean(activations))
    score = logits.amax(1) if index is None else logits[:, index]
    (gradients,) = torch.autograd.grad(score.sum(), activations)
    return (activations * gradients.mean((2, 3), keepdim=True)).sum(1).relu().detach().float()


def test_the_named_head_is_explained_and_the_result_names_it():
    model, inputs = nets.fixed(Heads()), nets.images()
    for part, head in {"[1].main": model.head, "1.side": model.other}.items():
        found = whycam.explain(model, inputs, layer="relu2", output=part)
        torch.testing.assert_close(found.maps, by_hand(model, head))
        assert any(note.startswith("explains the model's output[1].") for note in found.notes)
    made = whycam.compare(model, inputs, ["grad_cam"], ["relu2"], [3], output=lambda output: output[1]["side"])
    torch.testing.assert_close(made["grad_cam"].maps, by_hand(model, model.other, 3))
    assert "explains the model's output through <lambda>" in made["grad_cam"].notes


def test_a_function_as_target_gets_the_part_that_is_explained():
    model, inputs = nets.fixed(Heads()), nets.images()
    found = whycam.explain(model, inputs, layer="relu2", output="[1].side", target=lambda scores: scores[:, 3])
    torch.testing.assert_close(found.maps, by_hand(model, model.other, 3))


def test_the_layer_is_chosen_for_the_part_that_is_explained():
    model, inputs = nets.fixed(Heads()), nets.images()
    found = whycam.explain(model, inputs, output="[1].side", target=3)
    assert found.layer.name == "conv2"
    torch.testing.assert_close(
        found.maps, whycam.explain(model, inputs, layer="conv2", output="[1].side", target=3).maps
    )


class TwoReadings(nets.Tokens):
    """One head reads the class token alone, the other the patches."""

    def forward(self, x):
        patches = self.embed(x).flatten(2).mT
        x = self.blocks(torch.cat([self.cls.expand(len(x), -1, -1), patches], 1))
        return {"logits": self.head(x[:, 0]), "patches": self.head(x[:, 1:].mean(1))}


def test_the_part_that_is_explained_decides_which_tokens_count():
    inputs = nets.images()
    alone, together = (
        whycam.explain(nets.fixed(TwoReadings()), inputs, output=part, target=1) for part in (None, "patches")
    )
    assert together.layer.name == "blocks"
    assert alone.layer.name == "blocks.0"
    model = nets.fixed(TwoReadings())
    chosen = [whycam.explain(model, inputs, output=part).layer.name for part in ("patches", None)]
    assert chosen == ["blocks", "blocks.0"]


def test_a_model_that_says_how_many_classes_it_has_is_believed():
    model = nets.fixed(Heads())
    model.num_classes = nets.CLASSES
    found = whycam.explain(model, nets.images(), layer="relu2")
    assert "explains the model's output[1].main" in found.notes
    assert number_of_classes(nets.plain()) is None


class Embedding(nets.Plain):
    """Features and no classes, in the way of one library or another."""

    def __init__(self, wrap, **attributes):
        super().__init__(classes=24)
        self.wrap = wrap
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.wrap(super().forward(x))


EMBEDDERS = {
    "by name": (lambda x: nets.ModelOutput(last_hidden_state=x[:, None, None], pooler_output=x), {}, "'pooler_output'"),
    "by length": (lambda x: F.normalize(x), {}, "each row has length 1"),
    "by half length": (lambda x: F.normalize(x).bfloat16(), {}, "each row has length 1"),
    "by the model": (lambda x: x, {"num_classes": 0}, "num_classes is 0"),
}


@pytest.mark.parametrize(("wrap", "attributes", "why"), EMBEDDERS.values(), ids=EMBEDDERS)
def test_the_top_class_of_an_embedding_is_refused_and_a_function_of_it_explained(wrap, attributes, why):
    model, inputs = nets.fixed(Embedding(wrap, **attributes)), nets.images()
    mixed = [whycam.targets.Probability(), 1, lambda output: output[:, 2]]
    for target in (None, whycam.targets.Probability(), [None, 1, 2], mixed, whycam.targets.MultiLabel()):
        with pytest.raises(WhycamError, match=f"embedding .*{why}.*whose largest number is no class"):
            whycam.explain(model, inputs, layer="relu2", target=target)
    found = whycam.explain(model, inputs, layer="relu2", target=lambda embedding: embedding[:, 3].double())
    assert found.predictions == ()
    assert any("is an embedding" in note for note in found.notes)
    if why == "num_classes is 0":
        torch.testing.assert_close(found.maps, by_hand(model, model.head, 3))


@pytest.mark.parametrize(
    "output",
    [
        torch.randn(2, 24, generator=torch.Generator().manual_seed(0)),
        F.normalize(torch.randn(2, 8, generator=torch.Generator().manual_seed(0))),  # too few numbers to tell
        F.one_hot(torch.tensor([3, 9]), 24).float(),  # a model that is sure
        torch.ones(2, 24, 2, 2),
    ],
)
def test_other_outputs_are_no_embeddings(output):
    assert embedding("", output, nets.plain()) == ""


@pytest.mark.parametrize("shape", ["(N,)", "(N, 1)"])
def test_a_regression_is_explained_by_its_value(shape):
    class Regression(nets.Plain):
        def forward(self, x):
            made = super().forward(x)
            return made[:, 0] if shape == "(N,)" else made

    model, inputs = nets.fixed(Regression(classes=1)), nets.images()
    found = whycam.explain(model, inputs, layer="relu2", target=1)
    torch.testing.assert_close(found.maps, by_hand(model, model.head, 0))
    assert torch.equal(found.scores, model(inputs).detach().flatten())
    assert any("pass target=1" in note for note in found.notes)


def test_a_row_for_each_class_is_no_embedding_whatever_it_is_called():
    model = nets.plain()
    model.num_classes = 5
    assert embedding(".last_hidden_state", torch.randn(3, 5), model) == ""
    assert embedding(".last_hidden_state", torch.randn(3, 6), model) != ""


def test_a_loss_is_no_answer():
    class Losing(nets.Plain):
        def forward(self, x):
            return super().forward(x).square().mean()

    with pytest.raises(WhycamError, match="is one number for the whole batch, a loss; scores"):
        whycam.explain(nets.fixed(Losing()), nets.images(), layer="relu2")


def test_classes_that_were_already_picked_are_no_scores():
    class Deciding(nets.Plain):
        def forward(self, x):
            return super().forward(x).argmax(1)

    with pytest.raises(WhycamError, match=r"is values of torch\.int64, a decision; scores were"):
        whycam.explain(nets.fixed(Deciding()), nets.images(), layer="relu2")


@pytest.mark.parametrize(("width", "told"), [(15, False), (16, True)])
def test_rows_of_length_one_are_an_embedding_from_so_many_numbers_on(width, told):
    rows = F.normalize(torch.randn(3, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    assert bool(embedding("", rows, nets.plain())) == told
    assert not embedding("", rows.abs(), nets.plain())  # probabilities of a kind


@pytest.mark.parametrize(("off", "told"), [(0.9e-5, True), (1.1e-5, False)])
def test_the_length_of_an_embeddings_rows_is_one_up_to_rounding(off, told):
    rows = F.normalize(torch.randn(3, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    assert bool(embedding("", rows * (1 + off), nets.plain())) == told


@pytest.mark.parametrize(("steps", "told"), [(6, True), (7, False)])
def test_and_in_half_precision_up_to_its_own(steps, told):
    """Of sixteen quarters one is so many of bfloat16's steps more: each makes the row 0.00049 longer."""
    rows = torch.full((2, 16), -0.25)
    rows[:, 3] -= steps * 2**-9
    assert torch.equal(rows.bfloat16().float(), rows)
    assert bool(embedding("", rows.bfloat16(), nets.plain())) == told
