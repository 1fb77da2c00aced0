"""A run that was kept: its table, its maps as explanations, and what it comes down to."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whycam.errors import WhycamError
from whycam.kit.words import plural
from whycam.pictures.photos import Photo, read_photo
from whycam.pictures.preprocess import Preprocess
from whycam.results.explanation import Explanation
from whycam.runs.rows import explanation_of
from whycam.runs.store import Store

if TYPE_CHECKING:
    import pyarrow
else:
    pyarrow = Any  # an extra

#: What the columns are read for that say how a run went.
_COUNTED = ["source", "status", "prediction", "error"]


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
        settings = dict(self.asked.get("input", {}))
        lists: dict[str, Any] = {
            name: tuple(each) if isinstance(each, list) else each for name, each in settings.items()
        }
        preprocess = Preprocess(**lists) if lists else None
        return explanation_of(row, self.asked, shown, preprocess)

    @property
    def table(self) -> "pyarrow.Table":
        """Every row, without the maps, which `run[i]` has."""
        return self._store.table()

    @property
    def failures(self) -> list[tuple[str, str]]:
        """Image and reason, of every row without a map."""
        held = self._store.table(["source", "error"]).to_pydict()
        pairs = zip(held["source"], held["error"], strict=True)
        return [(name, why) for name, why in pairs if why is not None]

    def __repr__(self) -> str:
        return f"Run({self.folder}: {plural(len(self), 'row')})"

    def summary(self) -> dict[str, Any]:
        """How many images there are, and how many rows of each status, of each predicted class, and of each error."""
        held = self._store.table(_COUNTED).to_pydict()
        return {
            "images": len(set(held["source"])),
            "rows": len(self),
            "failed": sum(why is not None for why in held["error"]),
            "status": dict(Counter(each for each in held["status"] if each is not None).most_common()),
            "prediction": dict(Counter(each for each in held["prediction"] if each is not None).most_common()),
        }


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
