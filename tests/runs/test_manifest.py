"""A run's manifest: written once, the same after, and what differs is said."""

import json
from importlib.metadata import version
from pathlib import Path

import pytest

import whycam
from whycam.errors import WhycamError
from whycam.runs.manifest import beside, read_manifest, write_manifest


def test_a_manifest_is_what_was_asked(tmp_path):
    kept = write_manifest(tmp_path / "run", {"model": "resnet18", "methods": ("grad_cam",), "photos": Path("photos")})
    assert kept == {"model": "resnet18", "methods": ["grad_cam"], "photos": "photos"}
    assert read_manifest(tmp_path / "run") == kept
    versions = {"whycam": whycam.__version__, "torch": version("torch")}
    written = json.loads((tmp_path / "run/run.json").read_text())
    assert written == {"schema": 1, "asked": kept, "versions": versions}
    assert [each.name for each in (tmp_path / "run").iterdir()] == ["run.json"]


def test_the_same_is_asked_again_and_nothing_is_written(tmp_path):
    write_manifest(tmp_path, {"methods": ("grad_cam",)})
    (tmp_path / "run.json").chmod(0o444)
    before = (tmp_path / "run.json").stat().st_mtime_ns
    assert write_manifest(tmp_path, {"methods": ["grad_cam"]}) == {"methods": ["grad_cam"]}
    assert (tmp_path / "run.json").stat().st_mtime_ns == before


def test_another_configuration_is_refused_and_what_differs_is_said(tmp_path):
    write_manifest(tmp_path, {"model": "resnet18", "layer": "layer4", "target": "top"})
    with pytest.raises(WhycamError) as refused:
        write_manifest(tmp_path, {"model": "resnet18", "layer": "layer3", "method": "grad_cam", "target": "top"})
    assert str(refused.value) == (
        f"{tmp_path / 'run.json'} holds another run: layer was 'layer4' and is 'layer3'; method was None and is "
        "'grad_cam'. Ask the same, take another folder, or pass --new (new=True), which starts beside it."
    )
    assert read_manifest(tmp_path)["layer"] == "layer4"


def test_a_manifest_of_another_schema_is_refused(tmp_path):
    (tmp_path / "run.json").write_text('{"schema": 2, "asked": {}}')
    for call in (lambda: read_manifest(tmp_path), lambda: write_manifest(tmp_path, {})):
        with pytest.raises(WhycamError, match=r"run\.json has schema 2, and this version reads 1\."):
            call()


@pytest.mark.parametrize("text", ["", "[1]", '{"schema": 1}', "\x00\x01"])
def test_what_is_no_manifest_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(WhycamError, match="is no manifest of a run; take another folder"):
        read_manifest(tmp_path)


def test_a_folder_without_a_run_says_so(tmp_path):
    with pytest.raises(WhycamError, match=r"holds no run: there is no run\.json\. Pass the folder"):
        read_manifest(tmp_path / "nowhere")


def test_beside_a_run_is_the_first_free_name(tmp_path):
    folder = tmp_path / "run"
    assert beside(folder) == folder
    for expected in ("run", "run-2", "run-3"):
        assert beside(folder).name == expected
        write_manifest(beside(folder), {})
