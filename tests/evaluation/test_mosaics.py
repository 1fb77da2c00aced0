"""Mosaics of photos whose every pixel says which photo it is of."""

import pytest
import torch
from torch import Tensor

import whycam
from whycam.errors import InputError
from whycam.evaluation.mosaics import Mosaics, mosaics


def numbered(photos: int, height: int = 5, width: int = 7) -> Tensor:
    """Photos of one color each, the photo's number."""
    return torch.arange(photos).double()[:, None, None, None].expand(photos, 3, height, width).clone()


def made(classes: list[int], probabilities: list[float] | None = None, **options) -> Mosaics:
    sure = torch.tensor(probabilities if probabilities is not None else [0.9] * len(classes))
    return mosaics(numbered(len(classes)), torch.tensor(classes), sure, **options)


@pytest.mark.parametrize("side", [2, 3])
def test_each_cell_is_a_photo_of_a_class_of_its_own(side):
    classes = [number % 11 for number in range(44)]
    found = made(classes, side=side)
    assert found.inputs.shape == (44 // side**2, 3, 5 * side, 7 * side)
    for photos, named, picture in zip(found.photos.tolist(), found.classes.tolist(), found.inputs, strict=True):
        assert len(set(named)) == side**2
        assert named == [classes[each] for each in photos]
        for cell, photo in enumerate(photos):
            row, column = divmod(cell, side)
            assert (picture[:, 5 * row : 5 * row + 5, 7 * column : 7 * column + 7] == photo).all()
    used = found.photos.flatten().tolist()
    assert len(set(used)) == len(used)


@pytest.mark.parametrize("shrink", [False, True])
@pytest.mark.parametrize("side", [2, 3])
def test_masks_are_the_cells(side, shrink):
    found = made(list(range(9)), side=side, shrink=shrink)
    masks = torch.stack([found.mask(cell) for cell in range(side**2)])
    assert (masks.sum(0) == 1).all()
    for cell, mask in enumerate(masks):
        for picture, own, photo in zip(found.inputs, mask, found.photos[:, cell].tolist(), strict=True):
            torch.testing.assert_close(picture[:, own], torch.full_like(picture[:, own], photo))


def test_shrunk_mosaics_have_the_size_of_a_photo():
    assert made(list(range(9)), side=3, shrink=True).inputs.shape == (1, 3, 5, 7)


def test_there_are_as_many_as_can_be_without_a_photo_twice():
    """Most photos are of one class: each mosaic has to hold one of them for none of the others to be left."""
    assert len(made([0] * 5 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3 + [5] * 3)) == 5
    assert len(made([0] * 50 + [1, 2, 3])) == 1


def test_more_can_be_asked_for():
    found = made([0, 0, 1, 2, 3, 4], number=7)
    assert len(found) == 7
    assert all(len(set(each)) == 4 for each in found.classes.tolist())
    assert set(found.photos.flatten().tolist()) == set(range(6))
    assert len(made(list(range(40)), number=3)) == 3


def test_photos_of_which_the_network_is_not_sure_or_not_right_are_left_out():
    classes, sure = list(range(8)), [0.5, 0.49, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9]
    assert set(made(classes, sure, number=9).photos.flatten().tolist()) == {0, 2, 4, 5, 6, 7}
    labels = [0, 1, 2, 3, 0, 5, 6, 6]
    assert set(made(classes, sure, number=9, labels=labels).photos.flatten().tolist()) == {0, 2, 5, 6}


def test_follows_the_seed_alone():
    torch.manual_seed(0)
    first = made(list(range(20)), seed=3)
    torch.manual_seed(1)
    assert torch.equal(made(list(range(20)), seed=3).photos, first.photos)
    assert not torch.equal(made(list(range(20)), seed=4).photos, first.photos)
    assert torch.equal(torch.rand(1), torch.manual_seed(1) and torch.rand(1))


@pytest.mark.parametrize("number", [None, 4])
def test_too_few_classes_are_told(number):
    expected = (
        "a mosaic of 2 x 2 takes photos of 4 classes that the network is sure of .probability 0.8 or more. and right "
        "about; there are 3, in 4 of 6 photos. Pass photos of more classes, or a lower confidence."
    )
    sure = [0.9, 0.9, 0.9, 0.9, 0.9, 0.7]
    with pytest.raises(InputError, match=expected):
        made([0, 0, 1, 2, 3, 4], sure, confidence=0.8, labels=[0, 0, 1, 2, 9, 4], number=number)


def test_a_method_that_knows_which_photo_is_asked_about_finds_its_cell():
    found = made(list(range(1, 9)))
    for cell in range(4):
        asked = found.photos[:, cell][:, None, None]
        maps = (found.inputs[:, 0] == asked).double() + 0.1
        share = whycam.metrics.grid_pointing_game(maps, masks=found.mask(cell))
        assert share.tolist() == pytest.approx([1.1 / 1.4] * 2)
