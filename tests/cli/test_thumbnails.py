"""One overlay for each layer on one sheet, all from one pass."""

import nets
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import whycam
from whycam import Preprocess, VisionModel, WhycamError
from whycam.checkup.layers import LayerInfo
from whycam.cli.thumbnails import is_chosen, select, thumbnails
from whycam.kit.registry import methods

GREEN = (42, 157, 58)


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)


def vision(module: nn.Module, side: int = 8) -> VisionModel:
    return VisionModel(module, Preprocess.imagenet(side, side), ["a", "b", "c", "d", "e"])


def layer(name: str, grid: tuple[int, ...] = (4, 4), chosen: tuple[str, ...] = ()) -> LayerInfo:
    return LayerInfo(
        name, (), "Conv2d", (1, 1, *grid), grid, (2.0, 2.0), "channels first", "by construction", chosen, ""
    )


def panels(sheet):
    """Each panel's title, note and picture."""
    found = []
    for axes in sheet.figure.axes:
        if axes.images or axes.texts:
            picture = np.asarray(axes.images[0].get_array()) if axes.images else None
            found.append((axes.get_title(), axes.get_xlabel(), picture))
    return found


# --- which layers


def test_few_layers_are_all_drawn():
    every = [layer(f"a.b{number}") for number in range(24)]
    assert select(every) == every


def test_shallow_names_come_first_as_many_levels_as_fit():
    blocks = [layer(f"blocks.{number}") for number in range(12)]
    inside = [layer(f"blocks.{number}.{part}") for number in range(12) for part in ("norm", "mlp")]
    found = [layer("stem"), *blocks, *inside, layer("head")]
    assert select(found) == [layer("stem"), *blocks, layer("head")]
    assert select(found, most=13) != select(found, most=14)


def test_where_a_level_holds_too_many_each_grid_and_the_last_ones_are_drawn():
    found = [layer(f"features.{number}", (64 // 2 ** (number // 8),) * 2) for number in range(40)]
    assert [each.name for each in select(found)] == [
        f"features.{number}" for number in (7, 15, 23, 31, 32, 33, 34, 35, 36, 37, 38, 39)
    ]
    # a few shallow ones, here two, are kept besides
    found = [layer("stem"), *found, layer("head")]
    assert [each.name for each in select(found)] == [
        "stem", *(f"features.{number}" for number in (7, 15, 23, 31, 33, 34, 35, 36, 37, 38, 39)), "head",
    ]  # fmt: skip


def test_enough_shallow_ones_are_left_alone():
    shallow = [layer(f"stage{number}") for number in range(8)]
    deep = [layer(f"stage{number}.{part}") for number in range(8) for part in range(9)]
    assert select([*shallow, *deep]) == shallow


def test_the_chosen_ones_are_always_drawn():
    deep = [layer(f"a.b.c{number}", chosen=("every method",) if number == 3 else ()) for number in range(60)]
    shallow = [layer(f"stage{number}") for number in range(9)]
    assert [each.name for each in select([*deep, *shallow])] == ["a.b.c3", *(each.name for each in shallow)]


# --- the sheet


def test_each_layer_has_its_own_map_from_one_pass(photo):
    model = vision(nets.plain())
    sheet = thumbnails(model, photo)
    assert [each.name for each in sheet.shown] == ["conv1", "relu1", "conv2", "relu2"]
    assert (sheet.left_out, sheet.why) == ((), "")
    assert (sheet.comparison.cost.forwards, sheet.comparison.cost.backwards) == (1, 1)
    for name in ("conv1", "relu2"):
        alone = whycam.explain(model, photo, layer=name)
        torch.testing.assert_close(sheet.comparison["grad_cam", name].maps, alone.maps)
    drawn = panels(sheet)
    assert [(title, note) for title, note, _ in drawn] == [
        ("photo", str(sheet.comparison["grad_cam", "conv1"].predictions[0])),
        ("conv1", "8x8"), ("relu1", "8x8"), ("conv2 (chosen)", "4x4"), ("relu2", "4x4"),
    ]  # fmt: skip
    np.testing.assert_array_equal(drawn[0][2], photo)
    overlay = np.asarray(sheet.comparison["grad_cam", "relu2"].overlay(caption=False))
    np.testing.assert_array_equal(drawn[4][2], overlay)


def test_the_chosen_one_is_framed_and_the_others_are_not(photo):
    for method, chosen in (("grad_cam", "conv2"), ("layer_cam", "relu2")):
        for title, _, picture in panels(thumbnails(vision(nets.plain()), photo, method=method)):
            framed = tuple(picture[0, 0]) == tuple(picture[-1, -1]) == tuple(picture[2, 30]) == GREEN
            assert framed == (title == f"{chosen} (chosen)"), (method, title)
            assert tuple(picture[20, 30]) != GREEN


def test_a_status_that_is_not_ok_is_said(photo):
    model = nets.plain()
    model.conv2.bias.data.fill_(-1e3)
    notes = {title: note for title, note, _ in panels(thumbnails(vision(model), photo))}
    assert notes["relu1"] == "8x8; zero gradient"


def test_a_method_that_is_refused_at_a_layer_says_why_in_its_place(photo):
    sheet = thumbnails(vision(nets.plain()), photo, method="cam")
    assert [title for title, _, picture in panels(sheet) if picture is None] == ["conv1", "relu1", "conv2"]
    assert [title for title, _, picture in panels(sheet) if picture is not None] == ["photo", "relu2 (chosen)"]


def test_what_is_left_out_is_said(photo):
    deep = nets.fixed(Deep())
    sheet = thumbnails(vision(deep), photo)
    assert len(sheet.shown) == 12
    assert len(sheet.left_out) == 60 - 12
    assert sheet.why == "48 inside those drawn or like them"
    assert {each.name for each in sheet.shown}.isdisjoint(each.name for each in sheet.left_out)
    assert sheet.figure.get_suptitle().endswith("at 12 of 60 layers")
    every = thumbnails(vision(deep), photo, every=True)
    assert len(every.shown) == 60
    assert every.why == ""


class Deep(nn.Module):
    """Sixty convolutions in a list of twelve blocks, named one level deep."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(5))) for _ in range(12)
        )
        self.head = nn.Linear(3, 5)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(nets.spatial_mean(x))


def test_layers_whose_positions_lie_elsewhere_are_left_out(photo):
    found = [layer("conv1", (8, 8)), layer("conv2"), layer("relu2")]
    found[1] = LayerInfo(**{**vars(found[1]), "location": "refuted"})
    found[2] = LayerInfo(**{**vars(found[2]), "location": "undetermined"})
    sheet = thumbnails(vision(nets.plain()), photo, found)
    assert [each.name for each in sheet.shown] == ["conv1", "relu2"]
    assert sheet.why == "1 whose positions do not lie as in the input, or are not in two axes"
    assert [note for _, note, _ in panels(sheet)][-1] == "4x4, place undetermined"
    with pytest.raises(WhycamError, match="no layer of this network has two spatial axes"):
        thumbnails(vision(nets.plain()), photo, [found[1]])


def test_a_method_without_a_layer_is_refused(photo):
    with pytest.raises(WhycamError, match="Guided backprop works at the input"):
        thumbnails(vision(nets.plain()), photo, method="guided_backprop")


def test_a_ready_batch_shows_its_first_sample():
    sheet = thumbnails(nets.plain(), nets.images(2))
    assert panels(sheet)[0][0] == "input"
    assert len(sheet.comparison["grad_cam", "conv1"].maps) == 2


def test_a_large_photo_is_drawn_small_and_read_whole():
    rng = np.random.default_rng(1)
    large = Image.fromarray(rng.integers(0, 255, (900, 1200, 3), dtype=np.uint8))
    model = vision(nets.plain())
    sheet = thumbnails(model, large)
    assert {picture.shape[:2] for *_, picture in panels(sheet)} == {(300, 400)}
    torch.testing.assert_close(sheet.comparison["grad_cam", "conv2"].maps, whycam.explain(model, large).maps)
    # the middle of the photo, which is all that the network saw, is where the unhatched part of the small one is
    overlay = panels(sheet)[3][2]
    assert np.ptp(overlay[150, 10].astype(int)) == 0  # gray outside
    assert np.ptp(overlay[100:200, 100:300].astype(int), axis=-1).max() > 0


def test_which_layer_is_a_methods_own():
    table = methods()
    for chosen, before, after in (
        (("every method",), True, True),
        (("Grad-CAM and Guided Grad-CAM",), True, False),
        (("every other method",), False, True),
        ((), False, False),
    ):
        assert is_chosen(layer("a", chosen=chosen), table["grad_cam"]) == before
        assert is_chosen(layer("a", chosen=chosen), table["layer_cam"]) == after
