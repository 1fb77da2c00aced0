"""Choices in, explanations out; and a sentence for whatever cannot be."""

import re
import subprocess
import sys

import nets
import numpy as np
import pytest
import torch
from few import FEW, OF_ANY, few
from torch import nn

import whycam
from whycam import WhycamError, compare, explain


@pytest.fixture
def model():
    return nets.plain()


@pytest.fixture
def inputs():
    return nets.images()


SENTENCES = [
    ({"method": "grad_cum"}, r"no method 'grad_cum'; there are .*Did you mean 'grad_cam'"),
    ({"method": lambda x, y: x}, "asks for x, y; a method can ask for activations"),
    ({"method": lambda: 0}, "asks for no quantity"),
    ({"layer": "conv3"}, r"no layer 'conv3'; this model has conv1, relu1.*Did you mean 'conv[12]'"),
    ({"layer": ["conv1", "convx"]}, "no layer 'convx'"),
    ({"layer": []}, "layer is an empty list"),
    ({"layer": 4}, "not int"),
    ({"layer": ["conv1", None]}, "not NoneType"),
    ({"layer": nn.ReLU()}, "a ReLU, is not part of this Plain"),
    ({"target": 5}, "class 5 is out of range; this model has 5 classes"),
    ({"target": "cat"}, "comes without labels"),
    ({"target": "cet", "labels": ["cat", "dog", "cow", "hen", "pig"]}, "no class is called 'cet'. Did you mean 'cat'"),
    ({"target": [1, 2]}, "2 targets came for 3 samples"),
    ({"target": torch.tensor([1, 2, 3, 4])}, "4 targets came for 3 samples"),
    ({"target": True}, "not True"),
    ({"target": 1.0}, "not float"),
    ({"target": lambda output: output.sum()}, r"one score per sample, shape \(3,\)"),
    ({"fusion": "average"}, "no fusion 'average'; there are mean"),
    ({"color": 1}, "grad_cam has no option 'color'; its options are: none"),
    ({"method": "fem", "K": 1}, r"fem has no option 'K'; its options are: k=2.0"),
]


@pytest.mark.parametrize(("wrong", "sentence"), SENTENCES)
def test_wrong_choices_get_a_sentence(model, inputs, wrong, sentence):
    before = nets.state(model)
    with pytest.raises(WhycamError, match=sentence):
        explain(model, inputs, **wrong)
    assert nets.differences(before, nets.state(model)) == []


def test_wrong_inputs_get_a_sentence(model, inputs):
    cases = [
        (inputs[0], r"shape \(3, 8, 8\). For a single image pass image\[None\]"),
        (inputs[0, 0], r"image\[None\]"),
        (inputs[:0], "the batch is empty"),
        ((inputs * 50).to(torch.uint8), "dtype torch.uint8.*uint8 numpy arrays"),
        (inputs.long(), "dtype torch.int64"),
        ([inputs[0], inputs[1]], "torch.stack"),
        ([], "an empty list"),
        ("photo.jpg", "does not say how a photo becomes its input; pass preprocess="),
        ([np.zeros((8, 8, 3), np.uint8)], "pass preprocess="),
        (3, "not int"),
        (None, "not NoneType"),
    ]
    for wrong, sentence in cases:
        with pytest.raises(WhycamError, match=sentence):
            explain(model, wrong)


UNTYPED = """
import numpy, torch, whycam
from torch import nn

model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
x = torch.randn(2, 3, 8, 8)
for ask in (
    lambda: whycam.explain(3, x),
    lambda: whycam.explain(nn.Linear, x),
    lambda: whycam.explain(model, x, 3),
    lambda: whycam.compare(model, x, layers=model[0]),
    lambda: whycam.compare(model, x, layers=model),
    lambda: whycam.compare(model, x, targets=3),
    lambda: whycam.explain(model, x, target=whycam.targets.Probability(torch.tensor([1, 2]))).target,
    lambda: whycam.explain(model, x, target=whycam.targets.Contrast(numpy.int64(1), numpy.array([0, 2]))).target,
):
    try:
        print(ask())
    except whycam.WhycamError as error:
        print(error)
"""


def test_wrong_types_get_a_sentence_where_nothing_checks_annotations():
    said = subprocess.run(
        [sys.executable, "-c", UNTYPED], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    expected = [
        "model must be a torch.nn.Module, .* not int",
        "model must be a torch.nn.Module, .* not type",
        "method must be a name or a function, not int",
        "layers is a list",
        "layers is a list",
        r"targets is a list, such as targets=\[3\]",
        r"\('probability of class 1', 'probability of class 2'\)",
        r"\('class 1 rather than class 0, class 2', .*\)",
    ]
    assert len(said) == len(expected)
    for line, sentence in zip(said, expected, strict=True):
        assert re.match(sentence, line), line


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"methods": "grad_cam"}, r"methods is a list, such as methods=\['grad_cam'\]"),
        ({"layers": "conv1"}, r"layers=\['conv1'\]"),
        ({"targets": "cat"}, "targets is a list"),
        ({"methods": []}, "at least one entry"),
        ({"layers": []}, "at least one entry"),
        ({"layers": [[]]}, "empty list"),
        ({"targets": []}, "at least one entry"),
        ({"options": {"fem": {"k": 1.0}}}, "options came for 'fem'"),
        ({"options": {"grad_cam": {"k": 1.0}}}, "grad_cam has no option 'k'"),
        ({"options": {"nonsense": {}}}, "no method 'nonsense'"),
        ({"targets": [0, 9]}, "class 9 is out of range"),
    ],
    ids=str,
)
def test_wrong_comparisons_get_a_sentence(model, inputs, wrong, sentence):
    with pytest.raises(WhycamError, match=sentence):
        compare(model, inputs, **wrong)


def test_an_explanation_tells_all_there_is_to_know(model, inputs):
    found = explain(model, inputs, "hires_cam", target=2, layer="conv2")
    logits = model(inputs).detach()
    assert torch.equal(found.scores, logits[:, 2])
    assert [each.index for each in found.predictions] == logits.argmax(1).tolist()
    assert [each.probability for each in found.predictions] == pytest.approx(logits.softmax(1).amax(1).tolist())
    assert found.target == ("class 2",) * 3
    assert (found.method, found.title, found.options) == ("hires_cam", "HiResCAM", {})
    layer = found.layer
    assert (layer.name, layer.shape, layer.grid, layer.stride) == ("conv2", (3, 8, 4, 4), (4, 4), (2.0, 2.0))
    assert (layer.layout, layer.why) == ("channels first", "as asked")
    assert (found.cost.forwards, found.cost.backwards) == (1, 1)
    assert len(found) == len(found.status) == 3
    assert [one.maps.shape for one in found] == [(1, 4, 4)] * 3
    assert torch.equal(found[1:].maps, found.maps[1:])
    assert torch.equal(found[-1].maps, found.maps[2:])
    with pytest.raises(IndexError):
        found[3]
    assert found.heatmaps().shape == (3, 8, 8)


def test_a_comparison_is_looked_up_forgivingly(model, inputs):
    made = compare(
        model, inputs, ["grad_cam", "Grad-CAM++", "eigencam", "guided_backprop"], ["conv2", "relu2"], [1, [0, 1, 2]]
    )
    assert (
        made["gradcam", "conv2", 1]
        is made["grad_cam", "conv2", np.int64(1)]
        is made["Grad-CAM", "conv2", torch.tensor(1)]
    )
    assert made["grad_cam", "conv2", [0, 1, 2]] is made["grad_cam", "conv2", torch.tensor([0, 1, 2])]
    assert made["Grad-CAM++", "relu2", 1].title == "Grad-CAM++"
    assert made["eigen_cam", "conv2", 1] is made["eigen_cam", "conv2"]
    assert made["guided_backprop", "conv2", 1] is made["guided_backprop", None, 1]
    assert len(made) == 4 + 4 + 2 + 2
    assert len(list(made)) == len(made)
    with pytest.raises(KeyError, match="stands for 4 explanations"):
        made["grad_cam"]
    for missing in [("grad_cam", "conv1", 1), ("grad_cam", "conv2", 4), ("layer_cam",)]:
        with pytest.raises(KeyError):
            made[missing]
    assert "grad_cam" in repr(made)


def test_what_cannot_be_is_listed_with_its_reason_and_the_rest_is_made(model, inputs):
    made = compare(model, inputs, ["cam", "grad_cam"], ["conv2", "relu2"], [1])
    assert set(made) == {("cam", "relu2", 1), ("grad_cam", "conv2", 1), ("grad_cam", "relu2", 1)}
    assert set(made.failures) == {("cam", "conv2", 1)}
    with pytest.raises(WhycamError, match="CAM needs a network"):
        made["cam", "conv2", 1]
    with pytest.raises(WhycamError, match="CAM needs a network"):
        compare(model, inputs, ["cam"], ["conv2"])


def test_a_glob_is_taken_apart_and_a_list_is_fused(model, inputs):
    made = compare(model, inputs, ["grad_cam"], ["relu*", ["conv1", "conv2"]], [1])
    assert [layer for _, layer, _ in made] == ["relu1", "relu2", "conv1 + conv2"]


def test_options_reach_their_method_alone(model, inputs):
    made = compare(model, inputs, ["fem", "random_cam"], ["relu1"], options={"FEM": {"k": 0.5}})
    assert made["fem"].options == {"k": 0.5}
    assert torch.equal(made["fem"].maps, explain(model, inputs, "fem", layer="relu1", k=0.5).maps)
    assert not torch.equal(made["fem"].maps, explain(model, inputs, "fem", layer="relu1").maps)
    assert made["random_cam"].options == {"seed": 0}


def test_any_function_of_quantities_is_a_method(model, inputs):
    def mine(activations, gradients, scores, inputs, input_gradients, *, power=1):
        assert not activations.requires_grad
        return (activations.abs() ** power).sum(1) * scores[:, None, None]

    found = explain(model, inputs, mine, layer="relu2", power=2)
    expected = model.features(inputs).detach().square().sum(1) * found.scores[:, None, None]
    torch.testing.assert_close(found.maps, expected.float())
    assert (found.method, found.options) == ("mine", {"power": 2})
    made = compare(model, inputs, [mine, "grad_cam"], ["relu2"])
    assert made[mine].method == "mine"


@pytest.mark.parametrize(
    ("function", "came"),
    [
        (lambda activations: activations.sum(), r"shape \(\)"),
        (lambda activations: activations[:1].sum(1), r"shape \(1, 4, 4\)"),
        (lambda activations: activations.flatten(1).sum(1), r"shape \(3,\)"),
        (lambda activations: None, "NoneType"),
    ],
)
def test_a_method_that_returns_no_maps_gets_a_sentence(model, inputs, function, came):
    with pytest.raises(WhycamError, match=f"must return maps .*it returned {came}"):
        explain(model, inputs, function, layer="relu2")


@pytest.mark.parametrize(
    "target", [3, np.int64(3), torch.tensor(3), [3, 3, 3], torch.tensor([3] * 3), np.array([3] * 3)], ids=repr
)
def test_one_target_serves_the_whole_batch(model, inputs, target):
    found = explain(model, inputs, target=target, layer="conv2")
    assert torch.equal(found.maps, explain(model, inputs, target=whycam.targets.ClassScore(3), layer="conv2").maps)
    assert found.maps.flatten(1).any(1).sum() >= 2


def test_mixed_targets_are_each_their_own(model, inputs):
    mixed = [2, whycam.targets.LogProbability(1), lambda output: output[:, 0]]
    found = explain(model, inputs, "hires_cam", target=mixed, layer="conv2")
    for n, target in enumerate(mixed):
        alone = explain(model, inputs[n : n + 1], "hires_cam", target=target, layer="conv2")
        torch.testing.assert_close(found.maps[n : n + 1], alone.maps)
    assert found.target == ("class 2", "log-probability of class 1", "a function of the output")


def test_labels_name_predictions_and_targets(model, inputs):
    labels = ["cat", "dog", "cow", "hen", "pig"]
    found = explain(model, inputs, labels=labels, target="Hen")
    assert found.target == ("hen",) * 3
    assert all(each.label in labels for each in found.predictions)


def test_a_network_without_class_scores_is_explained_by_a_function():
    model = nets.fixed(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1)))
    found = explain(model, nets.images(), layer="1", target=lambda output: output[:, 1].mean((1, 2)))
    assert found.predictions == ()
    with pytest.raises(WhycamError, match=r"\(3, 2, 8, 8\), not \(batch, class\)"):
        explain(model, nets.images(), layer="1")


def test_which_part_of_the_output_is_explained_is_noted(inputs):
    found = explain(nets.fixed(nets.TwoHeads()), inputs, layer="relu2")
    assert "explains the model's output.logits" in found.notes


def test_results_do_not_depend_on_what_was_explained_before(model, inputs):
    first = explain(model, inputs, layer="conv2")
    for name, method in OF_ANY.items():
        explain(model, nets.images(seed=9), name, **few(method))
    assert torch.equal(explain(model, inputs, layer="conv2").maps, first.maps)


def test_every_call_of_a_module_is_an_explanation_of_its_own():
    model, inputs = nets.fixed(nets.Shared()), nets.images()
    made = whycam.compare(model, inputs, layers=["relu#*"])
    assert [layer for _, layer, _ in made] == ["relu#0", "relu#1"]
    assert made["grad_cam", "relu#0"].maps.shape == whycam.explain(model, inputs, layer="relu#0").maps.shape
    assert torch.equal(made["grad_cam", "relu#1"].maps, whycam.explain(model, inputs, layer="relu#1").maps)


def test_the_warning_about_training_mode_points_at_the_caller():
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.warns(UserWarning, match="training mode") as caught:
        whycam.explain(model.train(), nets.images().float(), target=0)
    assert caught[0].filename == __file__


def test_labels_are_one_for_each_class():
    model, inputs = nets.plain(), nets.images()
    classes = whycam.explain(model, inputs).context is not None and model(inputs).shape[1]
    with pytest.raises(WhycamError, match=f"2 labels came for a model with {classes} classes"):
        whycam.explain(model, inputs, labels=["cat", "dog"])
    names = [f"name {i}" for i in range(classes)]
    by_index = whycam.explain(model, inputs, target="name 1", labels=dict(enumerate(names)))
    assert by_index.target == ("name 1",) * len(inputs)
    assert by_index.predictions[0].label in names
    with pytest.raises(WhycamError, match="every index from 0 to 1"):
        whycam.explain(model, inputs, labels={1: "a", 2: "b"})
    with pytest.raises(WhycamError, match="a list of strings"):
        whycam.VisionModel(model, labels="abcde")


def test_an_output_that_is_not_finite_has_no_top_class():
    model, inputs = nets.plain(), nets.images()
    inputs[0, 0, 0, 0] = torch.nan
    e = whycam.explain(model, inputs)
    assert str(e.predictions[0]) == e.target[0] == "no class (the output is not finite)"
    assert "class" in e.target[1]
    assert "%" in str(e.predictions[1])
    assert whycam.explain(model, inputs, target=2).target[0] == "class 2"


def test_an_explanation_prints_as_one_line():
    text = repr(whycam.explain(nets.plain(), nets.images(7), layer="conv2"))
    assert "\n" not in text
    assert text.startswith("Explanation(Grad-CAM at conv2 (")
    assert "of 7 samples; class " in text
    assert ", and 2 more; 1 forward, 1 backward, " in text


def test_all_methods_can_be_asked_for_at_once():
    made = whycam.compare(nets.plain(), nets.images(), "all", options=FEW)
    assert {method for method, _, _ in [*made, *made.failures]} == set(whycam.kit.registry.methods())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"layers": ["conv2"]}, "explain has no layers=; did you mean layer="),
        ({"layer": "conv2", "fusion": "tanh"}, "fusion= joins the maps of several layers, and one came"),
        ({"preprocess": whycam.Preprocess.imagenet()}, "preprocess= is for photos, and a ready batch came"),
        ({"method": lambda activations: activations}, "must return maps of shape"),
        ({"method": lambda activations: activations.flatten(2).sum(1)}, "must return maps of shape"),
    ],
)
def test_what_would_do_nothing_or_harm_is_refused(arguments, sentence):
    with pytest.raises(WhycamError, match=sentence):
        whycam.explain(nets.plain(), nets.images(), **arguments)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("make", [torch.jit.script, lambda model: torch.jit.trace(model, nets.images())])
def test_scripted_and_traced_networks_are_refused_with_what_to_do(make):
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double().eval()
    with pytest.raises(WhycamError, match="scripted or traced network cannot be recorded; pass the module behind it"):
        whycam.explain(make(model), nets.images())
    mixed = nn.Sequential(make(model[:2]) if make is torch.jit.script else model[:2], *model[2:]).eval()
    if make is torch.jit.script:
        with pytest.raises(WhycamError, match="scripted or traced"):
            whycam.explain(mixed, nets.images(), layer="0")


def test_fused_layers_are_found_by_the_list_that_was_asked_for():
    c = whycam.compare(nets.plain(), nets.images(2), layers=["conv1", ["conv1", "conv2"]], fusion="maximum")
    assert c["grad_cam", ["conv1", "conv2"]].layer.name == "conv1 + conv2"
    assert c["grad_cam", "conv1"].layer.name == "conv1"


def test_one_of_several_samples_that_is_not_there():
    c = whycam.compare(nets.plain(), nets.images(2))
    with pytest.raises(WhycamError, match="sample 5 of 2"):
        c.figure(sample=5)


def test_the_cost_says_what_went_into_choosing_and_that_it_is_paid_once():
    model, inputs = nets.plain(), nets.images()
    first, second = (whycam.explain(model, inputs).cost for _ in range(2))
    assert (first.forwards, first.choosing, second.forwards, second.choosing) == (2, 1, 1, 0)
    assert str(first).startswith("2 forwards (1 to choose the layer), 1 backward, ")
    assert str(second).startswith("1 forward, 1 backward, ")
    assert (first + second).forwards == 3


def test_labels_by_index_name_the_classes_of_that_index():
    model, inputs = nets.plain(), nets.images()
    output = model(inputs)
    names = {i: f"name {i}" for i in sorted(range(output.shape[1]), key=lambda i: (i * 2) % 5)}
    e = whycam.explain(model, inputs, target="name 1", labels=names)
    torch.testing.assert_close(e.scores, output[:, 1].detach())
    assert [each.label for each in e.predictions] == [f"name {i}" for i in output.argmax(1).tolist()]


def test_photos_take_the_networks_precision():
    photo = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    how = whycam.Preprocess((8, 8))
    model = nets.plain().float()
    single, half = (whycam.explain(each, photo, "hires_cam", layer="conv2", target=1, preprocess=how)
                    for each in (model, nets.twin(model).bfloat16()))  # fmt: skip
    assert half.context.inputs.dtype == torch.bfloat16
    assert half.maps.dtype == torch.float32
    torch.testing.assert_close(half.maps, single.maps, rtol=0.1, atol=0.05 * float(single.maps.abs().max()))
