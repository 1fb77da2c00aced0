"""What each address answers is what whycam says when it is asked directly."""

import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pages
import pytest
import torch
from PIL import Image

import whycam
from whycam.kit.registry import methods
from whycam.network.fingerprint import fingerprint
from whycam.page.networks import Served
from whycam.pictures.colormaps import palette
from whycam.results.heat import color_scale, heat_of
from whycam.results.look import Look
from whycam.results.reproduce import Loading


@pytest.fixture(scope="module")
def asking() -> Iterator[pages.Asking]:
    with pages.asking(pages.page(pages.model(0), pages.model(1))) as made:
        yield made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "cat.png"
    found.write_bytes(pages.photo())
    return found


def test_about_lists_what_there_is(asking: pages.Asking) -> None:
    about = asking.get("about")
    assert about["version"] == whycam.__version__
    assert [(each["title"], each["answers"], each["usual_method"]) for each in about["models"]] == [
        ("net 0", "classes", "grad_cam"),
        ("net 1", "classes", "grad_cam"),
    ]
    assert [each["name"] for each in about["methods"]] == list(methods())
    by_name = {each["name"]: each for each in about["methods"]}
    options = {each["name"]: each for each in by_name["rise"]["options"]}
    assert (options["samples"]["kind"], options["samples"]["default"]) == ("number", 4000)
    assert (options["divide"]["kind"], options["divide"]["choices"]) == ("choice", ["expected", "coverage"])
    assert options["center"]["kind"] == "truth"
    assert options["keep"]["doc"] == "a number above 0 and below 1"
    for each in about["colormaps"]:
        assert each["levels"] == palette(each["name"], each["signed"]).tolist()
    assert about["default_colormap"] in [each["name"] for each in about["colormaps"]]


def test_a_photo_is_drawn_to_the_pixel(asking: pages.Asking) -> None:
    sent = asking.add(pages.photo(3), "a cat.png")
    assert (sent["name"], sent["width"], sent["height"]) == ("a cat.png", 64, 48)
    assert asking.get(f"photos/{sent['id']}") == sent
    own = Image.open(io.BytesIO(pages.photo(3)))
    assert np.array_equal(np.asarray(asking.picture(f"photos/{sent['id']}/picture.png")), np.asarray(own))


def test_a_large_photo_is_drawn_small_and_explained_whole(asking: pages.Asking, tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    path.write_bytes(pages.photo(4, (30, 2500)))
    sent = asking.add(path.read_bytes())
    assert (sent["width"], sent["photo_width"]) == (2048, 2500)
    (found,) = asking.ask(sent["id"], "hires_cam", targets=["1"])["maps"]
    direct = whycam.explain(pages.model(), path, "hires_cam", target=1)
    raw = np.load(io.BytesIO(asking.client.get(f"/api/maps/{found['id']}/raw.npy").content))
    assert np.array_equal(raw, direct.maps[0].numpy())
    drawn = asking.picture(f"maps/{found['id']}/overlay.png")
    assert np.array_equal(np.asarray(drawn), np.asarray(direct.overlay(caption=False)))
    assert found["geometry"]["photo_size"] == [sent["height"], 2048]
    shared = asking.post(f"maps/{found['id']}/share", {"box": [1024, 0, 2048, sent["height"]]})["share"]
    assert shared == pytest.approx(float(direct.share((1250, 0, 2500, 30))[0]), abs=0.02)
    (box, *_) = asking.get(f"maps/{found['id']}/boxes")["boxes"]
    assert box == pytest.approx((direct.boxes_around()[0][0] * 2048 / 2500).tolist(), abs=2)


def test_maps_are_those_of_whycam(asking: pages.Asking, path: Path) -> None:
    sent = asking.add(path.read_bytes(), path.name)
    options = {"options": {"k": "1.5"}}
    made = asking.ask(sent["id"], "grad_cam", {"name": "fem", **options}, layers=["stages.1"], targets=["2", "dog"])
    direct = whycam.compare(
        pages.model(), path, ["grad_cam", "fem"], ["stages.1"], [2, "dog"], options={"fem": {"k": 1.5}}
    )
    assert [(each["method"], each["target_text"]) for each in made["maps"]] == [
        ("grad_cam", "2"), ("grad_cam", "dog"), ("fem", None),
    ]  # fmt: skip
    for found, one in zip(made["maps"], direct.values(), strict=True):
        base = f"maps/{found['id']}"
        raw = np.load(io.BytesIO(asking.client.get(f"/api/{base}/raw.npy").content))
        assert np.array_equal(raw, one.maps[0].numpy())
        for signed in (False, True):
            heat = asking.floats(f"{base}/heat.f32?signed={int(signed)}", [*found["heat"].values()])
            assert np.array_equal(heat, heat_of(one, Look(signed=signed))[0].numpy())
            drawn = asking.picture(f"{base}/overlay.png?opacity=0.3&signed={int(signed)}&colormap=viridis")
            own = one.overlay(opacity=0.3, signed=signed, colormap="viridis", caption=False)
            assert np.array_equal(np.asarray(drawn), np.asarray(own))
        level = asking.floats(f"{base}/level.f32", [*found["heat"].values()])
        assert np.array_equal(level, one.heatmaps(normalize="max")[0].clamp(min=0).numpy())
        assert (found["status"]["kind"], found["title"]) == (one.status[0].kind, one.title)
        assert found["score"] == (float(one.scores[0]) if one.target else None)
        box = [8, 4, 30.5, 44]
        assert asking.post(f"{base}/share", {"box": box})["share"] == pytest.approx(
            float(one.share(box)[0]), nan_ok=True
        )
        bright = asking.get(f"{base}/boxes?level=0.4")
        assert bright["boxes"] == one.boxes_around(0.4)[0].tolist()
        assert bright["share_of_area"] == pytest.approx(float(one.mask(0.4)[0].float().mean()))
        record = asking.get(f"{base}/record.json")
        assert (record["method"], record["map"]["max"]) == (one.method, float(one.maps.max()))
        assert (record["command"], record["weights"]) == (made["shell"], fingerprint(pages.model().module))


def test_the_raw_values_at_which_colors_end(asking: pages.Asking, path: Path) -> None:
    sent = asking.add(path.read_bytes())["id"]
    for method in ("hires_cam", "guided_backprop"):
        (found,) = asking.ask(sent, method, targets=["0"])["maps"]
        one = whycam.explain(pages.model(), path, method, target=0)
        assert float(one.maps.min()) < 0
        ends = {}
        for signed, enlarge in itertools.product((False, True), ("cubic", "bilinear", "nearest")):
            look = f"signed={int(signed)}&enlarge={enlarge}"
            sent_back = asking.client.get(f"/api/maps/{found['id']}/heat.f32?{look}")
            ends[signed, enlarge] = float(sent_back.headers["color-end"])
            heat = np.frombuffer(sent_back.content, "<f4").reshape([*found["heat"].values()])
            drawn = one.heatmaps(normalize="none", enlarge=enlarge)[0].numpy()
            within = heat > (-1 if signed else 0)
            assert np.allclose(
                (heat * ends[signed, enlarge])[within & (heat < 1)], drawn[within & (heat < 1)], atol=1e-7
            )
        assert ends[True, "cubic"] == color_scale(one, Look(signed=True)).high
        assert ends[False, "nearest"] == color_scale(one, Look(enlarge="nearest")).high
        assert all(ends[True, enlarge] >= ends[False, enlarge] for enlarge in ("cubic", "bilinear", "nearest"))


def test_a_look_that_does_not_exist_is_said(asking: pages.Asking, path: Path) -> None:
    (found,) = asking.ask(asking.add(path.read_bytes())["id"], "grad_cam", targets=["0"])["maps"]
    refused = asking.client.get(f"/api/maps/{found['id']}/heat.f32?enlarge=larger")
    assert (refused.status_code, refused.json()["error"]) == (
        400,
        "enlarge is nearest or bilinear or cubic, not 'larger'.",
    )


def test_two_networks_stand_side_by_side(asking: pages.Asking, path: Path) -> None:
    sent = asking.add(path.read_bytes())
    for number, each in enumerate(asking.get("about")["models"]):
        (found,) = asking.ask(sent["id"], "grad_cam", model=each["id"], targets=["3"])["maps"]
        raw = np.load(io.BytesIO(asking.client.get(f"/api/maps/{found['id']}/raw.npy").content))
        assert np.array_equal(raw, whycam.explain(pages.model(number), path, "grad_cam", target=3).maps[0].numpy())


def test_the_usual_method_is_that_of_whycam(asking: pages.Asking, path: Path) -> None:
    made = asking.ask(asking.add(path.read_bytes())["id"], targets=[None])
    assert [each["method"] for each in made["maps"]] == [whycam.explain(pages.model(), path).method]


def test_what_cannot_be_made_is_listed_beside_what_can(asking: pages.Asking, path: Path) -> None:
    made = asking.ask(asking.add(path.read_bytes())["id"], "grad_cam", "attention_rollout", targets=["cat"])
    assert [each["method"] for each in made["maps"]] == ["grad_cam"]
    (failure,) = made["failures"]
    assert failure["method"] == "attention_rollout"
    assert "for transformers" in failure["reason"]


def test_where_nothing_can_be_made_a_sentence_says_why(asking: pages.Asking, path: Path) -> None:
    found = asking.wait(asking.begin(asking.add(path.read_bytes())["id"], "grad_cam", targets=["parrot"]))
    assert (found["state"], found["result"]) == ("failed", None)
    assert found["error"].startswith("no class is called 'parrot'.")


def test_the_lines_reproduce_the_view(asking: pages.Asking, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    made = asking.ask(asking.add(path.read_bytes(), path.name)["id"], "layer_cam", targets=["contrast:1/2"])
    assert made["shell"] == "whycam explain cat.png -m layer_cam -t contrast:1/2 --model 'net 0'"
    assert made["python"].startswith('whycam.explain("net 0", "cat.png", "layer_cam", target=')
    again = eval(made["python"].replace('"net 0"', "pages.model()"), {"whycam": whycam, "pages": pages})
    raw = np.load(io.BytesIO(asking.client.get(f"/api/maps/{made['maps'][0]['id']}/raw.npy").content))
    assert np.array_equal(raw, again.maps[0].numpy())


def test_layers_and_methods_of_a_network(asking: pages.Asking, path: Path) -> None:
    sent = asking.add(path.read_bytes())["id"]
    found = asking.get(f"models/{asking.model}/layers?photo={sent}")
    direct = whycam.layers(pages.model(), path)
    assert [(each["name"], each["chosen"]) for each in found] == [(each.name, bool(each.chosen_for)) for each in direct]
    able = {each["name"]: each for each in asking.get(f"models/{asking.model}/methods?photo={sent}")}
    assert able["grad_cam"]["usable"]
    assert able["rise"]["usable"]
    for name in ("attention_rollout", "tis"):
        assert not able[name]["usable"]
        assert "for transformers" in able[name]["why"]


def test_predictions_are_those_of_the_network(asking: pages.Asking, path: Path) -> None:
    sent = asking.add(path.read_bytes())["id"]
    found = asking.post("predictions", {"photo": sent, "model": asking.model})
    output = whycam.explain(pages.model(), path).outputs[0]
    order = output.argsort(descending=True).tolist()
    assert [each["index"] for each in found["classes"]] == order
    assert [each["label"] for each in found["classes"]] == [pages.LABELS[index] for index in order]
    assert [each["probability"] for each in found["classes"]] == pytest.approx(output.softmax(0)[order].tolist())
    assert found["boxes"] is None
    assert found["regions"] is None


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"methods": [{"name": "grad_kam"}]}, "no method 'grad_kam'"),
        ({"methods": [{"name": "rise", "options": {"samples": "many"}}]}, "takes a whole number, 1 or more"),
        ({"methods": [{"name": "rise", "options": {"samples": 0}}]}, "takes a whole number, 1 or more"),
        ({"methods": [{"name": "rise", "options": {"sample": 3}}]}, "rise has no option 'sample'"),
        ({"methods": ["rise"]}, "methods is a list"),
        ({"methods": [{"name": "rise"}, {"name": "RISE"}]}, "RISE came twice"),
        ({"methods": [], "metods": []}, "'metods' is none of them"),
        ({"targets": "281"}, "targets is a list"),
        ({"targets": ["contrst:1/2"]}, "there is no kind of target 'contrst'"),
        ({"targets": ["similarity:/etc/passwd"]}, "there is no photo '/etc/passwd'"),
        ({"photo": "0" * 32}, "there is no photo"),
        ({"photo": None}, "there is no photo"),
        ({"model": "resnet"}, "there is no model 'resnet'"),
        ({"smoothing": 3}, "smoothing is a text"),
    ],
)
def test_wrong_questions_get_sentences(asking: pages.Asking, asked: dict[str, object], said: str) -> None:
    question = {"photo": asking.add(pages.photo())["id"], "model": asking.model, **asked}
    response = asking.client.post("/api/jobs", json=question)
    assert response.status_code in (400, 404)
    assert said in response.json()["error"]


def test_no_target_imports_a_module(asking: pages.Asking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    found = asking.wait(asking.begin(asking.add(pages.photo())["id"], "grad_cam", targets=["trap:fire"]))
    assert found["error"].startswith("no class is called 'trap:fire'")


@pytest.mark.parametrize(
    "address",
    ["photos/x", "photos/x/picture.png", "jobs/x", "maps/x/heat.f32", "maps/x/raw.npy", "maps/x/boxes", "nowhere",
     "models/x/layers?photo=y"],
)  # fmt: skip
def test_what_is_not_here_is_said(asking: pages.Asking, address: str) -> None:
    response = asking.client.get(f"/api/{address}")
    assert response.status_code == 404
    assert response.json()["error"].endswith((".", "memory."))


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b"nope", b"[" * 5000, b"\xff\xfe"])
def test_what_is_no_question_is_said(asking: pages.Asking, body: bytes) -> None:
    response = asking.client.post("/api/jobs", content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]) == (400, "a question is an object in JSON.")


def test_a_question_that_is_too_long_is_refused(asking: pages.Asking) -> None:
    response = asking.client.post("/api/jobs", json={"targets": ["x" * 70_000]})
    assert response.status_code == 413
    assert "longer than 64 kB" in response.json()["error"]


@pytest.mark.parametrize(
    ("query", "said"),
    [("opacity=x", "opacity is a number"), ("opacity=2", "opacity"), ("colormap=heat99", "no color map 'heat99'")],
)
def test_wrong_looks_get_sentences(asking: pages.Asking, query: str, said: str) -> None:
    (found,) = asking.ask(asking.add(pages.photo())["id"], "grad_cam")["maps"]
    response = asking.client.get(f"/api/maps/{found['id']}/overlay.png?{query}")
    assert response.status_code == 400
    assert said in response.json()["error"]
    shared = asking.client.post(f"/api/maps/{found['id']}/share", json={"box": [1, 2, "3", 4]})
    assert (shared.status_code, "4 numbers" in shared.text) == (400, True)


def test_numbers_that_json_lacks_are_null() -> None:
    broken = pages.model()
    with torch.no_grad():
        broken.module.head.weight[0, 0] = torch.nan
    with pages.asking(pages.page(broken)) as asking:
        sent = asking.add(pages.photo())["id"]
        (found,) = asking.ask(sent, "grad_cam", targets=["0"])["maps"]
        assert found["score"] is None
        assert found["status"]["kind"] == "non-finite"
        said = asking.post("predictions", {"photo": sent, "model": asking.model})
        assert {each["probability"] for each in said["classes"]} == {None}
        for address in (f"maps/{found['id']}/record.json", f"maps/{found['id']}/boxes"):
            text = asking.client.get(f"/api/{address}").text
            json.loads(text, parse_constant=lambda word: pytest.fail(word))


def test_files_have_safe_names(asking: pages.Asking) -> None:
    name = '../../<script>alert("1")</script>\r\nx: é.png'
    sent = asking.add(pages.photo(), name)
    assert sent["name"] == name
    (found,) = asking.ask(sent["id"], "grad_cam")["maps"]
    for ending in ("overlay.png", "raw.npy", "record.json"):
        said = asking.client.get(f"/api/maps/{found['id']}/{ending}").headers["content-disposition"]
        assert said.startswith("attachment; filename*=UTF-8''")
        assert not set(said) & set('<>"/\r\n')


def test_files_of_the_page_and_no_others(asking: pages.Asking) -> None:
    page = asking.client.get("/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<title>" in page.text
    for name in ("nothing.js", "..%2fapp.py", "%2e%2e%2f__init__.py", "app.py", ""):
        assert asking.client.get(f"/static/{name}").status_code == 404


def test_a_sample_is_there_in_every_process(path: Path) -> None:
    ids = set()
    for _ in range(2):
        with pages.asking(pages.page(samples={"my cat": path})) as asking:
            (sample,) = asking.get("about")["samples"]
            ids.add(sample["id"])
            assert (sample["name"], asking.get(f"photos/{sample['id']}")["width"]) == ("my cat", 64)
            made = asking.ask(sample["id"], "grad_cam")
            assert str(path) in made["python"]
    assert ids == {asking_id(path)}


def asking_id(path: Path) -> str:
    with pages.asking(pages.page()) as asking:
        found: str = asking.add(path.read_bytes())["id"]
        return found


def test_a_sample_that_changed_is_said(path: Path) -> None:
    with pages.asking(pages.page(samples={"my cat": path})) as asking:
        (sample,) = asking.get("about")["samples"]
        path.write_bytes(pages.photo(9))
        response = asking.client.get(f"/api/photos/{sample['id']}")
        assert (response.status_code, "has changed" in response.text) == (400, True)


def test_a_mistake_of_ours_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    page = pages.page()
    monkeypatch.setattr(page.kept, "photo", lambda name: 1 / 0)
    with pages.asking(page) as asking:
        asking.client._transport.raise_server_exceptions = False
        response = asking.client.get("/api/photos/x")
        assert (response.status_code, response.json()["error"]) == (500, "ZeroDivisionError: division by zero")
        response = asking.client.put("/api/photos/x")
        assert (response.status_code, response.json()["error"]) == (405, "PUT /api/photos/x: Method Not Allowed.")


def test_lines_say_what_was_said_of_the_network() -> None:
    behind = pages.page()
    behind.networks = [Served.of("pages:Net", pages.model(), Loading(preprocess="imagenet:32", device="cpu"))]
    with pages.asking(behind) as asking:
        made = asking.ask(asking.add(pages.photo(), "cat.png")["id"], "grad_cam")
    assert made["shell"].endswith("--model pages:Net --preprocess imagenet:32 --device cpu")
    assert "preprocess=whycam.Preprocess.imagenet(32, 37)" in made["python"]
