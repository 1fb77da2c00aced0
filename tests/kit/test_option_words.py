"""A method's options in words, read as its signature says."""

from typing import Any, Literal

import pytest

import whycam
from whycam.kit.declared import Option
from whycam.kit.option_words import convert, parse_options
from whycam.kit.registry import declare, methods


def test_options_are_read_as_their_annotation_says() -> None:
    method = methods()["kpca_cam"]
    read = parse_options(["kernel=rbf", "gamma=none", "degree=4", "coef0=2"], [method])["kpca_cam"]
    assert read == {"kernel": "rbf", "gamma": None, "degree": 4, "coef0": 2.0}
    assert (type(read["degree"]), type(read["coef0"])) == (int, float)
    assert parse_options(["gamma=1e-3"], [method])["kpca_cam"] == {"gamma": 1e-3}
    for wrong in ("degree=1.5", "coef0=nan", "kernel=rfb", "gamma=", "degree", "=3", "gamma=1", "x.degree=1"):
        with pytest.raises(whycam.WhycamError):
            parse_options([wrong, "gamma=2"], [method])


def test_options_of_any_type() -> None:
    def mine(activations, *, a=1, b="x", c: bool = True, d: Literal[1, 2] = 1, e: complex = 1j):  # type: ignore[no-untyped-def]
        return activations

    method = declare(mine)

    def read(name: str, value: str) -> Any:
        return convert(method, method.options[name], value)

    assert [read("a", "3"), read("b", "3"), read("c", "off"), read("d", "2")] == [3, "3", False, 2]
    with pytest.raises(whycam.WhycamError, match="takes 1 or 2, not"):
        read("d", "3")
    with pytest.raises(whycam.WhycamError, match="takes a complex, not"):
        read("e", "3")
    assert isinstance(method.options["a"], Option)
