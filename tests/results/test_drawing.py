"""Which picture a map is laid on, and which panels stand side by side."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import nn

import whycam
from whycam.errors import WhycamError
from whycam.kit.registry import methods
from whycam.kit.status import Status
from whycam.pictures.colormaps import colorize, hues
from whycam.pictures.overlay import paint_parts, side_by_side
from whycam.pictures.preprocess import Preprocess
from whycam.pictures.strips import with_numbers
from whycam.results.grids import _COLUMNS_OF_A_TABLE


class Sum(nn.Module):
    """A network whose Grad-CAM is its input: two classes, the sum of one channel each."""

    def __init__(self) -> None:
        super().__init__()
        self.feature = nn.Identity()

    def forward(self, x):
        return self.feature(x).flatten(2).sum(-1)[:, :2]


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.act = nn.ReLU()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(self.act(self.conv(x)).mean((-2, -1)))


@pytest.fixture
def left_half() -> torch.Tensor:
    """One image, 8 x 8, whose first channel is 1 on the left half and 0 elsewhere."""
    batch = torch.zeros(1, 3, 8, 8)
    batch[:, 0, :, :4] = 1
    return batch


def test_the_classic_overlay_is_three_tenths_heat_and_seven_tenths_photo(left_half):
    e = whycam.explain(Sum().eval(), left_half, layer="feature", target=0)
    picture = np.asarray(e.overlay(colormap="jet", opacity=0.3, blend="even")).astype(float)
    # the input's own picture: 255 red on the left; jet's ends are dark red (128, 0, 0) and dark blue (0, 0, 128)
    np.testing.assert_allclose(picture[0, 0], [0.7 * 255 + 0.3 * 128, 0, 0], atol=1)
    np.testing.assert_allclose(picture[0, 7], [0, 0, 0.3 * 128], atol=1)


def test_signed_colors_show_evidence_against(left_half):
    e = whycam.explain(Sum().eval(), left_half * torch.tensor([1.0, -1, 0])[:, None, None], "hires_cam", target=0)
    plain = np.asarray(e.overlay(opacity=1.0, colormap="gray", blend="even"))
    assert plain[0, 0].tolist() == [255, 255, 255]
    assert plain[0, 7].tolist() == [0, 0, 0]


def test_a_map_that_shows_nothing_is_drawn_flat_with_its_status(left_half):
    e = whycam.explain(Sum().eval(), -left_half, layer="feature", target=0)
    assert e.status[0].kind == "no positive evidence"
    assert not e.heatmaps().any()
    captioned, bare = e.overlay(), e.overlay(caption=False)
    assert bare.size == (8, 8)
    assert captioned.height > bare.height


def test_the_overlay_lies_on_the_original_photo_where_the_network_looked():
    photo = np.zeros((20, 40, 3), np.uint8)
    photo[:, 20:, 0] = 255  # right half red
    e = whycam.explain(
        Sum().eval(), photo, layer="feature", target=0, preprocess=Preprocess((8, 8), resize_to=8, std=(1, 1, 1))
    )
    laid = np.asarray(e.overlay(opacity=1.0, colormap="gray", blend="even", caption=False)).astype(int)
    assert laid.shape == (20, 40, 3)
    # 20 x 40 -> 8 x 16, the middle 8 x 8: the photo's columns 10 to 30 were seen
    seen = laid[:, 10:30]
    assert seen[:, :8].max() == 0  # left of the edge there is no evidence
    assert seen[:, 14:].min() == 255
    unseen = laid[:, 32:]
    assert unseen.max() < 255
    assert (unseen[..., 0] == unseen[..., 1]).all()  # gray: no color of the photo, none of the map
    on_input = e.overlay(on="input")
    assert on_input.size == (8, 8)


def test_a_huge_photo_is_shrunk_before_it_is_drawn_on():
    photo = Image.new("RGB", (5000, 1000), "red")
    e = whycam.explain(Sum().eval(), photo, layer="feature", target=0, preprocess=Preprocess((8, 8), resize_to=8))
    assert e.overlay(caption=False).size == (2048, 410)


def test_samples_stand_side_by_side_and_one_can_be_taken(left_half):
    e = whycam.explain(Sum().eval(), left_half.repeat(3, 1, 1, 1), layer="feature", target=0)
    assert e.overlay().width > 3 * 8
    assert e[1].overlay().size == (8, 8)


def test_four_panels_for_each_sample(left_half):
    e = whycam.explain(Sum().eval(), left_half.repeat(2, 1, 1, 1), layer="feature", target=0)
    figure = e.figure()
    assert len([axes for axes in figure.axes if axes.get_title()]) == 8
    assert [axes.get_title() for axes in figure.axes[:4]] == [
        "Photo", "Map at the layer", "Map at the input's size", "Overlay",
    ]  # fmt: skip
    np.testing.assert_allclose(figure.axes[1].images[0].get_array(), e.maps[0])


def test_signed_panels_have_the_middle_color_where_nothing_is(left_half):
    e = whycam.explain(Sum().eval(), left_half - 0.5, "hires_cam", layer="feature", target=0)
    e = replace(e, maps=e.maps - e.maps.mean())
    plain, signed = (e.figure(signed=signed).axes[2].images[0].get_array() for signed in (False, True))
    wanted = colorize(e.heatmaps(normalize="signed")[0], signed=True)
    np.testing.assert_array_equal(np.asarray(signed)[4, [0, 7]], wanted[4, [0, 7]])
    assert not np.array_equal(plain, signed)


def test_a_comparison_varies_what_varies(left_half):
    model = Pooled().eval()
    one = whycam.compare(model, left_half, ["grad_cam", "hires_cam", "eigen_cam"]).figure()
    assert [axes.get_title() for axes in one.axes] == ["Input", "Grad-CAM", "HiResCAM", "Eigen-CAM"]
    c = whycam.compare(model, left_half, ["grad_cam", "cam"], layers=["conv", "act"], targets=[0, 2])
    two = c.figure()
    rows = [axes.get_ylabel() for axes in two.axes if axes.get_ylabel()]
    assert rows == ["class 0, conv", "class 0, act", "class 2, conv", "class 2, act"]
    assert len(two.axes) == 12
    refused = [text.get_text() for axes in two.axes for text in axes.texts if "CAM needs" in text.get_text()]
    assert len(refused) == 2  # CAM at conv, for each target


def test_one_method_at_several_layers_is_a_row_of_layers(left_half):
    figure = whycam.compare(Pooled().eval(), left_half, ["grad_cam"], layers=["conv", "act"]).figure()
    assert [axes.get_title() for axes in figure.axes] == ["Input", "conv", "act"]


def test_what_is_no_picture_says_so():
    model = nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()).eval()
    e = whycam.explain(model, torch.rand(1, 2, 16), target=1)
    with pytest.raises(WhycamError, match=r"the input's axes, two or three; these have 1 .* figure\(\) draws signals"):
        e.overlay()
    with pytest.raises(WhycamError, match="on must be 'photo' or 'input', not 'sky'"):
        e.overlay(on="sky")
    assert e._repr_html_().count("<img") == 1  # that figure


def test_all_samples_stand_in_columns_with_their_raw_maps_beside(left_half):
    c = whycam.compare(
        Pooled().eval(), left_half.repeat(2, 1, 1, 1), ["grad_cam", "cam"], layers=["conv", "act"], labels=list("abc")
    )
    figure = c.figure(sample=None, maps=True)
    rows = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
    assert rows == ["Grad-CAM, conv", "Grad-CAM, act", "CAM, act", "CAM, conv"]
    assert len(figure.axes) == 4 * 4
    np.testing.assert_allclose(figure.axes[2].images[0].get_array(), c["grad_cam", "conv"].maps[1])
    assert "conv" not in figure.axes[1].get_xlabel()  # the row says so already
    assert sum("CAM needs" in text.get_text() for axes in figure.axes for text in axes.texts) == 4
    assert len(c.figure(sample=None).axes) == 4 * 2
    assert len(c.figure(sample=1, maps=True).axes) == 4 * 2


@pytest.mark.parametrize(("more", "rows"), [(0, 2), (1, _COLUMNS_OF_A_TABLE + 1)])
def test_more_methods_than_a_page_holds_become_rows(more, rows, left_half):
    names = [name for name, each in methods().items() if each.needs <= {"activations", "gradients"}]
    names = names[: _COLUMNS_OF_A_TABLE + more]
    figure = whycam.compare(Pooled().eval(), left_half, names, targets=[0, 1]).figure()
    assert sum(bool(axes.get_ylabel()) for axes in figure.axes) == rows
    assert len(names) == _COLUMNS_OF_A_TABLE + more


def test_single_spikes_do_not_leave_a_map_of_pixels_black():
    batch = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    batch[0, 0, 0, 0] = 1e4
    e = whycam.explain(Sum().eval(), batch, layer="feature", target=0)
    median = np.asarray(e.overlay(opacity=1.0, colormap="gray", blend="even")).reshape(-1, 3).mean(1)
    assert np.median(median) > 64
    assert "99.5% quantile" in e.figure().axes[3].get_xlabel().replace("\n", " ")
    assert float(e.heatmaps().median()) < 1e-3  # the values themselves are not touched


def test_a_size_for_another_rank_is_refused(left_half):
    e = whycam.explain(Sum().eval(), left_half, layer="feature", target=0)
    with pytest.raises(WhycamError, match="size has 3 numbers for maps with 2 spatial axes"):
        e.heatmaps(size=(8, 8, 3))


def test_a_signed_raw_map_has_zero_in_the_middle_of_its_colors(left_half):
    c = whycam.compare(Sum().eval(), 2 * left_half - 0.5, ["hires_cam"], layers=["feature"], targets=[0])
    maps = c["hires_cam"].maps
    assert (float(maps.min()), float(maps.max())) == (-0.5, 1.5)
    assert c["hires_cam"].figure().axes[1].images[0].get_clim() == (-1.5, 1.5)
    assert c.figure(sample=None, maps=True).axes[0].images[0].get_clim() == (-1.5, 1.5)


def test_a_figure_shows_the_sample_that_was_asked_for(left_half):
    batch = torch.cat([left_half, left_half.flip(-1)])
    c = whycam.compare(Sum().eval(), batch, ["grad_cam", "hires_cam"], layers=["feature"], targets=[0])
    for sample in (0, 1):
        drawn = np.asarray(c.figure(sample=sample).axes[1].images[0].get_array())
        np.testing.assert_array_equal(drawn, np.asarray(c["grad_cam"][sample].overlay(on="input")))
    assert not np.array_equal(*(np.asarray(c["grad_cam"][i].overlay(on="input")) for i in (0, 1)))


def test_a_shrunk_photo_has_its_map_in_the_same_place():
    photo = np.zeros((1000, 4000, 3), np.uint8)
    photo[:, 2000:, 0] = 255
    how = Preprocess((8, 8), resize_to=8, std=(1, 1, 1))
    e = whycam.explain(Sum().eval(), photo, layer="feature", target=0, preprocess=how)
    laid = np.asarray(e.overlay(opacity=1.0, colormap="gray", blend="even", caption=False)).astype(int)
    assert laid.shape == (512, 2048, 3)
    # the middle 1000 of 4000 columns were seen, 768 to 1280 of 2048, and the right half of them holds the evidence
    assert laid[:, 800:950].max() == 0
    assert laid[:, 1150:1270].min() == 255
    assert (laid[:, 1300:].max(-1) == laid[:, 1300:].min(-1)).all()


def test_trap_n7_maps_are_resized_before_they_are_scaled():
    batch = torch.zeros(1, 3, 4, 4)
    batch[0, 0, 1, 1] = 1
    e = whycam.explain(Sum().eval(), batch, layer="feature", target=0)
    up = torch.nn.functional.interpolate(e.maps[None], (6, 6), mode="bilinear", align_corners=False)[0]
    assert float(up.max()) < float(e.maps.max())  # the grid of six misses the peak of four
    torch.testing.assert_close(e.heatmaps((6, 6)), up / up.max())


@pytest.fixture
def in_parts(left_half) -> whycam.Explanation:
    """Two samples: of the first, part 1 lies on the left half and part 2, a quarter as strong, on the right; of the
    second only part 2, and half as strong, at the left."""
    batch = torch.full((2, 3, 8, 8), 0.5)
    batch[:, :, 0, 0], batch[:, :, 0, 7] = 0, 1  # grays are stretched to their range
    e = whycam.explain(Sum().eval(), batch, layer="feature", target=0)
    parts = torch.zeros(2, 2, 8, 8)
    parts[0, 0, :, :4], parts[0, 1, :, 4:] = 8.0, 2.0
    parts[1, 1, :, :4] = 1.0
    return replace(e, parts=parts, maps=parts.sum(1), values={"residual": torch.tensor([0.25, 0.5])})


def above_the_numbers(picture):
    """The eight by eight pixels in the middle of the strip that holds the numbers."""
    return np.asarray(picture)[:8, 76:84].astype(float)


def test_each_part_has_a_color_and_its_strength_the_opacity(in_parts):
    # blue and red are the ends of this color map, which two parts are taken from at a quarter and three quarters
    picture = above_the_numbers(in_parts[0].overlay(colormap="bwr", opacity=0.6))
    first, second = (np.array(color, float) for color in ([128, 128, 255], [255, 126, 126]))
    gray = 127.5
    np.testing.assert_allclose(picture[4, 1], 0.6 * first + 0.4 * gray, atol=2)
    np.testing.assert_allclose(picture[4, 6], 0.3 * second + 0.7 * gray, atol=2)  # the root of a quarter
    # the other sample's scale is its own: its strongest part is drawn in full, and nothing where there is none
    picture = above_the_numbers(in_parts[1].overlay(colormap="bwr", opacity=0.6))
    np.testing.assert_allclose(picture[4, 1], 0.6 * second + 0.4 * gray, atol=2)
    np.testing.assert_allclose(picture[4, 6], [gray] * 3, atol=1)


def test_parts_are_numbered_below_and_their_status_below_that(in_parts):
    picture = in_parts[0].overlay()
    pixels = np.asarray(picture)
    assert picture.width == 160
    assert pixels[8:, 0].tolist() == [[24, 24, 24]] * (picture.height - 8)
    colors = {tuple(pixel) for pixel in pixels[8:].reshape(-1, 3).tolist()}
    for color in hues(2):
        assert tuple(map(int, color)) in colors
    late = replace(in_parts[0], status=(Status("not converged", "more steps"),))
    assert late.overlay().height > picture.height
    assert late.overlay(caption=False).height == picture.height
    both = side_by_side([in_parts[0].overlay(), in_parts[1].overlay()])
    np.testing.assert_array_equal(np.asarray(in_parts.overlay()), np.asarray(both))


def test_parts_lie_on_the_original_photo_where_the_network_looked():
    photo = np.full((20, 40, 3), 128, np.uint8)
    how = Preprocess((8, 8), resize_to=8, std=(1, 1, 1))
    e = whycam.explain(Sum().eval(), photo, layer="feature", target=0, preprocess=how)
    parts = torch.zeros(1, 2, 8, 8)
    parts[0, 0, :, :4], parts[0, 1, :, 4:] = 1.0, 1.0
    laid = np.asarray(replace(e, parts=parts).overlay(opacity=1.0))[:20, 60:100].astype(int)  # on a strip of 160
    first, second = hues(2).astype(int)
    # the photo's columns 10 to 30 were seen, the first part is on their left half
    assert (laid[:, 10:18] == first).all()
    assert (laid[:, 22:30] == second).all()
    for outside in (laid[:, :10], laid[:, 30:]):
        assert (outside == outside[..., :1]).all()


def test_a_figure_shows_each_part_by_itself(in_parts):
    more = replace(in_parts, parts=torch.cat([in_parts.parts] * 3, 1))
    figure = more[0].figure()
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles[3:] == ["Overlay", *(f"Part {k}" for k in range(1, 7))]
    assert len([axes for axes in in_parts.figure().axes if axes.get_title()]) == 2 * (4 + 2)
    shown = [axes.images[0].get_array() for axes in figure.axes if axes.get_title().startswith("Part")]
    for k, picture in enumerate(shown):
        left, right = picture[4, 1].astype(int), picture[4, 6].astype(int)
        assert (np.ptp(left) > 8) == (k % 2 == 0)  # part 1, 3 and 5 color the left half alone
        assert (np.ptp(right) > 8) == (k % 2 == 1)
        if k % 2 == 0:
            np.testing.assert_allclose(left, 0.8 * hues(6)[k].astype(float) + 0.2 * 127.5, atol=2)


def test_a_comparison_draws_parts_as_well(in_parts):
    both = whycam.compare(Sum().eval(), in_parts.context.inputs, ["grad_cam", "hires_cam"], layers=["feature"])
    each = {key: replace(one, parts=in_parts.parts) for key, one in both.items()}
    figure = whycam.Comparison(each, {}, both.cost).figure(sample=1)
    drawn = np.asarray(figure.axes[1].images[0].get_array())
    np.testing.assert_array_equal(drawn, np.asarray(each[next(iter(each))][1].overlay(on="input")))
    assert "<img" in in_parts._repr_html_()


def test_parts_that_show_nothing_are_drawn_gray(in_parts):
    for parts in (torch.zeros(1, 2, 8, 8), -in_parts.parts[:1], torch.full((1, 2, 8, 8), torch.nan)):
        pixels = above_the_numbers(replace(in_parts[0], parts=parts).overlay())
        assert (pixels == pixels[..., :1]).all()


def test_parts_without_a_picture_say_so():
    model = nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()).eval()
    e = whycam.explain(model, torch.rand(1, 2, 16), target=1)
    with pytest.raises(WhycamError, match="axes, two or three; these have 1 "):
        replace(e, parts=e.maps[:, None]).overlay()


def test_samples_keep_their_parts_and_values(in_parts):
    assert torch.equal(in_parts[1].parts, in_parts.parts[1:])
    assert in_parts[-1].values["residual"].tolist() == [0.5]
    assert [each.values["residual"].tolist() for each in in_parts] == [[0.25], [0.5]]
    plain = whycam.explain(Sum().eval(), in_parts.context.inputs, layer="feature", target=0)
    assert plain.parts is None
    assert plain.values == {}
    assert plain[1].parts is None


def test_the_strongest_part_wins_each_pixel_and_what_is_no_number_has_no_color():
    strengths = torch.tensor([[[0.2, 1.0, 0.0]], [[0.6, 0.9, torch.nan]], [[0.4, 0.0, 0.5]]])
    colors = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200]], np.uint8)
    image = Image.new("RGB", (3, 1), (0, 100, 0))  # whose gray is 58.7
    picture = np.asarray(paint_parts(strengths, colors, opacity=0.5).over(image)).astype(float)
    share = 0.5 * 0.6**0.5
    rest = (1 - share) * 58.7
    expected = [[rest, share * 200 + rest, rest], [100 + 29.35, 29.35, 29.35], [64 + 29.35] * 3]
    np.testing.assert_allclose(picture[0], expected, atol=0.51)


def test_many_parts_are_numbered_in_several_rows(monkeypatch):
    written = []
    write = ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "text", lambda self, at, text, **how: (written.append(text), write(self, at, text, **how))
    )
    picture = with_numbers(Image.new("RGB", (6, 6)), hues(30))
    assert written == [str(number) for number in range(1, 31)]
    few = with_numbers(Image.new("RGB", (6, 6)), hues(3))
    assert picture.width == few.width
    assert picture.height > few.height + 2 * 11
    found = {tuple(pixel) for pixel in np.asarray(picture)[6:].reshape(-1, 3).tolist()}
    assert {tuple(map(int, color)) for color in hues(30)} <= found


def test_hues_are_evenly_apart():
    colors = hues(6).astype(float)
    gaps = [np.abs(one - other).sum() for i, one in enumerate(colors) for other in colors[:i]]
    assert min(gaps) > 60
    assert np.ptp(colors @ [0.299, 0.587, 0.114]) < 60  # and of about one lightness
    assert hues(2, "gray").tolist() == [[64] * 3, [192] * 3]
    with pytest.raises(WhycamError, match="no color map 'phas'"):
        hues(3, "phas")


def test_an_opacity_that_is_no_share_is_refused():
    with pytest.raises(WhycamError, match=r"opacity must be from 0 .* not 1\.5"):
        paint_parts(torch.zeros(2, 4, 4), hues(2), opacity=1.5)
