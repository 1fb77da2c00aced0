"""Photos that are sent: limits in bytes and pixels, and sentences for what is no photo; nothing is written."""

import builtins
import io
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pages
import pytest
from PIL import Image

from whycam.page.uploads import MOST_BYTES, MOST_PIXELS

SENT = {"content-type": "application/octet-stream"}


@pytest.fixture(scope="module")
def asking() -> Iterator[pages.Asking]:
    with pages.asking(pages.page()) as made:
        yield made


def refused(asking: pages.Asking, data: Any, name: str = "it.png") -> tuple[int, str]:
    response = asking.client.post("/api/photos", content=data, headers=SENT, params={"name": name})
    return response.status_code, response.json()["error"]


def claiming(width: int, height: int, rows: bytes) -> bytes:
    """A PNG whose header claims that size, with those rows compressed behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_a_picture_of_fifty_megapixels(asking: pages.Asking) -> None:
    data = io.BytesIO()
    Image.new("L", (10_000, 5_000)).save(data, "png")
    status, said = refused(asking, data.getvalue(), "large.png")
    assert (status, "large.png: 10000 x 5000 is 50,000,000 pixels" in said, "40 million pixels" in said) == (
        400,
        True,
        True,
    )


def test_a_bomb_is_found_before_it_is_decoded(asking: pages.Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import ImageFile

    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    status, said = refused(asking, claiming(60_000, 60_000, bytes(60_001)))
    assert (status, "3,600,000,000 pixels" in said) == (400, True)


def test_pixels_up_to_the_limit_are_taken(asking: pages.Asking) -> None:
    width = 5_000
    for height, taken in ((MOST_PIXELS // width, True), (MOST_PIXELS // width + 1, False)):
        data = io.BytesIO()
        Image.new("L", (width, height)).save(data, "png")
        assert (asking.client.post("/api/photos", content=data.getvalue(), headers=SENT).status_code == 200) is taken


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the file is empty"),
        (b"GIF89a", "it.png: "),
        (b"<svg/>", "this is not a JPEG, PNG, WebP, GIF, BMP or TIFF image"),
        (b"%PDF-1.7 nothing", "this is not a JPEG"),
        (pages.photo()[:200], "cannot be decoded: image file is truncated"),
        (pages.photo()[:20], "damaged"),
        (claiming(64, 64, bytes(100)), "it.png: "),
    ],
)
def test_what_is_no_photo(asking: pages.Asking, data: bytes, said: str) -> None:
    status, sentence = refused(asking, data)
    assert (status, said in sentence) == (400, True), sentence
    assert sentence.startswith("it.png: ")
    assert "the bytes" not in sentence
    assert "max_pixels" not in sentence


def test_a_name_of_markup_is_only_a_name(asking: pages.Asking) -> None:
    _, said = refused(asking, b"no photo", "<script>alert(1)</script>")
    assert said.startswith("<script>alert(1)</script>: this is not")  # JSON, which the page shows as text


def test_too_many_bytes_by_what_the_request_says(asking: pages.Asking) -> None:
    response = asking.client.post("/api/photos", content=b"x", headers={**SENT, "content-length": str(MOST_BYTES + 1)})
    assert (response.status_code, "longer than 32 MB" in response.json()["error"]) == (413, True)


def test_too_many_bytes_stop_the_stream() -> None:
    """Chunks without a length: refused at the limit, with the rest unread."""
    import asyncio

    from whycam.page.refusals import Refused
    from whycam.page.uploads import body

    read = 0

    async def stream() -> Any:
        nonlocal read
        for _ in range(1000):
            read += 1
            yield bytes(1000)

    with pytest.raises(Refused) as caught:
        asyncio.run(body(stream(), None, 10_500))
    assert (caught.value.status, read) == (413, 11)
    assert len(asyncio.run(body(stream(), "1000000", 1_000_000))) == 1_000_000


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a file is opened for writing, and no temporary one is made, from the upload to every download."""
    opened = builtins.open
    written: list[Any] = []

    def guarded(file: Any, mode: str = "r", *more: Any, **how: Any) -> Any:
        if set(mode) & set("wax+"):
            written.append(file)
        return opened(file, mode, *more, **how)

    real = os.open

    def low(path: Any, flags: int, *more: Any, **how: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            written.append(path)
        return real(path, flags, *more, **how)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(builtins, "open", guarded)
    monkeypatch.setattr(io, "open", guarded)
    monkeypatch.setattr(os, "open", low)
    monkeypatch.setattr(tempfile, "_get_candidate_names", lambda: pytest.fail("a temporary file"))
    with pages.asking(pages.page()) as asking:
        sent = asking.add(pages.photo(), "../../cat.png")
        refused(asking, b"no photo")
        (found, _) = asking.ask(sent["id"], "grad_cam", {"name": "rise", "options": {"samples": 20}})["maps"]
        asking.post("predictions", {"photo": sent["id"], "model": asking.model})
        for ending in ("heat.f32", "level.f32", "overlay.png", "raw.npy", "record.json", "boxes"):
            assert asking.client.get(f"/api/maps/{found['id']}/{ending}").status_code == 200
    assert not written
    assert not list(tmp_path.iterdir())
