"""Metrics scored by a fast copy: the same in full precision, and in itself consistent in half."""

import nets
import pytest

import whycam

INPUTS = nets.images(3).float()
METRICS = ["insertion", "deletion", "average_drop"]


def evaluated(precision):
    model = nets.plain().float()
    return whycam.evaluate(model, INPUTS, ["grad_cam", "hires_cam"], metrics=METRICS, sanity=0, precision=precision)


def test_full_precision_gives_the_same_and_is_said():
    plain, fast = evaluated(None), evaluated("float32")
    assert [row["value"] for row in fast.rows] == pytest.approx([row["value"] for row in plain.rows], abs=1e-4)
    assert not plain.notes
    assert "scored by a private copy of the network" in fast.notes[0]
    # the whole picture by the copy, once for all; and a sample by the network itself, once for all metrics and methods
    assert fast.asked["forwards"] - plain.asked["forwards"] < 10


def test_half_precision_reads_all_scores_from_the_same_copy():
    found = evaluated("bfloat16")
    for row in found.rows:
        assert 0 <= row["value"] <= (100 if row["metric"] == "average_drop" else 1)
    ends = {
        (metric, sample): {curve[-1 if metric == "insertion" else 0] for key, curve in found.curves.items()
                           if key[3:] == (metric, sample)}
        for metric in ("insertion", "deletion") for sample in found.samples
    }  # fmt: skip
    for sample in found.samples:  # one number for the whole picture, whoever asks
        assert len(ends["insertion", sample] | ends["deletion", sample]) == 1
