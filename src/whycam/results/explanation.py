"""The frozen results that callers get: values that draw and save themselves when asked."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jaxtyping import Bool, Float
from PIL.Image import Image
from torch import Tensor

from whycam.errors import WhycamError
from whycam.kit.arrays import Enlarge
from whycam.pictures.blends import OPACITY, Blend
from whycam.results.look import Look
from whycam.results.values import ComparisonValues, ExplanationValues
from whycam.results.values import Cost as Cost
from whycam.results.values import Layer as Layer
from whycam.results.values import Prediction as Prediction
from whycam.results.values import Sample as Sample

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any  # an extra that only figures need


class Explanation(ExplanationValues):
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
            of a factorization; drawn in a color each, or, where `apart` says what one is called (`"Head"`), by itself.
        outputs: the model's answer, the part of it that is explained, `(batch, ...)`, float32 at least.
        channels: what each channel adds to the map, `(batch, channel, *spatial)`, where `per_channel=True` asked; their
            sum is the map before its positive part is taken.
        colors: of guided backprop and Guided Grad-CAM the signed map of each color, `(batch, color, *space)`.
        values: what else a method says of each sample in numbers, `(batch,)`, by name.
        tile_scores: of pictures whose tiles have each a score of its own (`Tiles`), these, `(batch, *tiles)`.
        notes: what else a reader should know, such as which part of a nested output was explained.
        model: where the model came from.
        context: what the network was shown, for drawing.
        work: how variants were run, for methods that run the network many times.
        provenance: what `whycam explain` says of itself: the `command`, and the `weights`' fingerprint; where nobody
            said that, what was asked `beside` method, target, layer and options, as code.

    Examples:
        >>> e = whycam.explain(net, batch, target=1)
        >>> len(e), e[0].maps.shape, e.first.target, e.outputs.shape
        (2, torch.Size([1, 14, 14]), 'class 1', torch.Size([2, 2]))
        >>> e.overlay().mode
        'RGB'
    """

    def overlay(
        self,
        *,
        colormap: str | None = None,
        opacity: float = OPACITY,
        signed: bool = False,
        blend: Blend = "map",
        enlarge: Enlarge = "cubic",
        contour: float | None = None,
        legend: bool = False,
        caption: bool | Literal["status"] = "status",
        on: str = "photo",
        marks: bool = True,
    ) -> Image:
        """The map over the photo, as one picture; several samples side by side.

        A clip is shown by up to eight frames at even distances, a volume by three cuts through the map's peak.

        Where there are `parts`, and not `apart`, each location has the color of the strongest of them, over the grays
        of the photo; the stronger it is, beside the strongest of all parts in that sample, the less of the photo shows
        through. They are numbered below, from 1.

        Args:
            colormap: by name; the default is perceptually even, `"jet"` is the classic look. Colors of parts are taken
                from it at even distances.
            opacity: of the colors where the map is strong: 0.3 blends 0.3 color and 0.7 photo.
            signed: diverging colors pinned at zero, so that evidence against the target shows too; parts have none.
            blend: `"map"`, colors fade out below half of the map's end, and the photo stays as it is where the map says
                nothing; `"even"`, they lie on all of it, which is the classic look.
            enlarge: `"cubic"`, smooth (of volumes, clips and signals linear), `"bilinear"`, or `"nearest"`, each
                location of the map as a block.
            contour: a line around what is brighter than this share of the map's maximum, as `mask` has it.
            legend: the colors below, with the raw values at their ends.
            caption: `"status"` writes the status under maps that are not ok, `True` also what the model says, what is
                explained, by which method and at which layer; `False` nothing.
            on: `"photo"`, the original with what the network did not see marked, or `"input"`, what it was given.
                Photos with a side of over 2,048 pixels are drawn at that size.
            marks: draw what is explained, where it has a place: the box bold, others thin that are at least half as
                sure, a region's outline.

        Examples:
            >>> e = whycam.explain(net, batch)
            >>> e.overlay(contour=0.5, legend=True, caption=True).height > e.overlay().height
            True
        """
        from whycam.results.drawing import overlay

        look = Look(colormap, opacity, signed, enlarge, on, caption, marks, blend=blend, contour=contour, legend=legend)
        return overlay(self, look)

    def heat_layer(
        self,
        *,
        colormap: str | None = None,
        opacity: float = 1.0,
        signed: bool = False,
        blend: Blend = "map",
        enlarge: Enlarge = "cubic",
        contour: float | None = None,
        on: str = "photo",
    ) -> Image:
        """The colors of `overlay` without the photo, RGBA and of its size: transparent where the map says nothing.

        Args:
            opacity: where the map is strong; the rest is as for `overlay`.

        Examples:
            >>> whycam.explain(net, batch)[0].heat_layer().mode
            'RGBA'
        """
        from whycam.results.drawing import heat_layer

        return heat_layer(self, Look(colormap, opacity, signed, enlarge, on, marks=False, blend=blend, contour=contour))

    def mask(self, level: float = 0.2, *, on: str = "photo") -> list[Bool[Tensor, "*space"]]:
        """Where the map is bright, for each sample: above `level`, a share of its maximum.

        Args:
            level: 0.2 is CAM's, arXiv:1512.04150, section 3.2.
            on: `"photo"`, the pixels of the photo where it is known how the map lies there, or `"input"`, those of what
                the network was given.

        Returns:
            A mask `(height, width)` for each sample, or one of the input's own axes; a map that is nowhere positive has
            an empty one.

        Examples:
            >>> [each.shape for each in whycam.explain(net, batch).mask(0.5)]
            [torch.Size([16, 16]), torch.Size([16, 16])]
        """
        from whycam.results import regions

        return regions.masks(self, level, on)

    def boxes_around(self, level: float = 0.2, *, on: str = "photo") -> list[Float[Tensor, "_ 4"]]:
        """The boxes around the bright parts of each sample's map, the largest part first (needs `whycam[evaluate]`).

        The first is what CAM localizes by, arXiv:1512.04150, section 3.2: around the largest part that hangs together.

        Args:
            level, on: as for `mask`.

        Returns:
            For each sample `(box, 4)`: left, top, right, bottom in pixels; none where nothing is bright.

        Examples:
            >>> whycam.explain(net, batch).boxes_around(0.5)[0].shape[1]
            4
        """
        from whycam.results import regions

        return regions.boxes(self, level, on)

    def share(self, region: Any, *, on: str = "photo") -> Float[Tensor, " batch"]:
        """The share of each map's evidence, its positive part, that lies in a region; NaN where nothing is positive.

        Args:
            region: a box (left, top, right, bottom), of which pixels count whose centers lie in it, or a mask of the
                picture's size; or a list with one for each sample.
            on: where the region is given, as for `mask`.

        Examples:
            >>> float(whycam.explain(net, batch)[0].share((0, 0, 16, 16)))
            1.0
        """
        from whycam.results import regions

        return regions.shares(self, region, on)

    def colored(self) -> list[Image]:
        """The classic colored picture of guided backprop or Guided Grad-CAM, one for each sample.

        The signed values of each color, shifted to mean 0 and scaled to standard deviation 0.1 around mid gray, as in
        the authors' code and pytorch-grad-cam's `deprocess_image`.

        Raises:
            WhycamError: the method has no map for each color, or the inputs have other than three colors.
        """
        from whycam.results.drawing import colored

        return colored(self)

    def figure(
        self,
        *,
        colormap: str | None = None,
        signed: bool = False,
        blend: Blend = "map",
        enlarge: Enlarge = "cubic",
        contour: float | None = None,
    ) -> Figure:
        """The sort of figure that the inputs ask for (needs `whycam[plot]`), each sample on one scale of colors.

        Pictures: four panels, photo, map at layer resolution, resized map, overlay; where there are `parts`, each
        stands by itself in the rows below. Signals: the curve of each channel over the map's colors, in seconds where
        `whycam.Signal` says the rate. Spectrograms (`whycam.Spectrogram`): the overlay with its own axes, and the map
        added up at each time below. Clips: frames at even distances. Volumes: three cuts through the peak, and the
        map's strongest slices across each axis. `figure().savefig("figure.pdf")` and `.svg` write pages to print.

        Args:
            colormap, signed, blend, enlarge, contour: as for `overlay`.
        """
        from whycam.results.panels import figure

        return figure(self, Look(colormap, signed=signed, blend=blend, enlarge=enlarge, contour=contour))

    def save(
        self,
        path: str | Path,
        *,
        colormap: str | None = None,
        opacity: float = OPACITY,
        signed: bool = False,
        blend: Blend = "map",
        enlarge: Enlarge = "cubic",
        contour: float | None = None,
        legend: bool = False,
        caption: bool | Literal["status"] = "status",
        resolution: str = "map",
    ) -> list[Path]:
        """Write a folder: for each sample the overlay, the raw map and any parts (NPY), and how they came about (JSON).

        The overlay is a PNG, of clips a GIF; signals have none (`figure()` draws them); volumes whose affine is known
        have their map as NIfTI too. A path with one of these endings is written as that file instead: `.gif` and
        `.mp4` (needs `whycam[video]`), every frame of a clip or slice of a volume with its map, all on one scale of
        colors, small frames enlarged by a whole number; `.nii` and `.nii.gz` (needs `whycam[nifti]`), the raw map where
        it lies in the world.

        Args:
            colormap, opacity, signed, blend, enlarge, contour, legend, caption: of the overlay, as for `overlay`.
            resolution: of a NIfTI file: `"map"`, the map's own cells, or `"input"`, the voxels that the network saw.

        Raises:
            WhycamError: `path` is a file, or has an ending of another sort of file.
        """
        from whycam.results.saving import save

        look = Look(
            colormap, opacity, signed, enlarge, caption=caption, blend=blend, contour=contour, legend=legend
        )  # fmt: skip
        return save(self, Path(path), look, resolution)

    def report(self, path: str | Path, *, model: Any = None) -> Path:
        """Write one HTML file to send to somebody: what was asked, and each sample with its map.

        Nothing is fetched when it is opened. Of each photo some 50 kB are kept.

        Args:
            model: the network, whose weights' fingerprint the report then says.

        Examples:
            >>> whycam.explain(net, batch).report("report.html").name
            'report.html'
        """
        from whycam.reports.page import write
        from whycam.results.reporting import fingerprint_of, part_of

        return write([part_of([self], weights=fingerprint_of(model))], Path(path))

    def _repr_html_(self) -> str:
        from whycam.results.notebook import html

        return html([self])


class Comparison(ComparisonValues[Explanation]):
    """Explanations by (method, layer, target), all from one shared pass, which draw themselves side by side.

    Examples:
        >>> c = whycam.compare(net, batch, ["grad_cam", "hires_cam"], targets=[0])
        >>> [key[0] for key in c], c["Grad-CAM"].method
        (['grad_cam', 'hires_cam'], 'grad_cam')
    """

    def figure(
        self,
        *,
        sample: int | None = 0,
        maps: bool = False,
        colormap: str | None = None,
        signed: bool = False,
        blend: Blend = "map",
        enlarge: Enlarge = "cubic",
        contour: float | None = None,
        on: str = "input",
        said: Mapping[tuple[str, str, Any], str] | None = None,
    ) -> Figure:
        """A grid of overlays: what varies makes the rows and columns (needs `whycam[plot]`).

        Args:
            sample: the one to draw; `None` for all, a row for each explanation and a column for each sample.
            maps: draw each raw map, at its layer's own size, beside its overlay.
            colormap, signed, blend, enlarge, contour: as for `Explanation.overlay`.
            on: `"input"`, what the network saw, or `"photo"`, the whole of it.
            said: what else to say below an overlay of one sample, by key.
        """
        from whycam.results.grids import of_every_sample, of_one_sample

        samples = len(next(iter(self.values())))
        if sample is not None and not -samples <= sample < samples:
            raise WhycamError(f"sample {sample} of {samples}; they are numbered from 0.")
        look = Look(colormap, signed=signed, on=on, blend=blend, enlarge=enlarge, contour=contour)
        if sample is None:
            return of_every_sample(self, look, maps=maps)
        if maps:
            chosen = {key: each[sample] for key, each in self.items()}
            return of_every_sample(Comparison(chosen, self.failures, self.cost), look, maps=True)
        return of_one_sample(self, sample, look, said)

    def report(self, path: str | Path, *, model: Any = None) -> Path:
        """Write one HTML file to send to somebody: what was asked, and each sample with its maps.

        Nothing is fetched when it is opened. Of each photo some 50 kB are kept.

        Args:
            model: the network, whose weights' fingerprint the report then says.

        Examples:
            >>> whycam.compare(net, batch, ["grad_cam", "hires_cam"]).report("report.html").name
            'report.html'
        """
        from whycam.reports.page import write
        from whycam.results.reporting import failed, fingerprint_of, part_of

        failures = [(failed(key), why) for key, why in self.failures.items()]
        return write([part_of([*self.values()], failures, fingerprint_of(model))], Path(path))

    def _repr_html_(self) -> str:
        from whycam.results.notebook import html
        from whycam.results.reporting import failed

        return html([*self.values()], [f"{failed(key)}: {why}" for key, why in self.failures.items()])
