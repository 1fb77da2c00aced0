"""The local page over small networks, asked in this process or over a real connection."""

import io
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvicorn
from PIL import Image
from starlette.testclient import TestClient
from torch import Tensor, nn

import whycam
from whycam.page.app import Page
from whycam.page.guard import Guard
from whycam.page.jobs import Jobs
from whycam.page.kept import Kept
from whycam.page.networks import Served

LABELS = ("cat", "dog", "<b>bird</b>", "a fish, or two")


class Net(nn.Module):
    """Two convolutions and a linear layer, four classes; each forward takes at least so many seconds."""

    def __init__(self, seed: int = 0, seconds: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.seconds = seconds
        self.stages = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU())
        self.head = nn.Linear(8, len(LABELS))

    def forward(self, x: Tensor) -> Tensor:
        if self.seconds:
            time.sleep(self.seconds)
        return self.head(self.stages(x).mean((2, 3)))


def model(seed: int = 0, seconds: float = 0.0) -> whycam.VisionModel:
    """The small network with its preprocessing and labels."""
    return whycam.VisionModel(
        Net(seed, seconds).eval(), whycam.Preprocess.imagenet(32, 36), LABELS, name=f"net {seed}"
    )  # fmt: skip


def photo(seed: int = 0, size: tuple[int, int] = (48, 64)) -> bytes:
    """A picture of noise, as the bytes of a PNG."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "png")
    return data.getvalue()


def page(*models: whycam.VisionModel, samples: Mapping[str, Path] | None = None, **jobs: Any) -> Page:
    """What is behind the addresses; `jobs`: how many may wait."""
    served = [Served.of(each.name, each) for each in (models or (model(),))]
    return Page(served, Kept(samples or {}), Jobs(**jobs))


class Asking:
    """What a browser asks, by any client that has `get`, `post` and `delete`."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.model = self.get("about")["models"][0]["id"]

    def get(self, path: str) -> Any:
        return self._read(self.client.get(f"/api/{path}"))

    def post(self, path: str, body: Any) -> Any:
        return self._read(self.client.post(f"/api/{path}", json=body))

    def add(self, data: bytes, name: str = "photo.png") -> Any:
        sent = {"content": data, "headers": {"content-type": "application/octet-stream"}, "params": {"name": name}}
        return self._read(self.client.post("/api/photos", **sent))

    def begin(self, photo: str, *methods: str | Mapping[str, Any], **more: Any) -> str:
        asked = [{"name": each} if isinstance(each, str) else each for each in methods]
        job: str = self.post("jobs", {"photo": photo, "model": self.model, "methods": asked, **more})["job"]
        return job

    def wait(self, job: str, seconds: float = 60.0) -> Any:
        end = time.monotonic() + seconds
        while (found := self.get(f"jobs/{job}"))["state"] in ("waiting", "running"):
            assert time.monotonic() < end, found
            time.sleep(0.01)
        return found

    def ask(self, photo: str, *methods: str | Mapping[str, Any], **more: Any) -> Any:
        found = self.wait(self.begin(photo, *methods, **more))
        assert found["state"] == "done", found
        return found["result"]

    def floats(self, path: str, shape: Sequence[int]) -> np.ndarray:
        return np.frombuffer(self.client.get(f"/api/{path}").content, "<f4").reshape(shape)

    def picture(self, path: str) -> Image.Image:
        return Image.open(io.BytesIO(self.client.get(f"/api/{path}").content))

    @staticmethod
    def _read(response: Any) -> Any:
        assert response.status_code == 200, (response.status_code, response.text)
        return response.json()


@contextmanager
def asking(page: Page, **guard: Any) -> Iterator[Asking]:
    """A page that is asked in this process; its jobs end with the block."""
    with TestClient(Guard(page.app(), **guard), base_url="http://localhost:8347") as client:  # type: ignore[arg-type]
        try:
            yield Asking(client)
        finally:
            page.jobs.close(20)


@contextmanager
def running(page: Page, **guard: Any) -> Iterator[str]:
    """A page that is served on a port of this machine: its address."""
    config = uvicorn.Config(
        Guard(page.app(), **guard), port=0, log_level="warning", lifespan="off", ws="none", timeout_graceful_shutdown=2
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        page.jobs.close(20)
