"""What people look at: a report of many photos, and the page under many clients.

python benchmarks/looking.py report --images FOLDER --photos 200
python benchmarks/looking.py page --clients 8 --requests 200

A report is opened in Debian's Chromium, until its controls are there. Each client of the page adds a photo, asks for a
map and fetches its numbers, which have to be those that whycam gives directly; a Score-CAM is under way beside them.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np

import whycam

METHODS, CLASSES = ("grad_cam", "layer_cam", "hires_cam", "eigen_cam", "cam"), (281, 282, 504)
PHOTOS = ("chelsea", "astronaut", "coffee", "camera")


def report(args: argparse.Namespace) -> None:
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder:
        photos = sorted(each for each in args.images.rglob("*") if each.suffix.lower() in (".jpg", ".jpeg", ".png"))
        listed = [(f"{number}", photos[number % len(photos)]) for number in range(args.photos)]
        run = whycam.run("builtin", listed, Path(folder) / "run", progress=False)
        begun = time.perf_counter()
        path = run.report(Path(folder) / "report.html", listed)
        size = path.stat().st_size
        print(f"{args.photos} photos: {size / 1e6:.1f} MB, {size / args.photos / 1e3:.0f} kB each, "
              f"written in {time.perf_counter() - begun:.0f} s")  # fmt: skip
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            for _ in range(args.times):
                page = browser.new_page()
                begun = time.perf_counter()
                page.goto(path.as_uri())
                page.wait_for_selector(".controls:not([hidden])")
                print(f"opened in {time.perf_counter() - begun:.1f} s")
                page.close()
            browser.close()


def page(args: argparse.Namespace) -> None:
    import httpx2
    import pages  # tests/helpers
    import skimage.data
    from PIL import Image

    from whycam.results.heat import heat_of
    from whycam.results.look import Look

    sent = []
    for name in PHOTOS:
        data = io.BytesIO()
        Image.fromarray(getattr(skimage.data, name)()).save(data, "png")
        sent.append(data.getvalue())
    explainer, expected = whycam.Explainer("builtin"), {}
    for number, data in enumerate(sent):
        photo = whycam.read_photo(data)
        for method in METHODS:
            for target in CLASSES:
                one = explainer.explain(photo, method, target=None if method == "eigen_cam" else target)
                expected[number, method, target] = heat_of(one, Look())[0].numpy()
    command = [sys.executable, "-m", "whycam", "serve", "--no-browser", "--port", "0"]
    served = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        assert served.stdout is not None
        address = served.stdout.readline().strip()
        clients = [pages.Asking(httpx2.Client(base_url=address, timeout=300)) for _ in range(args.clients)]
        clients[0].begin(clients[0].add(sent[0])["id"], "score_cam")

        def ask(k: int) -> float:
            begun, client = time.perf_counter(), clients[k % len(clients)]
            key = (k % len(sent), METHODS[k % len(METHODS)], CLASSES[k // len(sent) % len(CLASSES)])
            (found,) = client.ask(client.add(sent[key[0]])["id"], key[1], targets=[str(key[2])])["maps"]
            assert np.array_equal(client.floats(f"maps/{found['id']}/heat.f32", (224, 224)), expected[key]), key
            return time.perf_counter() - begun

        begun, took = time.perf_counter(), list[float]()
        quarter = args.requests // 4
        with ThreadPoolExecutor(args.clients) as pool:
            for turn in range(4):
                took += pool.map(ask, range(turn * quarter, (turn + 1) * quarter))
                print(f"after {(turn + 1) * quarter}: {resident(served.pid):.0f} MB")
        print(f"{len(took)} requests, all right, in {time.perf_counter() - begun:.0f} s; median {median(took):.1f} s")
    finally:
        served.kill()


def resident(pid: int) -> float:
    """Of a process's memory, in MB, on Linux."""
    pages_held = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages_held * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True)
    of_report = kinds.add_parser("report")
    of_report.add_argument("--images", type=Path, required=True)
    of_report.add_argument("--photos", type=int, default=200)
    of_report.add_argument("--times", type=int, default=3)
    of_report.set_defaults(run=report)
    of_page = kinds.add_parser("page")
    of_page.add_argument("--clients", type=int, default=8)
    of_page.add_argument("--requests", type=int, default=200)
    of_page.set_defaults(run=page)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
    main()
