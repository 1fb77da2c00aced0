"""Files, PIL images and arrays in; upright RGB photos out, with notes on what was done to them."""

import glob
import io
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from PIL.ExifTags import Base
from PIL.TiffImagePlugin import TiffImageFile

from whycam.errors import PhotoError
from whycam.kit.files import at_home

#: What `find_photos` looks for in folders and globs.
PHOTO_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

# In Pillow's words. Their readers are called directly, not through `Image.open`, because that checks Pillow's own,
# process-wide pixel limit; setting that limit, or silencing its warning, would reach into other threads. (TIFF's reader
# still warns above 89 million pixels, on its own.)
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


#: The longest side of a photo as it is drawn.
LONGEST_SIDE = 2048


@dataclass(frozen=True)
class Photo:
    """A picture as a person sees it.

    `image` is RGB and upright; `name` serves in the names of output files; `path` is where it was read from, if it was;
    `notes` say what was done to the pixels on the way; `content` are digits of the file's bytes, if somebody took them.
    """

    image: Image.Image
    name: str
    path: Path | None = None
    notes: tuple[str, ...] = ()
    content: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.height, self.image.width

    @property
    def to_draw(self) -> "Photo":
        """Itself, or where it is large a small one: drawing on 12,000 pixels a side would need gigabytes."""
        shrink = LONGEST_SIDE / max(self.image.size)
        if shrink >= 1:
            return self
        size = [max(1, round(side * shrink)) for side in self.image.size]
        return replace(self, image=self.image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2))


def read_photo(source: str | Path | bytes | Image.Image | np.ndarray, *, max_pixels: int = 178_956_970) -> Photo:
    """Read a photo from a file (JPEG, PNG, WebP, GIF, BMP, TIFF), the bytes of one, a PIL image, or a uint8 array.

    Arrays are (height, width), (height, width, 3) or (height, width, 4). Gray becomes RGB; transparent parts are laid
    on white; gray of more than 8 bits is scaled from the full 16-bit range; of several frames the first is read; EXIF
    orientation is applied. `source` itself is left as it was.

    Raises `PhotoError`, with the reason, for whatever cannot be read whole: also a truncated file, and one whose header
    claims more than `max_pixels`, which is found before anything is decoded.

    Examples:
        >>> import numpy as np
        >>> whycam.read_photo(np.zeros((4, 6), dtype=np.uint8)).image.size      # gray becomes RGB
        (6, 4)
    """
    if isinstance(source, Image.Image):
        filename = getattr(source, "filename", None)  # only images that came from a file have one
        path = Path(os.fsdecode(filename)) if filename else None
        return _photo(source, "the PIL image", path, max_pixels)
    if isinstance(source, np.ndarray):
        return _photo(_from_array(source), "the array", None, max_pixels)
    if isinstance(source, bytes):
        with _Whole(io.BytesIO(source)) as file:
            return _photo(_open(file, Path("the bytes")), "the bytes", None, max_pixels)
    if not isinstance(source, str | Path):
        raise PhotoError(
            f"a photo is a path, the bytes of a file, a PIL image or a uint8 array, not {type(source).__name__}"
        )

    path = at_home(source)
    try:
        file = _Whole(io.FileIO(path))
    except FileNotFoundError:
        raise PhotoError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise PhotoError(f"{path}: this is a folder; give a file in it, or use find_photos") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        raise PhotoError(f"{path}: cannot be opened: {_reason(error)}") from None
    with file:
        return _photo(_open(file, path), str(path), path, max_pixels)


def find_photos(paths: Iterable[str | Path]) -> list[Path]:
    """The files that `paths` name, each once: files as they are, folders with all below them, and globs (`*`, `**`).

    Folders and globs give the files with a suffix in `PHOTO_SUFFIXES`, in either case, sorted, hidden ones left out; a
    file named outright is taken whatever its suffix. Raises `PhotoError` for an argument that gives nothing.
    """
    if isinstance(paths, str | Path):  # a lone string would be read letter by letter
        paths = [paths]
    found: dict[Path, Path] = {}
    for given in paths:
        path = at_home(given)
        if path.is_dir():
            below = ((each, each.relative_to(path).parts) for each in path.rglob("*") if _is_photo(each))
            matches = [each for each, parts in below if not any(part.startswith(".") for part in parts)]
        elif path.exists():  # before globs, so that "a[1].jpg" can be named
            matches = [path]
        else:
            # unlike Path.glob, this takes absolute patterns and leaves hidden folders out
            matches = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207
            matches = [match for match in matches if _is_photo(match) and match.is_file()]
        if not matches:
            what = "the folder holds no photo" if path.is_dir() else "nothing of that name or pattern"
            raise PhotoError(f"{given}: {what}; looked for {', '.join(PHOTO_SUFFIXES)}")
        for match in sorted(matches):
            found.setdefault(match.absolute(), match)
    return list(found.values())


def _is_photo(path: Path) -> bool:
    return path.suffix.lower() in PHOTO_SUFFIXES and not path.name.startswith(".")


class _Whole(io.BufferedReader):
    """A file whose end is an error when a decoder asks for more.

    Pillow refuses truncated files by itself, unless some other code in the process has set its `LOAD_TRUNCATED_IMAGES`;
    then the missing part would come out gray, and a map would be drawn over it.
    """

    decoding = False

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if self.decoding and size and not data:
            raise OSError("image file is truncated")
        return data


def _open(file: io.BufferedReader, path: Path) -> Image.Image:
    """The image with its header read and nothing decoded."""
    try:
        head = file.read(16)
        file.seek(0)
    except OSError as error:
        raise PhotoError(f"{path}: cannot be read: {_reason(error)}") from None
    if not head:
        raise PhotoError(f"{path}: the file is empty (zero bytes)")
    Image.init()
    for kind in _FORMATS:
        reader, accepts = Image.OPEN[kind]
        if accepts is not None and accepts(head) is True:
            try:
                return reader(file, str(path))
            except Exception as error:  # a damaged header makes a reader raise anything from KeyError to zlib.error
                raise PhotoError(f"{path}: the file is damaged: {_reason(error)}") from None
    raise PhotoError(
        f"{path}: this is not a JPEG, PNG, WebP, GIF, BMP or TIFF image; open it yourself and pass the pixels"
    )


def _photo(image: Image.Image, where: str, path: Path | None, max_pixels: int) -> Photo:
    width, height = image.size
    if width * height > max_pixels:
        raise PhotoError(
            f"{where}: {width} x {height} is {width * height:,} pixels, more than the limit of {max_pixels:,}; "
            "shrink the picture, or raise max_pixels if you trust it"
        )
    if not width * height:
        raise PhotoError(f"{where}: the picture has no pixels ({width} x {height})")
    if isinstance(file := getattr(image, "fp", None), _Whole):
        file.decoding = True
    # TIFF's reader turns the picture itself as it loads, and drops the tag; others may find theirs behind the pixels
    turned = _orientation(image)[0] if isinstance(image, TiffImageFile) else 1
    try:
        image.load()
        orientation, notes = _orientation(image)
        frames = _frames(image)
        whole, changes = _to_rgb(ImageOps.exif_transpose(image) if orientation != 1 else image)
    except PhotoError as error:
        raise PhotoError(f"{where}: {error}") from None
    except Exception as error:  # as in `_open`: decoders of damaged data raise anything
        raise PhotoError(f"{where}: the picture cannot be decoded: {_reason(error)}") from None
    if orientation != 1 or turned != 1:
        notes.append("EXIF orientation applied")
    return Photo(whole, name_of(path), path, (*frames, *changes, *notes))


def _orientation(image: Image.Image) -> tuple[int, list[str]]:
    """EXIF's orientation, 1 (upright) where there is none, and a note where it cannot be told."""
    try:
        found = int(image.getexif().get(Base.Orientation, 1))
        return (found if 1 <= found <= 8 else 1), []
    except Exception:  # EXIF is a foreign format inside the file; a picture with a damaged one is still a picture
        return 1, ["EXIF unreadable, orientation not applied"]


def _frames(image: Image.Image) -> tuple[str, ...]:
    """A note on which frame this is, where there are several."""
    if isinstance(file := getattr(image, "fp", None), _Whole):
        file.decoding = False  # what follows the frame that was read may end as it likes
    try:
        count, current = getattr(image, "n_frames", 1), image.tell()
    except Exception:  # counting reads on through frames that may be damaged; this one was not
        return ("first frame only",)
    if count == 1:
        return ()
    return (f"first of {count} frames" if current == 0 else f"frame {current + 1} of {count}",)


def _to_rgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """A copy in RGB, and notes on how."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _scaled(image)
    notes = ["CMYK converted"] if image.mode == "CMYK" else []
    if not image.has_transparency_data:
        return image.convert("RGB"), notes
    # La (gray times alpha) has no way to RGBA of its own
    clear = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    if clear.getchannel("A").getextrema() != (255, 255):
        notes.append("transparent parts laid on white")
    return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB"), notes


def _scaled(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """Gray of more than 8 bits by its full range; Pillow's own conversion clips at 255."""
    values = np.asarray(image, dtype=np.float32)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(values).all() or low < 0 or high > 65535:
        raise PhotoError(f"its values run from {low:g} to {high:g}; expected 0 to 65535 (16-bit), or 0 to 1 in floats")
    unit = image.mode == "F" and high <= 1
    gray = np.rint(values * (255 if unit else 255 / 65535)).astype(np.uint8)
    return Image.fromarray(gray).convert("RGB"), ["floats from 0 to 1 scaled" if unit else "16-bit scaled"]


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8:
        raise PhotoError(f"the array's type is {array.dtype}; expected uint8, from 0 to 255")
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] in (3, 4)):
        raise PhotoError(
            f"the array's shape is {array.shape}; expected (height, width), (height, width, 3) or (height, width, 4)"
        )
    if not array.size:
        raise PhotoError(f"the array's shape is {array.shape}: it has no pixels")
    return Image.fromarray(np.ascontiguousarray(array))


def name_of(path: Path | None) -> str:
    """A stem that any file system takes."""
    return safe_name(path.stem if path else "") or "photo"


def safe_name(text: str) -> str:
    """What of a text any file system takes as a name, with room for an ending; it may be nothing."""
    short = re.sub(r"[^\w.-]+", "_", text).strip("._")[:80]
    return short.encode("utf-8", "replace")[:160].decode("utf-8", "ignore")  # names end at 255 bytes, not letters


def _reason(error: Exception) -> str:
    """An exception in words: the system's, without the path that the message names already, or the decoder's."""
    return getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
