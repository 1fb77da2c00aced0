"""Text in lines that fit."""

import pytest

from whycam.pictures.wrapping import wrapped


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("one two", ["one two"]),
        ("one two three", ["one two", "three"]),
        ("features.norm0.relu", ["features.", "norm0.relu"]),
        ("at 0.93 of it", ["at 0.93 of", "it"]),
        ("abcdefghijklm no", ["abcdefghij", "klm no"]),
        ("first\nsecond", ["first", "second"]),
        ("one two three four", ["one two", "three four"]),
        ("", [""]),
    ],
)
def test_lines_of_ten_letters(text, lines):
    assert wrapped(text, lambda line: len(line) <= 10).split("\n") == lines


def test_where_nothing_fits_there_is_a_letter_a_line():
    assert wrapped("abc", lambda line: False) == "a\nb\nc"
