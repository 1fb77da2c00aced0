"""IROF: superpixels removed in loops; and what a peer gets wrong."""

import itertools
import sys

import numpy as np
import pytest
import torch
from metrics_by_hand import FourPixels, Seen, Small, drawn, probability_of, trapezoids
from skimage.segmentation import slic

from whycam.errors import MissingExtraError
from whycam.kit.superpixels import superpixels
from whycam.metrics import irof


def blocks(monkeypatch, labels):
    """Pieces that are known."""
    monkeypatch.setattr(sys.modules["whycam.metrics.irof"], "superpixels", lambda inputs, pieces: labels[: len(inputs)])


def by_hand(net, picture, values, pieces, index, behind):
    means = {piece: values[pieces == piece].mean() for piece in np.unique(pieces)}
    edited, heights = picture.copy(), [1.0]
    whole = probability_of(net, picture, index)
    for piece in sorted(means, key=means.get, reverse=True):
        for at in np.argwhere(pieces == piece):
            edited[(slice(None), *at)] = behind
        heights.append(probability_of(net, edited, index) / whole)
    return 1 - trapezoids(heights, [k / len(means) for k in range(len(means) + 1)]), len(means)


@pytest.mark.parametrize("space", [(40,), (16, 18), (6, 7, 8)], ids=["1d", "2d", "3d"])
def test_is_the_area_over_the_curve_of_pictures_without_their_first_pieces(space):
    net, inputs, maps = Small(axes=len(space)), drawn(4, 3, *space), drawn(4, *space, seed=3)
    inputs[0] += 30 * torch.linspace(0, 1, space[-1], dtype=torch.float64)  # so that it has other pieces
    found = irof(maps, net, inputs, 1, segments=9, curves=True)
    numbers = []
    for n in range(4):
        picture = inputs[n].numpy()
        sheet = np.moveaxis(picture, 0, -1).reshape(*(space if len(space) > 1 else (1, *space)), 3)
        pieces = slic(sheet, n_segments=9, start_label=0).reshape(space)
        behind = picture.reshape(3, -1).mean(1)
        expected, number = by_hand(net, picture, maps[n].numpy(), pieces, 1, behind)
        assert float(found.values[n]) == pytest.approx(expected, rel=1e-9)
        numbers.append(number)
    assert found.parts["segments"].tolist() == numbers
    assert len(set(numbers)) > 1


def test_a_linear_model_of_four_pixels(monkeypatch):
    net = FourPixels([[4.0, 3.0, 2.0, 1.0], [0.0] * 4])
    blocks(monkeypatch, torch.tensor([[[0, 0], [1, 2]]]))
    inputs = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    # the first piece's mean is 3, although its sum is larger than the second's
    found = irof(torch.tensor([[[2.0, 4.0], [5.0, 0.0]]]), net, inputs, lambda out: out[:, 0], baseline="zero")
    # 10, 8 without the second piece, 1 without the first, 0
    assert float(found) == pytest.approx(1 - (1 / 2 + 0.8 + 0.1 + 0 / 2) / 3, rel=1e-12)


def test_pictures_of_more_pieces_weigh_no_more(monkeypatch):
    """Quantus does not divide by the number of pieces, and leaves out the picture as it was."""
    net = FourPixels([[1.0] * 4, [0.0] * 4])
    inputs, maps = torch.ones(2, 1, 2, 2, dtype=torch.float64), torch.ones(2, 2, 2)
    blocks(monkeypatch, torch.tensor([[[0, 0], [1, 1]], [[0, 1], [2, 3]]]))
    found = irof(maps, net, inputs, lambda output: output[:, 0], baseline="zero", curves=True)
    assert found.values.tolist() == pytest.approx([0.5, 0.5])
    assert found.parts["segments"].tolist() == [2, 4]


def test_pieces_of_one_mean_go_in_an_order_that_no_other_picture_changes(monkeypatch):
    net, inputs, maps = Small(), drawn(2, 3, 2, 4), torch.zeros(2, 2, 4)
    blocks(monkeypatch, torch.tensor([[[0, 1, 2, 3], [0, 1, 2, 3]], [[0, 1, 2, 3], [4, 5, 6, 7]]]))
    assert irof(maps, net, inputs, 0)[0] == pytest.approx(float(irof(maps[:1], net, inputs[:1], 0)), rel=1e-12)
    assert irof(maps, net, inputs, 0)[0] != irof(maps, net, inputs, 0, seed=1)[0]


def test_pieces_go_in_all_colors_and_one_by_one():
    """Quantus fails on pictures in color with its own defaults."""
    inputs, maps = drawn(2, 3, 16, 18), drawn(2, 16, 18, seed=3)
    seen = Seen(lambda pictures: pictures.flatten(1).sum(1) + 1000)
    irof.function(maps, inputs, seen.function(inputs), seen, segments=9, baseline="zero")
    gone = [(each == 0).all(1) for each in seen.variants]
    assert torch.equal(gone[-1], torch.ones(2, 16, 18, dtype=torch.bool))
    for before, after in itertools.pairwise(gone):
        assert after[before].all()
    assert all(torch.equal((each == 0).all(1), (each == 0).any(1)) for each in seen.variants)


def test_of_a_score_that_is_not_above_0_it_is_not_defined():
    found = irof(
        torch.ones(2, 2, 2),
        FourPixels([[1.0] * 4] * 2, -1.0),
        torch.tensor([[[[1.0] * 2] * 2], [[[0.1] * 2] * 2]]).double(),
        lambda output: output[:, 0],
    )
    assert found.isnan().tolist() == [False, True]


def test_of_one_flat_color_there_are_pieces_too():
    assert superpixels(torch.full((1, 3, 12, 12), 0.5), 4).unique().tolist() == [0, 1, 2, 3]


def test_without_scikit_image_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(MissingExtraError, match=r"needs scikit-image.*pip install 'whycam\[evaluate\]'"):
        superpixels(torch.ones(1, 3, 8, 8), 4)
