"""A report as one HTML file: the template with its style and script inside, and nothing that a browser has to fetch."""

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import whycam
from whycam.kit.files import disk_errors_said, write_whole
from whycam.kit.templates import rendered, text_of
from whycam.kit.words import plural
from whycam.pictures.blends import OPACITY
from whycam.reports.values import ImageShown, Part

#: Classes that the overview counts by name.
_COUNTED = 12
#: Bars of the scores' histogram.
_BINS = 16


def write(parts: Sequence[Part], path: Path, title: str = "") -> Path:
    """Write a report; the path.

    Raises:
        WhycamError: the disk refuses.
    """
    with disk_errors_said(path):
        return write_whole(path, page(parts, title).encode("utf-8", "replace"))


def page(parts: Sequence[Part], title: str = "") -> str:
    """A report as HTML."""
    from markupsafe import Markup  # jinja2's

    script = text_of(__package__, "report.js")
    images = [image for part in parts for image in part.images]
    maps = [shown for image in images for shown in image.maps]
    orders = dict.fromkeys(["score", *(name for shown in maps for name in shown.numbers)]) if maps else {}
    return rendered(
        __package__,
        "report.html",
        opacity=OPACITY,
        title=title or ", ".join(part.title for part in parts),
        parts=parts,
        style=Markup(text_of(__package__, "report.css")),
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        statuses=_counts(shown.status.kind for shown in maps),
        kinds=_counts(kind for image in images for kind in image.kinds),
        counted=_COUNTED,
        scores=_histogram([shown.score for shown in maps if math.isfinite(shown.score)]),
        orders=[*orders],
        images=len(images),
        maps=len(maps),
        fades=any(shown.heat is not None for shown in maps),
        plural=plural,
        sorted_by=_sorted_by,
        number=_number,
        html=Markup,
        version=whycam.__version__,
    )


def _counts(values: Iterable[str]) -> list[tuple[str, int]]:
    return Counter(values).most_common()


def _histogram(values: Sequence[float]) -> list[tuple[float, float, int]]:
    """From where to where each bin goes, and how many values it holds; of values that are all alike there is none."""
    if not values or min(values) == max(values):
        return []
    low, wide = min(values), (max(values) - min(values)) / _BINS
    held = Counter(min(int((value - low) / wide), _BINS - 1) for value in values)
    return [(low + place * wide, low + (place + 1) * wide, held[place]) for place in range(_BINS)]


def _sorted_by(image: ImageShown) -> dict[str, float]:
    """The numbers that an image is sorted by: those of its first map that has them."""
    found: dict[str, float] = {}
    for shown in image.maps:
        for name, value in {"score": shown.score, **shown.numbers}.items():
            if math.isfinite(value):
                found.setdefault(name, value)
    return found


def _number(value: float) -> str:
    """A number as people read it, or in words that there is none."""
    return f"{value:.4g}" if math.isfinite(value) else "not defined"
