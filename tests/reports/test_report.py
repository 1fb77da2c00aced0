"""Reports: everything is in the one file, names are only names, and what is shown is what was asked and made."""

import base64
import io
import json
import re
import shutil
import sys
from dataclasses import replace

import html5lib
import numpy as np
import pytest
import torch
from evaluations import evaluation, spread
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import whycam
from whycam.cli import app
from whycam.errors import WhycamError
from whycam.network.fingerprint import fingerprint
from whycam.pictures.blends import OPACITY
from whycam.pictures.colormaps import colorize
from whycam.results.explanation import Comparison
from whycam.results.layered import layered
from whycam.results.look import Look
from whycam.results.reporting import part_of_folder

NASTY = "<script>alert(1)</script>\"'&.png"


@pytest.fixture
def network():
    """Two classes of a small picture: how red it is, and how green."""
    module = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    module[0].weight.data = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])[..., None, None]
    return whycam.VisionModel(
        module, whycam.Preprocess((32, 32), mean=(0, 0, 0), std=(1, 1, 1)), labels=["<red>", "green"], name="colors"
    )


def picture(color, height=48, width=64):
    """Color at the left, gray noise elsewhere."""
    pixels = np.random.default_rng(0).integers(0, 60, (height, width, 3), dtype=np.uint8)
    pixels[10:30, 5:40] = color
    return pixels


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(picture((250, 20, 20))).save(folder / "red.png")
    Image.fromarray(picture((20, 250, 20))).save(folder / "green.png")
    return folder


def parsed(path):
    """The document, by a parser that takes no error, with nothing in it that a browser would have to fetch."""
    text = path.read_text()
    page = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)
    for element in page.iter():
        element.tag = str(element.tag).rpartition("}")[2]  # without SVG's namespace
        for name, value in element.attrib.items():
            assert not name.startswith("on"), (element.tag, name)
            if name in ("src", "href", "srcset", "action", "data"):
                assert value.startswith(("data:image/", "#")), (element.tag, value[:80])
    assert text.count("url(") == text.count("url(data:image/")
    assert "default-src 'none'" in text
    return page


def texts(page, tag, kind=None):
    return [
        " ".join("".join(each.itertext()).split())
        for each in page.iter(tag)
        if kind is None or kind in each.attrib.get("class", "").split()
    ]


def asked(page):
    rows = [each for each in page.iter("div") if each.find("dt") is not None]
    return {row.find("dt").text: [line.text for line in row.findall("dd")] for row in rows}


def heats(page):
    return [each for each in page.iter("img") if each.attrib.get("class") == "heat"]


def photos_of(page):
    """The photos themselves, of which each is kept once."""
    styles = [each.attrib.get("style", "") for each in page.iter("div") if each.attrib.get("class") == "pictures"]
    return [opened(style.partition("url(")[2].partition(")")[0]) for style in styles if style]


def opened(source):
    return Image.open(io.BytesIO(base64.b64decode(source.partition("base64,")[2])))


def test_it_says_what_was_asked_and_shows_each_photo(network, photos, tmp_path):
    e = whycam.explain(network, [photos / "red.png", photos / "green.png"], "grad_cam", layer="1")
    page = parsed(e.report(tmp_path / "report.html"))
    said = asked(page)
    assert said["Model"] == ["colors"]
    assert said["Method"] == ["Grad-CAM"]
    assert said["Layer"] == [f"1 (32x32, channels first): {e.layer.why}"]
    assert said["Preprocessing"][0].startswith("the shorter side to 32 (bilinear); the middle 32 x 32; channels rgb")
    assert said["Versions"] == [f"whycam {whycam.__version__}, torch {torch.__version__}"]
    articles = [*page.iter("article")]
    assert [each.attrib["data-name"] for each in articles] == ["red.png", "green.png"]
    assert [each.attrib["data-kind"] for each in articles] == ["<red>", "green"]
    assert [json.loads(each.attrib["data-numbers"])["score"] for each in articles] == pytest.approx(e.scores.tolist())
    assert str(e.predictions[0]) in texts(page, "p", "says")[0]
    assert texts(page, "p", "status") == ["ok", "ok"]
    assert texts(page, "div", "bar") == [f"0{float(map_.max()):.3g}" for map_ in e.maps]


def test_a_comparison_says_whose_weights(network, photos, tmp_path):
    both = whycam.compare(network, photos / "red.png", ["grad_cam", "hires_cam"], layers=["1"])
    page = parsed(both.report(tmp_path / "both.html", model=network))
    assert asked(page)["Weights"] == [f"fingerprint {fingerprint(network.module)}"]
    assert "Weights" not in asked(parsed(both.report(tmp_path / "both.html")))


def test_every_map_counts_and_images_are_sorted_by_numbers_alone(network, photos, tmp_path):
    both = whycam.compare(network, [photos / "red.png", photos / "green.png"], ["grad_cam", "hires_cam"], layers=["1"])
    scores = torch.tensor([0.0, torch.nan])  # a number that Python takes for false, and one that is none
    both = Comparison({key: replace(one, scores=scores) for key, one in both.items()}, {}, both.cost)
    page = parsed(both.report(tmp_path / "both.html"))
    assert "2 images, 4 maps." in texts(page, "p")
    assert "ok4" in " ".join(texts(page, "section", "counts"))
    assert [json.loads(each.attrib["data-numbers"]) for each in page.iter("article")] == [{"score": 0.0}, {}]


def test_it_says_whose_weights_and_how_to_have_it_again(network, photos, tmp_path):
    path = photos / "red.png"
    e = whycam.explain(network, path, "fem", layer="1", k=1.5)
    page = parsed(e.report(tmp_path / "report.html", model=network))
    assert asked(page)["Weights"] == [f"fingerprint {fingerprint(network.module)}"]
    (line,) = texts(page, "pre")
    assert line == f"whycam.explain(model, {str(path)!r}, 'fem', layer='1', k=1.5)"
    again = eval(line, {"whycam": whycam, "model": network})
    assert torch.equal(again.maps, e.maps)
    c = whycam.compare(network, path, ["grad_cam", "layer_cam"], layers=["1"], targets=["green"])
    page = parsed(c.report(tmp_path / "report.html"))
    assert "Weights" not in asked(page)
    lines = texts(page, "pre")[0]
    assert lines.count("target=...) # target: green") == 2


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"signed": True}, "signed=True"),
        ({"smoothing": "augmentations"}, "smoothing='augmentations'"),
        ({"path": 3}, "path=3"),
        ({"layer": ["0", "1"], "fusion": "maximum"}, "fusion='maximum'"),
        ({"layer": ["0", "1"]}, "fusion='mean'"),
        ({"layer": ["0", "1"], "fusion": lambda maps: maps[0]}, None),
    ],
)
def test_how_to_have_it_again_says_all_that_was_asked(asked, said, network, photos, tmp_path):
    e = whycam.explain(network, photos / "red.png", "grad_cam", **{"layer": "1", **asked})
    (line,) = texts(parsed(e.report(tmp_path / "report.html")), "pre", "command")
    if said is None:
        assert "fusion=..." in line
        return
    assert line.count(said) == 1
    again = eval(line, {"whycam": whycam, "model": network})
    assert torch.equal(again.maps, e.maps)


def test_every_picture_has_words(network, photos, tmp_path):
    e = whycam.explain(network, photos / "red.png", "grad_cam", layer="1")
    page = parsed(e.report(tmp_path / "report.html"))
    (photo,) = [each for each in page.iter("div") if each.attrib.get("role") == "img"]
    assert photo.attrib["aria-label"] == "Photo red.png"
    (heat,) = heats(page)
    said = f"Grad-CAM at 1 for <red>; the model says {e.predictions[0]}; status ok"
    assert heat.attrib["alt"] == f"red.png under {said}"
    assert all(each.attrib["alt"] for each in page.iter("img"))
    raw = next(each for each in page.iter("img") if each.attrib.get("class") == "raw")
    assert raw.attrib["alt"] == f"The map at the layer's resolution, 32 x 32, from 0 to {float(e.maps.max()):.3g}"


def test_backdrop_and_heat_together_are_the_overlay(network, tmp_path):
    data = pytest.importorskip("skimage.data")
    e = whycam.explain(network, data.coffee()[:300, :400], "grad_cam", layer="1")
    page = parsed(e.report(tmp_path / "report.html"))
    (backdrop,), (heat,) = photos_of(page), (opened(each.attrib["src"]) for each in heats(page))
    assert backdrop.size == heat.size == (400, 300)
    drawn = np.asarray(e.overlay(caption=False), float)
    assert abs(blended(backdrop, heat) - drawn).mean() < 4  # of 255, after JPEG and WebP
    exact = layered(e, Look(), 448)
    assert abs(blended(exact.backdrop(), exact.heat()) - drawn).max() <= 1.5


def blended(backdrop, heat):
    """As a browser lays the one over the other, at the usual opacity."""
    colors = np.asarray(heat.convert("RGBA"), float)
    share = OPACITY * colors[..., 3:] / 255
    return share * colors[..., :3] + (1 - share) * np.asarray(backdrop, float)


def test_the_raw_map_keeps_its_cells(network, photos, tmp_path):
    e = whycam.explain(network, photos / "red.png", "grad_cam", layer="1")
    page = parsed(e.report(tmp_path / "report.html"))
    raw = opened(next(each.attrib["src"] for each in page.iter("img") if each.attrib.get("class") == "raw"))
    assert raw.size == (32, 32)
    strength = np.asarray(raw.convert("RGB"), float).sum(-1)
    assert strength.argmax() == e.maps[0].argmax()


def test_what_is_not_finite_has_no_color_in_the_raw_map(network, photos, tmp_path):
    e = whycam.explain(network, photos / "red.png", "grad_cam", layer="1")
    maps = e.maps.clone()
    maps[0, 0, 0] = torch.nan
    page = parsed(replace(e, maps=maps).report(tmp_path / "report.html"))
    raw = opened(next(each.attrib["src"] for each in page.iter("img") if each.attrib.get("class") == "raw"))
    gray = (np.ptp(np.asarray(raw.convert("RGB"), int), -1) == 0).nonzero()
    assert [*zip(*gray, strict=True)] == [(0, 0)]
    strength = np.asarray(raw.convert("RGB"), float).sum(-1)
    strength[0, 0] = 0
    assert strength.argmax() == e.maps[0].flatten()[1:].argmax() + 1  # the others keep theirs


def test_what_was_asked_to_keep_its_sign_is_drawn_with_it(network, photos, tmp_path):
    network.module[0].weight.data[1] = torch.tensor([-1.0, 2.0, -1.0])[:, None, None]
    halves = np.zeros((48, 64, 3), np.uint8)
    halves[:, :32, 1] = halves[:, 32:, 0] = 200
    Image.fromarray(halves).save(photos / "green.png")
    e = whycam.explain(network, photos / "green.png", "grad_cam", layer="0", target="green", signed=True)
    assert e.maps.min() < 0 < e.maps.max()
    page = parsed(e.report(tmp_path / "report.html"))
    (photo,), (heat,) = photos_of(page), heats(page)
    shown = blended(photo, opened(heat.attrib["src"]))
    drawn = np.asarray(e.overlay(caption=False, signed=True).resize(photo.size), float)
    plain = np.asarray(e.overlay(caption=False).resize(photo.size), float)
    assert 3 * abs(shown - drawn).mean() < abs(shown - plain).mean()
    top = float(e.maps.abs().max())
    assert texts(page, "div", "bar") == [f"{-top:.3g}{top:.3g}"]
    raw = opened(next(each.attrib["src"] for each in page.iter("img") if each.attrib.get("class") == "raw"))
    expected = colorize(e.maps[0] / top, signed=True)
    assert np.array_equal(np.asarray(raw.convert("RGB")), expected)


def test_maps_of_one_photo_share_it(network, photos, tmp_path):
    c = whycam.compare(network, [photos / "red.png", photos / "green.png"], ["grad_cam", "layer_cam"], layers=["1"])
    page = parsed(c.report(tmp_path / "report.html"))
    assert len([*page.iter("article")]) == 2
    assert len(photos_of(page)) == 2
    assert len(heats(page)) == 4
    assert asked(page)["Method"] == ["Grad-CAM", "LayerCAM"]


def test_what_a_comparison_cannot_is_listed(photos, tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 30 * 30, 2)).eval()
    model = whycam.VisionModel(module, whycam.Preprocess((32, 32)))
    c = whycam.compare(model, photos / "red.png", ["grad_cam", "cam"], layers=["1"])
    page = parsed(c.report(tmp_path / "report.html"))
    (line,) = texts(page, "li")
    assert line.startswith("cam at 1")
    assert "pooling" in line


def test_names_are_only_names(network, photos, tmp_path):
    (photos / "red.png").rename(photos / NASTY.replace("/", "%2F"))
    name = NASTY.replace("/", "%2F")
    e = whycam.explain(network, photos / name, "grad_cam", layer="1")
    e = replace(e, notes=("<b>note</b>",), model="<i>model</i>")
    path = e.report(tmp_path / "report.html")
    page = parsed(path)
    assert len([*page.iter("script")]) == 1
    assert not [*page.iter("i")]
    assert "alert" not in next(page.iter("script")).text
    assert [each.attrib["data-name"] for each in page.iter("article")] == [name]
    assert asked(page)["Notes"] == ["<b>note</b>"]


def test_a_map_that_is_not_ok_says_so_in_words(network, photos, tmp_path):
    e = whycam.explain(network, photos / "red.png", "grad_cam", layer="1", target="green")
    e = replace(e, maps=-e.maps.abs(), status=(whycam.Status("no positive evidence", "all is against it."),))
    page = parsed(e.report(tmp_path / "report.html"))
    assert texts(page, "p", "status") == ["no positive evidence: all is against it."]
    assert not texts(page, "div", "bar")  # no color means anything
    assert "no positive evidence" in " ".join(texts(page, "section", "counts"))


def test_scores_are_counted(network, photos, tmp_path):
    e = whycam.explain(network, [photos / "red.png"] * 5, "grad_cam", layer="1")
    e = replace(e, scores=torch.tensor([-1.0, 0.0, 2.9, 3.0, torch.nan]))  # sixteen bins of a quarter
    page = parsed(e.report(tmp_path / "report.html"))
    (drawn,) = [each for each in page.iter("svg") if each.attrib.get("role") == "img"]
    assert drawn.attrib["aria-label"] == "Scores: 1 from -1 to -0.75, 1 from 0 to 0.25, 2 from 2.75 to 3"
    assert [float(each.attrib["height"]) for each in drawn] == [30, 0, 0, 0, 30, *[0] * 10, 60]
    assert texts(page, "p", "ends") == ["-13"]
    same = replace(e, scores=torch.ones(5))
    assert not texts(parsed(same.report(tmp_path / "report.html")), "section", "scores")


def test_a_signal_is_its_figure(tmp_path):
    model = nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()).eval()
    page = parsed(whycam.explain(model, torch.rand(1, 2, 16), target=1).report(tmp_path / "report.html"))
    (drawn,) = [each for each in page.iter("img") if each.attrib.get("class") == "picture"]
    assert opened(drawn.attrib["src"]).width > 500
    assert not texts(page, "p", "note")
    assert not texts(page, "div", "bar")  # which would have other colors


def test_what_cannot_be_drawn_says_why(tmp_path, monkeypatch):
    model = nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()).eval()
    e = whycam.explain(model, torch.rand(1, 2, 16), target=1)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    page = parsed(e.report(tmp_path / "report.html"))
    assert any("drawing a figure needs matplotlib" in each for each in texts(page, "p", "note"))
    assert not photos_of(page)
    assert not heats(page)


def test_a_volume_is_one_picture(tmp_path):
    model = nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten()).eval()
    page = parsed(whycam.explain(model, torch.rand(1, 1, 8, 9, 10), target=1).report(tmp_path / "report.html"))
    (drawn,) = [each for each in page.iter("img") if each.attrib.get("class") == "picture"]
    assert drawn.attrib["loading"] == "lazy"
    assert not photos_of(page)
    assert not heats(page)
    assert [each.attrib["class"] for each in page.iter("figure")] == ["map wide"]  # three cuts side by side
    (opacity,) = (each for each in page.iter("label") if "".join(each.itertext()).startswith("Opacity"))
    assert "hidden" in opacity.attrib


def test_a_folder_of_explain_becomes_a_report(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["whycam", "explain", "my photos", "-o", "out"])
    out = tmp_path / "out"
    assert CliRunner().invoke(app, ["explain", str(photos), "-o", str(out)]).exit_code == 0
    (photos / "green.png").unlink()
    made = CliRunner().invoke(app, ["report", str(out), "-o", str(tmp_path / "r.html"), "--json"])
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["images"] == 2
    page = parsed(tmp_path / "r.html")
    said = asked(page)
    assert said["Weights"] == ["fingerprint 851e4ec8f7f01235"]
    assert said["Preprocessing"][0].startswith("the shorter side to 256 (bicubic); the middle 224 x 224")
    assert "before its activation" in said["Layer"][0]
    assert texts(page, "pre") == ["whycam explain 'my photos' -o out"]
    green, red = page.iter("article")
    assert [green.attrib["data-name"], red.attrib["data-name"]] == ["green.png", "red.png"]
    assert "The photo is not where it was" in texts(green, "p", "missing")[0]
    assert photos_of(green) == []
    assert len(photos_of(red)) == len(heats(red)) == 1
    assert len([each for each in page.iter("img") if each.attrib.get("class") == "raw"]) == 2


def test_a_folder_of_explain_says_what_it_could_not_explain(photos, tmp_path):
    def explained(*names: str) -> list[str]:
        given = ["explain", *[str(photos / name) for name in names], "-o", str(tmp_path / "out"), "--quiet"]
        assert CliRunner().invoke(app, given).exit_code in (0, 1)
        made = CliRunner().invoke(app, ["report", str(tmp_path / "out"), "-o", str(tmp_path / "r.html"), "--json"])
        page = parsed(tmp_path / "r.html")
        told = json.loads(made.stdout)
        assert told["failures"] == len(texts(page, "li"))
        assert told["images"] == len([*page.iter("article")])
        return texts(page, "li")

    for name in ("broken.png", "<b>.png"):
        (photos / name).write_bytes(b"no photo")
    (failure,) = explained("broken.png")
    assert failure.startswith("broken.png: ")
    assert [each.partition(":")[0] for each in explained("<b>.png", "red.png")] == ["broken.png", "<b>.png"]
    shutil.copy(photos / "red.png", photos / "broken.png")
    (photos / "red.png").write_bytes(b"no photo")
    assert [each.partition(":")[0] for each in explained("broken.png", "red.png")] == ["<b>.png", "red.png"]
    for name in ("<b>.png", "red.png"):
        shutil.copy(photos / "green.png", photos / name)
    assert explained("<b>.png", "red.png") == []
    assert not (tmp_path / "out" / "not-explained.json").exists()
    (tmp_path / "out" / "not-explained.json").write_text("[]")
    refused = CliRunner().invoke(app, ["report", str(tmp_path / "out"), "-o", str(tmp_path / "r.html")])
    assert refused.exit_code == 2
    assert "is no list of photos that were not explained" in refused.stderr


@pytest.mark.parametrize(
    "harm",
    [
        lambda record, raw: record.write_bytes(record.read_bytes()[:60]),
        lambda record, raw: record.write_text('{"a": 1}'),
        lambda record, raw: record.write_text(json.dumps(json.loads(record.read_text()) | {"layer": 5})),
        lambda record, raw: raw.write_bytes(raw.read_bytes()[:60]),
        lambda record, raw: raw.write_bytes(b""),
        lambda record, raw: raw.unlink(),
    ],
)
def test_what_is_damaged_is_named_and_never_left_out(harm, network, photos, tmp_path):
    whycam.explain(network, [photos / "red.png", photos / "green.png"], "grad_cam", layer="1").save(tmp_path)
    (tmp_path / "notes.json").write_text("no record")
    assert len(part_of_folder(tmp_path, "out").images) == 2
    harm(tmp_path / "red.grad_cam.json", tmp_path / "red.grad_cam.map.npy")
    with pytest.raises(WhycamError, match=r"red\.grad_cam\.json, or the map beside it, is damaged or missing"):
        part_of_folder(tmp_path, "out")


def test_saved_maps_of_numbers_are_shown_alone(network, tmp_path):
    whycam.explain(network.module, torch.rand(2, 3, 9, 9), layer="1").save(tmp_path / "out")
    whycam.explain(network.module, torch.full((1, 3, 9, 9), torch.nan), layer="1").save(tmp_path / "out" / "nan")
    for folder, count in ((tmp_path / "out", 2), (tmp_path / "out" / "nan", 1)):
        assert CliRunner().invoke(app, ["report", str(folder), "-o", str(tmp_path / "r.html")]).exit_code == 0
        page = parsed(tmp_path / "r.html")
        assert texts(page, "p", "missing") == ["No photo is shown: the network was given numbers."] * count
        assert len([each for each in page.iter("img") if each.attrib.get("class") == "raw"]) == count
    assert texts(page, "p", "status")[0].startswith("non-finite")
    assert not texts(page, "div", "bar")


@pytest.mark.parametrize("size", [(48, 64), (50, 64)])
@pytest.mark.parametrize("way", ["command line", "Python"])
def test_another_photo_under_the_name_is_not_shown(way, size, network, photos, tmp_path):
    out, photo = tmp_path / "out", photos / "red.png"
    if way == "Python":
        whycam.explain(network, photo, layer="1").save(out)
    else:
        assert CliRunner().invoke(app, ["explain", str(photo), "-o", str(out)]).exit_code == 0

    def missing():
        assert CliRunner().invoke(app, ["report", str(out), "-o", str(tmp_path / "r.html")]).exit_code == 0
        return texts(parsed(tmp_path / "r.html"), "p", "missing")

    assert missing() == []
    Image.fromarray(picture((20, 250, 20), *size)).save(photo)
    assert missing() == [f"{photo} holds another photo than was explained."]
    for path in out.glob("*.json"):  # as it was written before contents were kept
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "photo_content"}))
    assert len(missing()) == (size != (48, 64))


def test_a_run_is_shown_over_its_photos(network, photos, tmp_path):
    (photos / "broken.png").write_bytes(b"no photo")
    run = whycam.run(network, photos, tmp_path / "run", layer="1", metrics=["average_drop"], workers=0)
    Image.fromarray(picture((20, 250, 20), 48, 64) // 2).save(photos / "green.png")
    page = parsed(run.report(tmp_path / "r.html", photos))
    said = asked(page)
    assert said["Model"] == ["colors"]
    assert said["Weights"] == [f"fingerprint {run.asked['weights']}"]
    assert said["Layer"] == ["1: as asked"]
    assert said["Target"] == ["each image's top class"]
    (failure,) = texts(page, "li")
    assert failure.startswith("broken.png: ")
    green, red = page.iter("article")
    assert json.loads(red.attrib["data-numbers"]).keys() == {"score", "average_drop"}
    assert "holds another photo than was explained" in texts(green, "p", "missing")[0]
    assert len(photos_of(red)) == len(heats(red)) == 1
    assert photos_of(green) == []


def test_a_run_without_its_photos_shows_the_maps(network, photos, tmp_path):
    run = whycam.run(network, photos, tmp_path / "run", workers=0)
    page = parsed(run.report(tmp_path / "r.html"))
    assert not texts(page, "p", "missing")  # it knows where they were
    choice = whycam.explain(network, photos / "red.png").layer
    assert asked(page)["Layer"] == [f"{choice.name}: {choice.why}"]
    photos.rename(tmp_path / "moved")
    page = parsed(run.report(tmp_path / "r.html"))
    assert all("Say where the photos are" in each for each in texts(page, "p", "missing"))
    assert len(texts(page, "p", "missing")) == 2
    assert len([each for each in page.iter("img") if each.attrib.get("class") == "raw"]) == 2


def test_a_long_run_says_how_much_is_shown(network, photos, tmp_path):
    whycam.run(network, photos, tmp_path / "run", layer="1", workers=0)
    given = ["report", str(tmp_path / "run"), "--photos", str(photos), "-n", "1", "-o", str(tmp_path / "r.html")]
    assert CliRunner().invoke(app, given).exit_code == 0
    page = parsed(tmp_path / "r.html")
    assert [each.attrib["data-name"] for each in page.iter("article")] == ["green.png"]
    assert "Of 2 images the first 1 are shown." in texts(page, "p", "note")


def test_an_evaluation_is_its_table_its_advice_and_its_curves(tmp_path):
    at = {"insertion": (0.0, 0.5, 1.0)}
    curves = {("grad_cam", "insertion"): [[0, 0.5, 1]] * 4, ("<b>", "insertion"): [[0, 0.2, 1]] * 4}
    found = evaluation(
        {("grad_cam", "top"): {"insertion": spread(0.5, 4)}, ("<b>", "top"): {"insertion": spread(0.2, 4)}},
        curves=curves,
        failures={"x.jpg": "is <i>gone</i>"},
        asked={"model": "a network", "weights": "abc", "methods": ["grad_cam"], "seed": 0, "command": "whycam it"},
    )
    assert found.at == at
    page = parsed(found.report(tmp_path / "r.html"))
    assert asked(page)["Weights"] == ["fingerprint abc"]
    assert asked(page)["Metrics"] == ["Insertion"]
    assert texts(page, "pre") == ["whycam it"]
    assert "<b>" in texts(page, "td")
    assert found.recommendation.text.split(".")[0] in " ".join(texts(page, "p"))
    assert texts(page, "li") == ["x.jpg: is <i>gone</i>"]
    (figure,) = (each for each in page.iter("figure"))
    assert "Insertion" in figure.find("img").attrib["alt"]
    assert opened(figure.find("img").attrib["src"]).width > 500
    assert not [*page.iter("form")]


def test_several_stand_in_one_report(network, photos, tmp_path):
    whycam.run(network, photos, tmp_path / "run", layer="1", workers=0)
    (tmp_path / "trust").mkdir()
    evaluation({("grad_cam", "top"): {"insertion": spread(0.5, 4)}}).to_json(tmp_path / "trust" / "evaluation.json")
    what = [str(tmp_path / "run"), str(tmp_path / "trust"), str(tmp_path / "run")]
    given = ["report", *what, "--photos", str(photos), "-o", str(tmp_path / "r.html"), "--title", "All & <sundry>"]
    assert CliRunner().invoke(app, given).exit_code == 0
    page = parsed(tmp_path / "r.html")
    assert texts(page, "h1") == ["All & <sundry>"]
    names = [each for each in texts(page, "h2") if each.startswith("What")]
    assert names == ["What was asked: run", "What was asked: trust", "What was asked: run"]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda folder: folder / "nothing", "there is no such folder or file; pass what whycam wrote to"),
        (lambda folder: folder, "holds no explanation; pass a folder that 'whycam explain' wrote to"),
        (lambda folder: (folder / "x.json").write_text("{}") and folder / "x.json", "it is no evaluation"),
    ],
)
def test_what_is_none_of_these_is_refused_in_words(made, said, tmp_path):
    found = CliRunner().invoke(app, ["report", str(made(tmp_path)), "-o", str(tmp_path / "r.html")])
    assert found.exit_code == 2
    assert said in found.stderr
    assert not (tmp_path / "r.html").exists()


def test_a_photo_takes_less_than_100_kb(network, tmp_path):
    data = pytest.importorskip("skimage.data")
    e = whycam.explain(network, [data.chelsea(), data.coffee(), data.astronaut()], "grad_cam", layer="1")
    empty = e[:1].report(tmp_path / "one.html").stat().st_size
    whole = e.report(tmp_path / "three.html").stat().st_size
    assert whole - empty < 2 * 100_000
    assert re.search(r'--shape:448/298"', (tmp_path / "one.html").read_text())  # neither small nor whole
