"""Counts, near names and errors in words."""

import pytest

from whycam.kit.words import did_you_mean, first_line, plural


def test_counts():
    assert [plural(number, "photo") for number in (0, 1, 2, 2000)] == [
        "0 photos",
        "1 photo",
        "2 photos",
        "2,000 photos",
    ]


def test_near_names():
    known = ["resnet18", "resnet34", "vgg11"]
    assert did_you_mean("resnet19", known, "timm:{}") == " Did you mean 'timm:resnet18' or 'timm:resnet34'?"
    assert did_you_mean("resnet19", known, most=1) == " Did you mean 'resnet18'?"
    assert did_you_mean("swin", known) == ""


@pytest.mark.parametrize(("said", "line"), [("\n one\ntwo", "one"), ("", "ValueError"), (" \n", "ValueError")])
def test_the_first_line_of_an_error(said, line):
    assert first_line(ValueError(said)) == line
