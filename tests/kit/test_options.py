"""Options of methods and fusions: just inside and just outside of what each takes, and one sentence for all."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

import pytest
import torch

import whycam
from whycam import fusions
from whycam.errors import OptionError
from whycam.kit.options import Count, check, fits, words
from whycam.kit.registry import find, list_methods

#: Of each method: an option, values that it takes, and values next to them that it does not.
BORDERS = [
    ("cameras", "steps", [1, 8], [0, -1, 1.0, "1", True, None]),
    ("cameras", "largest", [1, 1.0, 4.125], [0.999, math.nan, math.inf, True]),
    ("deep_feature_factorization", "concepts", [1], [0]),
    ("deep_feature_factorization", "steps", [1], [0]),
    ("deep_feature_factorization", "tolerance", [0, 1e-9], [-1e-9, math.nan]),
    ("faster_score_cam", "channels", [1], [0, -1]),
    ("fem", "k", [0, 2], [-0.1]),
    ("group_cam", "groups", [1], [0]),
    ("group_cam", "denoise", [0, 0.999], [1, 1.0, -1e-9, math.nan]),
    ("gscore_cam", "channels", [1], [0]),
    ("guided_backprop", "colors", ["sum", "max", "norm"], ["mean", 1]),
    ("integrated_grad_cam", "steps", [1], [0]),
    ("is_cam", "steps", [1], [0, -1]),
    ("kpca_cam", "kernel", ["sigmoid", "rbf", "poly", "cosine", "linear"], ["gauss"]),
    ("kpca_cam", "gamma", [None, 1e-9], [0, -1]),
    ("opti_cam", "steps", [1], [0]),
    ("opti_cam", "lr", [1e-9, 1], [0, 0.0, -1.0, math.inf, math.nan]),
    ("poly_cam", "weights", ["plus", "minus", "both"], ["+"]),
    ("recipro_cam", "show", ["location", "spread", "neighbors"], ["all"]),
    ("rise", "samples", [1], [0, 1.5]),
    ("rise", "grid", [1, (3, 5), (1,)], [0, 7.5, (3, 0), (3, 5.0), True]),
    ("rise", "keep", [1e-9, 0.999], [0, 0.0, 1, 1.0]),
    ("rise", "divide", ["expected", "coverage"], ["area"]),
    ("rise", "seed", [0, -1], [0.5, "0"]),
    ("sess", "steps", [1], [0]),
    ("sess", "growth", [1e-9], [0, 0.0]),
    ("sess", "drop", [0, 0.999], [1.0, -0.1]),
    ("sess", "merge", ["mean", "max"], ["sum"]),
    ("shap_cam", "players", ["locations", "channels"], ["pixels"]),
    ("shap_cam", "samples", [1], [0]),
    ("shapley_cam", "form", ["mean", "hires", "xgrad", "elementwise"], ["max"]),
    ("smooth_grad_cam_plus_plus", "samples", [1], [0]),
    ("smooth_grad_cam_plus_plus", "deviation", [0, 0.1], [-0.1]),
    ("smooth_grad_cam_plus_plus", "numerator", ["second", "first"], ["third"]),
    ("ss_cam", "samples", [1], [0]),
    ("ss_cam", "deviation", [0.0], [-0.5, math.nan]),
    ("ss_cam", "noisy", ["mask", "input"], ["both"]),
    ("score_cam", "baseline", ["zero", "blur", 0, -1.5, torch.zeros(1)], ["black?", True, math.nan, [0.0]]),
    ("score_cam", "probability", [True, False], [1, 0, "yes", None]),
]


@pytest.mark.parametrize(("method", "option", "inside", "outside"), BORDERS)
def test_just_inside_and_just_outside(method, option, inside, outside):
    for value in inside:
        find(method).check_options({option: value})
    for value in outside:
        with pytest.raises(OptionError, match=rf"^the option '{option}' of {method} takes .+, not "):
            find(method).check_options({option: value})


def test_every_default_is_taken():
    for method in list_methods():
        method.check_options({name: option.default for name, option in method.options.items()})


def test_they_are_checked_before_anything_runs():
    def never(_):
        raise AssertionError("the network ran")

    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    model.forward = never
    with pytest.raises(OptionError, match="the option 'grid' of rise takes a whole number, 1 or more or several"):
        whycam.explain(model, torch.ones(1, 3, 8, 8), "rise", grid=7.5)
    with pytest.raises(OptionError, match="the option 'grid' of rise takes"):
        whycam.compare(model, torch.ones(1, 3, 8, 8), ["rise"], options={"RISE": {"grid": 0}})


def test_near_misses_are_suggested():
    with pytest.raises(OptionError, match="Did you mean 'coverage'"):
        find("rise").check_options({"divide": "coverag"})
    with pytest.raises(OptionError, match=r"rise has no option 'sample'.*Did you mean 'samples'"):
        find("rise").check_options({"sample": 4})


def test_options_that_a_partial_gives_a_fusion_are_checked():
    winsor = fusions.winsor
    for percentile in (0, 100):
        assert fusions.find(partial(winsor, percentile=percentile)) is not None
    for wrong in (-0.1, 100.1, "90"):
        with pytest.raises(OptionError, match="'percentile' of winsor takes a number from 0 to 100"):
            fusions.find(partial(winsor, percentile=wrong))
    with pytest.raises(OptionError, match="'importance' of winsor takes 'mean' or 'max', not 'min'"):
        fusions.find(partial(winsor, importance="min"))


@pytest.mark.parametrize(
    ("kind", "said"),
    [(int, "a whole number"), (bool, "true or false"), (Literal["a", 2], "'a' or 2"),
     (int | None, "a whole number or none"),
     (Annotated[int, "no domain"], "a whole number"), (Count, "a whole number, 1 or more"), (dict, "a dict")],
)  # fmt: skip
def test_words(kind, said):
    assert words(kind) == said


def test_what_has_no_annotation_takes_anything():
    def mine(activations, *, anything=3):
        return activations

    find(mine).check_options({"anything": object()})
    check("mine", {}, {"other": 1})
    assert fits(Sequence[int], [1, 2])
    assert not fits(Sequence[int], [1, 2.0])


def test_a_literal_takes_its_own_kind_alone():
    assert fits(Literal["a", 1], 1)
    assert not fits(Literal["a", 1], True)
    assert not fits(Literal["a", 1], 1.0)
