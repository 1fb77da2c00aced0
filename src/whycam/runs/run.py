"""A run that was kept: its table, its maps as explanations, and what it comes down to."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whycam.errors import WhycamError
from whycam.kit.arrays import Normalize
from whycam.kit.words import plural
from whycam.pictures.photos import Photo, read_photo
from whycam.pictures.preprocess import preprocess_of
from whycam.results.explanation import Explanation
from whycam.runs import looking, looking_at_maps
from whycam.runs.exporting import Exported
from whycam.runs.looking_at_maps import MeanMap
from whycam.runs.manifest import read_said
from whycam.runs.rows import explanation_of
from whycam.runs.store import Store, drop_damaged

if TYPE_CHECKING:
    import pyarrow
    from matplotlib.figure import Figure
else:
    pyarrow = Figure = Any  # extras


class Run:
    """What `whycam.run` kept in a folder, read when it is asked for.

    Attributes:
        folder: where it lies. `asked`: what was asked: the model, its weights' fingerprint, methods, layers, targets.

    Examples:
        >>> photo, prepare = np.zeros((20, 24, 3), dtype=np.uint8), whycam.Preprocess.imagenet(16, 16)
        >>> run = whycam.run(net, [("black", photo)], "maps", layer="0", preprocess=prepare, workers=0)
        >>> run.explanation(0, photo).overlay(caption=False).size, run.table["source"].to_pylist()
        ((24, 20), ['black'])
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._store = Store.open(self.folder)
        self.asked: Mapping[str, Any] = self._store.asked

    def __len__(self) -> int:
        """How many rows there are: one for each image, method, layer and target, or one for an image that failed."""
        return len(self._store)

    def __getitem__(self, number: int) -> Explanation:
        """A row's explanation, without the photo; see `explanation`.

        Raises:
            IndexError: there is no such row.
            WhycamError: the row has no map, with the reason.
        """
        return self.explanation(number)

    def explanation(self, number: int, photo: str | Path | Photo | Any = None) -> Explanation:
        """A row's explanation; with its photo it draws itself over that.

        Args:
            photo: as for `read_photo`; a model whose preprocessing is a `Preprocess` says where the map lies on it.
        """
        row = self._store.row(number)
        if row["map"] is None:
            raise WhycamError(f"{row['source']} has no map: {row['error']}")
        shown = photo if photo is None or isinstance(photo, Photo) else read_photo(photo)
        return explanation_of(row, self.asked, shown, preprocess_of(self.asked.get("input")))

    @property
    def said(self) -> Mapping[str, Any]:
        """What the folder says beside what was asked: the `versions`, why maps are made at their `layers`, and the
        `command` where there was one.
        """
        return read_said(self.folder)

    @property
    def table(self) -> "pyarrow.Table":
        """Every row, without the maps, which `run[i]` has."""
        return self._store.table()

    @property
    def failures(self) -> list[tuple[str, str]]:
        """Image and reason, of every row with an error: there is no map, or a metric of it could not be had."""
        held = self._store.table(["source", "error"]).to_pydict()
        pairs = zip(held["source"], held["error"], strict=True)
        return [(name, why) for name, why in pairs if why is not None]

    def __repr__(self) -> str:
        return f"Run({self.folder}: {plural(len(self), 'row')})"

    def _repr_html_(self) -> str:
        from whycam.runs.notebook import html

        return html(self)

    def summary(self) -> dict[str, Any]:
        """How many images and rows there are, how many rows `failed`, and how many are of each status, `prediction`,
        `target`, `method` and `error`, the most frequent first. Reasons of failures are without the image's own name.
        """
        return looking.summary(self._store)

    def best(self, column: str = "score", number: int = 10, **where: Any) -> "pyarrow.Table":
        """The rows at the good end of a column of numbers, the best first, with their numbers as the column `row`.

        Args:
            column: `score`, `probability`, or `metric.NAME`, whose better end the metric knows; of any other the larger
                is the better. Rows without a number are left out; of equal ones the first come first.
            number: of rows, at most.
            where: only the rows with this value in another column, or one of several: `prediction="tabby"`.

        Raises:
            OptionError: no such column, or one that holds no numbers.

        Examples:
            >>> photos = [(name, np.full((20, 24, 3), level, np.uint8)) for name, level in (("dark", 9), ("light", 99))]
            >>> prepare = whycam.Preprocess.imagenet(16, 16)
            >>> run = whycam.run(net, photos, "two", target=1, layer="0", preprocess=prepare, workers=0)
            >>> run.best("score", 1)["source"].to_pylist(), run.worst("score", 1)["row"].to_pylist()
            (['dark'], [1])
        """
        return looking.ranked(self._store, column, number, where, best=True)

    def worst(self, column: str = "score", number: int = 10, **where: Any) -> "pyarrow.Table":
        """The rows at the bad end of a column of numbers, the worst first; see `best`."""
        return looking.ranked(self._store, column, number, where, best=False)

    def duplicates(self) -> list[list[str]]:
        """The images that hold the same, group by group, by the digits of their `content`.

        Two files are the same to the byte; a photo that was saved again is another.

        Examples:
            >>> photos = [(name, np.full((20, 24, 3), 9, np.uint8)) for name in ("one", "again")]
            >>> prepare = whycam.Preprocess.imagenet(16, 16)
            >>> whycam.run(net, photos, "twice", layer="0", preprocess=prepare, workers=0).duplicates()
            [['one', 'again']]
        """
        return looking.duplicates(self._store)

    def mean_maps(
        self,
        by: str | None = None,
        *,
        size: Sequence[int] | None = None,
        normalize: Normalize = "max",
        **where: Any,
    ) -> dict[str, MeanMap]:
        """The mean map of each class, of the maps of one method at one layer, the most frequent class first.

        Maps lie on what the network saw, so that the mean shows where in the picture the evidence for a class lies.
        They are read once, a shard at a time; maps that are not finite are left out.

        Args:
            by: the column that says which rows belong together, such as `label`. By default they are of one class: what
                is explained, or predicted where a method explains none.
            size: what maps are resized to, between pixel centers; the size that most of them have by default.
            normalize: as for `Explanation.heatmaps`. By default each map is divided by its own peak, negative values to
                0, so that every image counts the same and a map that shows nothing counts as 0 everywhere. `"none"`
                takes raw maps, of which strong ones count more, in the method's units.
            where: only the rows with these values: `method="fem"`, `status="ok"`.

        Raises:
            OptionError: no map of these, or maps of several methods or layers.

        Examples:
            >>> photos, prepare = [("dark", np.zeros((20, 24, 3), np.uint8))], whycam.Preprocess.imagenet(16, 16)
            >>> run = whycam.run(net, photos, "one", target=1, layer="0", preprocess=prepare, workers=0)
            >>> {name: (mean.count, mean.map.shape) for name, mean in run.mean_maps().items()}
            {'class 1': (1, torch.Size([14, 14]))}
        """
        return looking_at_maps.mean_maps(self._store, by, size, normalize, where)

    def mean_figure(self, number: int = 10, *, by: str | None = None, **where: Any) -> Figure:
        """The mean maps of the most frequent classes side by side (needs `whycam[plot]`), each with its own scale.

        Args:
            number: of classes, at most. by, where: as for `mean_maps`; every map is divided by its own peak.

        Examples:
            >>> photos, prepare = [("dark", np.zeros((20, 24, 3), np.uint8))], whycam.Preprocess.imagenet(16, 16)
            >>> run = whycam.run(net, photos, "one", target=1, layer="0", preprocess=prepare, workers=0)
            >>> [axes.get_title() for axes in run.mean_figure().axes][0]
            'class 1'
        """
        return looking_at_maps.mean_figure(self.mean_maps(by, **where), number)

    def at_border(self, ratio: float = 3.0, **where: Any) -> "pyarrow.Table":
        """The maps that stick to the border, the most first: `share` of the positive evidence lies in the outer ring of
        cells, where an `even` map would have that share.

        Such maps tell of padding, frames and watermarks more often than of the object.

        Args:
            ratio: a map is listed from where a cell of the ring holds so many times as much as one inside. Evidence at
                a single edge stays below 3, also a spot that is centered there and a tenth of the map in deviation, as
                of an object that the frame cuts: what is listed fills a corner, or runs along the ring.
            where: as for `mean_maps`.

        Raises:
            OptionError: no map of these.

        Examples:
            >>> photos, prepare = [("dark", np.zeros((20, 24, 3), np.uint8))], whycam.Preprocess.imagenet(16, 16)
            >>> run = whycam.run(net, photos, "one", target=1, layer="0", preprocess=prepare, workers=0)
            >>> len(run.at_border()), run.at_border(ratio=0)["source"].to_pylist()
            (0, ['dark'])
        """
        return looking_at_maps.at_border(self._store, ratio, where)

    def damaged(self) -> list[str]:
        """The shards that are not what was written, by name. Every byte is read."""
        return self._store.damaged()

    def drop_damaged(self) -> list[str]:
        """Delete these, so that the same run computes their images again; their names.

        Raises:
            WhycamError: another process writes to the folder.
        """
        gone = drop_damaged(self.folder)
        self._store = Store.open(self.folder)
        return gone

    def to_coco(self, path: str | Path, *, level: float = 0.2) -> Exported:
        """Write COCO's JSON: images, categories, and for each map an annotation, the region where it is bright.

        An annotation has the region's `bbox` and `area` in pixels of the photo, its mask as run lengths (uncompressed
        RLE, which pycocotools reads), the target's `score`, and as `attributes` the row, method, layer, level, status
        and prediction. A category is what is explained, or what is predicted where a method explains no class.

        Args:
            level: a pixel is bright above this share of the map's maximum; 0.2 is that of CAM, as for `mask_iou`.

        Returns:
            How many maps it holds, and why the others are left out: no photo was read, nothing speaks for the target,
            or it is not known where the map lies on the photo, which a `Preprocess` says.

        Examples:
            >>> photos, prepare = [("dark", np.zeros((20, 24, 3), np.uint8))], whycam.Preprocess.imagenet(16, 16)
            >>> run = whycam.run(net, photos, "one", target=1, layer="0", preprocess=prepare, workers=0)
            >>> run.to_coco("one.json").count
            1
        """
        from whycam.runs.exports import coco

        return coco.write(self, Path(path), level)

    def to_pictures(self, folder: str | Path, photos: Any) -> Exported:
        """Write each map over its photo as JPEG, into a folder for each class: what is explained, or predicted where a
        method explains no class.

        Args:
            photos: where the photos are, as for `run`; they are found by their ids, and one that holds something else
                than it did in the run is none of them.

        Returns:
            How many maps were drawn, and why the others are left out.

        Examples:
            >>> photos, prepare = [("dark", np.zeros((20, 24, 3), np.uint8))], whycam.Preprocess.imagenet(16, 16)
            >>> run = whycam.run(net, photos, "one", target=1, layer="0", preprocess=prepare, workers=0)
            >>> run.to_pictures("drawn", [*photos, ("other", photos[0][1])]).count
            1
        """
        from whycam.runs.exports import pictures

        return pictures.write(self, Path(folder), photos)

    def report(self, path: str | Path, photos: Any = None, *, number: int = 500) -> Path:
        """Write one HTML file to send to somebody: what was asked, counts, and each image with its maps.

        Nothing is fetched when it is opened. A photo that is not found, or holds something else than it did in the run,
        is said with its map. Of each photo some 50 kB are kept.

        Args:
            photos: where the photos are, as for `run`; unless said, where the run found them.
            number: of images, at most: the first.

        Examples:
            >>> photos, prepare = [("dark", np.zeros((20, 24, 3), np.uint8))], whycam.Preprocess.imagenet(16, 16)
            >>> run = whycam.run(net, photos, "one", target=1, layer="0", preprocess=prepare, workers=0)
            >>> "data:image/jpeg" in run.report("one.html", photos).read_text()
            True
        """
        from whycam.reports.page import write
        from whycam.runs.reporting import part_of_run

        return write([part_of_run(self, self.folder.absolute().name, photos, number)], Path(path))

    def to_fiftyone(self, name: str, photos: Any) -> Exported:
        """Make a data set of FiftyOne, kept under that name (needs `whycam[fiftyone]`): `fiftyone.load_dataset(name)`.

        A sample for each photo, with the prediction, the label if the source said one, and a heat map for each method,
        layer and target, laid on the photo, with its target, score, layer, status and row.

        Args:
            photos: files, as for `to_pictures`; FiftyOne shows them from where they are.

        Raises:
            WhycamError: FiftyOne has a data set of that name.
        """
        from whycam.runs.exports import fiftyone

        return fiftyone.write(self, name, photos)


def open_run(folder: str | Path) -> Run:
    """The run that a folder holds.

    Raises:
        WhycamError: the folder holds none.

    Examples:
        >>> photo, prepare = np.zeros((20, 24, 3), dtype=np.uint8), whycam.Preprocess.imagenet(16, 16)
        >>> _ = whycam.run(net, [("black", photo)], "maps", layer="0", preprocess=prepare, workers=0)
        >>> len(whycam.open_run("maps"))
        1
    """
    return Run(folder)
