"""Photos of every kind, made in memory, and files that are none."""

import io
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from whycam.errors import PhotoError
from whycam.pictures.photos import find_photos, read_photo

# Four colors, so that every turn and flip shows: red, green / blue, white, in blocks of 8 to survive JPEG.
CORNERS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
BLOCKS = CORNERS.repeat(8, 0).repeat(16, 1)


def pixels(photo):
    assert photo.image.mode == "RGB"
    return np.asarray(photo.image)


def noise(height=64, width=64):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(width, height):
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "gif", "webp"])
def test_lossless_formats_keep_their_pixels(tmp_path, suffix):
    path = tmp_path / f"four corners.{suffix}"
    Image.fromarray(BLOCKS).save(path, **({"lossless": True} if suffix == "webp" else {}))
    photo = read_photo(path)
    np.testing.assert_array_equal(pixels(photo), BLOCKS)
    assert (photo.name, photo.path, photo.notes, photo.size) == ("four_corners", path, (), (16, 32))


def test_jpeg_and_a_wrong_suffix(tmp_path):
    path = tmp_path / "really_a_jpeg.png"
    Image.fromarray(BLOCKS).save(path, "JPEG", quality=95, subsampling=0)
    np.testing.assert_allclose(pixels(read_photo(str(path))).astype(int), BLOCKS, atol=12)


# What each EXIF orientation means, by the standard: which corner of the stored picture the viewer's rows and columns
# begin at. The stored array is made from the upright one by the inverse, in numpy.
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),  # a turn by 90 degrees clockwise puts it right
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation, suffix):
    path = tmp_path / f"turned.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(np.ascontiguousarray(STORED[orientation](BLOCKS))).save(path, exif=exif, **lossless)
    photo = read_photo(path)
    assert photo.size == (16, 32)
    # JPEG's colors bleed where blocks meet; their middles do not
    np.testing.assert_allclose(pixels(photo)[4::8, 8::16].astype(int), CORNERS, atol=12 if suffix == "jpg" else 0)
    assert photo.notes == (() if orientation == 1 else ("EXIF orientation applied",))


def test_an_unreadable_orientation_is_told_not_guessed(tmp_path):
    path = tmp_path / "odd.jpg"
    entry = struct.pack("<HHI4s", 0x0112, 2, 4, b"abc\0")  # the orientation as a text
    Image.fromarray(BLOCKS).save(path, exif=b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4))
    assert read_photo(path).notes == ("EXIF unreadable, orientation not applied",)


GRAY = np.array([[0, 100], [200, 255]], np.uint8)
AS_RGB = GRAY[..., None].repeat(3, 2)


def palette_with_transparency():
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "L").convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.info["transparency"] = 1
    return image


MODES = {
    "L": (Image.fromarray(GRAY), AS_RGB, ()),
    "1": (Image.fromarray(GRAY > 150), (AS_RGB > 150) * 255, ()),
    "LA": (
        Image.merge("LA", (Image.fromarray(GRAY), Image.fromarray(np.array([[255, 0], [255, 255]], np.uint8)))),
        np.array([[0, 255], [200, 255]])[..., None].repeat(3, 2),
        ("transparent parts laid on white",),
    ),
    "RGBA": (
        # red at alpha 51, a fifth: 255, and 0.8 * 255 = 204 twice
        Image.new("RGBA", (2, 2), (255, 0, 0, 51)),
        np.full((2, 2, 3), (255, 204, 204)),
        ("transparent parts laid on white",),
    ),
    "RGBA opaque": (Image.new("RGBA", (2, 2), (9, 8, 7, 255)), np.full((2, 2, 3), (9, 8, 7)), ()),
    "P": (
        palette_with_transparency(),
        np.array([[[255, 0, 0], [255, 255, 255]], [[0, 0, 255], [255, 255, 255]]]),
        ("transparent parts laid on white",),
    ),
    "CMYK": (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), np.full((2, 2, 3), (255, 0, 0)), ("CMYK converted",)),
}


@pytest.mark.parametrize(("image", "expected", "notes"), MODES.values(), ids=MODES)
def test_modes(image, expected, notes):
    photo = read_photo(image)
    np.testing.assert_array_equal(pixels(photo), expected)
    assert photo.notes == notes


def test_modes_from_files(tmp_path):
    palette_with_transparency().save(tmp_path / "palette.png")
    assert read_photo(tmp_path / "palette.png").notes == ("transparent parts laid on white",)
    np.testing.assert_array_equal(pixels(read_photo(tmp_path / "palette.png"))[0], [[255, 0, 0], [255, 255, 255]])

    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=95)
    photo = read_photo(tmp_path / "print.jpg")
    assert photo.notes == ("CMYK converted",)
    np.testing.assert_allclose(pixels(photo)[8, 8], (255, 0, 0), atol=3)


# 257 a level: 65535 / 255. Clipping would give 255 for all but the first two.
@pytest.mark.parametrize("kind", ["png", "tiff", "big-endian", "I", "F"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, kind):
    deep = np.array([[0, 257], [100 * 257 + 100, 65535]], np.uint16)
    if kind in ("png", "tiff"):
        source = tmp_path / f"deep.{kind}"
        Image.fromarray(deep).save(source)
    elif kind == "big-endian":
        source = Image.frombytes("I;16B", (2, 2), deep.astype(">u2").tobytes())
    else:
        source = Image.fromarray(deep.astype({"I": np.int32, "F": np.float32}[kind]))
    photo = read_photo(source)
    np.testing.assert_array_equal(pixels(photo)[..., 0], [[0, 1], [100, 255]])
    assert photo.notes == ("16-bit scaled",)


def test_floats_from_zero_to_one_and_values_without_a_known_white():
    photo = read_photo(Image.fromarray(np.array([[0, 0.2, 1]], np.float32)))
    np.testing.assert_array_equal(pixels(photo)[0, :, 0], [0, 51, 255])
    assert photo.notes == ("floats from 0 to 1 scaled",)
    with pytest.raises(PhotoError, match="run from -5 to 9"):
        read_photo(Image.fromarray(np.array([[-5, 9]], np.int32)))
    with pytest.raises(PhotoError, match="nan"):
        read_photo(Image.fromarray(np.array([[np.nan, 9]], np.float32)))


@pytest.mark.parametrize("suffix", ["gif", "webp", "tiff", "png"])
def test_the_first_of_several_frames(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue", "lime")]
    path = tmp_path / f"moving.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], **({"lossless": True} if suffix == "webp" else {}))
    photo = read_photo(path)
    np.testing.assert_array_equal(pixels(photo), np.full((8, 8, 3), (255, 0, 0)))
    assert photo.notes == ("first of 3 frames",)


def test_a_pil_image_stays_as_it_was_on_its_frame(tmp_path):
    path = tmp_path / "moving.gif"
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue", "lime")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with Image.open(path) as image:
        image.seek(1)
        photo = read_photo(image)
        assert image.tell() == 1
    np.testing.assert_array_equal(pixels(photo)[0, 0], (0, 0, 255))
    assert (photo.name, photo.path, photo.notes) == ("moving", path, ("frame 2 of 3",))


def test_arrays_are_copied():
    array = BLOCKS.copy()
    photo = read_photo(array)
    array[:] = 0
    np.testing.assert_array_equal(pixels(photo), BLOCKS)
    assert (photo.name, photo.path, photo.notes) == ("photo", None, ())
    np.testing.assert_array_equal(pixels(read_photo(GRAY)), AS_RGB)
    np.testing.assert_array_equal(pixels(read_photo(BLOCKS[:, ::-1])), BLOCKS[:, ::-1])  # not contiguous
    assert read_photo(np.zeros((2, 2, 4), np.uint8)).notes == ("transparent parts laid on white",)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((4, 4, 3)), "float64; expected uint8"),
        (np.zeros((4, 4, 3), bool), "bool; expected uint8"),
        (np.zeros((3, 4, 5), np.uint8), r"\(3, 4, 5\); expected \(height, width\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"\(1, 4, 4, 3\); expected"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
    ],
)
def test_arrays_that_are_no_photo(array, reason):
    with pytest.raises(PhotoError, match=reason):
        read_photo(array)


def test_what_is_no_image_file(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("I am no picture, whatever my name says.")
    (tmp_path / "header.png").write_bytes(png(4, 4)[:20])
    for name, reason in {
        "nowhere.jpg": "no such file",
        "": "folder",
        "empty.png": "empty",
        "text.jpg": "not a JPEG, PNG",
        "header.png": "damaged",
    }.items():
        path = tmp_path / name
        with pytest.raises(PhotoError, match=reason) as caught:
            read_photo(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("permissive", [False, True], ids=["strict Pillow", "lenient Pillow"])
@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "webp", "tiff"])
def test_a_truncated_file_is_an_error_never_half_a_picture(tmp_path, monkeypatch, suffix, permissive):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", permissive)
    buffer = io.BytesIO()
    Image.fromarray(noise()).save(buffer, {"jpg": "JPEG"}.get(suffix, suffix))
    path = tmp_path / f"half.{suffix}"
    for share in (0.5, 0.9):
        path.write_bytes(buffer.getvalue()[: int(len(buffer.getvalue()) * share)])
        with pytest.raises(PhotoError):
            read_photo(path)
    path.write_bytes(buffer.getvalue())
    assert read_photo(path).size == (64, 64)


def test_a_truncated_jpeg_passed_as_a_pil_image(tmp_path):
    path = tmp_path / "half.jpg"
    Image.fromarray(noise()).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with Image.open(path) as image, pytest.raises(PhotoError, match=r"PIL image: .*truncated"):
        read_photo(image)


def test_the_pixel_limit_is_checked_before_decoding(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(50_000, 50_000))
    with pytest.raises(PhotoError, match=r"50000 x 50000 is 2,500,000,000 pixels.*limit of 178,956,970.*max_pixels"):
        read_photo(path)
    # Pillow's own limits, at one and two times that number, have no say: neither a warning nor an error of theirs
    path.write_bytes(png(14_000, 14_000))
    with pytest.raises(PhotoError, match="196,000,000 pixels"):
        read_photo(path)
    with pytest.raises(PhotoError, match="more than the limit of 511;"):
        read_photo(BLOCKS, max_pixels=511)
    assert read_photo(BLOCKS, max_pixels=512).size == (16, 32)


def test_pillows_own_limit_is_left_alone_and_does_not_matter(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for suffix in ("png", "jpg", "gif", "bmp"):
        Image.fromarray(BLOCKS).save(tmp_path / f"small.{suffix}")
        assert read_photo(tmp_path / f"small.{suffix}").size == (16, 32)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_threads_with_different_limits_do_not_meet(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(BLOCKS).save(path)
    wrong = []

    def read(limit):
        for _ in range(30):
            try:
                read_photo(path, max_pixels=limit)
                refused = False
            except PhotoError:
                refused = True
            if refused != (limit < 512):
                wrong.append(limit)

    threads = [threading.Thread(target=read, args=(limit,)) for limit in (511, 512, 100, 10_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("file", "name"), [("a b:c*.jpg", "a_b_c"), ("..jpg", "photo"), ("caf\u00e9-1.v2.jpg", "caf\u00e9-1.v2")]
)
def test_names_serve_as_file_names(file, name):
    image = Image.fromarray(BLOCKS)
    image.filename = file
    assert read_photo(image).name == name


@pytest.fixture
def folder(tmp_path):
    for name in (
        "b.JPG",
        "a.png",
        ".hidden.png",
        "notes.txt",
        "sub/c.webp",
        "sub/deep/d.tiff",
        ".git/e.png",
        "x[1].gif",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "bare").mkdir()
    return tmp_path


def names(folder, found):
    return [str(path.relative_to(folder)).replace("\\", "/") for path in found]


def test_folders_are_searched_to_the_bottom(folder):
    assert names(folder, find_photos([folder])) == ["a.png", "b.JPG", "sub/c.webp", "sub/deep/d.tiff", "x[1].gif"]
    assert find_photos(str(folder)) == find_photos([str(folder)])


def test_globs_and_first_appearance(folder):
    assert names(folder, find_photos([folder / "*"])) == ["a.png", "b.JPG", "x[1].gif"]
    assert names(folder, find_photos([f"{folder}/**/*.tiff"])) == ["sub/deep/d.tiff"]
    assert names(folder, find_photos([folder / "x[1].gif", folder / "b.JPG", folder / "*"])) == [
        "x[1].gif",
        "b.JPG",
        "a.png",
    ]
    # named outright, a file is taken at its word; reading it will tell
    assert names(folder, find_photos([folder / "notes.txt"])) == ["notes.txt"]


@pytest.mark.parametrize("given", ["bare", "nowhere", "*.bmp", "*.txt"])
def test_an_argument_that_gives_nothing_is_named(folder, given):
    with pytest.raises(PhotoError) as caught:
        find_photos([folder, folder / given])
    assert str(caught.value).startswith(f"{folder / given}: ")
    assert ".webp" in str(caught.value)


def test_a_name_that_begins_with_a_tilde_is_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 3)).save("~draft.png")
    for given in ("~draft.png", ".", "*.png"):
        (found,) = find_photos([given])
        assert read_photo(found).image.size == (4, 3)


def test_relative_paths_stay_relative(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert find_photos(["sub", "./sub/c.webp"]) == [Path("sub/c.webp"), Path("sub/deep/d.tiff")]
