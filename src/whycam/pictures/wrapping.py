"""Text in lines."""

import re
from collections.abc import Callable

#: Where a line may end: after a space, and before a part of a dotted name, but not inside a number.
_BREAK = re.compile(r"(?<=\s)|(?<=[._/])(?=[^\W\d])")


def wrapped(text: str, fits: Callable[[str], bool]) -> str:
    """The text with line breaks: at spaces and in dotted names, and elsewhere only in what is longer than a line."""
    lines = []
    for paragraph in text.splitlines():
        line = ""
        for piece in _BREAK.split(paragraph):
            if line and not fits(line + piece.rstrip()):
                lines.append(line.rstrip())
                line = ""
            line += piece
            while len(line.rstrip()) > 1 and not fits(line.rstrip()):
                most = next(n for n in range(len(line) - 1, 0, -1) if n == 1 or fits(line[:n]))
                lines.append(line[:most])
                line = line[most:]
        lines.append(line.rstrip())
    return "\n".join(lines)
