"""Words of sentences that many places say."""

from collections.abc import Iterable
from difflib import get_close_matches


def plural(number: int, thing: str) -> str:
    """`1 photo`, `2,000 photos`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def did_you_mean(wrong: str, known: Iterable[str], form: str = "{}", most: int = 3) -> str:
    """` Did you mean 'timm:resnet18'?`, for a wrong name and those there are; empty where none is near."""
    near = get_close_matches(wrong, known, n=most, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(form.format(each)) for each in near)}?" if near else ""


def first_line(error: Exception) -> str:
    """An error in one line: the first that is not empty, or its kind."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def readable(text: str) -> str:
    r"""A text that every file can hold, also where it has bytes of a name on a disk that are no Unicode: as `\xff`."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
