"""What a report shows, as plain values: texts and small pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from whycam.kit.status import Status
from whycam.pictures.inline import Inline


@dataclass(frozen=True)
class Colors:
    """What the colors of a map mean: the raw values at both ends, and the colors between."""

    low: str
    high: str
    bar: Inline


@dataclass(frozen=True)
class MapShown:
    """One map of an image.

    Attributes:
        method: its name in the literature. `layer`: where. `about`: what is explained, in words, or nothing.
        heat: the colors alone, to lie over the image's photo. `picture`: a whole picture instead, such as a volume's
            cuts. `raw`: the map at the layer's own size, `shape` in words. `trouble`: why it is not drawn, if so.
        numbers: what else was measured of it; by these, and by the score, images are sorted.
        kind: by which class it is found: what is explained, or what is predicted. None: it belongs to each.
    """

    method: str
    layer: str
    about: str
    score: float
    status: Status
    shape: str
    heat: Inline | None = None
    picture: Inline | None = None
    raw: Inline | None = None
    colors: Colors | None = None
    trouble: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    kind: str = ""


@dataclass(frozen=True)
class ImageShown:
    """One image with its maps.

    Attributes:
        photo: what heat lies on; `missing`: why there is none, if so.
        prediction: what the model says of it, in words; `label`: what it is, if that is known.
    """

    name: str
    maps: Sequence[MapShown]
    photo: Inline | None = None
    missing: str = ""
    prediction: str = ""
    label: str = ""
    notes: Sequence[str] = ()

    @property
    def kinds(self) -> list[str]:
        """The classes by which it is found."""
        return [*dict.fromkeys(each.kind for each in self.maps if each.kind)]


@dataclass(frozen=True)
class Drawing:
    """A figure of its own, with what it shows in words."""

    picture: Inline
    words: str


@dataclass(frozen=True)
class Part:
    """What a report shows of one folder, run, comparison or evaluation.

    Attributes:
        asked: what was asked and by what, each name with its lines. `command`: what makes the same again.
        tables: as HTML, in which texts are escaped. `advice`: paragraphs below.
        failures: what could not be explained, with the reason.
    """

    title: str
    asked: Mapping[str, Sequence[str]]
    command: str = ""
    images: Sequence[ImageShown] = ()
    failures: Sequence[tuple[str, str]] = ()
    tables: Sequence[str] = ()
    advice: Sequence[str] = ()
    drawings: Sequence[Drawing] = ()
    notes: Sequence[str] = ()
