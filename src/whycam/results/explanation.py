"""The frozen results that callers get: values that draw and save themselves when asked."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor

from whycam.errors import WhycamError
from whycam.kit.arrays import Enlarge, Normalize, normalize, resize
from whycam.kit.registry import plain
from whycam.kit.status import Status
from whycam.kit.words import plural
from whycam.network.variants.scoring import RunStats
from whycam.pictures.input_context import InputContext
from whycam.results.values import Cost, Layer, Prediction, Sample
from whycam.targets import key
from whycam.targets.resolved import Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any  # an extra that only figures need

#: The most samples that a short text names.
_SHOWN = 5
_normalize = normalize


@dataclass(frozen=True, repr=False)
class Explanation:
    """Maps of a batch, by one method, at one layer, for one target each.

    Attributes:
        maps: raw, float32, `(batch, *spatial)` at the layer's own size, on the model's device. Signed where the
            method's are. Units are the method's: see its docstring.
        scores: the target's score of each sample, `(batch,)`.
        predictions: the model's top class of each sample; empty where its output holds no classes.
        target: what is explained, in words, one for each sample; empty for methods that explain no class.
        method: the method's name; `title` its name in the literature; `options` those it ran with.
        layer: where, and why there. `status`: one for each sample. `cost`: what the shared pass cost.
        parts: several maps of each sample, `(batch, part, *spatial)`, for methods that find some, such as the concepts
            of a factorization; drawn in a color each.
        outputs: the model's answer, the part of it that is explained, `(batch, ...)`, float32 at least.
        channels: what each channel adds to the map, `(batch, channel, *spatial)`, where `per_channel=True` asked; their
            sum is the map before its positive part is taken.
        colors: of guided backprop and Guided Grad-CAM the signed map of each color, `(batch, color, *space)`.
        values: what else a method says of each sample in numbers, `(batch,)`, by name.
        notes: what else a reader should know, such as which part of a nested output was explained.
        model: where the model came from.
        context: what the network was shown, for drawing.
        work: how variants were run, for methods that run the network many times.

    Examples:
        >>> e = whycam.explain(net, batch, target=1)
        >>> len(e), e[0].maps.shape, e.first.target, e.outputs.shape
        (2, torch.Size([1, 14, 14]), 'class 1', torch.Size([2, 2]))
        >>> e.overlay().mode
        'RGB'
    """

    maps: Float[Tensor, "batch *spatial"]
    scores: Float[Tensor, " batch"]
    predictions: tuple[Prediction, ...]
    target: tuple[str, ...]
    method: str
    title: str
    options: Mapping[str, Any]
    layer: Layer
    status: tuple[Status, ...]
    cost: Cost
    outputs: Float[Tensor, "batch ..."]
    parts: Float[Tensor, "batch part *spatial"] | None = None
    channels: Float[Tensor, "batch channel *spatial"] | None = None
    colors: Float[Tensor, "batch color *space"] | None = None
    values: Mapping[str, Float[Tensor, " batch"]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    shown: tuple[Shown, ...] = ()
    model: str = ""
    context: InputContext | None = field(default=None, repr=False)
    work: tuple[RunStats, ...] = field(default=(), repr=False)

    def __repr__(self) -> str:
        texts = self.target or tuple("no class" for _ in self.status)
        shown = [f"{text}: {status.kind}" for text, status in zip(texts, self.status, strict=True)]
        listed = ", ".join(shown[:_SHOWN]) + (f", and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else "")
        return f"Explanation({self.title} at {self.layer} of {plural(len(self), 'sample')}; {listed}; {self.cost})"

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, index: int | slice) -> "Explanation":
        """One sample's explanation, or several samples', sharing memory with this one."""
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"sample {index} of {len(self)}")
            index %= len(self)
            index = slice(index, index + 1)
        return replace(
            self,
            maps=self.maps[index],
            scores=self.scores[index],
            predictions=self.predictions[index],
            target=self.target[index],
            status=self.status[index],
            shown=self.shown[index],
            outputs=self.outputs[index],
            parts=self.parts[index] if self.parts is not None else None,
            channels=self.channels[index] if self.channels is not None else None,
            colors=self.colors[index] if self.colors is not None else None,
            values={name: value[index] for name, value in self.values.items()},
            context=self.context[index] if self.context is not None else None,
        )

    def __iter__(self) -> Iterator["Explanation"]:
        return (self[i] for i in range(len(self)))

    @property
    def ok(self) -> bool:
        """Whether every sample's status is ok."""
        return all(status.ok for status in self.status)

    @property
    def first(self) -> Sample:
        """The first sample's values without the batch axis, for the one photo that one has asked about."""
        return Sample(
            map=self.maps[0],
            score=float(self.scores[0]),
            prediction=self.predictions[0] if self.predictions else None,
            target=self.target[0] if self.target else "",
            status=self.status[0],
            output=self.outputs[0],
            values={name: float(each[0]) for name, each in self.values.items()},
        )

    def heatmaps(
        self, size: Sequence[int] | None = None, normalize: Normalize = "max", enlarge: Enlarge = "bilinear"
    ) -> Float[Tensor, "batch ..."]:
        """The maps resized (between pixel centers) and then scaled, each by itself.

        Args:
            size: spatial size; the input's by default, or the maps' own where these have other axes.
            normalize: `"max"` (negative values to 0, then divided by the maximum, so [0, 1]), `"minmax"`, `"signed"`
                (divided by the largest magnitude, [-1, 1]), or `"none"`. A map that shows nothing stays flat.
            enlarge: `"bilinear"`, `"nearest"` (each location as a block), or `"cubic"` (of two axes; it overshoots).
        """
        if size is None:
            size = self.context.size if self.context is not None else ()
            if len(size) != self.maps.ndim - 1:  # a layer with axes of its own, such as a spectrogram's
                size = self.maps.shape[1:]
        if len(size) != self.maps.ndim - 1:
            raise WhycamError(f"size has {len(size)} numbers for maps with {self.maps.ndim - 1} spatial axes.")
        if self.context is None or self.layer.name == "input":
            return _normalize(resize(self.maps, size, enlarge), normalize)
        return _normalize(self.context.enlarged(self.maps, size, enlarge), normalize)

    def overlay(
        self,
        *,
        colormap: str | None = None,
        opacity: float = 0.5,
        signed: bool = False,
        enlarge: Enlarge = "bilinear",
        on: str = "photo",
        caption: bool = True,
        marks: bool = True,
    ) -> Image:
        """The map over the photo, as one picture; several samples side by side.

        Where there are `parts`, each location has the color of the strongest of them, over the grays of the photo; the
        stronger it is, beside the strongest of all parts in that sample, the less of the photo shows through. They are
        numbered below, from 1.

        Args:
            colormap: by name; the default is perceptually even, `"jet"` is the classic look. Colors of parts are taken
                from it at even distances.
            opacity: of the heat map: 0.3 blends 0.3 heat map and 0.7 photo.
            signed: diverging colors pinned at zero, so that evidence against the target shows too; parts have none.
            enlarge: as for `heatmaps`.
            on: `"photo"`, the original with what the network did not see marked, or `"input"`, what it was given.
                Photos with a side of over 2,048 pixels are drawn at that size.
            caption: write the status under maps that are not ok.
            marks: draw what is explained, where it has a place: the box bold and others thin, a region's outline.
        """
        from whycam.results.drawing import Look, overlay

        return overlay(self, Look(colormap, opacity, signed, enlarge, on, caption, marks))

    def colored(self) -> list[Image]:
        """The classic colored picture of guided backprop or Guided Grad-CAM, one for each sample.

        The signed values of each color, shifted to mean 0 and scaled to standard deviation 0.1 around mid gray, as in
        the authors' code and pytorch-grad-cam's `deprocess_image`.

        Raises:
            WhycamError: the method has no map for each color, or the inputs have other than three colors.
        """
        from whycam.results.drawing import colored

        return colored(self)

    def figure(self, *, colormap: str | None = None, signed: bool = False) -> Figure:
        """Four panels for each sample: photo, map at layer resolution, resized map, overlay (needs `whycam[plot]`).

        Where there are `parts`, each stands by itself in the rows below.
        """
        from whycam.results.drawing import Look, four_panels

        return four_panels(self, Look(colormap, signed=signed))

    def save(
        self, folder: str | Path, *, colormap: str | None = None, opacity: float = 0.5, signed: bool = False
    ) -> list[Path]:
        """Write, for each sample, the overlay (PNG), the raw map and any parts (NPY), and how they came about (JSON).

        Raises:
            WhycamError: `folder` is a file, or named like one.
        """
        from whycam.results.drawing import Look
        from whycam.results.saving import save

        return save(self, Path(folder), Look(colormap, opacity, signed))

    def _repr_html_(self) -> str:
        from whycam.results.drawing import html

        return html([self])


class Comparison(Mapping[tuple[str, str, Any], Explanation]):
    """Explanations by (method, layer, target), all from one shared pass, which draw themselves side by side.

    Methods may be spelled forgivingly. Trailing parts may be left out while that leaves one explanation:
    `c["grad_cam"]`. Methods that explain no class are found under any target, and methods without a layer under any.

    Attributes:
        cost: what the shared pass cost in all.
        failures: for combinations that cannot be, such as CAM on a network without pooling, the reason.

    Examples:
        >>> c = whycam.compare(net, batch, ["grad_cam", "hires_cam"], targets=[0])
        >>> [key[0] for key in c], c["Grad-CAM"].method
        (['grad_cam', 'hires_cam'], 'grad_cam')
    """

    def __init__(
        self,
        explanations: Mapping[tuple[str, str, Any], Explanation],
        failures: Mapping[tuple[str, str, Any], str],
        cost: Cost,
    ) -> None:
        self._explanations = dict(explanations)
        self.failures: Mapping[tuple[str, str, Any], str] = dict(failures)
        self.cost = cost

    def __getitem__(self, wanted: Any) -> Explanation:
        parts = wanted if isinstance(wanted, tuple) else (wanted,)
        found = [each for each, made in self._explanations.items() if _fits(each, parts, made)]
        if len(found) == 1:
            return self._explanations[found[0]]
        if found:
            raise KeyError(f"{wanted!r} stands for {len(found)} explanations: {', '.join(map(str, found))}")
        for each, reason in self.failures.items():
            if _fits(each, parts, None):
                raise WhycamError(reason)
        raise KeyError(f"{wanted!r}; there are {', '.join(map(str, self._explanations))}")

    def __iter__(self) -> Iterator[tuple[str, str, Any]]:
        return iter(self._explanations)

    @property
    def first(self) -> Explanation:
        """The first explanation; the one there is, where one was asked for."""
        return next(iter(self._explanations.values()))

    def __len__(self) -> int:
        return len(self._explanations)

    def __repr__(self) -> str:
        return f"Comparison({', '.join(map(str, self))}; {self.cost})"

    def figure(
        self,
        *,
        sample: int | None = 0,
        maps: bool = False,
        colormap: str | None = None,
        signed: bool = False,
        on: str = "input",
    ) -> Figure:
        """A grid of overlays: what varies makes the rows and columns (needs `whycam[plot]`).

        Args:
            sample: the one to draw; `None` for all, a row for each explanation and a column for each sample.
            maps: draw each raw map, at its layer's own size, beside its overlay.
            colormap, signed: as for `Explanation.overlay`.
            on: `"input"`, what the network saw, or `"photo"`, the whole of it.
        """
        from whycam.results.drawing import Look
        from whycam.results.grids import of_every_sample, of_one_sample

        samples = len(next(iter(self.values())))
        if sample is not None and not -samples <= sample < samples:
            raise WhycamError(f"sample {sample} of {samples}; they are numbered from 0.")
        look = Look(colormap, signed=signed, on=on)
        if sample is None:
            return of_every_sample(self, look, maps=maps)
        if maps:
            chosen = {key: each[sample] for key, each in self.items()}
            return of_every_sample(Comparison(chosen, self.failures, self.cost), look, maps=True)
        return of_one_sample(self, sample, look)

    def _repr_html_(self) -> str:
        from whycam.results.drawing import html

        return html(list(self.values()))


def _uncalled(layer: str) -> str:
    """A layer's name without the numbers of its calls: what the caller may have asked for."""
    return re.sub(r"#\d+", "", layer)


def _fits(have: tuple[str, str, Any], wanted: tuple[Any, ...], made: Explanation | None) -> bool:
    """Whether a key is meant by what was asked for, which may leave out its trailing parts."""
    method, layer, target = have
    spelling = wanted[0] if isinstance(wanted[0], str) else getattr(wanted[0], "__name__", "")
    if plain(spelling) not in {plain(method), plain(made.title if made is not None else method)}:
        return False
    place = wanted[1] if len(wanted) > 1 else None
    if isinstance(place, (list, tuple)):
        place = " + ".join(map(str, place))  # as layers that were fused are named
    if place is not None and layer != "input" and str(place) not in (layer, _uncalled(layer)):
        return False
    explains_no_class = made is not None and not made.target
    return len(wanted) < 3 or explains_no_class or key(wanted[2]) == target
