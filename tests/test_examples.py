"""Every example runs as it stands, and its picture holds the values that its docstring promises.

The references are written with plain autograd and Pillow; they share no code with the package.
"""

import contextlib
import io
import os
import runpy
import sys
import tempfile
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision_shim
from PIL import Image

import whycam

EXAMPLES = Path(__file__).parent.parent / "examples"
PROGRAMS = sorted(path.name for path in EXAMPLES.glob("*.py"))
#: Those that train a network, load Keras', compare layer after layer or measure.
LONG = {
    *("alexnet_layers.py", "keras_digits.py", "keras_vgg_and_mobilenet.py", "similar.py", "yolo.py"),
    "which_map.py",
}
#: What some need that the tests do not install for certain.
PACKAGES = {"yolo.py": "ultralytics"}

TIGER_CAT, TABBY, EGYPTIAN_CAT = 282, 281, 285


@dataclass(frozen=True)
class Ran:
    """What one example left behind: its variables, what it printed, and the folder it ran in."""

    names: dict[str, Any]
    printed: str
    folder: Path

    def __getitem__(self, name):
        return self.names[name]

    def picture(self, name):
        return Image.open(self.folder / "whycam-out" / name)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Runs an example by name, in a folder of its own, once for all tests of this file."""
    torchvision_shim.register()
    torchvision_shim.detectors()

    @cache
    def run(name):
        if name in PACKAGES:
            os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())  # where it keeps settings of its own
            pytest.importorskip(PACKAGES[name])
        folder = tmp_path_factory.mktemp(name.removesuffix(".py"))
        printed = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)  # Keras' own, of NumPy's
            patch.chdir(folder)
            patch.setenv("MPLBACKEND", "Agg")
            patch.setattr(sys, "argv", [name])
            names = runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return Ran(names, printed.getvalue(), folder)

    yield run
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def as_input(photo, *, mean, std, way, stretch=False):
    """A photo as torchvision's usual evaluation transforms make it, with Pillow alone."""
    image = Image.fromarray(photo)
    if stretch:
        image = image.resize((224, 224), way)
    else:
        short = min(image.size)
        image = image.resize(tuple(int(256 * side / short) for side in image.size), way)
        left, top = (round((side - 224) / 2) for side in image.size)
        image = image.crop((left, top, left + 224, top + 224))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).double() / 255
    mean, std = (torch.tensor(values, dtype=torch.float64).reshape(3, 1, 1) for values in (mean, std))
    return ((pixels - mean) / std).float()[None]


def imagenet(photo, **how):
    means = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    return as_input(photo, **means, way=Image.Resampling.BILINEAR, **how)


def for_builtin(photo):
    return as_input(photo, mean=(127 / 255,) * 3, std=(128 / 255,) * 3, way=Image.Resampling.BICUBIC)


def watched(model, layer, inputs, score):
    """A layer's output and its gradient, by plain autograd; the network goes on with a copy."""
    kept = []

    def keep(module, args, output):
        kept.append(output)
        return output.clone()

    handle = model.get_submodule(layer).register_forward_hook(keep)
    with torch.enable_grad():
        output = model(inputs.requires_grad_())
        (gradients,) = torch.autograd.grad(score(output), kept[-1])
    handle.remove()
    return kept[-1].detach(), gradients, output


def grad_cam(model, layer, inputs, score):
    activations, gradients, _ = watched(model, layer, inputs, score)
    return (gradients.mean((2, 3), keepdim=True) * activations).sum(1).relu()


def builtin():
    return whycam.load("builtin").module


def pixels_of(figure):
    data = io.BytesIO()
    figure.savefig(data)
    return np.asarray(Image.open(data).convert("RGB"))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in PROGRAMS]
)
def test_it_runs_says_something_and_writes_pictures(name, ran):
    done = ran(name)
    assert done["__doc__"].strip()
    assert done.printed.strip()
    files = sorted((done.folder / "whycam-out").iterdir())
    assert files
    for file in files:
        assert file.name.startswith(name.removesuffix(".py"))
        if file.is_dir() or file.name.endswith((".nii.gz", ".csv")):
            continue  # no picture
        with Image.open(file) as image:
            assert min(image.size) >= 200
            assert np.asarray(image.convert("RGB")).std() > 10
    assert sorted(done.folder.iterdir()) == [done.folder / "whycam-out"]


def peaks(done, method="grad_cam"):
    """Of each made input of the second sort: where the map is largest, and where the cause is."""
    for values, cause, sort in done["tests"]:
        if sort:
            heat = whycam.explain(done["network"], values[None], method, target=1).heatmaps()[0]
            yield np.array(np.unravel_index(int(heat.argmax()), heat.shape)), cause


def test_the_volume_s_map_finds_the_lump_in_voxels_and_in_millimeters(ran):
    import nibabel

    done = ran("volume.py")
    assert "right: 100%" in done.printed
    for method in ("grad_cam", "layer_cam"):
        assert max(np.linalg.norm(peak - center) for peak, center in peaks(done, method)) < 3  # of 16 x 32 x 32
    image = nibabel.load(done.folder / "whycam-out" / "volume.nii.gz")
    values = np.asarray(image.dataobj)
    assert values.shape == (16, 16, 8)  # i, j, k
    place = image.affine @ [*np.unravel_index(values.argmax(), values.shape), 1]
    np.testing.assert_allclose(place[:3], done["center"][::-1] * (1, 1, 2.5), atol=2.5)


def test_the_signal_s_map_finds_the_odd_beat(ran):
    done = ran("heartbeats.py")
    assert "right: 100%" in done.printed
    assert max(abs(float(peak[0]) / done["RATE"] - when) for peak, when in peaks(done)) < 0.1
    bands = [axes.images[0].get_array() for axes in done["e"].figure().axes]
    assert len(bands) == 2
    red, _, blue = bands[0][0, int(done["when"] * done["RATE"])].tolist()
    assert red > blue + 30


def test_the_clip_s_map_finds_the_flash(ran):
    done = ran("video.py")
    assert "right: 100%" in done.printed
    for peak, (frame, row, column) in peaks(done):
        assert abs(peak[0] - frame) <= 2
        assert np.hypot(peak[1] - row, peak[2] - column) < 7  # the ball's radius is 5
    with done.picture("video.gif") as film:
        assert film.n_frames == 16
    heat = done["e"].heatmaps()[0].amax((1, 2))
    far = [t for t in range(16) if abs(t - done["place"][0]) > 6]
    assert far
    assert float(heat[far].max()) < 0.1  # of the largest, on the one scale


def test_the_readme_lists_them_all():
    text = (EXAMPLES / "README.md").read_text()
    assert PROGRAMS
    assert [name for name in PROGRAMS if f"[`{name}`]({name})" not in text] == []


def test_the_folder_can_be_named(tmp_path, monkeypatch, capsys):
    torchvision_shim.register()
    torchvision_shim.detectors()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mobilenet_overlay.py", "some/folder"])
    runpy.run_path(str(EXAMPLES / "mobilenet_overlay.py"), run_name="__main__")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")] == ["some/folder/mobilenet_overlay.jpg"]


def test_the_jpeg_is_three_parts_of_ten_heat_and_seven_photo(ran):
    from matplotlib import colormaps
    from skimage.data import chelsea

    done = ran("mobilenet_overlay.py")
    photo = chelsea()
    raw = grad_cam(done["model"], "features.18", imagenet(photo), lambda output: output.max())
    torch.testing.assert_close(done["e"].maps, raw, rtol=1e-3, atol=1e-6 * float(raw.max()))

    # the input is the middle 224 of a photo that was brought from 300 to 256 pixels: where each photo pixel lies on it
    heat = F.interpolate(raw[None], (224, 224), mode="bilinear", align_corners=False)[0, 0]
    heat = (heat / heat.max()).numpy()
    rows = (np.arange(300) + 0.5) * 256 / 300 - 16
    columns = (np.arange(451) + 0.5) * 384 / 451 - 80
    seen = np.ix_((rows > 1) & (rows < 223), (columns > 1) & (columns < 223))
    nearest = heat[np.ix_(rows.astype(int).clip(0, 223), columns.astype(int).clip(0, 223))]
    wanted = 0.3 * 255 * colormaps["jet"](nearest)[..., :3] + 0.7 * photo

    picture = done.picture("mobilenet_overlay.jpg")
    assert (picture.format, picture.size) == ("JPEG", (451, 300))
    off = np.abs(np.asarray(picture).astype(float) - wanted)[seen]
    assert off.mean() < 4  # JPEG's loss
    assert np.quantile(off, 0.99) < 25
    # and not a blend of other parts, nor another palette
    assert np.abs(0.5 * 255 * colormaps["jet"](nearest)[..., :3] + 0.5 * photo - wanted)[seen].mean() > 10
    assert np.abs(0.3 * 255 * (colormaps["inferno"](nearest) - colormaps["jet"](nearest))[..., :3])[seen].mean() > 10
    # what the network did not see has no color
    corner = np.asarray(picture)[:10, :60].astype(int)
    assert np.ptp(corner, axis=-1).max() <= 4


def test_the_four_panels(ran):
    from skimage.data import chelsea

    done = ran("four_panels.py")
    assert "tiger cat" in done.printed
    assert "_bn1 (7x7" in done.printed
    e, figure = done["e"], done["e"].figure()  # the last one: MobileNetV3
    photo, at_layer, resized, overlay = [axes for axes in figure.axes if axes.get_title()]
    raw = grad_cam(done["model"], e.layer.name, imagenet(chelsea()), lambda output: output.max())
    torch.testing.assert_close(e.maps, raw, rtol=1e-3, atol=1e-4 * float(raw.max()))
    np.testing.assert_array_equal(photo.images[0].get_array(), chelsea())
    np.testing.assert_allclose(at_layer.images[0].get_array(), e.maps[0])
    assert resized.images[0].get_array().shape == (224, 224, 3)
    np.testing.assert_array_equal(overlay.images[0].get_array(), np.asarray(e.overlay()))
    saved = np.asarray(done.picture("four_panels_mobilenet_v3.png").convert("RGB"))
    np.testing.assert_array_equal(saved, pixels_of(figure))


def test_the_trained_network_s_panels_mean_something(ran):
    done = ran("four_panels.py")
    e = whycam.explain("builtin", done["chelsea"]())
    raw = grad_cam(builtin(), "_bn1", for_builtin(done["chelsea"]()), lambda output: output[0, TIGER_CAT])
    torch.testing.assert_close(e.maps, raw, rtol=1e-3, atol=1e-4)
    saved = np.asarray(done.picture("four_panels.png").convert("RGB"))
    np.testing.assert_array_equal(saved, pixels_of(e.figure()))


def test_a_chosen_class_with_a_color_bar_of_one_s_own(ran):
    import matplotlib.pyplot as plt

    done = ran("resnet_target_class.py")
    photo, e, heat = done["photo"], done["e"], done["heat"]
    inputs = imagenet(photo, stretch=True)
    raw = grad_cam(done["model"], "layer4", inputs, lambda output: output[0, EGYPTIAN_CAT])
    torch.testing.assert_close(e.maps, raw, rtol=1e-3, atol=1e-5)
    assert e.target == ("Egyptian cat",)
    with torch.no_grad():
        torch.testing.assert_close(e.scores[0], done["model"](inputs)[0, EGYPTIAN_CAT], rtol=1e-4, atol=1e-5)
        assert int(done["model"](inputs).argmax()) != EGYPTIAN_CAT  # so the class was really chosen
    large = F.interpolate(raw[None], photo.shape[:2], mode="bilinear", align_corners=False)[0, 0]
    np.testing.assert_allclose(heat, large / large.max(), rtol=1e-3, atol=1e-4)
    figure = next(each for each in map(plt.figure, plt.get_fignums()) if "Egyptian cat" in each.axes[0].get_title())
    drawn, bar = figure.axes
    np.testing.assert_array_equal(drawn.images[0].get_array(), photo)
    np.testing.assert_array_equal(drawn.images[1].get_array(), heat)
    assert "evidence" in bar.get_ylabel()
    assert bar.get_ylim() == (0, 1)


@pytest.mark.slow
def test_maps_through_in_place_relus_are_those_of_a_twin_without(ran):
    done = ran("alexnet_layers.py")
    model, whole, each = done["model"], done["whole"], done["each"]
    assert all(module.inplace for module in model.modules() if isinstance(module, torch.nn.ReLU))
    # the very same inputs, since a rounding error may move the place that a pooling takes its maximum from
    inputs = whole.context.inputs.clone()
    own = torch.cat([imagenet(photo) for photo in done["photos"]])
    torch.testing.assert_close(inputs, own, rtol=1e-4, atol=1e-4)

    import torchvision

    twin = torchvision.models.alexnet(weights=None, num_classes=2).eval()
    twin.load_state_dict(model.state_dict())
    for module in twin.modules():
        if isinstance(module, torch.nn.ReLU):
            module.inplace = False
    top = lambda output: output.amax(1).sum()  # noqa: E731

    close = {"rtol": 1e-4, "atol": 1e-9}
    torch.testing.assert_close(whole.maps, grad_cam(twin, "features", inputs, top), **close)
    plain = {}
    for layer in done["layers"]:
        activations, gradients, _ = watched(twin, layer, inputs, top)
        assert bool((activations < 0).any()) == (layer in ("features.0", "features.3", "features.6"))
        plain[layer] = (gradients.relu() * activations).sum(1).relu()
        torch.testing.assert_close(each["layer_cam", layer].maps, plain[layer], **close)

    # LayerCAM of an output and of its ReLU are the same map; Grad-CAM's are not, so it would tell an overwritten output
    torch.testing.assert_close(
        whycam.explain(model, inputs, layer="features.0").maps, grad_cam(twin, "features.0", inputs, top), **close
    )
    overwritten = grad_cam(twin, "features.1", inputs, top)
    assert not torch.allclose(grad_cam(twin, "features.0", inputs, top), overwritten, atol=0.1 * overwritten.max())

    def scaled(maps, lift):
        maps = maps / maps.amax((1, 2), keepdim=True)
        maps = torch.tanh(2 * maps) if lift else maps
        return F.interpolate(maps[None], (55, 55), mode="bilinear", align_corners=False)[0]

    fused = torch.stack([scaled(maps, lift=layer != "features.12") for layer, maps in plain.items()]).amax(0)
    made = each["layer_cam", " + ".join(done["layers"])]
    torch.testing.assert_close(made.maps, fused, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_alexnet_s_grid_has_a_map_beside_each_overlay_and_says_what_it_cost(ran):
    done = ran("alexnet_layers.py")
    assert "LayerCAM at 5 layers and fused: 1 forward, 1 backward" in done.printed
    each = done["each"]
    axes = each.figure(sample=None, maps=True).axes
    assert len(axes) == 6 * 6
    for row, e in enumerate(each.values()):
        for sample in range(3):
            beside, over = axes[6 * row + 2 * sample], axes[6 * row + 2 * sample + 1]
            np.testing.assert_array_equal(beside.images[0].get_array(), e.maps[sample])
            assert e.status[sample].ok or e.status[sample].kind in over.get_xlabel().replace("\n", " ")
    assert "".join(axes[30].get_ylabel().split()) == "features.0+features.3+features.6+features.9+features.12"
    assert torch.equal(each["layer_cam", done["layers"]].maps, list(each.values())[-1].maps)


def test_vgg_is_refused_its_cam_with_the_reason(ran):
    done = ran("vgg_cam_refused.py")
    c = done["c"]
    assert [key[0] for key in c] == ["grad_cam", "grad_cam_plus_plus"]
    ((method, layer, _), reason) = next(iter(c.failures.items()))
    assert (len(c.failures), method, layer) == (1, "cam", "features.28")
    for part in ("global average pooling and one linear layer", "512 channels", "25088, 4096, 4096", "grad_cam"):
        assert part in reason
        assert part in done.printed
    failed = c.figure().axes[3]
    assert failed.get_title() == "CAM"
    assert failed.texts[0].get_text().replace("\n", " ").startswith("CAM needs a network that ends in global average")

    activations, gradients, _ = watched(
        done["model"], "features.28", imagenet(done["chelsea"]()), lambda output: output.max()
    )
    raw = (gradients.mean((2, 3), keepdim=True) * activations).sum(1).relu()
    torch.testing.assert_close(c["grad_cam"].maps, raw, rtol=1e-3, atol=1e-4 * float(raw.max()))
    a, g = activations.double(), gradients.double()
    alpha = torch.where(g > 0, g**2 / (2 * g**2 + a.sum((2, 3), keepdim=True) * g**3), 0.0).clamp(min=0)
    plus_plus = ((alpha * g.relu()).sum((2, 3), keepdim=True) * a).sum(1).relu().float()
    torch.testing.assert_close(c["Grad-CAM++"].maps, plus_plus, rtol=1e-2, atol=1e-3 * float(plus_plus.max()))


def test_cam_is_grad_cam_times_the_locations_where_there_is_pooling(ran):
    c = ran("cam_family.py")["c"]
    cam, other, plus_plus = (c[name].maps for name in ("cam", "grad_cam", "grad_cam_plus_plus"))
    torch.testing.assert_close(cam.relu(), 49 * other, rtol=1e-4, atol=1e-4)
    module = builtin()
    with torch.no_grad():
        features = module.extract_features(for_builtin(ran("cam_family.py")["chelsea"]()))
    raw = torch.einsum("k,bkyx->byx", module._fc.weight[TIGER_CAT].detach(), features)
    torch.testing.assert_close(cam, raw, rtol=1e-3, atol=1e-3)
    assert plus_plus.max() > 0
    assert not torch.allclose(plus_plus / plus_plus.max(), other / other.max(), atol=1e-2)
    assert "1 forward, 1 backward" in ran("cam_family.py").printed


def test_a_function_of_one_s_own_gets_the_quantities_it_names(ran):
    done = ran("your_own_method.py")
    activations, gradients, _ = watched(
        builtin(), "_swish", for_builtin(done["chelsea"]()), lambda output: output[0, TIGER_CAT]
    )
    raw = (activations * gradients).clamp(min=0).sum(1) ** 2
    torch.testing.assert_close(done["e"].maps, raw, rtol=1e-2, atol=1e-3 * float(raw.max()))
    torch.testing.assert_close(done["c"]["sharp_cam"].maps, done["e"].maps)
    assert done["e"].options == {"power": 2.0}
    assert [key[0] for key in done["c"]] == ["sharp_cam", "grad_cam", "hires_cam"]
    blended = np.asarray(done.picture("your_own_method.png"))
    np.testing.assert_array_equal(blended, np.asarray(done["e"].overlay()))


def test_each_target_is_the_score_that_its_words_say(ran):
    done = ran("targets.py")
    inputs = for_builtin(done["chelsea"]())
    with torch.no_grad():
        logits = builtin()(inputs)[0]
    assert int(logits.argmax()) == TIGER_CAT
    nearest = (logits - logits[TIGER_CAT]).abs().argsort()[1:4]
    tiger, tabby = logits[TIGER_CAT], logits[TABBY]
    scores = {
        "tiger cat": (tiger, lambda y: y[0, TIGER_CAT]),
        "tabby": (tabby, lambda y: y[0, TABBY]),
        "tabby rather than tiger cat": (tabby - tiger, lambda y: y[0, TABBY] - y[0, TIGER_CAT]),
        "tiger cat rather than tabby": (tiger - tabby, lambda y: y[0, TIGER_CAT] - y[0, TABBY]),
        "tiger cat rather than its 3 nearest rivals": (
            tiger - 0.6 * logits[nearest].mean(),
            lambda y: y[0, TIGER_CAT] - 0.6 * y[0, nearest].mean(),
        ),
        "against tiger cat": (-tiger, lambda y: -y[0, TIGER_CAT]),
    }
    made = {e.target[0]: e for e in done["c"].values()}
    assert list(made) == list(scores)
    for words, (score, function) in scores.items():
        torch.testing.assert_close(made[words].scores[0], score, rtol=1e-3, atol=1e-3)
        raw = grad_cam(builtin(), "_bn1", inputs, function)
        torch.testing.assert_close(made[words].maps, raw, rtol=1e-2, atol=1e-3)
    kinds = {words: e.status[0].kind for words, e in made.items()}
    assert kinds.pop("tabby rather than tiger cat") == "no positive evidence"
    assert set(kinds.values()) == {"ok"}


def layer_cam(activations, gradients):
    return (gradients.relu() * activations).sum(1).relu()


def test_the_path_from_a_blank_picture_finds_the_marker_that_decides(ran):
    done = ran("unet.py")
    assert [f"with a marker of color {c} the disc is called {n}" in done.printed for c, n in
            (("red", "alarm"), ("green", "calm"), ("none", "calm"))] == [True] * 3  # fmt: skip
    unet, batch, scene = done["unet"], done["batch"], done["scene"]
    with torch.no_grad():
        disc = unet(batch)[0].argmax(0) == 1
    score = lambda output: output[:, 1][:, disc].mean()  # noqa: E731
    torch.testing.assert_close(done["early"].maps, layer_cam(*watched(unet, "encoder.1", batch.clone(), score)[:2]))
    blank = batch.mean((2, 3), keepdim=True)
    points = [blank + (batch - blank) * k / 20 for k in range(1, 21)]
    expected = torch.stack([layer_cam(*watched(unet, "encoder.1", each, score)[:2]) for each in points]).mean(0)
    torch.testing.assert_close(done["along"].maps, expected, rtol=1e-4, atol=1e-6)
    row, column = divmod(int(done["along"].heatmaps()[0].argmax()), 64)
    assert scene.marked()[row, column]
    row, column = divmod(int(done["early"].heatmaps()[0].argmax()), 64)
    assert not scene.marked()[row, column]
    assert [e.layer.name for e in done["usual"].values()] == ["bottleneck", "decoder.0"]


def test_a_region_s_map_lies_in_it_by_layer_cam_and_not_by_grad_cam(ran):
    from skimage.measure import label

    done = ran("region.py")
    deeplab, batch = done["deeplab"], done["picture"][None] * 4 - 2
    with torch.no_grad():
        parts = torch.from_numpy(label((deeplab(batch)["out"][0].argmax(0) == 2).numpy(), connectivity=1))
    inside = []
    for (method, _, target), e in done["c"].items():
        x, y = target.point
        mine = parts == parts[int(y), int(x)]
        assert torch.equal(e.shown[0].mask, mine)
        if method == "layer_cam":
            kept = watched(
                deeplab, "backbone.stage2", batch.clone(), lambda output, mine=mine: output["out"][0, 2][mine].mean()
            )
            torch.testing.assert_close(e.maps, layer_cam(*kept[:2]), rtol=1e-3, atol=1e-6)
        heat = e.heatmaps()[0].clamp(min=0)
        inside.append(float(heat[mine].sum() / heat.sum()))
    assert min(inside[:2]) > 0.5  # of 3 and 8 % of the picture
    assert max(inside[2:]) < 0.3


def detected(network, batch):
    """Every candidate's corners in pixels and its best class's probability, best first, by the formats' own rules."""
    with torch.no_grad():
        answer = network(batch)
    if hasattr(answer, "logits"):
        scores, middle = answer.logits[0].sigmoid().amax(1), answer.pred_boxes[0] * batch.shape[-1]
    else:
        scores, middle = answer[0][0, 4:].amax(0), answer[0][0, :4].T
    corners = torch.cat([middle[:, :2] - middle[:, 2:] / 2, middle[:, :2] + middle[:, 2:] / 2], 1)
    order = scores.argsort(descending=True)
    return corners[order], scores[order]


def as_seen(photo):
    """A photo of 384 pixels, each of which stands three times in a row and in a column, as a batch."""
    pixels = torch.from_numpy(np.asarray(photo)[1::3, 1::3].copy()).float() / 255
    return pixels.permute(2, 0, 1)[None]


def inside(point, box, margin=2.0):
    return all(low - margin <= at <= high + margin for at, low, high in zip(point, box[:2], box[2:], strict=True))


def peak_lies_in_its_own_box(e, boxes):
    """`boxes`: the explained one, and then the others."""
    row, column = divmod(int(e.heatmaps()[0].argmax()), e.heatmaps().shape[-1])
    return [inside((column + 0.5, row + 0.5), box) for box in boxes] == [True] + [False] * (len(boxes) - 1)


def left_as_it_was(done, build):
    network, fresh = done["network"], build()
    assert not network.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert network.state_dict().keys() == fresh.state_dict().keys()
    assert all(torch.equal(value, fresh.state_dict()[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    return True


def test_rt_detr_s_maps_lie_in_their_boxes_with_and_without_the_choice_of_queries(ran):
    done = ran("detr.py")
    network, batch = done["network"], as_seen(done["photo"])
    corners, scores = detected(network, batch)
    first, second, through = done["made"]
    for e, own, other in ((first, 0, 1), (second, 1, 0), (through, 0, 1)):
        assert float(scores[own]) > 0.5
        assert e.shown[0].box == pytest.approx(corners[own].tolist(), abs=1e-3)
        assert peak_lies_in_its_own_box(e, [corners[own].tolist(), corners[other].tolist()])
    # the score is the logit of the box's class, the same whether the choice is followed or not
    logits = [float(scores[k].logit()) for k in (0, 1, 0)]
    assert [float(e.scores[0]) for e in (first, second, through)] == pytest.approx(logits, abs=1e-4)
    assert not torch.allclose(first.maps, through.maps, rtol=0.1)
    assert "leaves out what the detector detaches" in done.printed
    assert "the gradient goes through" in done.printed
    assert left_as_it_was(done, done["shapes"].rt_detr)


@pytest.mark.slow
def test_yolo_s_maps_lie_in_their_boxes_and_so_does_d_rise_s(ran):
    done = ran("yolo.py")
    network, batch = done["network"], as_seen(done["photo"])
    corners, scores = detected(network, batch)
    made = list(done["c"].values())
    assert len(made) >= 2
    boxes = [e.shown[0].box for e in made]
    for e, box in zip([*made, done["masked"]], [*boxes, boxes[0]], strict=True):
        row = (corners - torch.tensor(box)).abs().sum(1).argmin()
        assert corners[row].tolist() == pytest.approx(box, abs=1e-3)
        assert float(scores[row]) > 0.5
        # on some machines the toy learns to call one thing by two names, in boxes that lie on each other
        apart = [each for each in boxes if not inside(((each[0] + each[2]) / 2, (each[1] + each[3]) / 2), box)]
        assert len(apart) >= len(made) - 2
        assert peak_lies_in_its_own_box(e, [box, *apart])
    assert f"{len(made)} boxes, 1 forward, {len(made)} backward" in done.printed
    assert left_as_it_was(done, done["shapes"].yolo)


def keras_features(model, layer, inputs):
    """What a Keras model's layer and the layer before the last return, channels first and with their graph."""
    import keras

    assert keras.backend.backend() == "torch"
    both = keras.Model(model.inputs[0], [model.get_layer(layer).output, model.layers[-2].output])
    with torch.enable_grad():
        activations, before = both(inputs, training=False)
        return activations, before @ model.layers[-1].kernel.value + model.layers[-1].bias.value


@pytest.mark.slow
def share(maps, box):
    """How much of a scene's positive evidence lies in a box, each of the 64 x 64 pixels in its own cell."""
    cells = np.kron(np.clip(maps.numpy(), 0, None), np.ones((64 // maps.shape[0], 64 // maps.shape[1])))
    left, top, right, bottom = box
    return float(cells[top : bottom + 1, left : right + 1].sum() / cells.sum())


def test_a_sentence_lights_up_its_own_shape(ran):
    done = ran("clip_sentences.py")
    model, toy = done["sentences"].clip(), done["sentences"]
    things = dict(toy.scene(done["seed"])[1])
    pixels = toy.PREPARE(whycam.read_photo(done["photo"]))[0][None]
    with torch.no_grad():
        logits = model(pixel_values=pixels, input_ids=toy.tokenizer(list(things))).logits_per_image[0]
    cosines = (logits / model.logit_scale.exp()).tolist()
    alone, other, rather, not_rather = done["c"].values()
    assert [float(each.scores[0]) for each in (alone, other)] == pytest.approx(cosines, abs=1e-4)
    assert float(rather.scores[0]) == pytest.approx(float(logits[0] - logits[1]), abs=1e-3)
    for e, (mine, theirs) in ((rather, tuple(things)), (not_rather, tuple(things)[::-1])):
        assert share(e.maps[0], things[mine]) > 0.4
        assert share(e.maps[0], things[theirs]) < 0.1


@pytest.mark.slow
def test_what_two_pictures_share_lights_up_and_adds_up(ran):
    done = ran("similar.py")
    encoder, toy = done["encoder"], done["sentences"]
    photos = [done["query"], done["with_one"], done["with_other"]]
    with torch.no_grad():
        query, *others = encoder(torch.stack([toy.PREPARE(whycam.read_photo(each))[0] for each in photos]))
    near, far = (float((query * each).sum() / (query.square().sum() * each.square().sum()).sqrt()) for each in others)
    expected = [near, far, near - far, far - near]
    made = list(done["c"].values())
    assert [float(e.scores[0]) for e in made] == pytest.approx(expected, abs=1e-4)
    assert [float(e.maps.sum()) for e in made] == pytest.approx(expected, abs=1e-4)
    things = dict(toy.scene(done["seed"])[1])
    for e, (mine, theirs) in ((made[2], tuple(things)), (made[3], tuple(things)[::-1])):
        assert share(e.maps[0], things[mine]) > share(e.maps[0], things[theirs]) + 0.3


def test_keras_vgg_is_refused_its_cam_and_explained_at_its_last_convolution(ran):
    done = ran("keras_vgg_and_mobilenet.py")
    for part in ("vgg16: cam at block5_conv3: CAM needs", "one linear layer", "512 channels", "25088, 4096, 4096"):
        assert part in done.printed
    refused = done["refused"]
    assert [key[:2] for key in refused.failures] == [("cam", "block5_conv3")]
    # as keras.applications prepares it: all of the photo, blue first, less the mean of each channel
    small = np.asarray(Image.fromarray(done["chelsea"]()).resize((224, 224), Image.Resampling.NEAREST))
    inputs = small[None, ..., ::-1].astype("float32") - np.float32([103.939, 116.779, 123.68])
    activations, logits = keras_features(done["vgg"], "block5_conv3", inputs)
    (gradients,) = torch.autograd.grad(logits.max(), activations)
    torch.testing.assert_close(refused["grad_cam"].scores[0], logits.max().detach(), rtol=1e-3, atol=1e-4)
    raw = (gradients.mean((1, 2), keepdim=True) * activations).sum(-1).relu().detach()
    torch.testing.assert_close(refused["grad_cam"].maps, raw, rtol=1e-2, atol=1e-3 * float(raw.max()))
    a, g = activations.detach().double(), gradients.double()
    alpha = torch.where(g > 0, g**2 / (2 * g**2 + a.sum((1, 2), keepdim=True) * g**3), 0.0).clamp(min=0)
    plus_plus = ((alpha * g.relu()).sum((1, 2), keepdim=True) * a).sum(-1).relu().float()
    torch.testing.assert_close(
        refused["grad_cam_plus_plus"].maps, plus_plus, rtol=1e-2, atol=1e-3 * float(plus_plus.max())
    )


@pytest.mark.slow
def test_keras_mobilenet_has_all_three(ran):
    done = ran("keras_vgg_and_mobilenet.py")
    assert list(dict.fromkeys(key[0] for key in done["c"])) == ["cam", "grad_cam", "grad_cam_plus_plus"]
    assert not done["c"].failures
    small = np.asarray(Image.fromarray(done["chelsea"]()).resize((224, 224), Image.Resampling.NEAREST))
    activations, logits = keras_features(done["mobilenet"], "out_relu", small[None].astype("float32") / 127.5 - 1)
    kernel = done["mobilenet"].layers[-1].kernel.value
    raw = (activations @ kernel[:, int(logits.argmax())]).detach()
    torch.testing.assert_close(done["c"]["cam"].maps, raw, rtol=1e-2, atol=1e-3 * float(raw.abs().max()))


@pytest.mark.slow
def test_the_digits_maps_are_cam_s_and_lie_where_wiping_out_matters(ran):
    done = ran("keras_digits.py")
    e, model, test = done["e"], done["model"], done["test"]
    assert float(done.printed.split("test accuracy: ")[1].split("%")[0]) > 90
    activations, logits = keras_features(model, e.layer.name, test)
    kernel = model.layers[-1].kernel.value
    raw = torch.einsum("nyxc,nc->nyx", activations, kernel.T[logits.argmax(1)]).detach()
    torch.testing.assert_close(e.maps, raw, rtol=1e-3, atol=1e-3)
    assert done["marked"] + 0.1 < min(done["another"], done["random"])
    assert max(done["another"], done["random"]) + 0.1 < done["before"]
    gone = (test > done["wiped"](done["evidence"])).sum((1, 2, 3))
    assert gone.min() == gone.max() == 100


def test_attention_s_own_pictures_and_what_each_method_finds(ran):
    done = ran("attention.py")
    heads, asked = done["heads"], done["scene"].badges
    assert heads.parts.shape == (1, 4, 12, 12)
    assert [key[1] for key in done["rollout"]] == [f"blocks.{k}" for k in range(6)]
    titles = [axes.get_title() for axes in done["rollout"].figure().axes]
    assert titles[1:7] == [f"blocks.{k}" for k in range(6)]
    assert not any(axes.get_xlabel() for axes in done["rollout"].figure().axes[1:])  # a title says where already
    left, top, right, bottom = next(each.box for each in asked if done["patches"].NAMES[each.label] == done["asked"])
    shares = {}
    for (name, _, _), e in done["methods"].items():
        heat = e.heatmaps()[0].clamp(min=0)
        shares[name] = float(heat[top : bottom + 1, left : right + 1].sum() / heat.sum())
    assert min(shares["generic_attention"], shares["transformer_attribution"]) > 0.5
    assert 0.2 < shares["legrad"] < 0.35
    assert shares["grad_eclip"] < 0.1
    for each in ("heads", "rollout", "methods"):
        with done.picture(f"attention_{each}.png") as picture:
            assert picture.width > 1000


@pytest.mark.slow
def test_which_map_to_believe_is_told_by_a_table_beside_controls(ran):
    done = ran("which_map.py")
    found, rows = done["found"], done["found"].rows
    by = {row["sample"]: row["value"] for row in rows if (row["method"], row["metric"]) == ("grad_cam", "deletion")}
    assert done["alone"].tolist() == pytest.approx([*by.values()], abs=1e-6)
    assert "it takes 6 at least" in done.printed
    assert "deletion of Grad-CAM: [" in done.printed
    table = (done.folder / "whycam-out" / "which_map.csv").read_text().splitlines()[1:]
    assert len(table) == len(found.summary())
    assert sum(line.startswith("control: ") for line in table) == 3 * 5  # three controls by five metrics
    # a map that asks for no class is the same for another one
    again = {row["method"]: row["value"] for row in rows if row["metric"] == "class_randomization"}
    assert again["eigen_cam"] == pytest.approx(1)
    assert again["grad_cam"] < 0.5
    with done.picture("which_map.png") as curves:
        assert curves.width > 1000


def test_a_network_that_cheats_is_seen_while_it_trains(ran):
    done = ran("watch_training.py")
    (marked, cheats), (plain, honest) = (
        (float(line.split(": ")[1].split("%")[0]), [float(each.strip(" %")) for each in line.split(": ")[2].split(",")])
        for line in done.printed.splitlines()
    )
    assert min(marked, plain) > 95  # of 100, both
    assert len(cheats) == len(honest) == 5
    assert cheats[1] > 40
    assert min(cheats[1:]) > 10
    assert max(honest) < 5
