"""Films from frames: GIF by Pillow, MP4 by PyAV."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from whycam.errors import missing
from whycam.pictures.overlay import side_by_side

#: Frames in a second where nobody says.
USUAL_RATE = 8
#: How many frames the colors of a GIF are taken from.
_PALETTE_FRAMES = 16


def to_gif(frames: Sequence[Image.Image], rate: float | None = None) -> bytes:
    """A GIF that repeats; a frame is shown for whole hundredths of a second, two at least.

    All frames share 256 colors, without dithering: what does not change has the same color in each.
    """
    few = frames[:: -(-len(frames) // _PALETTE_FRAMES)]
    palette = side_by_side(few).quantize(256, Image.Quantize.FASTOCTREE)
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    data = io.BytesIO()
    duration = max(2, round(100 / (rate or USUAL_RATE))) * 10
    first.save(data, "gif", save_all=True, append_images=others, duration=duration, loop=0)
    return data.getvalue()


def to_mp4(frames: Sequence[Image.Image], rate: float | None = None) -> bytes:
    """An MP4 film in H.264; a side of odd length gets a row or column more, as the format asks.

    Raises:
        MissingExtraError: PyAV is not installed.
    """
    try:
        import av
    except ModuleNotFoundError:
        raise missing("PyAV", "video", "writing an MP4 film (a GIF needs nothing)") from None
    from fractions import Fraction

    data = io.BytesIO()
    with av.open(data, "w", format="mp4") as film:
        stream = film.add_stream("libx264", rate=Fraction(rate or USUAL_RATE).limit_denominator(1000))
        stream.width, stream.height = (side + side % 2 for side in frames[0].size)
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "12"}
        for frame in frames:
            pixels = np.asarray(frame)
            pixels = np.pad(pixels, ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)), mode="edge")
            film.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        film.mux(stream.encode())
    return data.getvalue()
