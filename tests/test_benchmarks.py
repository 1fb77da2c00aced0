"""The measuring itself: agreement, ratios, counts and tables, on fakes."""

import copy
import json
import math
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import agreement  # noqa: E402
import bench  # noqa: E402
import measuring  # noqa: E402
import reasons  # noqa: E402
import report  # noqa: E402
import subjects  # noqa: E402
import tasks  # noqa: E402

# Agreement -----------------------------------------------------------------------------------------------------------


def test_maps_of_another_scale_and_size_agree():
    ours = torch.tensor([[[0.0, 2.0], [-1.0, 4.0]]])
    theirs = nn.functional.interpolate(ours.relu()[:, None] / 4, (6, 6), mode="bilinear")[:, 0]
    found = agreement.compared(ours, 10 * theirs, "positive")
    assert found.same
    assert found.largest < 1e-6
    assert found.rank == pytest.approx(1)


def test_the_largest_difference_is_of_scaled_maps():
    ours, theirs = torch.tensor([[[0.0, 1.0, 2.0]]]), torch.tensor([[[0.0, 1.0, 4.0]]])
    found = agreement.compared(ours, theirs, "positive")
    assert found.largest == pytest.approx(0.25)
    assert not found.same
    assert found.rank == pytest.approx(1)


def test_only_a_positive_part_hides_what_is_below_zero():
    ours, theirs = torch.tensor([[[-3.0, 1.0, 2.0]]]), torch.tensor([[[0.0, 1.0, 2.0]]])
    assert agreement.compared(ours, theirs, "positive").largest == 0
    assert agreement.compared(ours, theirs, "minmax").largest == pytest.approx(0.3)
    assert agreement.compared(ours, theirs, "signed").largest == pytest.approx(1)


def test_a_flat_map_has_no_ranks():
    assert math.isnan(agreement.compared(torch.zeros(1, 2, 2), torch.rand(1, 2, 2), "positive").rank)


def test_ranks_of_ties_are_their_mean():
    assert agreement.ranks(torch.tensor([3.0, 1.0, 3.0, 2.0])).tolist() == [2.5, 0, 2.5, 1]
    assert agreement.ranks(torch.tensor([1.0, 1.0 + 1e-9, 2.0])).tolist() == [0.5, 0.5, 2]


def test_correlation_is_that_of_the_ranks():
    values = torch.tensor([1.0, 2.0, 5.0, 3.0])
    assert agreement.correlation(values, values.exp()) == pytest.approx(1)
    assert agreement.correlation(values, -values) == pytest.approx(-1)
    # by hand: differences of ranks 0, 1, -1, 0 of four, 1 - 6 * 2 / (4 * 15)
    assert agreement.correlation(values, torch.tensor([1.0, 3.0, 4.0, 2.0])) == pytest.approx(0.8)


def test_parts_are_matched_whatever_their_order(generator):
    parts = torch.rand(3, 4, 4, generator=generator)
    torch.testing.assert_close(agreement.matched(parts, 2 * parts[[2, 0, 1]]), parts[[2, 0, 1]])


# Rounds and counts ---------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that works say they take, added up in place of the clock's."""
    now = [0.0]
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(measuring, "clock", lambda: now[0])
    return now


def taking(clock: list[float], *seconds: float):
    """A work that takes these times, one after the other, and then the last."""
    left = list(seconds)

    def work() -> None:
        clock[0] += left.pop(0) if len(left) > 1 else left[0]

    return work


def test_times_are_ratios_to_the_plain_forward_of_the_round(clock):
    works = {"mine": taking(clock, 2.0, 4.0, 6.0), "theirs": taking(clock, 8.0)}
    found = measuring.timed(works, taking(clock, 0.5), rounds=3, patience=1e9, cap=1e9)
    assert found.ratios == {"mine": [4, 8, 12], "theirs": [16, 16, 16]}
    assert found.times("theirs", "mine") == [4, 2, pytest.approx(4 / 3)]


@pytest.mark.parametrize(("seconds", "rounds"), [(0.001, 7), (5.0, 3), (70.0, 1), (25.0, 3)])
def test_works_that_take_long_get_fewer_rounds(clock, seconds, rounds):
    found = measuring.timed({"mine": taking(clock, seconds)}, taking(clock, 0.1), rounds=7, patience=10, cap=60)
    assert len(found.ratios["mine"]) == rounds


def test_passes_are_of_the_network_and_not_of_its_copies():
    network = nn.Linear(3, 2)
    twin = copy.deepcopy(network)
    with measuring.passes(network) as counts:
        network(torch.zeros(4, 3))
        network(torch.zeros(2, 3))
        twin(torch.zeros(5, 3))
    network(torch.zeros(1, 3))
    assert (counts.calls, counts.rows) == (2, 6)


def test_the_backward_of_a_grouped_convolution_costs_two_forwards():
    layer = nn.Conv2d(4, 4, 3, groups=4, bias=False)
    inputs = torch.zeros(1, 4, 6, 6, requires_grad=True)
    forward, _ = measuring.flops(lambda: layer(inputs.detach()))
    both, _ = measuring.flops(lambda: layer(inputs).sum().backward())
    assert forward == 2 * 4 * 16 * 9  # two for each of 9 products, at 16 places of 4 channels
    assert both == 3 * (2 * 4 * 16 * 9)


# Tables --------------------------------------------------------------------------------------------------------------

KNOWN = {
    "setup": {"torch": "2", "threads": 2, "peers": "some"},
    "aims": [{"aim": "a", "what": "less time", "wanted": ">= 300", "found": "310x", "met": True}],
    "grid": [
        {"network": "resnet18", "task": "fem", "said": "", "library": "whycam", "rows": 1, "flops": 1.0,
         "parts": 12, "time": [1.0, 1.2, 1.1]},
        {"network": "resnet18", "task": "fem", "said": "", "library": "torchcam", "rows": 3, "flops": 3.0,
         "time": [3.0], "times whycam": [2.0, 3.0, 4.0], "largest": 0.5, "rank": 0.75, "verdict": "reproduced",
         "reason": r"It is \wrong.", "where": "fem.py:1", "twin": 2e-7},
        {"network": "vit_tiny", "task": "fem", "said": "less", "library": "whycam", "error": "a | b"},
    ],
}  # fmt: skip


def test_the_page_shows_what_was_measured():
    page = report.page(KNOWN)
    assert "| less time | at least 300 | 310x | yes |" in page
    assert "| `fem` | whycam | 1.10 (1.00-1.20) | - |" in page
    assert "|  | torchcam | 3.00, 3.00x |  |" in page
    assert "| `fem` | whycam | 1 + 12; 1.00 | - |" in page
    assert "| `fem` | torchcam | 0.5, 0.75 [1] |  |" in page
    assert "|  | whycam |  | refuses [2] |" in page
    assert r"1. `fem`, torchcam. It is \wrong. (`fem.py:1`) Reproduced to 2e-07 on 1 of 1 networks." in page
    assert "2. `fem` on ViT-Tiny, whycam says: a | b" in page
    assert "- `fem`: less" in page


def test_the_generated_part_can_be_renewed_again_and_again():
    text = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    once = report.written(text, KNOWN)
    assert once.startswith("before\n")
    assert once.endswith("after\n")
    assert "old" not in once
    assert report.written(once, KNOWN) == once
    with pytest.raises(ValueError, match="no place"):
        report.written("nothing", KNOWN)


def test_what_is_measured_anew_takes_its_place():
    rows = [{"network": "a", "task": "t", "library": "x", "time": [1]}, {"network": "b", "task": "t", "library": "x"}]
    made = {"network": "a", "task": "t", "library": "x", "time": [2]}
    assert bench.renewed(rows, made) == [made, rows[1]]
    assert bench.renewed(rows, made | {"library": "y"}) == [*rows, made | {"library": "y"}]


def test_docs_show_the_results():
    page = bench.PAGE.read_text()
    known = json.loads(bench.RESULTS.read_text())
    assert report.written(page, known) == page


@pytest.mark.parametrize(("value", "said"), [(0.123, "0.12"), (9.994, "9.99"), (12.34, "12.3"), (1234.5, "1,234")])
def test_numbers_are_short(value, said):
    assert measuring.number(value) == said


# Tasks and reasons ---------------------------------------------------------------------------------------------------


@pytest.fixture
def subject() -> subjects.Subject:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)).eval()
    return subjects.Subject("resnet18", "a", network, torch.rand(1, 3, 224, 224), 1, "1", "0", "0")


def test_every_reason_belongs_to_a_task(subject):
    asked = {(task.name, library) for task in tasks._tasks(subject) for library in task.peers}
    assert set(reasons.REASONS) <= asked


def test_smaller_work_says_so(subject):
    smaller = {task.name: task for task in tasks.tasks(subject)}["ss_cam"]
    assert smaller.said == "4 channels of 0, 2 of 35 draws, input of 128 x 128"
    assert smaller.inputs.shape[2:] == (128, 128)


def test_a_twin_may_be_turned_round(subject):
    task = next(task for task in tasks.tasks(subject) if task.name == "grad_cam")
    map_ = torch.tensor([[[1.0, -2.0], [0.0, 0.5]]])
    for turned, largest in ((True, 0.0), (False, 1.0)):
        why = reasons.Reason("", "", lambda task, network: -map_, turned=turned)
        found = why.check(task, subject.network, map_, "positive")
        assert found is not None
        assert found.largest == pytest.approx(largest)


def test_calmed_networks_keep_their_kind():
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn1, self.bn2 = nn.BatchNorm2d(2), nn.BatchNorm2d(2)

    made = subjects.calm(nn.Sequential(Block()))
    assert made[0].bn1.weight.tolist() == [1, 1]
    assert made[0].bn2.weight.tolist() == [0.25, 0.25]
