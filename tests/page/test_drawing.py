"""drawing.js draws what `pictures.geometry` and `pictures.overlay` draw, to the last bit."""

import base64
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from whycam.pictures.colormaps import palette
from whycam.pictures.geometry import Geometry
from whycam.pictures.overlay import paint

#: Cropped at both sides, so that a part was not seen; padded below and right of the photo; larger than the photo.
GEOMETRIES = {
    "cropped": Geometry((37, 53), (16, 16), (37 / 16, 37 / 16), (0.0, 8.0), (0.0, 0.0, 16.0, 16.0)),
    "padded": Geometry((40, 29), (21, 21), (40 / 21, 40 / 21), (0.0, 0.0), (0.0, 0.0, 21.0, 15.3)),
    "shrunk": Geometry((11, 13), (24, 32), (11 / 24, 13 / 32), (0.0, 0.0), (0.0, 0.0, 24.0, 32.0)),
}

DRAW = """async ({heat, level, geometry, photo, look}) => {
    const drawing = await import("./drawing.js");
    const bytes = (text) => Uint8ClampedArray.from(atob(text), (each) => each.charCodeAt(0));
    const on = (text) => drawing.lay(new Float32Array(bytes(text).buffer), ...geometry.input_size, geometry);
    const laid = on(heat);
    const pixels = new ImageData(bytes(photo), geometry.photo_size[1], geometry.photo_size[0]);
    const indices = drawing.colorIndices(laid.values, look.levels.length, look.signed);
    const region = look.threshold === "off" ? null : drawing.above(on(level), look.level);
    const made = drawing.overlay(pixels, laid, indices, look, region).data;
    return btoa(Array.from(made, (each) => String.fromCharCode(each)).join(""));
}"""


def _text(array: np.ndarray) -> str:
    """Numbers on their way into the browser, much quicker than as numbers."""
    return base64.b64encode(array.tobytes()).decode()


@pytest.fixture(scope="module")
def static() -> Iterator[str]:
    """Where the page's own files are served."""
    handler = partial(_Silent, directory=str(files("whycam.page") / "static"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


class _Silent(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/":
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<link rel=icon href='data:,'>")
        else:
            super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def drawn(page, static, generator):
    """A function that draws the same by both, of a case's geometry and look: what Python made, what the page made."""
    page.goto(static)

    def both(geometry: Geometry, *, signed: bool = False, holes: bool = False, **look: Any) -> SimpleNamespace:
        heat = torch.rand(geometry.input_size, generator=generator)
        if signed:
            heat = 2 * heat - 1
        if holes:
            heat[2, 3] = float("nan")
        level = torch.rand(geometry.input_size, generator=generator)
        pixels = torch.randint(0, 256, (*geometry.photo_size, 3), generator=generator, dtype=torch.uint8).numpy()
        laid, seen = geometry.to_photo(heat)
        contour = look.pop("contour", None)
        outline = None if contour is None else geometry.to_photo(level)[0] > contour
        expected = paint(laid, signed=signed, **look).over(Image.fromarray(pixels), seen, outline)
        shown = {"blend": "map", **look, "signed": signed, "levels": palette(look.get("colormap"), signed).tolist()}
        shown |= {"threshold": "off" if contour is None else "contour", "level": contour}
        alpha = np.full((*geometry.photo_size, 1), 255, np.uint8)
        said = {
            "heat": _text(heat.numpy()),
            "level": _text(level.numpy()),
            "geometry": {
                name: getattr(geometry, name) for name in ("photo_size", "input_size", "scale", "offset", "seen")
            },
            "photo": _text(np.concatenate([pixels, alpha], 2)),
            "look": shown,
        }
        found = np.frombuffer(base64.b64decode(page.evaluate(DRAW, said)), np.uint8).reshape(*geometry.photo_size, 4)
        assert (found[..., 3] == 255).all()
        return SimpleNamespace(expected=np.asarray(expected), found=found[..., :3], seen=seen)

    return both


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
@pytest.mark.parametrize(
    "look",
    [
        {"opacity": 0.6},
        {"opacity": 0.35, "blend": "even", "colormap": "jet"},
        {"opacity": 1.0, "signed": True},
        {"opacity": 0.5, "holes": True},
        {"opacity": 0.5, "contour": 0.5},
    ],
    ids=str,
)
def test_the_canvas_is_the_overlay(drawn, geometry, look):
    both = drawn(geometry, **look)
    np.testing.assert_array_equal(both.found, both.expected)


def test_a_large_photo_with_a_part_that_was_not_seen(drawn):
    large = replace(GEOMETRIES["cropped"], photo_size=(370, 530), scale=(370 / 16, 370 / 16), offset=(0.0, 80.0))
    both = drawn(large, opacity=0.6, contour=0.4)
    assert not both.seen.all()
    np.testing.assert_array_equal(both.found, both.expected)
