"""Lines of Python and of a shell that make the same maps again."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pages
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import whycam
from whycam.cli import app
from whycam.cli.arguments import split_list
from whycam.engine.target_words import parse_target
from whycam.results.reproduce import Lines, Loading

TARGETS = [
    "top", "1", "dog", "a fish, or two", "contrast:1/2", "contrast:cat/dog+2", "finer", "probability:dog",
    "multilabel:1+2", "class:rest", "box:0", "box:1,2,30,40", "region:road@12,8", "region:3", "boxes:0.3", "value:0",
    "text:a dog/a cat", "keypoint:2", "log_probability",
]  # fmt: skip


def lines(**about: Any) -> Lines:
    targets = about.pop("targets", ())
    return Lines(
        **{"model": "net", "photo": "x.png", "targets": {each: parse_target(each) for each in targets}, **about}
    )


@pytest.mark.parametrize("text", TARGETS)
def test_every_target_as_code_and_as_words(text: str) -> None:
    made = lines(methods=["grad_cam"], targets=[text])
    asked: dict[str, Any] = {}

    def explain(model: str, photo: str, method: str, **about: Any) -> None:
        asked.update(about)

    def compare(model: str, photo: str, methods: list[str], **about: Any) -> None:
        asked.update(target=about["targets"][0])

    eval(
        made.python, {"whycam": type("whycam", (), {"explain": explain, "compare": compare, "targets": whycam.targets})}
    )
    meant = parse_target(text)
    assert repr(asked.get("target")) == repr(meant)
    words = shlex.split(made.shell)
    assert (words[words.index("-t") + 1] if "-t" in words else "top").strip('"') == text


@pytest.mark.parametrize(
    ("about", "python", "shell"),
    [
        ({"model": "builtin"}, 'whycam.explain("builtin", "x.png")', "whycam explain x.png"),
        (
            {"methods": ["rise"], "options": {"rise": {"samples": 50, "grid": (3, 4), "center": True}}},
            'whycam.explain("net", "x.png", "rise", samples=50, grid=(3, 4), center=True)',
            "whycam explain x.png -m rise -O samples=50 -O grid=3,4 -O center=True --model net",
        ),
        (
            {"methods": ["grad_cam", "fem"], "options": {"fem": {"k": 1.5}, "grad_cam": {}}},
            'whycam.compare("net", "x.png", ["grad_cam", "fem"], options={"fem": {"k": 1.5}})',
            "whycam compare x.png -m grad_cam,fem -O fem.k=1.5 --model net",
        ),
        (
            {"layers": ["a+b"], "more": {"fusion": "sum", "smoothing": "component"}},
            'whycam.explain("net", "x.png", layer=["a", "b"], fusion="sum", smoothing="component")',
            "whycam explain x.png -l a -l b --fusion sum --smoothing component --model net",
        ),
        (
            {"layers": ["a+b", "c"], "targets": ["top", "a, b"]},
            'whycam.compare("net", "x.png", layers=[["a", "b"], "c"], targets=[None, "a, b"])',
            "whycam compare x.png -t 'top,\"a, b\"' -l a+b,c --model net",
        ),
        (
            {"photo": "a \"b\" 'c' \\ $(rm).png\n", "model": "timm:x; ls"},
            'whycam.explain("timm:x; ls", "a \\"b\\" \'c\' \\\\ $(rm).png\\n")',
            None,
        ),
    ],
)
def test_lines(about: dict[str, Any], python: str, shell: str | None) -> None:
    made = lines(**about)
    assert made.python == python
    if shell is not None:
        assert made.shell == shell


@pytest.mark.parametrize(
    "name", ["a b.png", "it's.png", 'a"b".png', "$(touch x).png", "-rf.png", "a\\b.png", "é\n.png"]
)
def test_names_stay_names(name: str) -> None:
    made = lines(photo=name)
    assert shlex.split(made.shell)[2] == ("./-rf.png" if name == "-rf.png" else name)
    found: list[str] = []
    eval(made.python, {"whycam": type("whycam", (), {"explain": lambda *each: found.extend(each)})})
    assert found == ["net", name]


@pytest.mark.parametrize(
    "about",
    [
        {"methods": ["layer_cam"], "targets": ["contrast:1/2"]},
        {"methods": ["rise"], "options": {"rise": {"samples": 30, "grid": (3, 4)}}, "targets": ["dog"]},
        {"methods": ["grad_cam"], "layers": ["stages.1+stages.3"], "more": {"fusion": "maximum"}},
        {"targets": ["a fish, or two"], "more": {"smoothing": "component"}, "methods": ["grad_cam"]},
    ],
)
def test_both_lines_make_the_same_maps(about: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.png").write_bytes(pages.photo())
    made = lines(model="pages:model", **about)
    one = eval(made.python, {"whycam": whycam})
    result = CliRunner().invoke(app, [*shlex.split(made.shell)[1:], "-o", "out"])
    assert result.exit_code == 0, result.output
    (raw,) = Path("out").glob("*.map.npy")
    assert np.array_equal(np.load(raw), one.maps[0].numpy())


def test_a_row_of_targets_is_read_as_it_was_written() -> None:
    texts = ["top", 'a, "b"', 'say "x"', "x,y", '"quoted"', "plain"]
    words = shlex.split(lines(methods=["fem", "grad_cam"], targets=texts).shell)
    assert split_list([words[words.index("-t") + 1]]) == texts


def test_several_maps_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(torch.zeros(40, 40, 3, dtype=torch.uint8).numpy()).save("x.png")
    made = lines(
        model="pages:model", methods=["grad_cam", "fem"], targets=["top", "a fish, or two"], layers=["stages.1"]
    )
    found = eval(made.python, {"whycam": whycam})
    assert [(key[0], key[2]) for key in found] == [("grad_cam", None), ("grad_cam", "a fish, or two"), ("fem", None)]
    pytest.importorskip("matplotlib")
    result = CliRunner().invoke(app, [*shlex.split(made.shell)[1:], "-o", "out.png"])
    assert result.exit_code == 0, result.output
    assert Path("out.png").exists()


@pytest.mark.parametrize(
    ("loading", "words"),
    [
        (Loading(preprocess="imagenet:40"), "--preprocess imagenet:40"),
        (Loading(preprocess="own_preparation:PREPARED", labels="names it's.txt"), None),
        (Loading(preprocess="imagenet:32", labels="names.json", labels_in="mapping", device="cpu"), None),
        (Loading(preprocess="imagenet:32", labels="list.json", labels_in="list"), None),
        (Loading(weights="net.pt", preprocess="imagenet:32"), None),
        (Loading(weights="net.pt", unsafe_pickle=True, preprocess="imagenet:32"), None),
    ],
)
def test_what_was_said_of_the_model_is_said_again(
    loading: Loading, words: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.png").write_bytes(pages.photo())
    names = ["eins", "zwei", "drei, vier", "fünf"]
    Path("names it's.txt").write_text("\n".join(names), encoding="utf-8")
    Path("list.json").write_text(json.dumps(names))
    Path("names.json").write_text(json.dumps(dict(enumerate(names))))
    other = pages.Net(seed=5)
    torch.save(other.state_dict(), "net.pt")
    Path("own_preparation.py").write_text("import whycam\nPREPARED = whycam.Preprocess((24, 24), 'stretch')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_preparation", raising=False)
    made = lines(model="pages:Net", methods=["grad_cam"], targets=["2"], loading=loading)
    if words is not None:
        assert made.shell.endswith(words)
    *before, call = made.python.splitlines()
    names_there: dict[str, Any] = {"whycam": whycam}
    exec("\n".join(before), names_there)
    one = eval(call, names_there)
    result = CliRunner().invoke(app, [*shlex.split(made.shell)[1:], "-o", "out"])
    assert result.exit_code == 0, result.output
    (raw,) = Path("out").glob("*.map.npy")
    assert np.array_equal(np.load(raw), one.maps[0].numpy())
    side = 24 if loading.preprocess == "own_preparation:PREPARED" else int((loading.preprocess or "").split(":")[1])
    assert one.heatmaps().shape[-2:] == (side, side)
    assert one.target == (names[2] if loading.labels is not None else "class 2",)
    net = other if loading.weights is not None else pages.Net()
    batch = one.context.inputs
    assert torch.equal(one.outputs, net.eval()(batch)) or torch.allclose(one.outputs, net.eval()(batch), atol=1e-6)
