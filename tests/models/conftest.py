"""Hubs for tests: a network that does what it is told, and caches in a folder of the test's own."""

import socket
import threading
import time

import pytest
import torch.hub

from whycam.models import hub


class Internet:
    """A network that refuses, hangs or answers, and counts."""

    def __init__(self):
        self.asked, self.how = [], "refuse"
        # threads that libraries started in other tests, which ask on their own
        self.others = {*threading.enumerate()} - {threading.current_thread()}

    def connect(self, sock, address):
        if threading.current_thread() not in self.others:
            self.asked.append(address)
        if self.how == "hang":
            time.sleep(20)
        if self.how != "answer":
            raise OSError("Network is unreachable")

    def look_up(self, host, port, *args, **given):
        if self.how == "no names":
            self.asked.append((host, port))
            time.sleep(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]


@pytest.fixture
def internet(monkeypatch):
    """In place of the real one; it refuses, unless its `how` is changed."""
    made = Internet()
    monkeypatch.setattr(socket.socket, "connect", lambda sock, address: made.connect(sock, address))
    monkeypatch.setattr(socket, "getaddrinfo", made.look_up)
    monkeypatch.setattr(hub, "PATIENCE", 0.3)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return made


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    """Torch's cache, empty."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"))
    return tmp_path / "torch" / "checkpoints"


@pytest.fixture
def hf_home(tmp_path, monkeypatch):
    """The Hugging Face cache: `hf_home("owner/name", {"file": bytes})` puts files into it."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def put(repository, files):
        folder = tmp_path / "hf" / f"models--{repository.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("c0ffee")
        for name, content in files.items():
            path = folder / "snapshots" / "c0ffee" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return folder / "snapshots" / "c0ffee"

    return put
