"""Where lines end."""

import pytest

from whycam.pictures.wrapping import wrapped


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("no positive evidence", ["no positive", "evidence"]),
        ("blocks.attention.norm", ["blocks.", "attention.", "norm"]),
        ("number 12 1.5", ["number 12", "1.5"]),
        ("x" * 25, ["x" * 12, "x" * 12, "x"]),
        ("two\nlines", ["two", "lines"]),
        ("", [""]),
    ],
)
def test_lines_end_at_spaces_and_in_dotted_names(text, lines):
    assert wrapped(text, 12).split("\n") == lines
