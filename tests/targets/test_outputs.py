"""What a model's answer is taken for: corners, scores and which boxes stay, by hand for each family."""

import math
from types import SimpleNamespace

import detectors
import pytest
import torch
from torch import nn

import whycam
from whycam.targets.outputs import detections, embedding, is_detector


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


@pytest.mark.parametrize("none", [True, False])
def test_queries_have_corners_in_pixels_and_come_best_first(none):
    logits = torch.tensor([[[0.2, 1.5, -1.0], [2.0, 0.1, 0.3]]], dtype=torch.float64)
    boxes = torch.tensor([[[0.5, 0.25, 0.2, 0.1], [0.3, 0.6, 0.4, 0.5]]], dtype=torch.float64)
    module = SimpleNamespace(config=SimpleNamespace(num_labels=2 if none else 3))
    (found,) = detections(SimpleNamespace(logits=logits, pred_boxes=boxes), (100, 200), module)
    classes = []
    for row in logits[0].tolist():
        total = sum(map(math.exp, row))
        classes.append([math.exp(v) / total for v in row][:2] if none else [sigmoid(v) for v in row])
    order = sorted(range(2), key=lambda q: -max(classes[q]))
    assert order == [1, 0]
    for place, query in enumerate(order):
        x, y, w, h = boxes[0, query].tolist()
        corners = [(x - w / 2) * 200, (y - h / 2) * 100, (x + w / 2) * 200, (y + h / 2) * 100]
        assert found.boxes[place].tolist() == pytest.approx(corners)
        best = max(classes[query])
        assert float(found.scores[place]) == pytest.approx(best)
        assert int(found.labels[place]) == classes[query].index(best)
        assert found.logit(place).item() == float(logits[0, query, classes[query].index(best)])


class Head(nn.Module):
    """What is looked at of an ultralytics head."""

    def __init__(self, end2end=False):
        super().__init__()
        self.stride, self.nc, self.reg_max, self.end2end = torch.tensor([8.0]), 2, 16, end2end


def yolo(end2end=False):
    model = nn.Module()
    model.model = nn.Sequential(nn.Conv2d(3, 4, 1), Head(end2end))
    return model


@pytest.mark.parametrize("raw", [True, False])
def test_anchors_of_ultralytics_after_non_maximum_suppression(raw):
    """Of two boxes of one class that overlap by more than 0.7 the better stays; one of another class stays too."""
    centers = [
        (20, 20, 20, 20, 2.0, -3.0),
        (21, 20, 20, 20, 1.0, -3.0),
        (21, 20, 20, 20, -3.0, 1.5),
        (60, 50, 10, 30, -2.0, -6.0),
    ]
    logits = torch.tensor([row[4:] for row in centers], dtype=torch.float64).T.requires_grad_()
    decoded = torch.cat([torch.tensor([row[:4] for row in centers], dtype=torch.float64).T, logits.sigmoid()])[None]
    output = (decoded, {"scores": logits[None]} if raw else {})
    (found,) = detections(output, (96, 96), yolo())
    assert found.boxes.tolist() == [[10, 10, 30, 30], [11, 10, 31, 30], [55, 35, 65, 65]]
    assert found.labels.tolist() == [0, 1, 0]
    assert found.scores.tolist() == pytest.approx([sigmoid(2.0), sigmoid(1.5), sigmoid(-2.0)])
    (gradient,) = torch.autograd.grad(found.logit(1), logits)
    assert gradient.nonzero().tolist() == [[1, 2]]
    assert float(gradient[1, 2]) == pytest.approx(1.0)
    assert found.logit(1).item() == pytest.approx(1.5)


def test_heads_that_end_in_boxes():
    rows = torch.tensor([[[1.0, 2.0, 30.0, 40.0, 0.8, 1.0], [5.0, 5.0, 9.0, 9.0, 0.3, 0.0]]], dtype=torch.float64)
    (found,) = detections((rows, {}), (96, 96), yolo(end2end=True))
    assert found.boxes.tolist() == rows[0, :, :4].tolist()
    assert found.labels.tolist() == [1, 0]
    assert float(found.logit(0)) == pytest.approx(math.log(0.8 / 0.2))


def test_which_networks_find_boxes():
    for build in (*detectors.TORCHVISION.values(), *detectors.TRANSFORMERS.values()):
        assert is_detector(build())
    assert is_detector(yolo())
    assert not is_detector(nn.Sequential(nn.Conv2d(3, 4, 1)))


def test_vectors():
    rows = torch.rand(2, 5)
    for output in (rows, {"image_embeds": rows}, (None, rows[:, :, None, None]), SimpleNamespace(pooler_output=rows)):
        assert torch.equal(embedding(output), rows)
    with pytest.raises(whycam.OutputError, match="no vector for each sample can be read"):
        embedding(torch.rand(2, 3, 4, 4))
