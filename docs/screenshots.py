"""Takes pictures of the page, a report and a notebook in a browser, in light and dark: `make screenshots`.

Wants Debian's Chromium (`apt-get install chromium`) and the dev extra. They are looked at before they are committed.
"""

import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import skimage
from nbconvert import HTMLExporter
from nbconvert.preprocessors import ExecutePreprocessor
from PIL import Image
from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).parent / "images"
PHOTOS = [Path(skimage.__file__).parent / "data" / name for name in ("camera.png", "chelsea.png", "coffee.png")]
DESKTOP, PHONE = {"width": 1280, "height": 960}, {"width": 390, "height": 844}

#: What the page shows, as its address has it: one photo asked about two classes; several methods and a box.
TWO_CLASSES = "#target=872&target=759"
METHODS = "#method=grad_cam&method=layer_cam&method=hires_cam&method=eigen_cam&threshold=contour&box=230,130,330,240"

NOTEBOOK = """
import skimage.data
import whycam

whycam.explain("builtin", skimage.data.chelsea())
---
whycam.compare("builtin", skimage.data.coffee(), ["grad_cam", "layer_cam", "hires_cam"])
"""


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        with served(Path(folder)) as address:
            save("page-light", shot(browser, address + TWO_CLASSES, DESKTOP, "light", "canvas[data-drawn]"))
            save("page-dark", shot(browser, address + METHODS, DESKTOP, "dark", "canvas[data-drawn]"))
            phones = [
                shot(browser, address + TWO_CLASSES, PHONE, scheme, "canvas[data-drawn]", "#grid .target")
                for scheme in ("light", "dark")
            ]
            save("page-phone", beside(*phones))
        report = made_report(Path(folder)).as_uri()
        save("report-light", shot(browser, report, DESKTOP, "light", ".image", ".controls"))
        save("report-dark", shot(browser, report, DESKTOP, "dark", ".image", ".controls"))
        notebook = made_notebook(Path(folder)).as_uri()
        save("notebook", shot(browser, notebook, {"width": 1000, "height": 760}, "light", "img"))
        browser.close()


def shot(browser: Any, url: str, size: dict[str, int], scheme: str, ready: str, at: str = "") -> Image.Image:
    """A page as a picture, once what `ready` selects is there, scrolled to what `at` selects. Nothing is fetched."""
    context = browser.new_context(viewport=size, color_scheme=scheme)
    context.route(re.compile(r"^https?://(?!127\.0\.0\.1)"), lambda route: route.abort())
    page = context.new_page()
    page.goto(url, wait_until="domcontentloaded")
    page.locator(ready).first.wait_for(timeout=120_000)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(500)  # what moves is at rest
    if at:
        page.locator(at).first.evaluate("(element) => element.scrollIntoView()")
    made = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    context.close()
    return made


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The page, on a free port: its address."""
    names = [shutil.copy(path, folder / path.name).name for path in PHOTOS]
    command = [sys.executable, "-m", "whycam", "serve", *names, "--port", "0", "--no-browser"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # a pipe
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def made_report(folder: Path) -> Path:
    """A comparison of three photos as a report."""
    import whycam

    compared = whycam.compare("builtin", [folder / path.name for path in PHOTOS], ["grad_cam", "layer_cam"])
    compared.report(folder / "report.html")
    return folder / "report.html"


def made_notebook(folder: Path) -> Path:
    """A notebook, run and exported."""
    cells = [nbformat.v4.new_code_cell(each.strip()) for each in NOTEBOOK.split("---")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    ExecutePreprocessor(timeout=600).preprocess(notebook, {"metadata": {"path": str(folder)}})
    made, _ = HTMLExporter().from_notebook_node(notebook)
    path = folder / "notebook.html"
    path.write_text(made)
    return path


def beside(*pictures: Image.Image) -> Image.Image:
    """Pictures of one height in a row."""
    gap = 40
    sheet = Image.new("RGB", (sum(each.width + gap for each in pictures) - gap, pictures[0].height), "white")
    left = 0
    for each in pictures:
        sheet.paste(each, (left, 0))
        left += each.width + gap
    return sheet


def save(name: str, picture: Image.Image) -> None:
    picture.save(IMAGES / f"{name}.jpg", quality=85, optimize=True, progressive=True)
    print(f"docs/images/{name}.jpg")


if __name__ == "__main__":
    main()
