"""The benchmark of known causes in a small size: what decides is known by changing it, and some methods find it."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import causes
import known_causes


@pytest.mark.parametrize("kind", causes.KINDS)
def test_scenes_differ_by_their_cause_alone(kind):
    for seed in range(20):
        scene = causes.KINDS[kind](seed)
        moved = (scene.picture - scene.changed).abs().amax(0) > 0
        assert moved.any()
        assert scene.cause[moved].all()
        assert torch.equal(causes.KINDS[kind](seed).picture, scene.picture)


@pytest.fixture(scope="module")
def watermark():
    return known_causes.posed("watermark", 12, 60)


def test_a_network_learns_to_go_by_the_cause_and_is_the_same_every_time(watermark):
    assert watermark.flips == (12, 12)
    again = causes.trained("watermark", 5)
    for one, other in zip(again.parameters(), causes.trained("watermark", 5).parameters(), strict=True):
        assert torch.equal(one, other)


def test_relevance_and_paths_find_the_mark_and_edges_do_not(watermark):
    found = known_causes.measured(watermark, ["layer_cam", "cp_lrp"])
    assert found["cp_lrp"][1] >= 0.9
    assert found["hires_cam, path=20, early layer"][1] >= 0.9
    # what stands out is the disc, which says nothing
    for control in ("control: edges", "control: box", "control: centre", "control: random"):
        assert found[control][0] < 0.1
        assert found[control][1] <= 0.1


def test_local_methods_miss_a_distant_cause_that_others_find():
    found = known_causes.measured(known_causes.posed("distant", 8, 0), ["layer_cam", "hires_cam", "occlusion"])
    for local in ("layer_cam", "hires_cam"):
        assert found[local][0] <= 0.1
        assert found[local][1] == 0
    assert found["occlusion"][1] >= 0.75
    assert found["hires_cam, path=20, early layer"][1] == 1
