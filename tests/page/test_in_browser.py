"""The page in a real browser: what people do with it, and that it is what whycam answers when it is asked directly."""

import base64
import io
import json
import shlex
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pages
import pytest
import torch
import torchvision_shim
import towers
from browser import axe, sideways
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import whycam
from whycam.cli import app
from whycam.errors import WhycamError
from whycam.page.app import Page
from whycam.page.jobs import Jobs
from whycam.page.kept import Kept
from whycam.page.networks import Served

torchvision_shim.register()
torchvision_shim.detectors()
TOYS = Path(__file__).parents[2] / "examples" / "toys"
NASTY = "<img src=x onerror=document.title='run'>.png"

DROP = """([name, data]) => {
    const held = new DataTransfer();
    held.items.add(new File([Uint8Array.from(atob(data), (each) => each.charCodeAt(0))], name));
    dispatchEvent(new DragEvent("drop", {dataTransfer: held, cancelable: true}));
}"""


@pytest.fixture(scope="module")
def chelsea() -> Path:
    import skimage

    return Path(skimage.__file__).parent / "data" / "chelsea.png"


@pytest.fixture(scope="module")
def vision() -> whycam.VisionModel:
    return whycam.load("builtin")


@pytest.fixture(scope="module")
def builtin(vision: whycam.VisionModel) -> Iterator[str]:
    """A page about the built-in network, with no samples."""
    with pages.running(Page([Served.of("builtin", vision)], Kept({}), Jobs())) as address:
        yield address


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    """A small photo in a file."""
    path = tmp_path / "cat.png"
    path.write_bytes(pages.photo())
    return path


@pytest.fixture
def serve() -> Iterator[Callable[[Page], str]]:
    """Serves what is behind a page, and gives its address. Before `page` in a test's arguments, it outlives the tab."""
    with ExitStack() as stack:
        yield lambda behind: stack.enter_context(pages.running(behind))


@pytest.fixture
def tiny(serve: Callable[[Page], str], cat: Path) -> str:
    """A page about two small networks, with a photo at hand."""
    return serve(pages.page(pages.model(0), pages.model(1), samples={"cat.png": cat}))


def drop(page: Any, name: str, data: bytes) -> None:
    page.evaluate(DROP, [name, base64.b64encode(data).decode()])


def at_rest(page: Any, maps: int = 1) -> None:
    """Wait until that many maps are drawn and nothing is asked."""
    page.wait_for_function(
        """(maps) => document.querySelectorAll('#grid canvas[data-drawn]').length === maps
           && document.getElementById('progress').hidden""",
        arg=maps,
    )


def pressed(page: Any, target: str) -> None:
    """Choose a class, and wait for its map."""
    page.click(f"[data-target='{target}']")
    at_rest(page)


def canvas(page: Any, number: int = 0) -> np.ndarray:
    """The pixels of a map on the page."""
    text = page.locator("#grid canvas[data-drawn]").nth(number).evaluate("(canvas) => canvas.toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text.partition(",")[2]))).convert("RGB"))


def until(page: Any, holds: Callable[[], bool]) -> None:
    """Wait for what takes a frame or, on a busy machine, several."""
    for _ in range(100):
        if holds():
            return
        page.wait_for_timeout(50)


def shows(page: Any, expected: np.ndarray) -> None:
    """The map is drawn so."""
    until(page, lambda: np.array_equal(canvas(page), expected))
    np.testing.assert_array_equal(canvas(page), expected)


def on_picture(area: dict[str, float], *pixels: tuple[int, int]) -> list[tuple[float, float]]:
    """Where pixels of `cat` lie in the window."""
    return [(area["x"] + area["width"] * x / 64, area["y"] + area["height"] * y / 48) for x, y in pixels]


def overlay(explained: Any, **look: Any) -> np.ndarray:
    return np.asarray(explained.overlay(caption=False, **look))


def alert(page: Any) -> str:
    page.wait_for_selector("#problem:not([hidden])")
    said: str = page.inner_text("#problem-text")
    return said


def test_a_photo_is_dropped_and_another_class_explained(builtin, page, vision, chelsea):
    page.goto(builtin)
    assert page.locator("#opacity").is_hidden()  # all is about adding a photo
    assert axe(page) == []
    drop(page, "cat.png", chelsea.read_bytes())
    at_rest(page)
    first = whycam.explain(vision, chelsea)
    shown = page.inner_text("[aria-pressed=true].class").split("\n")
    assert shown == [first.predictions[0].name, f"{100 * first.predictions[0].probability:.0f}%"]
    np.testing.assert_array_equal(canvas(page), overlay(first))

    pressed(page, "285")
    other = whycam.explain(vision, chelsea, target=285)
    np.testing.assert_array_equal(canvas(page), overlay(other))
    assert (canvas(page) != overlay(first)).any()


def test_looking_asks_for_nothing(builtin, page, vision, chelsea):
    page.goto(builtin)
    drop(page, "cat.png", chelsea.read_bytes())
    at_rest(page)
    explained = whycam.explain(vision, chelsea)
    page.wait_for_load_state("networkidle")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.locator("#opacity").fill("0.25")
    shows(page, overlay(explained, opacity=0.25))
    page.check("#signed")
    shows(page, overlay(explained, opacity=0.25, signed=True))
    page.uncheck("#signed")
    page.select_option("#colormap", "viridis")
    page.select_option("#blend", "even")
    page.select_option("#threshold", "contour")
    page.locator("#level").fill("0.4")
    shows(page, overlay(explained, opacity=0.25, colormap="viridis", blend="even", contour=0.4))
    page.select_option("#threshold", "mask")
    inside = explained.mask(0.4)[0].numpy()
    plain = overlay(explained, opacity=0.25, colormap="viridis", blend="even")

    def gray_outside() -> bool:
        outside = canvas(page)[~inside]
        return bool((outside == outside[:, :1]).all())

    until(page, gray_outside)
    assert gray_outside()
    np.testing.assert_array_equal(canvas(page)[inside], plain[inside])
    assert asked == []


def test_maps_are_enlarged_in_other_ways(builtin, page, vision, chelsea):
    page.goto(f"{builtin}#enlarge=nearest")
    drop(page, "cat.png", chelsea.read_bytes())
    at_rest(page)
    explained = whycam.explain(vision, chelsea)
    shows(page, overlay(explained, enlarge="nearest"))
    page.check("#signed")
    page.select_option("#enlarge", "bilinear")
    shows(page, overlay(explained, enlarge="bilinear", signed=True))
    page.wait_for_url("**enlarge=bilinear*")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.uncheck("#signed")
    page.select_option("#enlarge", "nearest")
    shows(page, overlay(explained, enlarge="nearest"))
    page.select_option("#enlarge", "cubic")
    shows(page, overlay(explained))
    assert {each.rpartition("=")[2] for each in asked} <= {"bilinear", "cubic"}  # each way once


def test_boxes_around_what_is_bright_are_asked_for_and_said(builtin, page, vision, chelsea):
    page.goto(f"{builtin}#threshold=boxes&level=0.3")
    drop(page, "cat.png", chelsea.read_bytes())
    at_rest(page)
    page.wait_for_selector(".around")
    assert page.inner_text(".good") == "ok"
    explained = whycam.explain(vision, chelsea)
    boxes, inside = explained.boxes_around(0.3)[0], explained.mask(0.3)[0]
    area = page.locator("#grid canvas[data-drawn]").bounding_box()
    drawn = [each.bounding_box() for each in page.locator(".around").all()]
    assert len(drawn) == len(boxes)
    height, width = inside.shape
    for each, (left, top, right, bottom) in zip(drawn, boxes.tolist(), strict=True):
        assert each["x"] - area["x"] == pytest.approx(left / width * area["width"], abs=1)
        assert each["y"] - area["y"] == pytest.approx(top / height * area["height"], abs=1)
        assert each["width"] == pytest.approx((right - left) / width * area["width"], abs=1)
        assert each["height"] == pytest.approx((bottom - top) / height * area["height"], abs=1)
    share = 100 * float(inside.float().mean())
    said = page.inner_text(".inside:not([hidden])")
    assert said == f"{share:.{1 if share < 10 else 0}f}% of the picture is above 30%, in {len(boxes)} parts."
    page.select_option("#threshold", "off")
    page.wait_for_selector(".around", state="detached")
    assert page.locator(".inside:not([hidden])").count() == 0


def test_what_is_saved_and_copied_gives_the_same_again(builtin, page, chelsea, tmp_path, monkeypatch):
    shutil.copy(chelsea, tmp_path / "cat.png")
    monkeypatch.chdir(tmp_path)
    page.goto(builtin)
    page.set_input_files("#file", "cat.png")
    at_rest(page)
    pressed(page, "281")
    page.get_by_label("LayerCAM", exact=True).check()
    page.get_by_label("Grad-CAM", exact=True).check()
    at_rest(page, 2)
    shown = page.locator(".card h4").all_inner_texts()
    python, shell = page.locator("#lines code").all_inner_texts()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_label("Copy the Python line").click()
    page.wait_for_selector("text=Copied")
    assert page.evaluate("() => navigator.clipboard.readText()") == python
    compared = eval(python, {"whycam": whycam})
    assert {one.title for one in compared.values()} == set(shown)
    for number, title in enumerate(shown):
        (one,) = (each for each in compared.values() if each.title == title)
        np.testing.assert_array_equal(canvas(page, number), overlay(one))
        with page.expect_download() as raw:
            page.locator(".card").nth(number).get_by_text(".npy").click()
        np.testing.assert_array_equal(np.load(raw.value.path()), one.maps[0].numpy())
        with page.expect_download() as record:
            page.locator(".card").nth(number).get_by_text(".json").click()
        assert json.loads(Path(record.value.path()).read_text())["method"] == one.method
        with page.expect_download() as picture:
            page.locator(".card").nth(number).get_by_text("PNG").click()
        assert picture.value.suggested_filename == f"cat.{one.method}.png"
        saved = np.asarray(Image.open(picture.value.path()).convert("RGB"))
        np.testing.assert_array_equal(saved, overlay(one))
    made = CliRunner().invoke(app, [*shlex.split(shell)[1:], "-o", "again", "--json"])
    assert made.exit_code == 0, made.output
    (again,) = {float(each["score"]) for each in _found(json.loads(made.stdout), "score")}
    assert again == pytest.approx(float(next(iter(compared.values())).scores[0]))


def _found(made: Any, name: str) -> list[dict[str, Any]]:
    """The objects that have that name, anywhere in what was printed."""
    if isinstance(made, list):
        return [each for one in made for each in _found(one, name)]
    if not isinstance(made, dict):
        return []
    return [made] if name in made else _found(list(made.values()), name)


def test_what_is_no_photo_and_what_is_too_large_are_refused_in_sentences(tiny, page, complaints):
    page.goto(tiny)
    at_rest(page)
    drop(page, "broken.png", b"\x89PNG\r\n\x1a\nnothing more")
    assert alert(page).startswith("broken.png: ")
    assert alert(page).count("broken.png") == 1
    page.click("#problem-close")
    large = io.BytesIO()
    Image.new("1", (10_000, 5_000)).save(large, "png")
    drop(page, "large.png", large.getvalue())
    assert "40 million pixels" in alert(page)
    assert page.locator("#photos li").count() == 1
    assert all("status of 4" in each for each in complaints)
    complaints.clear()


def test_a_name_is_only_a_name(tiny, page):
    page.goto(tiny)
    at_rest(page)
    drop(page, NASTY, pages.photo(5))
    page.wait_for_function("(name) => document.getElementById('photo-name').textContent === name", arg=NASTY)
    assert page.locator("#photos li").count() == 2
    at_rest(page)
    assert "<b>bird</b>" in page.inner_text("#classes")
    assert page.title() == "whycam"


def test_two_classes_give_a_contrast_and_an_address_brings_all_back(tiny, page, cat):
    page.goto(tiny)
    at_rest(page)
    pressed(page, "3")
    page.click("[data-target='0']", modifiers=["Control"])
    at_rest(page, 2)
    page.click("#contrast")
    at_rest(page)
    asked = whycam.explain(pages.model(), cat, target=whycam.targets.Contrast(3, 0))
    np.testing.assert_array_equal(canvas(page), overlay(asked))
    page.locator("#opacity").fill("0.9")
    page.wait_for_url("**opacity=0.9*")
    again = page.context.new_page()
    again.goto(page.url)
    at_rest(again)
    np.testing.assert_array_equal(canvas(again), overlay(asked, opacity=0.9))


def test_two_networks_stand_side_by_side(tiny, page, cat):
    page.goto(tiny)
    at_rest(page)
    page.select_option("#beside", label="net 1")
    at_rest(page, 2)
    for number in (0, 1):
        np.testing.assert_array_equal(canvas(page, number), overlay(whycam.explain(pages.model(number), cat)))
    assert page.locator(".columns h2").all_inner_texts() == ["net 0", "net 1"]


def test_a_box_is_drawn_and_its_evidence_told(tiny, page, open_page, cat):
    explained = whycam.explain(pages.model(), cat, target=1)

    def told(tab: Any, box: tuple[int, int, int, int]) -> None:
        area = (min(box[2], 64) - max(box[0], 0)) * (min(box[3], 48) - max(box[1], 0)) / (64 * 48)
        share = float(explained.share(box)[0])
        tab.wait_for_selector(f"text=/{share:.0%} of the evidence is in the box, which is {area:.0%} of the picture/")
        assert [int(tab.input_value(f"#box-{k}")) for k in range(4)] == list(box)

    page.goto(f"{tiny}/#target=1")
    at_rest(page)
    page.locator("#grid canvas[data-drawn]").scroll_into_view_if_needed()
    area = page.locator("#grid canvas[data-drawn]").bounding_box()
    corners = [
        (area["x"] + area["width"] * x / 64, area["y"] + area["height"] * y / 48) for x, y in ((10, 8), (40, 44))
    ]
    page.mouse.move(*corners[0])
    page.mouse.down()
    page.mouse.move(*corners[1], steps=3)
    page.mouse.up()
    told(page, (10, 8, 40, 44))

    page.click("text=Measure a box")
    for k, value in enumerate((20, 10, 60, 30)):
        page.fill(f"#box-{k}", str(value))
    page.keyboard.press("Enter")
    page.wait_for_url("**box=20*")
    told(page, (20, 10, 60, 30))
    page.click("#box-none")
    assert page.locator(".box:visible").count() == 0

    phone = open_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    phone.goto(f"{tiny}/#target=1")
    at_rest(phone)
    phone.click("text=Measure a box")
    phone.check("#boxing")
    stage = phone.locator("#grid .stage")
    stage.scroll_into_view_if_needed()
    area = stage.bounding_box()
    session = phone.context.new_cdp_session(phone)
    points = on_picture(area, (8, 6), (48, 42))
    for kind, at in (("touchStart", points[:1]), ("touchMove", points[1:]), ("touchEnd", [])):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in at]})
    told(phone, (8, 6, 48, 42))
    phone.goto(f"{tiny}/#target=1&box=-400,-9,500,24")  # what lies outside is no part of the picture
    told(phone, (-400, -9, 500, 24))


def test_a_slow_method_is_waited_for_and_cancelled(serve, page, cat):
    behind = pages.page(pages.model(0, seconds=0.2), samples={"cat.png": cat})
    page.goto(serve(behind))
    at_rest(page)
    page.get_by_label("RISE", exact=True).check()
    page.click("#run")
    page.wait_for_selector("text=/\\d+ of 4000 runs/")
    page.click("#cancel")
    assert page.locator("#progress").is_hidden()
    page.get_by_label("RISE", exact=True).uncheck()
    pressed(page, "2")  # is not behind what was slow
    (slow,) = (each for each in behind.jobs._known.values() if each.lane == "slow")
    with pytest.raises(WhycamError, match="cancelled"):  # and does not end in any other way
        slow.future.result(20)


def test_a_full_queue_is_refused_politely(serve, page, cat, complaints):
    behind = pages.page(pages.model(), samples={"cat.png": cat}, waiting=4)
    page.goto(serve(behind))
    at_rest(page)
    page.wait_for_load_state("networkidle")
    begun, over = threading.Event(), threading.Event()
    behind.jobs.submit(lambda job: (begun.set(), over.wait(60)), "quick")
    assert begun.wait(10)
    for _ in range(4):
        behind.jobs.submit(lambda job: over.wait(60), "quick")
    page.click("[data-target='2']")
    assert "try again" in alert(page)
    over.set()
    assert all("503" in each for each in complaints)
    complaints.clear()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everyone_can_read_and_reach_it(tiny, page, scheme, complaints):
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{tiny}/#target=1&target=3&method=grad_cam&method=fem&box=10,10,30,30&threshold=contour")
    at_rest(page, 3)
    page.click("text=Measure a box")
    page.click("#layers-part summary")
    assert axe(page) == []
    drop(page, "broken.png", b"nothing")
    alert(page)
    assert axe(page) == []
    complaints.clear()


def test_a_phone_shows_all_without_scrolling_sideways(tiny, open_page):
    page = open_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.goto(f"{tiny}/#target=1&target=3&method=grad_cam&method=layer_cam")
    at_rest(page, 4)
    page.click("text=Measure a box")
    page.click("#layers-part summary")
    drop(page, "a" * 200 + ".png", pages.photo(7))
    page.wait_for_function("() => document.querySelectorAll('#photos li').length === 2")
    at_rest(page, 2)
    assert sideways(page) == 0


def test_a_detector_is_asked_by_clicking_a_box(serve, page, tmp_path):
    sys.path.insert(0, str(TOYS))
    import shapes

    plain = whycam.Preprocess((128, 128), "stretch", mean=(0, 0, 0), std=(1, 1, 1))
    vision = whycam.VisionModel(shapes.detector(), plain, shapes.NAMES, name="shapes")
    scene = tmp_path / "scene.png"
    shapes.photo(3).save(scene)
    page.goto(serve(pages.page(vision, samples={"scene.png": scene})))
    at_rest(page)
    found = page.locator(".found")
    assert found.count() == page.locator("#classes li").count() > 1
    found.nth(1).click()
    page.wait_for_url("**target=box*1")
    at_rest(page)
    asked = whycam.explain(vision, scene, target=whycam.targets.Box(1))
    plain_picture = overlay(asked, marks=False)
    np.testing.assert_array_equal(canvas(page), plain_picture)
    with page.expect_download() as picture:
        page.get_by_text("PNG", exact=True).click()
    saved = np.asarray(Image.open(picture.value.path()).convert("RGB"))
    rows, columns = (saved != plain_picture).any(2).nonzero()
    left, top, right, bottom = (3 * each for each in asked.shown[0].box)  # the photo is three times the input
    assert [columns.min(), rows.min(), columns.max(), rows.max()] == pytest.approx([left, top, right, bottom], abs=3)
    inside = (columns > left + 3) & (columns < right - 3) & (rows > top + 3) & (rows < bottom - 3)
    assert not inside.any()


def test_a_segmenter_is_asked_by_clicking_a_point(serve, page, cat):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    plain = whycam.Preprocess((32, 32), "stretch", mean=(0, 0, 0), std=(1, 1, 1))
    vision = whycam.VisionModel(net.eval(), plain, ["road", "sky"], name="streets")
    page.goto(serve(pages.page(vision, samples={"cat.png": cat})))
    at_rest(page)
    picture = page.locator("#preview img")
    area = picture.bounding_box()
    picture.click(position={"x": area["width"] * 30.5 / 64, "y": area["height"] * 20.5 / 48})
    page.wait_for_selector(".class:has-text('@30,20')")
    at_rest(page)
    label = page.locator(".class[aria-pressed=true]").last.inner_text().partition(":")[2].partition("@")[0]
    asked = whycam.explain(vision, cat, target=whycam.targets.Region(label, point=(30, 20)))
    np.testing.assert_array_equal(canvas(page), overlay(asked, marks=False))


def test_the_way_to_the_maps_keeps_what_is_shown(tiny, page):
    page.goto(tiny)
    at_rest(page)
    pressed(page, "2")
    address, drawn = page.url, canvas(page)
    page.focus(".skip")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "maps"
    assert page.url == address
    np.testing.assert_array_equal(canvas(page), drawn)


def test_maps_of_another_photo_or_model_are_not_left_standing(tiny, page):
    page.goto(tiny)
    at_rest(page)
    page.get_by_label("Score-CAM", exact=True).check()
    page.wait_for_selector("#ready:not([hidden])")
    assert page.locator(".card").count() == 1  # of this photo, and it says its method
    drop(page, "other.png", pages.photo(5))
    page.wait_for_selector("#preview img[alt='other.png']")
    page.wait_for_selector("#ready:not([hidden])")
    assert page.locator(".card").count() == 0
    assert page.locator("#again").is_hidden()
    page.click("#run")
    at_rest(page)
    page.select_option("#model", label="net 1")
    page.wait_for_selector("#ready:not([hidden])")
    assert page.locator(".card").count() == 0


def test_labels_that_read_as_numbers_are_the_classes_they_name(serve, page, cat):
    counts = [["10", "1", "2", "3"], ["1", "2", "3", "4"]]
    models = [replace(pages.model(seed), labels=tuple(names)) for seed, names in enumerate(counts)]
    page.goto(serve(pages.page(*models, samples={"cat.png": cat})))
    at_rest(page)
    page.select_option("#beside", label="net 1")
    at_rest(page, 2)
    page.locator("[data-target='3']").first.click()
    page.wait_for_url("**target=3*")
    at_rest(page, 2)
    assert page.locator(".target h3").all_inner_texts() == ["Why 3", "Why 3"]
    for number, index in enumerate((3, 2)):
        expected = whycam.explain(pages.model(number), cat, target=index)
        np.testing.assert_array_equal(canvas(page, number), overlay(expected))


@pytest.mark.parametrize("names", [["1", "0"], ["road@night", "sky"], ["sky", "sky"], None])
def test_a_segmenter_whose_labels_read_as_something_else(names, serve, page, cat):
    net = nn.Conv2d(3, 2, 1)
    nn.init.zeros_(net.weight)
    net.bias.data = torch.tensor([1.0, 0.0])  # everywhere the first class
    plain = whycam.Preprocess((32, 32), "stretch", mean=(0, 0, 0), std=(1, 1, 1))
    body = nn.Sequential(nn.Conv2d(3, 3, 3, 2, 1), nn.ReLU(), net)
    page.goto(serve(pages.page(whycam.VisionModel(body.eval(), plain, names, name="places"), samples={"cat.png": cat})))
    at_rest(page)
    first = names[0] if names else "class 0"
    assert page.inner_text(".target h3") == f"Why {first} (100.0% of the picture)"
    page.locator("#preview img").click(position={"x": 40, "y": 30})
    page.wait_for_selector(".class:has-text('region:0@')")
    at_rest(page)
    assert page.locator(".target h3").inner_text().startswith(f"Why {first}")


def test_what_an_address_asks_for_in_vain_is_said(tiny, page):
    page.goto(f"{tiny}/#model=gone&method=grad_cam:null&method=fem&signed=1&colormap=viridis")
    at_rest(page)
    assert alert(page) == (
        "The address asks for what this page does not have, and which is left out: model gone, method grad_cam:null, "
        "colors viridis."
    )
    assert page.locator(".card h4").all_inner_texts() == ["FEM"]
    assert page.input_value("#colormap") != ""


def test_long_names_stay_inside(serve, open_page, cat):
    labels = ("x" * 300, "several words " * 12, "two\nlines", "</script>")
    model = replace(pages.model(), labels=labels, name="n" * 150)
    samples = {f"{number}.png": cat.with_name(f"{number}.png") for number in range(12)}
    for number, path in enumerate(samples.values()):
        path.write_bytes(pages.photo(number))
    page = open_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.goto(f"{serve(pages.page(model, pages.model(1), samples=samples))}/#target=0&target=1")
    at_rest(page, 2)
    assert sideways(page) == 0
    assert page.locator("#photos button").nth(11).bounding_box()["width"] > 44


def test_a_network_that_fails_leaves_the_other_its_say(serve, page, cat, complaints):
    class Fails(pages.Net):
        def forward(self, x):
            if x.shape[0] and self.broken:
                raise RuntimeError("out of <b>luck</b>")
            return super().forward(x)

    net = Fails()
    net.broken = False
    other = replace(pages.model(), module=net.eval(), name="fails")
    behind = pages.page(pages.model(), other, samples={"cat.png": cat})
    page.goto(serve(behind))
    at_rest(page)
    net.broken = True
    page.select_option("#beside", label="fails")
    at_rest(page)
    assert page.locator(".columns h2").all_inner_texts() == ["net 0", "fails"]
    assert page.inner_text(".columns > :nth-child(2) .failures") == "RuntimeError: out of <b>luck</b>"
    assert page.locator("#classes > div").nth(1).inner_text().split("\n")[-1] == "RuntimeError: out of <b>luck</b>"
    complaints.clear()


def test_an_encoder_waits_for_what_is_to_be_explained(serve, page, cat, tmp_path):
    net, _ = towers.made(towers.clip)
    plain = whycam.Preprocess((32, 32), "stretch", mean=(0, 0, 0), std=(1, 1, 1))
    (tmp_path / "dog.png").write_bytes(pages.photo(4))
    samples = {"cat.png": cat, "dog.png": tmp_path / "dog.png"}
    page.goto(serve(pages.page(whycam.VisionModel(net, plain, name="encoder"), samples=samples)))
    page.wait_for_selector("text=This model names no classes")
    page.wait_for_load_state("networkidle")
    assert page.locator("#problem").is_hidden()
    page.fill("#other-text", "similarity:dog.png")
    page.click("#other button")
    at_rest(page)
    expected = whycam.explain(
        whycam.VisionModel(net, plain), cat, target=whycam.targets.Similarity(tmp_path / "dog.png")
    )
    np.testing.assert_array_equal(canvas(page), overlay(expected))


def test_a_photo_that_takes_time_is_said_to_be_read(tiny, page):
    page.goto(tiny)
    at_rest(page)
    held: list[Any] = []
    page.route("**/api/photos?*", lambda route: held.append(route))
    drop(page, NASTY, pages.photo(6))
    page.wait_for_function("() => document.getElementById('adding').textContent.startsWith('reading ')")
    assert page.inner_text("#adding") == f"reading {NASTY}"
    until(page, lambda: bool(held))
    held[0].continue_()
    page.wait_for_selector("text=or drop them anywhere")
    at_rest(page)
    assert page.locator("#photos li").count() == 2


def test_no_class_is_the_top_of_an_answer_that_is_not_finite(serve, page, cat):
    model = pages.model()
    model.module.head.weight.data[0] = torch.nan
    page.goto(serve(pages.page(model, samples={"cat.png": cat})))
    at_rest(page)
    assert page.locator("#classes .class").count() == 4
    assert page.locator("#classes [aria-pressed=true]").count() == 0
    assert "Non-finite." in page.inner_text(".status")
