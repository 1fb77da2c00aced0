"""What exports of a run share: what they say of themselves, rows beside their photos, and maps on these."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from whycam.errors import WhycamError
from whycam.results.explanation import Explanation
from whycam.results.regions import laid
from whycam.runs.decoding import Decoded, decode
from whycam.runs.sources import Source, open_source

if TYPE_CHECKING:
    import pyarrow
else:
    pyarrow = Any  # an extra


@runtime_checkable
class Rows(Protocol):
    """What exports read of a `Run`."""

    @property
    def asked(self) -> Mapping[str, Any]:
        """What was asked."""

    @property
    def table(self) -> "pyarrow.Table":
        """Every row, without the maps."""

    def explanation(self, number: int, photo: Any = None, /) -> Explanation:
        """A row's explanation."""


class Told(Rows, Protocol):
    """What says more of itself."""

    @property
    def said(self) -> Mapping[str, Any]:
        """What it says of itself beside what was asked."""

    @property
    def failures(self) -> list[tuple[str, str]]:
        """Image and reason."""


@dataclass
class Exported:
    """What an export wrote.

    Attributes:
        to: the file, folder or data set. `count`: how many maps are in it.
        left_out: image and reason, of each map that is not.
    """

    to: str
    count: int = 0
    left_out: list[tuple[str, str]] = field(default_factory=list)


def where_photos_are(run: Told, photos: Any, names: Iterable[str]) -> Any:
    """A source of a run's photos: the one that is given, that of the run, or what the images' ids name as files."""
    if photos is not None:
        return photos
    try:
        return open_source(run.said["source"])
    except (KeyError, WhycamError):  # it is gone, which each photo then says
        return [(name, name) for name in dict.fromkeys(names)]


def beside_photos(
    table: "pyarrow.Table", photos: Any, made: Exported, wanted: Collection[str] | None = None
) -> Iterator[tuple[Decoded, list[int]]]:
    """Each photo of a source that rows are of, and the numbers of these; rows without their photo are noted.

    A photo that holds something else than it did in the run is none of theirs.

    Args:
        wanted: the ids of the images that are looked for; all of them unless said.
    """
    rows = defaultdict[str, list[int]](list)
    for number, name in enumerate(table["source"].to_pylist()):
        if wanted is None or name in wanted:
            rows[name].append(number)
    if not rows:
        return
    source = photos if isinstance(photos, Source) else open_source(photos)
    for item in source:
        if not rows:
            break
        if (numbers := rows.pop(item.id, None)) is None:
            continue
        each, content = decode(item, None), table["content"][numbers[0]].as_py()
        if not each.error and content in (None, each.content):
            yield each, numbers
        else:
            made.left_out.append(
                (item.id, str(each.error) if each.error else f"{source.text} holds another photo than was explained")
            )
    made.left_out += [(name, f"{source.text} has no photo of that id") for name in rows]


def with_maps(table: "pyarrow.Table", numbers: list[int], made: Exported) -> Iterator[int]:
    """Those of the rows that have a map; the reasons of the others are noted."""
    for number in numbers:
        if table["map_type"][number].is_valid:
            yield number
        else:
            made.left_out.append((table["source"][number].as_py(), table["error"][number].as_py()))


def on_photo(one: Explanation, longest: int | None = None) -> Float[Tensor, "height width"]:
    """The map of one sample where it lies on its photo, divided by its maximum; 0 where the network saw nothing.

    Args:
        longest: of the sides, in pixels, if the photo's own are not wanted.

    Raises:
        WhycamError: it is not known where it lies, or it is no picture's.
    """
    if one.context is None or one.context.geometries is None:
        raise WhycamError("where the map lies on the photo is not known, which only a Preprocess says")
    return laid(one, longest=longest, normalize="max")[0]
