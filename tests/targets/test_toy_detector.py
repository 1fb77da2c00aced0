"""A trained toy detector: a box's map lies in its own box, and another box's does not. Beside controls, never alone.

Shares are of the evidence that falls in any object's box of the scene. Chance is the box's share of their area; a
filled box would have 1, so that this says that maps tell instances apart, and not that they are good maps.
"""

import sys
from pathlib import Path

import pytest
import torch
import torchvision_shim

torchvision_shim.register()
torchvision_shim.detectors()
sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "toys"))
import shapes  # noqa: E402

import whycam  # noqa: E402
from whycam.targets import Box  # noqa: E402

SCENES = range(24)


def overlap(one, other):
    low, high = torch.maximum(one[:2], other[:2]), torch.minimum(one[2:], other[2:])
    inside = (high - low).clamp(min=0).prod()
    return float(inside / ((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - inside))


@pytest.fixture(scope="module")
def found():
    """For each scene of several objects: picture, true boxes, and for some of them the detection that is theirs."""
    model, kept = shapes.detector(), []
    for seed in SCENES:
        picture, truth = shapes.scene(seed)
        if len(truth["boxes"]) < 2:
            continue
        with torch.no_grad():
            listed = model(picture[None])[0]
        pairs = []
        for number, (box, label) in enumerate(zip(truth["boxes"], truth["labels"], strict=True)):
            for index, (other, said) in enumerate(zip(listed["boxes"], listed["labels"], strict=True)):
                if int(said) == int(label) and overlap(box, other) > 0.5:
                    pairs.append((number, index))
                    break
        if len(pairs) >= 2:
            kept.append((picture[None], truth["boxes"], pairs))
    assert sum(len(pairs) for *_, pairs in kept) >= 20
    return model, kept


def shares(heat, boxes):
    """The share of a map's evidence in each object's box."""
    energy = []
    for left, top, right, bottom in boxes.round().int().tolist():
        energy.append(float(heat[top:bottom, left:right].sum()))
    return [each / max(sum(energy), 1e-12) for each in energy]


def measured(found, method, **asked):
    """Means over boxes: own share, its chance, another box's share, its chance, whether the peak is inside."""
    model, kept = found
    explainer = whycam.Explainer(model)
    rows = []
    for picture, boxes, pairs in kept:
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        chance = (areas / areas.sum()).tolist()
        for number, index in pairs:
            heat = explainer.explain(picture, method, target=Box(index), **asked).heatmaps()[0]
            mine = shares(heat, boxes)
            other = next(k for k, _ in pairs if k != number)
            row, column = divmod(int(heat.argmax()), heat.shape[1])
            left, top, right, bottom = boxes[number].tolist()
            inside = left - 1 <= column <= right + 1 and top - 1 <= row <= bottom + 1
            rows.append((mine[number], chance[number], mine[other], chance[other], float(inside)))
    return torch.tensor(rows).mean(0).tolist()


def test_the_map_of_a_box_lies_in_it_and_in_no_other(found):
    own, chance, other, other_chance, pointing = measured(found, "layer_cam")
    assert own >= chance + 0.25
    assert other <= other_chance - 0.2
    assert pointing >= 0.8


def test_pooled_weights_cannot_tell_instances_apart(found):
    """Expected, so that nobody mends it: Grad-CAM weighs channels, and the same channels answer at every object."""
    own, chance, *_ = measured(found, "grad_cam")
    assert abs(own - chance) <= 0.2


def test_the_sum_of_raw_maps_is_no_worse_than_the_maximum_of_scaled_ones(found):
    *_, summed = measured(found, "layer_cam")
    *_, largest = measured(found, "layer_cam", fusion="maximum")
    assert summed >= largest - 0.02
