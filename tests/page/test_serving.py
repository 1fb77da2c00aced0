"""The real server: many clients at once, its port, its token, and its end."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pages
import pytest
import torch

import whycam
from whycam.page import serving
from whycam.results.heat import heat_of
from whycam.results.look import Look

CLIENTS, REQUESTS, EARLY = 8, 200, 50


@contextmanager
def client_of(address: str) -> Iterator[pages.Asking]:
    """A client of a real server; its connections end with the block."""
    with httpx2.Client(base_url=address, timeout=60) as client:
        yield pages.Asking(client)


@contextmanager
def served(*words: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`whycam serve` in a process of its own, over the small network: its address."""
    made = subprocess.Popen(
        [sys.executable, "-m", "whycam", "serve", "--no-browser", "--port", "0", "--model", "pages:model", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert made.stdout is not None
        assert made.stderr is not None
        address = made.stdout.readline().strip()
        assert address.startswith("http"), made.stderr.read()
        yield address, made
    finally:
        made.kill()
        made.communicate()


def resident(process: subprocess.Popen[str]) -> int:
    """Megabytes of memory that a process takes."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) // 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_eight_clients_and_two_hundred_requests(tmp_path: Path) -> None:
    """Every answer is that of whycam asked directly, none is lost, and memory stays flat; slow work goes on beside."""
    paths, expected = [], {}
    methods = ("grad_cam", "hires_cam", "eigen_cam", "layer_cam", "xgrad_cam")
    explainer = whycam.Explainer(pages.model())
    for number in range(4):
        path = tmp_path / f"{number}.png"
        path.write_bytes(pages.photo(number, (40 + number, 60)))
        paths.append(path)
        for method in methods:
            for target in range(4):
                about = {} if method == "eigen_cam" else {"target": target}
                one = explainer.explain(path, method, **about)
                expected[number, method, target] = heat_of(one, Look())[0].numpy(), one.scores[0]

    def ask(client: pages.Asking, number: int) -> None:
        photo, method, target = number % 4, methods[number % 5], number // 4 % 4
        sent = client.add(paths[photo].read_bytes())["id"]
        (found,) = client.ask(sent, method, targets=[str(target)])["maps"]
        heat, score = expected[photo, method, target]
        assert (found["method"], found["target_text"]) == (method, None if method == "eigen_cam" else str(target))
        assert np.array_equal(client.floats(f"maps/{found['id']}/heat.f32", heat.shape), heat)
        assert found["score"] == (None if method == "eigen_cam" else float(score))

    with served() as (address, process), ThreadPoolExecutor(CLIENTS) as pool, ExitStack() as stack:
        clients = [stack.enter_context(client_of(address)) for _ in range(CLIENTS)]
        for client in clients:
            client.add(paths[0].read_bytes())
        first = clients[0]
        slow = first.begin(
            first.add(paths[0].read_bytes())["id"], {"name": "opti_cam", "options": {"steps": 10_000_000}}
        )

        def asked(numbers: range) -> int:
            list(pool.map(lambda number: ask(clients[number % CLIENTS], number), numbers))
            return resident(process)

        early = asked(range(EARLY))
        late = asked(range(EARLY, REQUESTS))
        assert first.get(f"jobs/{slow}")["state"] == "running"
        first.client.delete(f"/api/jobs/{slow}")
        assert first.wait(slow)["state"] == "cancelled"
    assert late - early < 15, f"{early} MB after {EARLY} requests, {late} MB after {REQUESTS}"


def test_ctrl_c_ends_it_and_what_is_running(tmp_path: Path) -> None:
    with served() as (address, process), client_of(address) as client:
        sent = client.add(pages.photo())["id"]
        job = client.begin(sent, {"name": "rise", "options": {"samples": 100_000}})
        while client.get(f"jobs/{job}")["state"] != "running":
            time.sleep(0.01)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert (process.returncode, said) == (0, "")
        assert time.monotonic() - began < 15


def test_the_token_that_is_printed_opens_the_page() -> None:
    with served("--host", "0.0.0.0") as (address, _):
        token = re.fullmatch(r"http://[^/]+:(\d+)/\?token=([\w-]{32})", address)
        assert token is not None
        here = f"http://127.0.0.1:{token[1]}"
        with httpx2.Client(follow_redirects=True) as client:
            assert client.get(f"{here}/api/about").status_code == 401
            assert client.get(f"{here}/?token={token[2]}").status_code == 200
            assert client.get(f"{here}/api/about").status_code == 200


def test_a_long_upload_is_refused_while_it_comes() -> None:
    with pages.running(pages.page()) as address:
        parts = (bytes(2**20) for _ in range(64))
        headers = {"content-type": "application/octet-stream"}
        try:
            response = httpx2.post(f"{address}/api/photos?name=x", content=parts, headers=headers)
            assert response.status_code == 413
        except (httpx2.WriteError, httpx2.RemoteProtocolError):
            pass  # the server hung up, which is as good
        assert httpx2.get(f"{address}/api/about").status_code == 200


def test_another_port_where_the_usual_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(serving, "USUAL_PORT", port)
        bound, said = serving.bind("127.0.0.1", None)
        assert bound.getsockname()[1] != port
        assert said == f"port {port} is taken, so another one is used."
        bound.close()
        with pytest.raises(whycam.WhycamError, match=f"127.0.0.1, port {port}: no page can be served there: "):
            serving.bind("127.0.0.1", port)
    bound, said = serving.bind("127.0.0.1", port)
    assert (bound.getsockname()[1], said) == (port, "")
    bound.close()
    with pytest.raises(whycam.WhycamError, match="no page can be served there"):
        serving.bind("192.0.2.1", None)


def test_the_browser_is_led_to_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    opened: list[Any] = []
    monkeypatch.setattr(serving.webbrowser, "open", opened.append)
    monkeypatch.setattr(serving.uvicorn.Server, "run", lambda self, sockets: time.sleep(0.2))
    monkeypatch.setattr(serving.torch, "set_num_threads", lambda number: told.append(number))
    bound, _ = serving.bind("127.0.0.1", 0)
    port = bound.getsockname()[1]
    serving.serve([("net", pages.model())], {}, bound, tell=told.append, prefix="/cam/")
    assert opened == [f"http://127.0.0.1:{port}/cam/"]
    assert told[0] >= 1
    assert told[1:] == opened


class Broken(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise KeyError("head")


def test_a_network_that_cannot_be_run_is_said_before_the_page_opens() -> None:
    bound, _ = serving.bind("127.0.0.1", 0)
    broken = whycam.VisionModel(Broken(), whycam.Preprocess.imagenet(32, 36), name="mine")
    with pytest.raises(whycam.WhycamError, match="mine: the network cannot be run on an input of its size: KeyError"):
        serving.serve([("mine", broken)], {}, bound, tell=lambda _: pytest.fail("told"), browser=False)
    bound.close()
