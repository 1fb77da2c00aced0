"""Decoded images explained batch by batch: what each process does that holds the network."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from whycam.engine.inputs import Batch, device_of, make_batch, prepared_batch
from whycam.engine.request import Request
from whycam.engine.session import Session
from whycam.errors import WhycamError
from whycam.evaluation.columns import Measured, measured
from whycam.pictures.preprocess import Preprocess
from whycam.runs.decoding import Decoded
from whycam.runs.keeping import Kept
from whycam.runs.manifest import keep_said
from whycam.runs.rows import failed_row, rows_of


class Made(NamedTuple):
    """Some images and their maps; or one image and the reason why it has none."""

    several: Sequence[Decoded]
    maps: Measured | None = None
    error: WhycamError | None = None


def usual_batch(session: Session) -> int:
    """How many images are explained at once where nobody says.

    On a CPU few: for large tensors memory is fetched anew in each layer, which takes longer than it saves.
    """
    with session.tree():
        return 4 if device_of(session.module).type == "cpu" else 16


class Worker:
    """Explains decoded images, and makes rows of what it has explained.

    Attributes:
        folder: the run's, below which pictures are written.
        known: whether the network has been asked before with success, so that a refusal is an image's own.
    """

    def __init__(self, session: Session, request: Request, kept: Kept, folder: Path, *, known: bool = False) -> None:
        self.session, self.request, self.kept, self.folder, self.known = session, request, kept, folder, known
        self._said = False

    @property
    def preprocess(self) -> Preprocess | None:
        """What photos can be prepared with where they are read; where there is none they have to come here whole."""
        found = self.session.vision.preprocess
        return found if isinstance(found, Preprocess) and self.request.views is None else None

    def __call__(self, several: Sequence[Decoded]) -> Iterator[list[dict[str, Any]]]:
        """Rows of some items, all those of an image in one list."""
        for made in self.explained(several):
            yield self.rows(made)

    def explained(self, several: Sequence[Decoded]) -> Iterator[Made]:
        """The maps of some items, those of equal shape in one batch, and the reasons where there is none.

        Raises:
            WhycamError: nothing was explained before, and this cannot be: what is asked is at fault, or the network.
        """
        for each in several:
            if each.error is not None:
                yield Made([each], error=each.error)
        readable = [each for each in several if each.error is None]
        refused = list[Made]()
        for _, group in groupby(sorted(readable, key=self._together), self._together):
            yield from self._each_or_all([*group], refused)
        for made in refused:
            if not self.known:
                assert made.error is not None
                raise made.error
            yield made

    def rows(self, made: Made) -> list[dict[str, Any]]:
        """The rows of what was explained, all those of an image after each other; its pictures are written first."""
        if made.maps is None:
            return [failed_row(each, str(made.error)) for each in made.several]
        return [*rows_of(made.several, made.maps, self.kept, self.folder)]

    def _together(self, each: Decoded) -> tuple[Any, ...]:
        """What has to be equal in a batch: whether the source says a target, and the input's or photo's shape.

        Images of a method that makes one answer of a whole batch come each alone, and so do those of a target that
        stands for several things, as many as the image has: a row is to hang on no neighbor.
        """
        assert each.size is not None  # it was read
        couples = any(method.couples for method in self.request.methods)
        several = any(getattr(target, "several", False) for target in self.request.targets)
        alone = [each.item.id] if couples or several else []
        shape = each.size if each.prepared is None else each.prepared[0].shape
        return each.item.target is None, *shape, *alone

    def _each_or_all(self, several: list[Decoded], refused: list[Made]) -> Iterator[Made]:
        """All of them in one batch, or where that is refused each by itself; those that are refused alone are noted."""
        try:
            maps = self._maps(several)
        except WhycamError as error:
            if len(several) == 1:
                refused.append(Made(several, error=error))
                return
            for each in several:
                yield from self._each_or_all([each], refused)
            return
        self.known = True
        self._say_why(maps)
        yield Made(several, maps)

    def _say_why(self, maps: Measured) -> None:
        """Keep beside the rows why maps are made at their layers, by the first of them."""
        if maps.explanations and not self._said:
            self._said = True
            keep_said(self.folder, layers={each.layer.name: each.layer.why for each in maps.explanations.values()})

    def _maps(self, several: Sequence[Decoded]) -> Measured:
        request = self.request
        if several[0].item.target is not None:  # and so of all of them
            request = replace(request, targets=([each.item.target for each in several],))
        with self.session.tree():
            batch = self._batch(several)
            if self.kept.metrics:
                return measured(self.session, batch, request, self.kept.metrics)
            found = self.session.run(batch, request)
        return Measured(found, found.failures)

    def _batch(self, several: Sequence[Decoded]) -> Batch:
        prepared = [each.prepared for each in several if each.prepared is not None]
        photos = tuple([each.photo for each in several if each.photo is not None])
        if prepared:
            return prepared_batch(self.session.vision, prepared, photos or None)
        return make_batch(self.session.vision, list(photos), self.request.views)
