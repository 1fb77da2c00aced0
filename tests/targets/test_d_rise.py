"""D-RISE on whole detectors: masks run once for all boxes, weak boxes counted, the trained toy's boxes found."""

import sys
from pathlib import Path

import detectors
import pytest
import torch

import whycam
from whycam.targets import Box, Boxes

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "toys"))
import shapes


def rows_seen(model):
    """How many pictures the network is shown, whatever it is given them in; private copies count too."""
    count = [0]
    handle = model.backbone.register_forward_hook(
        lambda module, given, output: count.__setitem__(0, count[0] + len(given[0]))
    )
    return count, handle


def test_masks_are_run_once_however_many_boxes_there_are():
    model, inputs = detectors.made(detectors.retinanet)
    runs = {}
    for boxes in ([Box(0)], [Boxes(min_score=0.0)]):
        count, handle = rows_seen(model)
        found = whycam.compare(
            model, inputs, ["d_rise"], targets=boxes, options={"d_rise": {"samples": 40, "until": None}}
        )
        handle.remove()
        runs[len(found)] = count[0], found.cost.forwards
    assert runs.keys() == {1, 5}
    assert runs[1] == runs[5]
    assert 40 <= runs[5][0] <= 50  # the recorded pass, and what is tried before packs are trusted
    alone = whycam.explain(model, inputs, "d_rise", target=Box(3), samples=40, until=None)
    (one,) = [each for key, each in found.items() if key[2] == Box(3)]
    torch.testing.assert_close(one.maps, alone.maps, rtol=1e-4, atol=1e-6)


def test_a_high_threshold_is_lowered_in_a_private_copy_and_stays_on_the_model():
    model, inputs = detectors.made(detectors.retinanet)
    with torch.no_grad():
        best = float(model(inputs)[0]["scores"][0])
    model.score_thresh = best - 1e-4
    (alone,) = [each["scores"] for each in model(inputs)]
    found = whycam.explain(model, inputs, "d_rise", target=Box(0), samples=40, grid=4, until=None)
    assert model.score_thresh == best - 1e-4
    model.score_thresh = 0.0
    plain = whycam.explain(model, inputs, "d_rise", target=Box(0), samples=40, grid=4, until=None)
    assert len(alone) < 5
    torch.testing.assert_close(found.maps, plain.maps, rtol=1e-4, atol=1e-6)
    assert any("a score threshold of 0.01" in note for note in found.notes)
    assert not any("threshold" in note for note in plain.notes)


def test_variants_of_one_picture_run_together_and_of_several_each_batch_by_itself():
    model = shapes.detector()
    picture, _ = shapes.scene(3)
    options = {"samples": 12, "grid": 4, "keep": 0.8, "until": None}
    alone = whycam.explain(model, picture[None], "d_rise", target=Box(0), **options)
    pair = whycam.explain(model, torch.stack([picture, picture.flip(2)]), "d_rise", target=[Box(0), Box(1)], **options)
    assert not alone.work[0].alone
    assert alone.work[0].rows > 1
    assert pair.work[0].alone
    torch.testing.assert_close(pair.maps[0], alone.maps[0], rtol=1e-4, atol=1e-5)


def test_on_the_trained_toy_the_peak_lies_in_the_box():
    model = shapes.detector()
    picture, _ = shapes.scene(3)
    with torch.no_grad():
        boxes = model(picture[None])[0]["boxes"]
    found = whycam.compare(
        model,
        picture[None],
        ["d_rise"],
        targets=[Box(0), Box(1)],
        options={"d_rise": {"samples": 120, "grid": 5, "keep": 0.8, "until": None}},
    )
    for number, each in enumerate(found.values()):
        row, column = divmod(int(each.heatmaps()[0].argmax()), picture.shape[-1])
        left, top, right, bottom = boxes[number].tolist()
        assert left - 2 <= column <= right + 2
        assert top - 2 <= row <= bottom + 2
        assert 0.5 < float(each.values["split_half_correlation"]) < 1


@pytest.mark.parametrize("name", ["RT-DETR", "Faster R-CNN", *list(detectors.ULTRALYTICS)[:1]])
def test_other_families_and_the_network_is_left(name):
    every = {**detectors.TORCHVISION, **detectors.TRANSFORMERS, **detectors.ULTRALYTICS}
    model, inputs = detectors.made(every[name])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = whycam.explain(model, inputs, "d_rise", target=Box(0), samples=20, grid=4, keep=0.8, until=None)
    assert found.maps.any()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
