"""Choices that tests make are kept in a folder of their own."""

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WHYCAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
