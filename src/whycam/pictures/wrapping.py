"""Text in lines."""

import re
from textwrap import TextWrapper


class _Lines(TextWrapper):
    """Lines that end at spaces, before a part of a dotted name but not inside a number, or where nothing else fits."""

    wordsep_simple_re = re.compile(r"(\s+)|(?<=[._/])(?=[^\W\d])")


def wrapped(text: str, letters: int) -> str:
    """The text in lines of so many letters at most; a line break of its own stays one."""
    lines = _Lines(max(8, letters), break_on_hyphens=False)
    return "\n".join(map(lines.fill, text.splitlines()))
