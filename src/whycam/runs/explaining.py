"""Decoded images explained batch by batch: what each process does that holds the network."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from whycam.engine.inputs import Batch, make_batch, prepared_batch
from whycam.engine.request import Request
from whycam.engine.session import Session
from whycam.errors import WhycamError
from whycam.pictures.preprocess import Preprocess
from whycam.results.explanation import Comparison
from whycam.runs.decoding import Decoded
from whycam.runs.rows import failed_row, rows_of


class Worker:
    """Makes the rows of decoded images.

    Attributes:
        known: whether the network has been asked before with success, so that a refusal is an image's own.
    """

    def __init__(self, session: Session, request: Request, map_type: str, *, known: bool = False) -> None:
        self.session, self.request, self.map_type, self.known = session, request, map_type, known

    @property
    def preprocess(self) -> Preprocess | None:
        """What photos can be prepared with where they are read; where there is none they have to come here whole."""
        found = self.session.vision.preprocess
        return found if isinstance(found, Preprocess) else None

    def __call__(self, several: Sequence[Decoded]) -> Iterator[list[dict[str, Any]]]:
        """Rows of some items, those of equal shape in one batch. What cannot be read or explained is a row too.

        Raises:
            WhycamError: nothing was explained before, and this cannot be: what is asked is at fault, or the network.
        """
        for each in several:
            if each.error:
                yield [failed_row(each, each.error)]
        readable = [each for each in several if not each.error]
        refused = dict[str, tuple[Decoded, WhycamError]]()
        for _, group in groupby(sorted(readable, key=_together), _together):
            for some, made in self._each_or_all([*group], refused):
                self.known = True
                yield [*rows_of(some, made, self.map_type)]
        for each, why in refused.values():
            if not self.known:
                raise why
            yield [failed_row(each, str(why))]

    def _each_or_all(
        self, several: list[Decoded], refused: dict[str, tuple[Decoded, WhycamError]]
    ) -> Iterator[tuple[list[Decoded], Comparison]]:
        """All of them in one batch, or where that is refused each by itself; those that are refused alone are noted."""
        try:
            yield several, self._compared(several)
        except WhycamError as error:
            if len(several) == 1:
                refused[several[0].item.id] = several[0], error
                return
            for each in several:
                yield from self._each_or_all([each], refused)

    def _compared(self, several: Sequence[Decoded]) -> Comparison:
        request = self.request
        if several[0].item.target is not None:  # and so of all of them
            request = replace(request, targets=([each.item.target for each in several],))
        with self.session.tree():
            return self.session.run(self._batch(several), request)

    def _batch(self, several: Sequence[Decoded]) -> Batch:
        prepared = [each.prepared for each in several if each.prepared is not None]
        if prepared:
            return prepared_batch(self.session.vision, prepared)
        return make_batch(self.session.vision, [each.photo for each in several], self.request.views)


def _together(each: Decoded) -> tuple[int, ...]:
    """What has to be equal in a batch: whether the source says a target, and the input's shape, or else the photo's."""
    assert each.size is not None  # it was read
    return each.item.target is None, *(each.size if each.prepared is None else each.prepared[0].shape)
