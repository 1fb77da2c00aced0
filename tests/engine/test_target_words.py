"""A target in words: what each spelling stands for, and what is no target."""

from typing import Any

import pytest

import whycam
from whycam.engine.target_words import parse_target
from whycam.targets import (
    Box,
    Boxes,
    ClassScore,
    Contrast,
    Counterfactual,
    Keypoint,
    LogProbability,
    MultiLabel,
    Probability,
    ReST,
    Target,
    Towards,
    Value,
)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("281", 281),
        ("-1", -1),
        ("tabby cat", "tabby cat"),
        ("top", None),
        ("handrail / baluster", "handrail / baluster"),
        ("probability:281", Probability(281)),
        ("Probability: tabby", Probability("tabby")),
        ("log_probability:tabby", LogProbability("tabby")),
        ("log-probability", LogProbability()),
        ("rest:281", ReST(281)),
        ("counterfactual:281", Counterfactual(281)),
        ("finer", Contrast()),
        ("finer:tabby", Contrast("tabby")),
        ("contrast:tabby/tiger cat", Contrast("tabby", ("tiger cat",))),
        ("contrast: tabby / tiger cat", Contrast("tabby", ("tiger cat",))),
        ("contrast:swim trunks / shorts/281+282", Contrast("swim trunks / shorts", (281, 282))),
        ("contrast:top/282", Contrast(None, (282,))),
        ("multilabel:3+7", MultiLabel((3, 7))),
        ("multi_label", MultiLabel()),
        ("class:rest", ClassScore("rest")),
        ("class:a: b", ClassScore("a: b")),
        ("note: a label", "note: a label"),
    ],
)
def test_targets_in_words(words: str, meant: Any) -> None:
    assert parse_target(words) == meant


@pytest.mark.parametrize(
    "words",
    ["", "  ", "contrast", "contrast:tabby", "contrast:a/b/c", "contrast:/2", "contrast:1/top", "multilabel:3+"],
)
def test_targets_without_their_classes(words: str) -> None:
    with pytest.raises(whycam.WhycamError, match=r"class|needs two"):
        parse_target(words)


def test_every_kind_of_target_has_words() -> None:
    for kind in Target.__subclasses__():
        if kind.__module__.startswith("whycam.targets.") and kind is not Contrast:
            assert parse_target(f"{kind.__name__}:5") == kind(5)


@pytest.mark.parametrize(
    ("words", "meant"),
    [("box:2", Box(2)), ("box:1,2,30,40", Box((1.0, 2.0, 30.0, 40.0))), ("boxes:0.3", Boxes(0.3)),
     ("keypoint:4", Keypoint(4)), ("value:1", Value(1)), ("towards:3.5", Towards(3.5))],
)  # fmt: skip
def test_targets_of_the_whole_output_in_words(words: str, meant: Any) -> None:
    assert parse_target(words) == meant


def test_regions_and_references_in_words() -> None:
    region = parse_target("region:road@120,80")
    assert (region.of, region.where, region.point) == ("road", "component", [120.0, 80.0])
    assert parse_target("region:12").of == 12
    assert parse_target("similarity:other.jpg").reference == "other.jpg"
    with pytest.raises(whycam.TargetError, match=r"numbers expected, not 'first'"):
        parse_target("box:first")
    with pytest.raises(whycam.TargetError, match="2 numbers, separated by commas, expected, not '3'"):
        parse_target("region:road@3")
    with pytest.raises(whycam.TargetError, match="Triplet cannot be written as a text"):
        parse_target("triplet:a,b")
