"""Volumes, clips, signals and spectrograms as pictures: each cell of a map at its place, on one scale of colors."""

import io
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import whycam
from whycam.errors import InputError, MissingExtraError, WhycamError
from whycam.results.drawing import film, stacks
from whycam.results.look import Look

GRAY = {"colormap": "gray", "opacity": 1.0, "blend": "even"}  # the heat itself, from 0 to 255


class Cells(nn.Module):
    """A network whose Grad-CAM is its first channel, pooled: one cell for so many pixels along each axis."""

    def __init__(self, *step, signed=False):
        super().__init__()
        self.step, self.feature = step, nn.Identity()

    def forward(self, x):
        if x.ndim == 5 and x.shape[2] == 3 and x.shape[1] != 3:
            x = x.transpose(1, 2)
        pool = (nn.functional.avg_pool1d, nn.functional.avg_pool2d, nn.functional.avg_pool3d)[len(self.step) - 1]
        x = self.feature(pool(x[:, :1], self.step))
        return torch.cat([x.flatten(2).sum(-1), -x.flatten(2).sum(-1)], 1)


def lit(size, step, *cells, channels=1):
    """Zeros, and ones where those cells lie."""
    made = torch.zeros(1, channels, *size)
    for cell in cells:
        made[(..., *(slice(at * by, (at + 1) * by) for at, by in zip(cell, step, strict=True)))] = 1
    return made


def explained(inputs, step, **how):
    return whycam.explain(Cells(*step).eval(), inputs, how.pop("method", "grad_cam"), layer="feature", target=0, **how)


def centroid(gray):
    gray = np.asarray(gray, float)
    gray = gray[..., 0] if gray.ndim == 3 else gray
    return [float((gray * place).sum() / gray.sum()) for place in np.indices(gray.shape)]


def middle(cell, step):
    return [at * by + (by - 1) / 2 for at, by in zip(cell, step, strict=True)]


SIZE, STEP, CELL = (12, 40, 24), (3, 8, 4), (2, 3, 1)


def test_the_three_cuts_go_through_the_lit_cell_and_show_it_at_its_place():
    e = explained(lit(SIZE, STEP, CELL), STEP)
    strip = np.asarray(e.overlay(**GRAY).convert("RGB"))
    widths, gap = (24, 24, 40), 2
    down, across = middle(CELL, STEP)[1:], middle(CELL, STEP)
    left = 0
    for width, wanted in zip(widths, [down, [across[0], across[2]], [across[0], across[1]]], strict=True):
        height = (40, 12, 12)[widths.index(width)] if width == 40 else (40 if left == 0 else 12)
        cut = strip[:height, left : left + width]
        assert cut.max() == 255  # the peak itself, up to the step between the middles of cells and voxels
        np.testing.assert_allclose(centroid(cut), wanted, atol=0.5)
        left += width + gap
    assert left - gap == strip.shape[1]


def test_a_figure_of_a_volume_has_the_strongest_slices_below_each_cut():
    weak, strong = (0, 1, 1), (3, 4, 4)
    inputs = lit(SIZE, STEP, strong) + 0.25 * lit(SIZE, STEP, weak)
    figure = explained(inputs, STEP).figure()
    weakest, strongest = (
        ["depth 1 of 12", "height 12 of 40", "width 6 of 24"],
        ["depth 10 of 12", "height 36 of 40", "width 18 of 24"],
    )
    assert [axes.get_title() for axes in figure.axes] == [*strongest, *weakest, *strongest]
    assert [axes.get_xlabel() for axes in figure.axes[3:]] == ["20% of the map"] * 3 + ["80% of the map"] * 3
    assert "one scale of colors, to" in figure._suptitle.get_text()


def test_slices_of_a_volume_have_the_shape_that_they_have_in_the_world():
    affine = np.diag([1.0, 2.0, 4.0, 1.0])
    e = explained(whycam.Volume(lit(SIZE, STEP, CELL), affine), STEP)
    titles = [axes.get_title() for axes in e.figure().axes[:3]]
    assert [title.split()[0] for title in titles] == ["axial", "coronal", "sagittal"]
    axial, coronal, sagittal = (axes.images[0].get_array().shape[:2] for axes in e.figure().axes[:3])
    assert axial[0] / axial[1] == pytest.approx(40 * 2 / 24)
    assert coronal[0] / coronal[1] == pytest.approx(12 * 4 / 24)
    assert sagittal[0] / sagittal[1] == pytest.approx(12 * 4 / (40 * 2))


def test_all_frames_have_one_scale():
    """The second cell in time is half as strong, and is drawn so: a scale for each frame would make both white."""
    clip = lit((4, 16, 16), (2, 8, 8), (0, 1, 0), channels=3) + 0.5 * lit((4, 16, 16), (2, 8, 8), (1, 0, 1), channels=3)
    e = explained(whycam.Clip(clip, rate=2), (2, 8, 8))
    found = [np.asarray(axes.images[0].get_array()).max() for axes in e.figure(colormap="gray", blend="even").axes]
    assert [axes.get_title() for axes in e.figure().axes] == ["0.00 s", "0.50 s", "1.00 s", "1.50 s"]
    strip = np.asarray(e.overlay(**GRAY))
    frames = [strip[:, start : start + 16, 0] for start in range(0, strip.shape[1], 18)]
    assert len(frames) == len(found) == 4
    np.testing.assert_allclose([frame.max() for frame in frames], [255, 191, 96, 128], atol=2)
    np.testing.assert_allclose(centroid(frames[0]), middle((1, 0), (8, 8)), atol=0.5)
    np.testing.assert_allclose(centroid(frames[3]), middle((0, 1), (8, 8)), atol=0.5)


def test_what_does_not_change_does_not_flicker(tmp_path):
    """One cell is lit throughout, another more and more; the first has the same colors in every frame of the GIF."""
    steady = sum(lit((8, 64, 64), (1, 32, 32), (t, 0, 0), channels=3) for t in range(8))
    rising = sum(t / 4 * lit((8, 64, 64), (1, 32, 32), (t, 1, 1), channels=3) for t in range(8))
    clip = steady + rising
    many = torch.rand(1, 2, 8, 48, 32, generator=torch.Generator().manual_seed(0))  # colors, more than a GIF holds
    clip[:, 1:, :, 16:, 32:] = many
    clip[:, 1:, :, :16, :32] = many[:, :, :1, :16]  # the same in every frame
    e = explained(whycam.Clip(clip, rate=10), (1, 32, 32))
    (path,) = e.save(tmp_path / "clip.gif")
    with Image.open(path) as film:
        assert (film.n_frames, film.info["duration"], film.size) == (
            8,
            100,
            (256, 256),
        )  # four times as large, since it is small
        frames = []
        for number in range(8):
            film.seek(number)
            frames.append(np.asarray(film.convert("RGB"))[:64, :128])
    assert all((frame == frames[0]).all() for frame in frames)
    assert len(np.unique(frames[0].reshape(-1, 3), axis=0)) > 2


def test_a_film_as_mp4_has_each_frame_at_its_time(tmp_path):
    av = pytest.importorskip("av")
    clip = lit((6, 15, 21), (1, 5, 7), *((t, 1, t % 3) for t in range(6)), channels=3)  # sides that H.264 cannot hold
    e = explained(whycam.Clip(clip, rate=12.5), (1, 5, 7))
    (path,) = e.save(tmp_path / "clip.mp4", **GRAY)
    with av.open(str(path)) as film:
        assert float(film.streams.video[0].average_rate) == 12.5
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert [frame.shape for frame in frames] == [(256, 358, 3)] * 6  # 17 times as large, and even
    for t, frame in enumerate(frames):
        cell = frame[:255, :357].reshape(15, 17, 21, 17, 3).mean((1, 3)).clip(60) - 60
        np.testing.assert_allclose(centroid(cell), middle((1, t % 3), (5, 7)), atol=1.0)


def test_without_pyav_an_mp4_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    e = explained(whycam.Clip(lit((4, 8, 8), (1, 4, 4), (0, 1, 1), channels=3)), (1, 4, 4))
    with pytest.raises(MissingExtraError, match=r"MP4 .* needs PyAV, .*pip install 'whycam\[video\]'"):
        e.save(tmp_path / "clip.mp4")
    assert not (tmp_path / "clip.mp4").exists()


def test_frames_before_channels_are_a_clip_and_one_channel_a_volume():
    frames_first = torch.rand(1, 6, 3, 8, 8)
    net = nn.Sequential(nn.Flatten(0, 1), nn.Conv2d(3, 2, 3, padding=1), nn.Flatten(1), nn.Linear(128, 2))
    first = whycam.engine.inputs.make_batch(whycam.VisionModel(net), frames_first).context
    assert isinstance(first.medium(0), whycam.Clip)
    step = (2, 8, 8)
    kinds = {
        "clip": lit((4, 16, 16), step, (0, 0, 0), channels=3),
        "volume": lit((4, 16, 16), step, (0, 0, 0)),
        "signal": lit((16,), (4,), (1,)),
    }
    made = {"clip": step, "volume": step, "signal": (4,)}
    for name, inputs in kinds.items():
        assert type(explained(inputs, made[name]).context.medium(0)).__name__.lower() == name
    assert explained(lit((16, 16), (4, 4), (0, 0)), (4, 4)).context.medium(0) is None
    gray = explained(whycam.Clip(kinds["volume"]), step)
    assert [axes.get_title() for axes in gray.figure().axes] == [f"frame {i}" for i in range(4)]


@pytest.mark.parametrize("rate", [None, 50.0])
def test_a_signal_has_its_curves_over_the_colors_of_the_map(rate):
    step, cell = (10,), (7,)
    signal = torch.cat([lit((100,), step, cell), torch.linspace(-1, 1, 100)[None, None]], 1)
    e = explained(whycam.Signal(signal, rate=rate, channels=("lit", "other")), step)
    figure = e.figure(colormap="gray", blend="even")
    assert [axes.get_ylabel() for axes in figure.axes] == ["lit", "other"]
    assert figure.axes[-1].get_xlabel() == ("samples" if rate is None else "seconds")
    second = 1.0 if rate is None else 1 / rate
    for axes, curve in zip(figure.axes, signal[0].numpy(), strict=True):
        np.testing.assert_allclose(axes.lines[0].get_xdata(), np.arange(100) * second)
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), curve)
        (band,) = axes.images
        left, right = band.get_extent()[:2]
        colors = np.asarray(band.get_array())[0, :, 0].astype(float)
        places = left + (np.arange(len(colors)) + 0.5) * (right - left) / len(colors)
        assert float((colors * places).sum() / colors.sum()) == pytest.approx(74.5 * second, abs=0.5 * second)
        assert axes.get_xlim() == pytest.approx((-second / 2, 99.5 * second))


def test_what_speaks_against_has_another_color():
    e = explained(lit((40,), (10,), (0,)) - lit((40,), (10,), (3,)), (10,), signed=True)
    colors = np.asarray(e.figure().axes[0].images[0].get_array())[0].astype(int)
    positive, nothing, negative = colors[2], colors[20], colors[37]
    assert positive[0] > positive[2] + 20  # red
    assert negative[2] > negative[0] + 20  # blue
    assert nothing.max() < 20


def test_a_medium_stands_beside_other_inputs():
    class Both(Cells):
        def forward(self, other, clip):
            return super().forward(clip) + 0 * other

    clip = whycam.Clip(lit((4, 8, 8), (1, 4, 4), (0, 1, 1), channels=3), rate=4)
    inputs = {"other": torch.zeros(1, 2), "clip": clip}
    e = whycam.explain(Both(1, 4, 4).eval(), inputs, layer="feature", target=0)
    assert e.context.medium(0) is clip


def test_each_of_two_signals_is_drawn_with_its_own_map():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(1, 2, 1)

        def forward(self, first, second):
            return self.conv(first).mean(2) + self.conv(second).square().mean(2)

    signals = torch.rand(1, 1, 20), torch.rand(1, 1, 20)
    for number, signal in enumerate(signals):
        e = whycam.explain(Pair().eval(), signals, "hires_cam", layer=f"conv#{number}")
        np.testing.assert_array_equal(e.figure().axes[0].lines[0].get_ydata(), signal[0, 0])


def test_a_signal_without_an_axis_for_channels():
    model = nn.Sequential(nn.Unflatten(1, (1, 40)), Cells(10)).eval()
    e = whycam.explain(model, lit((40,), (10,), (2,))[:, 0], layer="1.feature", target=0)
    (axes,) = e.figure().axes
    assert len(axes.lines[0].get_ydata()) == 40


@pytest.mark.parametrize("axes", [("frequency", "time"), ("time", "frequency")])
def test_a_spectrogram_keeps_its_axes_and_has_its_map_over_time_below(axes):
    size, step, cell = (40, 60), (4, 5), (1, 9)
    values = lit(size, step, cell)
    if axes[0] == "time":
        values, step = values.mT.contiguous(), step[::-1]
    e = explained(whycam.Spectrogram(values, rate=20, axes=axes), step)
    above, below = e.figure(colormap="gray", blend="even").axes
    assert (above.get_ylabel(), above.get_aspect(), below.get_xlabel()) == ("frequency", "auto", "seconds")
    (band,) = above.images
    assert band.origin == "lower"  # low frequencies below
    rows, columns = centroid(np.asarray(band.get_array())[..., 0])
    assert band.get_array().shape[:2] == size
    assert abs(rows - 5.5) < 0.6
    assert abs(columns - 47) < 0.6
    large = nn.functional.interpolate(e.maps[None], values.shape[2:], mode="bilinear", align_corners=False)[0, 0]
    line = below.lines[0]
    np.testing.assert_allclose(line.get_ydata(), large.sum(axes.index("frequency")), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(line.get_xdata(), np.arange(60) / 20)
    assert above.get_xlim() == below.get_xlim() == pytest.approx((-0.025, 2.975))


def test_a_folder_has_what_each_sort_of_input_can_be_looked_at_with(tmp_path):
    clip = explained(whycam.Clip(lit((4, 8, 8), (1, 4, 4), (0, 1, 1), channels=3), rate=4), (1, 4, 4))
    assert [path.name for path in clip.save(tmp_path / "a")] == [
        f"sample0.grad_cam.{end}" for end in ("overlay.gif", "map.npy", "json")
    ]
    signal = explained(lit((16,), (4,), (1,)), (4,))
    assert [path.suffix for path in signal.save(tmp_path / "b")] == [".npy", ".json"]
    volume = explained(whycam.Volume(lit(SIZE, STEP, CELL), np.eye(4)), STEP)
    names = [path.name.partition(".grad_cam.")[2] for path in volume.save(tmp_path / "c")]
    assert names == ["overlay.png", "map.nii.gz", "map.npy", "json"]
    record = json.loads((tmp_path / "c" / "sample0.grad_cam.json").read_text())
    assert record["volume"] == {"path": None, "order": "kji", "affine": np.eye(4).tolist()}


def test_files_that_a_sort_of_input_does_not_have_are_refused(tmp_path):
    still = explained(lit((16, 16), (4, 4), (0, 0)), (4, 4))
    with pytest.raises(WhycamError, match="a film needs a clip or a volume"):
        still.save(tmp_path / "still.gif")
    with pytest.raises(WhycamError, match=r"NIfTI files hold maps of volumes; pass whycam\.Volume"):
        still.save(tmp_path / "still.nii.gz")
    volume = explained(lit(SIZE, STEP, CELL).repeat(2, 1, 1, 1, 1), STEP)
    with pytest.raises(WhycamError, match="holds one map, and there are 2"):
        volume.save(tmp_path / "two.nii.gz")
    with pytest.raises(WhycamError, match="resolution is 'map' or 'input', not 'cell'"):
        volume[0].save(tmp_path / "one.nii.gz", resolution="cell")
    assert list(tmp_path.iterdir()) == []


def test_comparisons_of_volumes_and_clips_are_drawn():
    for inputs, step in ((lit(SIZE, STEP, CELL), STEP), (lit((4, 8, 8), (1, 4, 4), (0, 1, 1), channels=3), (1, 4, 4))):
        c = whycam.compare(Cells(*step).eval(), inputs, ["grad_cam", "hires_cam"], layers=["feature"], targets=[0])
        assert [axes.get_title() for axes in c.figure().axes] == ["Input", "Grad-CAM", "HiResCAM"]
        with pytest.raises(WhycamError, match="raw maps are drawn where they have two axes, and this one has 3"):
            c.figure(maps=True)
    assert len(c.figure(sample=None).axes) == 2


def test_volumes_that_are_compared_are_cut_at_the_same_place():
    """The first target's peak, where the second's map is dark; the input is cut there too."""
    inputs = lit(SIZE, STEP, CELL) + 0.5 * lit(SIZE, STEP, (0, 0, 4))

    class Two(Cells):
        def forward(self, x):
            x = self.feature(nn.functional.avg_pool3d(x[:, :1], self.step))
            return torch.stack([x[:, 0, 2].sum((1, 2)), x[:, 0, 0].sum((1, 2))], 1)

    c = whycam.compare(Two(*STEP).eval(), inputs, ["hires_cam"], layers=["feature"], targets=[0, 1])
    shown, first, second = (
        np.asarray(axes.images[0].get_array()) for axes in c.figure(colormap="gray", blend="even").axes
    )
    assert c["hires_cam", "feature", 1][0].maps.any()
    assert shown[:, :50].max() == 255
    assert first[:, :24].max() > second[:, :24].max()
    np.testing.assert_array_equal(shown[29, 6], [255, 255, 255])  # the lit cell in the cut across the first axis
    np.testing.assert_array_equal(second[29, 6], [102, 102, 102])  # 0.4 of it, under no heat


def test_a_status_is_said_in_every_figure():
    for inputs, step in (
        (lit(SIZE, STEP, CELL), STEP),
        (lit((16,), (4,), (1,)), (4,)),
        (whycam.Spectrogram(lit((16, 16), (4, 4), (0, 0))), (4, 4)),
    ):
        e = whycam.explain(Cells(*step).eval(), inputs, layer="feature", target=1)
        assert e.status[0].kind == "no positive evidence"
        said = " ".join(axes.get_xlabel() + axes.get_title(loc="right") for axes in e.figure().axes)
        assert "no positive evidence" in said.replace("\n", " ")


def test_a_region_is_outlined_in_every_slice():
    region = torch.zeros(1, *SIZE, dtype=torch.bool)
    region[0, 3:9, 10:30, 5:20] = True
    dense = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv3d(2, 2, 1)).eval()
    e = whycam.explain(dense, torch.zeros(1, 1, *SIZE), target=whycam.targets.Region(1, mask=region), layer="0")
    (marked,), (plain,) = (stacks(e, Look(marks=marks)) for marks in (True, False))
    changed = [np.asarray(marked.picture(0, at)) != np.asarray(plain.picture(0, at)) for at in (2, 6)]
    assert not changed[0].any()
    rows, columns = changed[1].any(-1).nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 29, 5, 19)
    assert not changed[1][15:25, 10:15].any()  # an outline, not the whole


def test_several_samples_stand_side_by_side_in_a_film():
    clips = torch.cat([lit((3, 8, 8), (1, 4, 4), (0, 1, 1), channels=3)] * 2)
    data = io.BytesIO()
    explained(clips, (1, 4, 4)).overlay().save(data, "png")
    frames = film(explained(clips, (1, 4, 4)), Look())
    assert [frame.size for frame in frames] == [(18 * 32, 8 * 32)] * 3


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: whycam.Signal(torch.zeros(1, 1, 4, 4)), r"Signal holds a batch \(N, C, L\) or \(N, L\); .* \(1, 1, 4"),
        (lambda: whycam.Signal(torch.zeros(1, 2, 4), channels=("a",)), "1 names came for 2 channels"),
        (lambda: whycam.Clip(torch.zeros(1, 3, 4, 4, 4), rate=0), "above 0; not 0"),
        (lambda: whycam.Spectrogram(torch.zeros(1, 1, 4, 4), axes=("a", "b")), "one of them 'time'"),
        (lambda: whycam.Volume(torch.zeros(1, 1, 4, 4, 4), order="xyz"), "such as 'kji'; not 'xyz'"),
        (lambda: whycam.Volume(torch.zeros(1, 1, 4, 4, 4), np.eye(3)), "4 x 4, not of shape"),
    ],
)
def test_what_an_input_cannot_be_is_said(make, said):
    with pytest.raises(InputError, match=said):
        make()
