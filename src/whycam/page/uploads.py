"""Photos that are sent to the page: their limits, and what is wrong with them in sentences."""

from collections.abc import AsyncIterator
from dataclasses import replace

from whycam.errors import PhotoError
from whycam.page.kept import stem
from whycam.page.refusals import Refused
from whycam.pictures.photos import Photo, read_photo

#: Of a file, and of the picture in it.
MOST_BYTES, MOST_PIXELS = 32 * 2**20, 40_000_000
#: Of a question in JSON.
MOST_WORDS = 2**16

_TAKEN = f"The page takes JPEG, PNG, WebP, GIF, BMP and TIFF files of up to {MOST_PIXELS // 10**6} million pixels."


async def body(stream: AsyncIterator[bytes], length: str | None, limit: int) -> bytes:
    """What was sent, refused as soon as it is known to be too long.

    Args:
        length: what the request says of it.

    Raises:
        Refused: it is longer than the limit.
    """
    if length is not None and length.isdecimal() and int(length) > limit:
        raise _too_long(limit)
    parts, count = [], 0
    async for part in stream:
        count += len(part)
        if count > limit:
            raise _too_long(limit)
        parts.append(part)
    return b"".join(parts)


def decoded(data: bytes, name: str, most: int = MOST_PIXELS) -> Photo:
    """The photo in a file's content. Its name is shown, and becomes a part of file names.

    Raises:
        PhotoError: it is no photo, not whole, or too large.
    """
    try:
        photo = read_photo(data, max_pixels=most)
    except PhotoError as error:
        reason = error.reason if error.advice else str(error)
        raise PhotoError(f"{name}: {reason.removeprefix('the bytes: ')}. {_TAKEN}") from None
    return replace(photo, name=stem(name))


def _too_long(limit: int) -> Refused:
    size = f"{limit // 2**20} MB" if limit >= 2**20 else f"{limit // 2**10} kB"
    return Refused(413, f"what was sent is longer than {size}, the most that the page takes at once.")
