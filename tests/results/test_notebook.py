"""What notebooks show: the overlay and its words without scripts and styles, and one that fades where a script runs."""

import base64
import io
import re

import html5lib
import numpy as np
import pytest
import torch
from evaluations import evaluation, spread
from kept_runs import maps, run_of
from PIL import Image
from torch import nn

import whycam

#: What one picture may add to a notebook, in bytes.
BUDGET = 48_000


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    return whycam.VisionModel(made, whycam.Preprocess((64, 64)), labels=["<b>", "cat"], name="tiny")


def photo(height=90, width=120):
    """A bright disk on a dark slope."""
    y, x = np.mgrid[:height, :width]
    disk = (y - height / 2) ** 2 + (x - width / 3) ** 2 < (height / 4) ** 2
    return np.stack([60 + 150 * disk, x * 120 // width, y * 120 // height], -1).astype(np.uint8)


def plain(html):
    """What is left where scripts, styles and all that acts are taken out; it holds no error."""
    page = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parseFragment(html)
    for parent in page.iter():
        for child in [each for each in parent if each.tag in ("script", "style", "input", "button")]:
            parent.remove(child)
        parent.attrib.pop("style", None)
        assert not [name for name in parent.attrib if name.startswith("on")]
    return page


def pictures(page):
    return [
        Image.open(io.BytesIO(base64.b64decode(each.attrib["src"].partition("base64,")[2])))
        for each in page.iter("img")
    ]


def test_without_scripts_and_styles_the_overlay_is_left(model):
    e = whycam.explain(model, [photo(), photo()], "grad_cam", layer="1", target="cat")
    page = plain(e._repr_html_())
    shown = pictures(page)
    assert len(shown) == 2  # and not the photo and the heat as well
    drawn = np.asarray(e[0].overlay(caption=False), float)
    assert abs(np.asarray(shown[0], float) - drawn).mean() < 3  # of 255, after JPEG


def test_words_say_what_is_shown(model):
    e = whycam.explain(model, photo(), "grad_cam", layer="1", target="<b>")
    page = plain(e._repr_html_())
    (picture,) = page.iter("img")
    said = f"says {e.predictions[0]}; explains <b>; Grad-CAM at 1; {e.status[0]}"
    assert picture.attrib["alt"] == f"photo: {said}"
    assert "explains <b>" in "".join(page.itertext())
    assert not [*page.iter("b")]


def test_samples_without_a_photo_are_numbered_and_enlarged(model):
    e = whycam.explain(model.module, torch.rand(2, 3, 60, 100))
    first, second = plain(e._repr_html_()).iter("img")
    assert first.attrib["alt"].startswith("sample0: ")
    assert second.attrib["alt"].startswith("sample1: ")
    assert (first.attrib["width"], first.attrib["height"]) == ("200", "120")


@pytest.mark.parametrize(("frames", "side", "wide"), [(4, 16, 256), (8, 48, 396), (8, 200, 512)])
def test_frames_of_a_clip_have_the_room_of_two_pictures_where_they_need_it(frames, side, wide):
    network = nn.Sequential(nn.Conv3d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten()).eval()
    html = whycam.explain(network, torch.rand(1, 3, frames, side, side), target=0, layer="0")._repr_html_()
    (figure,) = re.findall(r'<figure style="margin:0;width:(\d+)px;max-width:100%">', html)
    assert int(figure) == pytest.approx(wide, abs=20)
    (drawn,) = plain(html).iter("img")
    assert int(drawn.attrib["width"]) <= int(figure)


def test_eight_pictures_at_most_and_how_many_more(model):
    e = whycam.explain(model, [photo()] * 10, "grad_cam", layer="1")
    page = plain(e._repr_html_())
    assert len([*page.iter("img")]) == 8
    assert "and 2 more" in "".join(page.itertext())
    assert "more" not in "".join(plain(e[:8]._repr_html_()).itertext())


def test_a_picture_costs_few_bytes(model):
    data = pytest.importorskip("skimage.data")
    photos = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), data.camera()]
    shown = whycam.explain(model, photos, "grad_cam", layer="1")._repr_html_()
    assert len(shown) < BUDGET * len(photos)


def test_no_background_is_taken_for_granted(model):
    page = whycam.explain(model, photo(), layer="1")._repr_html_()
    assert "color-scheme:light dark" in page
    assert not re.search(r"background|[^-]color:(?!inherit)", page)


def test_a_comparison_says_what_cannot_be(model):
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 62 * 62, 2)).eval()
    c = whycam.compare(whycam.VisionModel(module, whycam.Preprocess((64, 64))), photo(), ["grad_cam", "cam"])
    page = plain(c._repr_html_())
    assert len([*page.iter("img")]) == 1
    assert re.search(r"cam at .*pooling", "".join(page.itertext()))


def test_an_evaluation_says_what_is_recommended():
    found = evaluation({("grad_cam", "a<b"): {"insertion": spread(0.5, 4)}})
    page = plain(found._repr_html_())
    said = " ".join("".join(page.itertext()).split())
    assert "a<b" in said
    assert " ".join(found.recommendation.text.split()) in said


def test_a_run_shows_counts_problems_and_maps(model, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(9):
        Image.fromarray(np.roll(photo(), number, 1)).save(folder / f"{number}.png")
    (folder / "0.png").write_bytes(b"broken")
    run = whycam.run(model, folder, tmp_path / "run", layer="1", workers=0)
    page = plain(run._repr_html_())
    said = "".join(page.itertext())
    assert "9 images, 9 rows, 1 not explained" in said
    assert "status: ok 8" in said
    assert re.search(r"0\.png: .*not a JPEG", said)
    assert [each.size for each in pictures(page)] == [(120, 90)] * 8
    (folder / "1.png").unlink()
    Image.fromarray(photo()).save(folder / "2.png")
    page = plain(whycam.open_run(tmp_path / "run")._repr_html_())
    assert [each.size for each in pictures(page)] == [(256, 256)] * 2 + [(120, 90)] * 6
    assert "".join(page.itertext()).count("the map alone: its photo is not where it was, or is another now") == 2


def test_a_run_of_failures_shows_no_map(tmp_path):
    page = plain(run_of(tmp_path, [{"error": f"why {number}"} for number in range(7)])._repr_html_())
    said = "".join(page.itertext())
    assert "why 4" in said
    assert "why 5" not in said
    assert "and 2 more that went wrong" in said
    assert not [*page.iter("img")]


def test_the_map_of_a_lost_photo_is_drawn_in_blocks(tmp_path):
    (shown,) = pictures(plain(run_of(tmp_path, maps([[0.0, 1.0], [0.5, 0.0]]))._repr_html_()))
    pixels = np.asarray(shown.convert("RGB"), int).sum(-1)
    assert shown.size == (256, 256)
    assert (pixels[:128, 128:] == pixels.max()).all()
    assert len(np.unique(pixels)) == 3


def sources(html):
    return re.findall(r'<img [^>]*src="(data:[^"]+)"', html)


#: A notebook as somebody writes one.
CELLS = [
    """import torch, whycam
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
batch = torch.rand(2, 3, 64, 64)""",
    "whycam.explain(net, batch)",
    'whycam.compare(net, batch, ["grad_cam", "layer_cam"])',
    'whycam.evaluate(net, batch, ["grad_cam"], metrics=["deletion"], controls=False, sanity=0)',
    'whycam.run(net, [("one", batch[0].mul(255).byte().movedim(0, -1).numpy())], "run", layer="0",'
    " preprocess=whycam.Preprocess((64, 64)), workers=0)",
]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the kernel's packages, which are not ours
def test_displays_survive_a_real_notebook_and_its_export(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbconvert = pytest.importorskip("nbconvert")
    from nbconvert.preprocessors import ExecutePreprocessor

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    ExecutePreprocessor(timeout=120).preprocess(notebook, {"metadata": {"path": str(tmp_path)}})
    shown = [cell.outputs[-1]["data"]["text/html"] for cell in notebook.cells[1:]]
    page, _ = nbconvert.HTMLExporter().from_notebook_node(notebook)
    assert sources(page) == sources("".join(shown))  # nbconvert writes tags in its own way
    assert page.count("<script>\n(() =>") == 2
    assert [len([*plain(each).iter("img")]) for each in shown] == [2, 4, 0, 1]
    assert "<table" in shown[2]


def test_it_fades_where_a_script_runs(model, page):
    e = whycam.explain(model, [photo(), photo()[:, ::-1].copy()], "grad_cam", layer="1", target="cat")
    page.set_content(f"<style>label {{ height: 20px }}</style>{e._repr_html_()}")  # whole pixels, to compare
    first = page.locator("figure > div").first
    slider = page.locator("input[type=range]")
    assert slider.count() == 1

    def at(value):
        slider.evaluate(f"each => {{ each.value = {value}; each.dispatchEvent(new Event('input')); }}")
        return np.asarray(Image.open(io.BytesIO(first.screenshot())).convert("RGB"), float)

    for value in (50, 0, 100):
        assert abs(at(value) - twice(e[0].overlay(opacity=value / 100, caption=False))).mean() < 6, value
    assert abs(at(200) - at(100)).mean() > 10  # the photo is gone


def test_where_no_script_runs_the_overlay_stays(model, open_page):
    e = whycam.explain(model, photo(), "grad_cam", layer="1", target="cat")
    page = open_page(java_script_enabled=False)
    page.set_content(e._repr_html_())
    assert page.locator("input").count() == 0
    shown = np.asarray(Image.open(io.BytesIO(page.locator("img").screenshot())).convert("RGB"), float)
    assert abs(shown - twice(e.overlay(caption=False))).mean() < 4


def twice(picture):
    return np.asarray(picture.resize((240, 180), Image.Resampling.NEAREST), float)


def test_two_of_the_same_display_both_fade(model, page):
    shown = whycam.explain(model, photo(), "grad_cam", layer="1")._repr_html_()
    page.set_content(shown + shown)
    assert page.locator("input[type=range]").count() == 2
    assert page.locator("img").count() == 4


def test_what_was_asked_to_keep_its_sign_is_drawn_with_it(model):
    e = whycam.explain(model, photo(), "grad_cam", layer="0", target="cat", signed=True)
    assert e.maps.min() < 0 < e.maps.max()
    (shown,) = pictures(plain(e._repr_html_()))
    drawn = np.asarray(e.overlay(caption=False, signed=True).resize(shown.size), float)
    assert abs(np.asarray(shown, float) - drawn).mean() < 4
