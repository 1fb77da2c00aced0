"""The toy CLIP of the examples: maps of a sentence light up where the thing is that it names."""

import sys
from pathlib import Path

import pytest
import torch
import torchvision_shim

import whycam
from whycam.targets import Text

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "toys"))
torchvision_shim.register()
import sentences  # noqa: E402

SCENES = range(12)


@pytest.fixture(scope="module")
def toy():
    return whycam.Explainer(sentences.clip())


def shares(maps, boxes):
    """How much of the positive evidence lies in each box, and whether the peak lies in or beside the first."""
    cells = torch.kron(maps.clamp(min=0), torch.ones(8, 8))
    inside = [
        float(cells[top : bottom + 1, left : right + 1].sum() / cells.sum()) for left, top, right, bottom in boxes
    ]
    y, x = (8 * int(each) + 4 for each in divmod(int(maps.argmax()), 8))
    left, top, right, bottom = boxes[0]
    return *inside, left - 4 <= x <= right + 4 and top - 4 <= y <= bottom + 4


def test_it_knows_what_is_there():
    every = [f"a {color} {shape}" for color in sentences.COLORS for shape in sentences.SHAPES]
    scenes = [sentences.scene(number) for number in range(100)]
    with torch.no_grad():
        pictures = torch.stack([picture for picture, _ in scenes])
        logits = sentences.clip()(pixel_values=pictures, input_ids=sentences.tokenizer(every)).logits_per_image
    best = [{every[i] for i in row.topk(2).indices} for row in logits]
    assert sum(named == set(dict(things)) for named, (_, things) in zip(best, scenes, strict=True)) >= 95


@pytest.mark.parametrize("method", ["hires_cam", "layer_cam", "grad_cam"])
def test_a_sentence_is_found_where_it_is_and_not_where_the_other_is(toy, method):
    """By chance 0.1 of the evidence is in either box."""
    found = []
    for number in SCENES:
        picture, things = sentences.scene(number)
        for (mine, box), (theirs, beside) in (things, things[::-1]):
            target = Text(mine, against=theirs, tokenizer=sentences.tokenizer)
            e = toy.explain(picture[None], method, target=target)
            assert e.layer.name == "vision_model.encoder.layers.2.layer_norm1"
            found.append(shares(e.maps[0], (box, beside)))
    own, other, peaks = (sum(map(float, each)) / len(found) for each in zip(*found, strict=True))
    assert own > 0.35
    assert other < 0.1
    assert peaks > 0.7


def test_what_gradients_miss_covering_finds(toy):
    """For this toy yellow is evidence (erasing it costs 10 logits), and gradient times activation does not show it."""
    found = {"hires_cam": [], "occlusion": []}
    for number in range(12):
        picture, things = sentences.scene(number)
        for (mine, box), (theirs, beside) in (things, things[::-1]):
            if "yellow" not in mine:
                continue
            target = Text(mine, against=theirs, tokenizer=sentences.tokenizer)
            for method, options in (
                ("hires_cam", {}),
                ("occlusion", {"window": 16, "stride": 8, "probability": False}),
            ):
                e = toy.explain(picture[None], method, target=target, **options)
                maps = torch.nn.functional.interpolate(e.maps[None], size=(8, 8))[0, 0]
                found[method].append(shares(maps, (box, beside))[0])
    missed, shown = (sum(each) / len(each) for each in found.values())
    assert missed < 0.2
    assert shown > 0.35
