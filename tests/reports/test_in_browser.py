"""A report in a real browser: it opens at once, asks for nothing, and its controls do what they say."""

import io
import time

import numpy as np
import pytest
import torch
from browser import axe, sideways
from PIL import Image
from torch import nn

import whycam

#: Photos in the report that most tests look at, and in the one whose size and speed are told of.
FEW, MANY = 24, 200
LABELS = ["red", "<green>", "blue"]


def report_of(count, folder):
    """A run of photos through a network that knows three colors, as a report."""
    model = network(whycam.Preprocess((48, 48), mean=(0, 0, 0), std=(1, 1, 1)))
    photos = [(f"{number:03}.jpg", photo(number)) for number in range(count)]
    run = whycam.run(model, photos, folder / "run", target="red", layer="1", workers=0)
    return run.report(folder / "run.html", photos)


def network(prepare):
    module = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    module[0].weight.data = torch.eye(3)[..., None, None]
    return whycam.VisionModel(module, prepare, labels=LABELS)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return report_of(FEW, tmp_path_factory.mktemp("report"))


def photo(number):
    """A color on noise, as large as photos are, of another brightness each."""
    random = np.random.default_rng(number)
    pixels = random.integers(0, 30, (300, 400, 3)).astype(np.uint8)
    pixels[60:200, 50:250, number % 3] = 55 + number % 200
    if number % 4 == 0:
        pixels[..., 0] = 0  # nothing speaks for red
    return pixels


def opened(page, report):
    page.goto(f"file://{report}")
    return page


def names(page):
    return page.eval_on_selector_all(".image:not([hidden])", "all => all.map(each => each.dataset.name)")


def numbers(page):
    found = page.eval_on_selector_all(
        ".image:not([hidden])", "all => all.map(each => JSON.parse(each.dataset.numbers))"
    )
    return [each["score"] for each in found]


def seen(page, selector):
    return np.asarray(Image.open(io.BytesIO(page.locator(selector).first.screenshot())).convert("RGB"), float)


@pytest.mark.slow
def test_200_photos_open_in_two_seconds_and_weigh_little(page, tmp_path):
    report = report_of(MANY, tmp_path)
    assert report.stat().st_size < 25_000_000
    begun = time.perf_counter()
    opened(page, report)
    page.wait_for_selector(".controls:not([hidden])")
    took = time.perf_counter() - begun
    assert len(names(page)) == MANY
    loaded = page.eval_on_selector_all("img", "all => all.filter(each => each.complete && each.naturalWidth).length")
    assert loaded < 3 * MANY / 2  # of three of each image: what lies below waits
    assert took < 6  # one second, and two are allowed, where nothing else runs


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_everybody_can_use_it(scheme, width, open_page, report):
    page = opened(open_page(color_scheme=scheme, viewport={"width": width, "height": 900}), report)
    assert axe(page) == []
    assert sideways(page) == 0
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, paper[4:-1].split(","))) < 60) == (scheme == "dark")


def test_the_slider_goes_from_the_photo_to_the_colors(page, report):
    opened(page, report)
    page.select_option("[name=order]", "-score")
    bare, usual = seen(page, ".image figure .photo"), seen(page, ".image .map .photo")
    assert abs(usual - bare).max() > 60
    slider = page.locator("[name=opacity]")
    slider.focus()
    page.keyboard.press("Home")
    assert abs(seen(page, ".image .map .photo") - bare).mean() < 2
    page.keyboard.press("End")
    assert abs(seen(page, ".image .map .photo") - bare).mean() > 1.5 * abs(usual - bare).mean()
    page.keyboard.press("ArrowLeft")
    assert slider.input_value() == "99"


def test_images_are_sorted(page, report):
    opened(page, report)
    first = names(page)
    assert first == sorted(first)
    page.select_option("[name=order]", "-score")
    assert numbers(page) == sorted(numbers(page), reverse=True)
    page.select_option("[name=order]", "+score")
    assert numbers(page) == sorted(numbers(page))
    assert names(page) != first
    page.select_option("[name=order]", "")
    assert names(page) == first


def test_images_are_filtered(page, report):
    opened(page, report)
    page.select_option("[name=status]", "no positive evidence")
    assert names(page) == [f"{number:03}.jpg" for number in range(0, FEW, 4)]
    assert page.locator("[name=shown]").inner_text() == f"{FEW // 4} of {FEW} images"
    page.select_option("[name=status]", "")
    scores = numbers(page)
    least = sorted(scores)[-5]
    page.fill("[name=least]", str(least))
    assert len(names(page)) == sum(each >= least for each in scores)
    page.fill("[name=least]", "")
    page.select_option("[name=kind]", "red")
    assert len(names(page)) == FEW
    assert page.locator("[name=shown]").inner_text() == f"{FEW} images"


def test_maps_of_several_classes_are_filtered_by_each(page, tmp_path):
    stretched = network(whycam.Preprocess((32, 32), "stretch"))
    made = whycam.compare(stretched, tall(tmp_path), ["grad_cam", "fem"], targets=[0, 1])
    opened(page, made.report(tmp_path / "report.html"))
    rows = page.locator(".counts").nth(1).locator("tr").all_inner_texts()
    assert [each.split() for each in rows] == [["red", "1"], ["<green>", "1"]]
    assert page.locator("[name=shown]").inner_text() == "1 image"
    page.select_option("[name=kind]", "<green>")
    left = page.eval_on_selector_all(".map:not([hidden])", "all => all.map(each => each.dataset.kind)")
    assert left == ["<green>", ""]  # FEM's is of no class
    assert names(page) == ["tall.png"]
    Image.new("RGB", (40, 40), (20, 200, 30)).save(tmp_path / "green.png")
    two = whycam.compare(stretched, [tmp_path / "tall.png", tmp_path / "green.png"], ["grad_cam", "fem"])
    opened(page, two.report(tmp_path / "two.html"))
    page.select_option("[name=kind]", "<green>")
    assert names(page) == ["green.png"]


def test_a_tall_photo_stays_within_a_screen(page, tmp_path):
    stretched = network(whycam.Preprocess((32, 32), "stretch"))
    opened(page, whycam.explain(stretched, tall(tmp_path)).report(tmp_path / "report.html"))
    for each in page.locator(".photo").all():
        area = each.bounding_box()
        assert area["height"] < 900
        assert area["width"] / area["height"] == pytest.approx(1 / 100, rel=0.2)


def tall(folder):
    Image.new("RGB", (4, 400), (200, 40, 30)).save(folder / "tall.png")
    return folder / "tall.png"


def test_without_scripts_everything_is_shown(open_page, report):
    page = opened(open_page(java_script_enabled=False), report)
    assert not page.locator(".controls").is_visible()
    assert page.locator("article.image").count() == FEW
    assert page.locator("img.heat").first.is_visible()


def test_on_paper_there_are_no_controls_and_all_photos(page, report):
    opened(page, report)
    page.emulate_media(media="print")
    assert not page.locator(".controls").is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('.image')).contentVisibility") == "visible"
    assert page.evaluate("getComputedStyle(document.querySelector('.photo')).printColorAdjust") == "exact"
