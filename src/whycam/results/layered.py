"""What a map is laid on and the map's colors apart, small, so that a page can fade one over the other."""

import io
from dataclasses import dataclass, replace

import torch
from PIL import Image

from whycam.kit.arrays import normalize
from whycam.pictures.colormaps import colorize, palette
from whycam.pictures.figures import to_png
from whycam.results.drawing import backdrop, heat_layer, overlay
from whycam.results.heat import context_of
from whycam.results.look import Look
from whycam.results.panels import figure
from whycam.results.values import SIGNED, ExplanationValues


@dataclass(frozen=True)
class Layered:
    """One sample's pictures, drawn when they are asked for.

    Attributes:
        one: the sample, with a photo that is no larger than it is shown. `look`: how it is drawn.
        longest: that no side is longer than, in pixels; of several pictures side by side, than twice as many.
    """

    one: ExplanationValues
    look: Look
    longest: int

    @property
    def apart(self) -> bool:
        """Whether there are layers: not of volumes and of clips, several pictures of which stand side by side, nor of
        signals, whose figure is drawn (needs `whycam[plot]`).
        """
        return len(context_of(self.one).size) == 2

    def overlay(self) -> Image.Image:
        """The map over its photo, as one picture."""
        if len(context_of(self.one).size) == 1:
            return self._fitted(Image.open(io.BytesIO(to_png(figure(self.one, self.look)))).convert("RGB"))
        return self._fitted(overlay(self.one, self.look))

    def backdrop(self) -> Image.Image:
        """What the map lies on."""
        return self._fitted(backdrop(self.one, self.look))

    def heat(self) -> Image.Image:
        """The colors alone, transparent where the map says nothing, of the same size."""
        return self._fitted(heat_layer(self.one, replace(self.look, opacity=1.0)))

    def _fitted(self, picture: Image.Image) -> Image.Image:
        most = self.longest if self.apart else 2 * self.longest
        picture.thumbnail((most, most))
        return picture


def layered(one: ExplanationValues, look: Look, longest: int) -> Layered:
    """The pictures of one sample, no side of them longer than that, in pixels."""
    return Layered(_small(one, longest), replace(look, caption=False), longest)


def cells(one: ExplanationValues) -> Image.Image | None:
    """The raw map of one sample in its colors, a pixel for each location; `None` where it has other than two axes."""
    if one.maps.ndim != 3:
        return None
    raw, signed = one.maps.cpu(), usual_look(one).signed
    scaled = normalize(raw.nan_to_num(0, 0, 0), "signed" if signed else "max")
    return Image.fromarray(colorize(scaled.where(raw.isfinite(), torch.nan)[0], signed=signed))


def color_bar(signed: bool = False) -> Image.Image:
    """The colors from the lowest to the highest, one pixel high."""
    return Image.fromarray(palette(signed=signed)[None])


def usual_look(one: ExplanationValues) -> Look:
    """How a map is drawn where nobody says: with what speaks against its target, if it was asked to keep that."""
    return Look(signed=SIGNED in one.notes)


def _small(one: ExplanationValues, longest: int) -> ExplanationValues:
    """The same with a photo that is no larger than it is shown."""
    context = context_of(one)
    if context.photos is None:
        return one
    photo = context.photos[0].to_draw
    image = photo.image.copy()
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return replace(one, context=replace(context, photos=(replace(photo, image=image),)))
