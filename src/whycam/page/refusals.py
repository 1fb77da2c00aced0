"""What the server answers in place of what was asked: a status and a sentence."""

from whycam.errors import WhycamError


class Refused(WhycamError):
    """A request that is not answered. `status` is HTTP's; after `again` seconds the same request may be."""

    def __init__(self, status: int, sentence: str, again: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.again = status, again


def unknown(thing: str, name: str) -> Refused:
    """What is said of an id that stands for nothing here (any more)."""
    again = " Add it again." if thing == "photo" else ""
    return Refused(
        404, f"there is no {thing} {name!r} here (any more): the page keeps the newest ones, in memory.{again}"
    )
