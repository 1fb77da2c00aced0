"""Boxes, outlines and points over a picture, pixel by pixel."""

import detectors
import nets
import numpy as np
import pytest
import torch
from PIL import Image

import whycam
from whycam.pictures.marks import marked

GRAY = Image.new("RGB", (60, 40), (120, 120, 120))


def changed(picture):
    return (np.asarray(picture) != 120).any(2)


def test_the_box_is_bold_where_it_is_and_others_are_thin():
    picture = marked(GRAY, lambda x, y: (2 * x, 2 * y), box=(5, 4, 20, 15), others=[(22, 2, 28, 8)])
    seen = changed(picture)
    assert seen[8, 10:41].all()
    assert seen[8:31, 40].all()
    assert not seen[14:25, 16:35].any()
    assert not seen[:7, :38].any()
    assert seen[4, 44:57].all()
    assert not seen[6:14, 47:54].any()
    assert np.asarray(GRAY).std() == 0


def test_the_outline_of_a_region_lies_inside_it_and_not_along_the_border():
    region = np.zeros((40, 60), bool)
    region[10:30, :25] = True
    seen = changed(marked(GRAY, lambda x, y: (x, y), region=region))
    assert seen[10, :25].all()
    assert seen[15:25, 24].all()
    assert not seen[15:25, :20].any()
    assert not seen[~region].any()


def test_a_point_is_a_cross():
    seen = changed(marked(GRAY, lambda x, y: (x, y), point=(30, 20)))
    assert seen[20, 27:34].all()
    assert seen[17:24, 30].all()
    assert not seen[:10].any()


@pytest.mark.parametrize("marks", [True, False])
def test_an_overlay_shows_what_is_explained(marks):
    model, inputs = detectors.made(detectors.retinanet)
    found = whycam.explain(model, inputs, target=whycam.targets.Box(0))
    plain = np.asarray(found.overlay(marks=False, caption=False))
    picture = np.asarray(found.overlay(marks=marks, caption=False))
    left, top, right, bottom = (round(side) for side in found.shown[0].box)
    differs = (picture != plain).any(2)
    assert bool(differs.any()) is marks
    if marks:
        assert differs[max(top, 1) : bottom, max(left, 1) : right].any()


def test_a_region_is_outlined_on_a_segmenters_overlay():
    torch.manual_seed(0)
    model = nets.fixed(
        torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 1))
    )
    mask = torch.zeros(20, 30)
    mask[5:15, 8:20] = 1
    target = whycam.targets.Region(1, mask=mask)
    found = whycam.explain(model.double(), torch.rand(1, 3, 20, 30).double(), target=target, layer="0")
    plain, picture = (np.asarray(found.overlay(marks=each, caption=False)) for each in (False, True))
    differs = (picture != plain).any(2)
    assert differs[5, 8:20].any()
    assert not differs[:5].any()
