"""`whycam serve`, up to where the server begins."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pages
import pytest
from typer.testing import CliRunner

from whycam.cli import app
from whycam.page import serving
from whycam.results.reproduce import Loading


@pytest.fixture
def began(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the server was begun with, in place of serving."""
    found: dict[str, Any] = {}

    def serve(networks: Any, samples: Any, bound: Any, **about: Any) -> None:
        found.update(networks=networks, samples=samples, port=bound.getsockname()[1], **about)
        bound.close()
        about["tell"](f"http://127.0.0.1:{found['port']}/")

    monkeypatch.setattr(serving, "serve", serve)
    return found


def run(*words: str) -> Any:
    return CliRunner().invoke(app, ["serve", "--port", "0", *words])


def test_what_is_named_is_served(began: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(pages.photo())
    result = run("a.png", "nothing.png", "--model", "pages:model", "--model", "pages:Net", "--no-browser", "--token",
                 "--root-path", "/cam", "--preprocess", "imagenet")  # fmt: skip
    assert (result.exit_code, "of one network" in result.output) == (2, True)
    result = run("a.png", "nothing.png", "--model", "pages:model", "--no-browser", "--token", "--root-path", "/cam")
    assert result.exit_code == 0, result.output
    assert [(spec, vision.name) for spec, vision in began["networks"]] == [("pages:model", "net 0")]
    assert began["samples"] == {"a.png": Path("a.png")}
    assert (began["browser"], began["token"], began["prefix"]) == (False, True, "/cam")
    assert f"http://127.0.0.1:{began['port']}/" in result.output
    assert "nothing.png: nothing of that name" in result.output


@pytest.mark.parametrize(("text", "form"), [("a\nb\n", "lines"), ('["a", "b"]', "list"), ('{"0": "a"}', "mapping")])
def test_what_is_said_of_the_network_is_known_to_the_page(
    text: str, form: str, began: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("names").write_text(text)
    assert run("--model", "pages:model").exit_code == 0
    assert began["loading"] == Loading()
    result = run("--model", "pages:Net", "--preprocess", "imagenet:32", "--labels", "names", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert began["loading"] == Loading(preprocess="imagenet:32", labels="names", labels_in=form, device="cpu")


def test_several_networks_and_the_samples_of_this_machine(began: dict[str, Any]) -> None:
    result = run("--model", "pages:model", "--model", "builtin", "--model", "pages:model")
    assert result.exit_code == 0, result.output
    assert [spec for spec, _ in began["networks"]] == ["pages:model", "builtin"]
    assert "chelsea.png" in began["samples"]
    assert all(path.is_file() for path in began["samples"].values())
    assert began["browser"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--root-path", "cam"], "--root-path is a path such as /whycam, not 'cam'"),
        (["nothing.png"], "nothing of that name"),
        (["--model", "nonesuch"], "no model 'nonesuch'"),
        (["--host", "192.0.2.1", "--model", "pages:model"], "no page can be served there"),
    ],
)
def test_mistakes_get_sentences(began: dict[str, Any], words: list[str], said: str) -> None:
    result = run(*words)
    assert (result.exit_code, said in result.output) == (2, True), result.output
    assert not began


def test_the_extra_is_named_where_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(name: str) -> Any:
        return None if name == "uvicorn" else importlib.util.find_spec(name)

    monkeypatch.setattr(sys.modules["whycam.cli.serve"], "find_spec", find_spec)
    result = run()
    assert result.exit_code == 2
    assert "the local page needs uvicorn, which is not installed: pip install 'whycam[serve]'" in result.output
