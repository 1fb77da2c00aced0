"""What a map is laid on and the map's colors apart, small, so that a page can fade one over the other."""

from dataclasses import dataclass, replace

from PIL import Image

from whycam.kit.arrays import normalize
from whycam.pictures.colormaps import colorize, palette
from whycam.results.drawing import backdrop, heat_layer, overlay
from whycam.results.heat import context_of
from whycam.results.look import Look
from whycam.results.values import ExplanationValues


@dataclass(frozen=True)
class Layered:
    """One sample's pictures.

    Attributes:
        overlay: the map over its photo, as a picture.
        backdrop: what it lies on. `heat`: the colors alone, transparent where the map says nothing, of the same size.
            There are none of volumes and of clips, several pictures of which stand side by side.
    """

    overlay: Image.Image
    backdrop: Image.Image | None = None
    heat: Image.Image | None = None


def layered(one: ExplanationValues, look: Look, longest: int) -> Layered:
    """The pictures of one sample, no side of them longer than that, in pixels.

    Raises:
        WhycamError: the map is none of a picture.
    """
    look, one = replace(look, caption=False), _small(one, longest)
    whole = overlay(one, look)
    if len(context_of(one).size) == 3:
        whole.thumbnail((2 * longest, 2 * longest))
        return Layered(whole)
    return Layered(whole, backdrop(one, look), heat_layer(one, replace(look, opacity=1.0)))


def cells(one: ExplanationValues, signed: bool = False) -> Image.Image | None:
    """The raw map of one sample in its colors, a pixel for each location; `None` where it has other than two axes."""
    if one.maps.ndim != 3:
        return None
    return Image.fromarray(colorize(normalize(one.maps.cpu(), "signed" if signed else "max")[0], None, signed))


def color_bar(colormap: str | None = None, signed: bool = False) -> Image.Image:
    """The colors from the lowest to the highest, one pixel high."""
    return Image.fromarray(palette(colormap, signed)[None])


def _small(one: ExplanationValues, longest: int) -> ExplanationValues:
    """The same with a photo that is no larger than it is shown."""
    context = context_of(one)
    if context.photos is None:
        return one
    photo = context.photos[0].to_draw
    image = photo.image.copy()
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return replace(one, context=replace(context, photos=(replace(photo, image=image),)))
