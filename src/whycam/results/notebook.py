"""What notebooks show: small pictures inside static HTML, which a script, where it may run, makes fade.

Without the script, and without styles, the overlays and their words are what is left: in a notebook that nobody trusts
yet, or on a code host. Nothing lies beside the HTML, and nothing has to be installed.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from whycam.errors import WhycamError
from whycam.kit.templates import rendered
from whycam.pictures import inline
from whycam.pictures.inline import Inline
from whycam.results.drawing import words
from whycam.results.layered import cells, layered, usual_look
from whycam.results.look import Look
from whycam.results.reporting import name_of
from whycam.results.values import ExplanationValues

#: So many pictures at most, and their longest side in pixels: a display adds some 30 kB to a file for each.
MOST, LONGEST = 8, 256


@dataclass(frozen=True)
class Thumbnail:
    """One map, small.

    Attributes:
        picture: the overlay, or the map alone; none where it cannot be drawn. `alt`: what it shows, in words.
        photo: what the map lies on. `heat`: its colors alone. Neither where the picture cannot be taken apart.
        lines: what stands below.
    """

    lines: Sequence[str]
    alt: str
    picture: Inline | None = None
    photo: Inline | None = None
    heat: Inline | None = None


def html(explanations: Sequence[ExplanationValues], problems: Sequence[str] = ()) -> str:
    """Thumbnails of explanations, at most eight, and how many more there are."""
    ones = [(each, number) for each in explanations for number in range(len(each))]
    shown = [thumbnail(each[number], name_of(each, number)) for each, number in ones[:MOST]]
    return display(shown, more=len(ones) - MOST, problems=problems)


def thumbnail(one: ExplanationValues, name: str, missing: str = "") -> Thumbnail:
    """One sample's.

    Args:
        missing: why there is no photo; the map is then shown alone.
    """
    said = words(one)
    alt = f"{name}: {'; '.join(said)}"
    if missing:
        alone = cells(one)
        if alone is not None:
            alone = alone.resize([LONGEST * side // max(alone.size) for side in alone.size], Image.Resampling.NEAREST)
        return Thumbnail([name, *said, missing], alt, None if alone is None else inline.cells(alone))
    try:
        made = layered(one, usual_look(one), LONGEST)
        picture = inline.photo(made.overlay())
        apart = (inline.photo(made.backdrop()), inline.layer(made.heat())) if made.apart else ()
    except WhycamError as error:
        return Thumbnail([name, *said, str(error)], alt)
    return Thumbnail([name, *said], alt, picture, *apart)


def display(
    thumbnails: Sequence[Thumbnail], *, head: Sequence[str] = (), more: int = 0, problems: Sequence[str] = ()
) -> str:
    """A display of thumbnails below some lines, with how many more there are, and what could not be had."""
    shown = {
        "thumbnails": thumbnails,
        "head": head,
        "more": more,
        "problems": problems,
        "layers": [[each.photo.source, each.heat.source] if each.photo and each.heat else None for each in thumbnails],
        "longest": LONGEST,
        "start": round(100 * Look().opacity),
    }
    # by which its script finds it: two of the same in one notebook have the same script
    name = hashlib.sha256(repr(shown).encode()).hexdigest()[:12]
    return rendered("whycam.results", "notebook.html", name=name, **shown)


def of_evaluation(table: str, lines: Sequence[str]) -> str:
    """An evaluation's table with what is recommended below it.

    Args:
        table: as HTML.
    """
    from markupsafe import Markup  # jinja2's

    return rendered("whycam.results", "evaluation.html", table=Markup(table), lines=lines)
