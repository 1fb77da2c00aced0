"""A choice by evidence: made on half of the images, held to it on the other half, kept in a file, and read again."""

import json
from dataclasses import replace

import nets
import pytest
import torch

import whycam
from whycam.evaluation.choosing import decide, some_of
from whycam.kit.metric import find_metric
from whycam.results.evaluation import Evaluation
from whycam.targets import Similarity

INSERTION, DELETION = find_metric("insertion"), find_metric("deletion")
SAMPLES = [f"s{number}" for number in range(8)]  # s0, s2, s4, s6 choose; the others are held out


def found(metric=INSERTION, **values):
    """An evaluation with these values, eight for each method, at a layer called like it."""
    rows = [
        {"method": method.replace("control_", "control: "), "layer": f"at {method}", "target": "top",
         "metric": metric.name, "sample": sample, "value": value, "status": "ok"}
        for method, several in values.items() for sample, value in zip(SAMPLES, several, strict=True)
    ]  # fmt: skip
    return Evaluation(tuple(rows), {}, {}, {metric.name: metric}, {}, {}, (), {"model": "m", "weights": "w"})


def test_the_best_is_chosen_if_it_holds_on_the_others():
    made = decide(found(grad_cam=[0.5] * 8, layer_cam=[0.7, 0.6] * 4), INSERTION, "at grad_cam")
    assert (made.method, made.layer, made.value, made.usual) == ("layer_cam", "at layer_cam", 0.6, 0.5)
    assert (made.images, made.held_out) == (8, 4)
    assert made.against == {"grad_cam at at grad_cam": 0.5, "layer_cam at at layer_cam": pytest.approx(0.7)}


def test_what_is_worse_on_the_images_held_out_gives_way_to_grad_cam():
    made = decide(found(grad_cam=[0.5] * 8, layer_cam=[0.9, 0.4] * 4), INSERTION, "at grad_cam")
    assert made.method == "grad_cam"
    assert made.value >= made.usual
    assert "layer_cam at at layer_cam was better where it was chosen" in made.text


def test_lower_is_better_for_deletion():
    values = {"grad_cam": [0.5] * 8, "layer_cam": [0.3] * 8, "hires_cam": [0.7] * 8}
    assert decide(found(DELETION, **values), DELETION, "at grad_cam").method == "layer_cam"


def test_controls_are_never_chosen_and_are_named_where_they_win():
    made = decide(found(grad_cam=[0.5] * 8, control_edges=[0.9] * 8), INSERTION, "at grad_cam")
    assert made.method == "grad_cam"
    assert "control: edges" in made.text


def test_only_images_that_all_have_a_value_count():
    nan = float("nan")
    # without s0, on which Grad-CAM has no value, LayerCAM's 0.9 there decides nothing
    values = {"grad_cam": [nan, *[0.5] * 7], "layer_cam": [0.9, *[0.4] * 7]}
    made = decide(found(**values), INSERTION, "at grad_cam")
    assert (made.method, made.images) == ("grad_cam", 7)


def test_a_method_without_any_value_is_no_candidate_and_hinders_none():
    values = {"grad_cam": [0.5] * 8, "layer_cam": [0.6] * 8, "hires_cam": [float("nan")] * 8}
    made = decide(found(**values), INSERTION, "at grad_cam")
    assert (made.method, made.images) == ("layer_cam", 8)


def test_the_images_that_are_looked_at_lie_at_even_distances():
    assert some_of(torch.arange(15.0)[:, None], None, 8)[0].flatten().tolist() == [0, 2, 4, 6, 8, 10, 12, 14]
    assert some_of([str(number) for number in range(15)], None, 8)[0] == ["0", "2", "4", "6", "8", "10", "12", "14"]
    labels = [number % 5 for number in range(15)]
    _, targets = some_of(torch.rand(15, 1), [labels, None, torch.tensor(labels), [1, 2]], 8)
    assert targets[:2] == [labels[::2], None]
    assert targets[2].tolist() == labels[::2]
    assert targets[3] == [1, 2]  # another number than that of the images, which is refused


def test_without_values_there_is_no_choice():
    with pytest.raises(whycam.WhycamError, match="no choice can be made"):
        decide(found(grad_cam=[float("nan")] * 8), INSERTION, "at grad_cam")


@pytest.fixture
def explainer():
    return whycam.Explainer(nets.plain())


def images(number=10):
    return nets.images(number)


def test_auto_chooses_on_many_images_and_remembers(explainer, cache):
    many = images()
    first = explainer.explain(many, "auto")
    (path,) = (cache / "choices").iterdir()
    kept = json.loads(path.read_text())
    assert (kept["method"], kept["layer"]) == (first.method, first.layer.name)
    assert str(path) in first.notes[0]
    assert kept["value"] >= kept["usual"]
    kept |= {"method": "hires_cam", "layer": first.layer.name}
    path.write_text(json.dumps(kept))
    one = explainer.explain(many[:1], "auto")
    assert one.method == "hires_cam"
    assert next(iter(explainer.compare(many[:1], "auto")))[0] == "hires_cam"
    assert explainer.explain(many[:1]).method == "grad_cam"  # which nobody called auto


def test_a_choice_is_for_these_weights_alone(explainer, cache):
    explainer.choose(images(), ["hires_cam"], steps=2)
    with torch.no_grad():
        next(explainer.model.module.parameters()).mul_(2)
    assert "nothing is known yet" in explainer.explain(images(1), "auto").notes[0]


def test_few_images_are_no_evidence(explainer, cache):
    found = explainer.explain(images(7), "auto")
    assert found.method == "grad_cam"
    assert "nothing is known yet" in found.notes[0]
    assert not cache.exists()
    with pytest.raises(whycam.WhycamError, match="at least 8 images"):
        explainer.choose(images(7))


def test_a_choice_counts_what_was_looked_at(explainer):
    made = explainer.choose(images(12), ["hires_cam"], steps=2, most=9)
    assert (made.images, made.held_out) == (9, 4)


def test_targets_of_each_image_are_those_of_the_images_looked_at(explainer):
    labels = [number % 5 for number in range(12)]
    pictures = images(12)
    some = [0, 1, 3, 4, 6, 7, 8, 10, 11]  # nine at even distances
    made = explainer.choose(pictures, ["hires_cam"], steps=2, most=9, targets=[labels])
    same = explainer.choose(pictures[some], ["hires_cam"], steps=2, targets=[[labels[number] for number in some]])
    assert (made.value, made.usual, made.against) == (same.value, same.usual, same.against)
    with pytest.raises(whycam.WhycamError, match="a list of 3 targets came"):
        explainer.choose(pictures, ["hires_cam"], steps=2, most=9, targets=[[0, 1, 2]])


def test_a_choice_that_cannot_be_kept_is_made_all_the_same(explainer, cache, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("whycam.evaluation.choosing.write_whole", full)
    made = explainer.choose(images(), ["hires_cam"], steps=2)
    assert made.path is None
    assert made.text.endswith("; it could not be kept: [Errno 28] No space left on device")
    found = explainer.explain(images(), "auto")
    assert "could not be kept" in found.notes[0]
    assert "kept in" not in found.notes[0]


def test_inputs_by_name_are_images_too(cache):
    class Named(nets.Plain):
        def forward(self, picture):
            return super().forward(picture)

    made = whycam.choose(nets.fixed(Named()), {"picture": images(9)}, ["hires_cam"], steps=2)
    assert (made.images, made.held_out) == (9, 4)


def test_fewer_than_eight_are_not_looked_at(explainer):
    with pytest.raises(whycam.WhycamError, match="at least 8 images, half of them held out; 3 came"):
        explainer.choose(images(), ["hires_cam"], most=3)


def test_a_metric_of_the_set_decides_by_the_set(cache):
    # two classes, of which one is rare: the mean over classes likes LayerCAM, the mean over images HiResCAM
    pointing = find_metric("pointing_game")
    classes = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]
    hits = {"grad_cam": [0.0] * 8, "hires_cam": [1.0] * 6 + [0.0] * 2, "layer_cam": [1.0, 1, 0, 0, 0, 0, 1, 1]}
    base = found(pointing, **hits)
    curves = {
        (row["method"], row["layer"], "top", "pointing_game", row["sample"]): (row["value"], classes[number % 8])
        for number, row in enumerate(base.rows)
    }
    made = decide(replace(base, curves=curves), pointing, "at grad_cam")
    assert made.method == "layer_cam"
    assert made.against["layer_cam at at layer_cam"] == pytest.approx((1 / 3 + 1) / 2)
    assert made.against["hires_cam at at hires_cam"] == pytest.approx(1 / 2)


def test_other_targets_than_classes_keep_their_method(explainer):
    assert explainer.auto(images(), Similarity(images(1))) == (None, None, "")


def test_a_damaged_file_is_no_choice(explainer, cache):
    path = explainer.choose(images(), ["hires_cam"], steps=2).path
    path.write_text("{")
    assert "cannot be read as a choice" in explainer.explain(images(1), "auto").notes[0]
    for other in ("[]", '{"schema": 1}'):
        path.write_text(other)
        assert "cannot be read as a choice" in explainer.explain(images(1), "auto").notes[0]
    path.write_text('{"schema": 99}')
    assert "written by another version" in explainer.explain(images(1), "auto").notes[0]
