"""whycam beside plain inference and the other libraries: the same work, in one process, in turn.

    python benchmarks/bench.py                                # all of it; writes docs/benchmarks.md and a JSON
    python benchmarks/bench.py --only aims                    # what was aimed at
    python benchmarks/bench.py --only grid --networks builtin --tasks score_cam
    python benchmarks/bench.py --rounds 1 --dry               # a quick look, written nowhere

What is measured replaces what was known of it, so that parts can be measured one by one. Times are ratios to a plain
forward of the same input in the same round. The last line says whether every difference has its reason.
"""

import argparse
import json
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import measuring
import torch
from agreement import WHOLE, compared, matched
from aims import AIMS
from measuring import RunStats, flops, forward, passes, timed
from peers import versions
from reasons import reason, seed
from report import page, written
from subjects import BUILDERS, Subject, subject
from tasks import Task, tasks
from torch import Tensor, nn

import whycam
from whycam.errors import WhycamError

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
RESULTS = ROOT / "benchmarks" / "results.json"
LIBRARIES = ("pytorch-grad-cam", "torchcam", "captum")
Row = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("aims", "grid"), help="one of the two parts")
    parser.add_argument("--aims", nargs="+", choices=list(AIMS), default=list(AIMS))
    parser.add_argument("--networks", nargs="+", choices=list(BUILDERS), default=list(BUILDERS))
    parser.add_argument("--tasks", nargs="+", help="those whose names begin so")
    parser.add_argument("--rounds", type=int, default=7, help="at most, where works are quick")
    parser.add_argument("--patience", type=float, default=5.0, help="seconds after which three rounds are enough")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--processor", action="store_true", help="processor time on one thread, where others run too")
    parser.add_argument("--size", type=int, default=224, help="side of the aims' photo, to try them out")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--dry", action="store_true", help="write nothing")
    args = parser.parse_args(arguments)
    if args.processor:
        measuring.clock, args.threads = time.process_time, 1
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")

    known = json.loads(args.out.read_text()) if args.out.exists() and not args.dry else {"aims": [], "grid": []}
    started = time.perf_counter()
    for part, made in parts(args):
        print(told(made), f"[{time.perf_counter() - started:.0f} s]", flush=True)
        known[part] = renewed(known[part], made)
        if not args.dry:
            if not args.processor:
                known["setup"] = {"torch": torch.__version__, "threads": args.threads, "peers": versions()}
            args.out.write_text(json.dumps(known, indent=1) + "\n")
    if args.dry:
        print(page(known))
    else:
        PAGE.write_text(written(PAGE.read_text(), known))
    unexplained = [row for row in known["grid"] if row.get("verdict") in ("unexplained", "partly explained")]
    for row in unexplained:
        print(f"no whole reason for {row['task']} on {row['network']} by {row['library']}: {row}")
    print(f"{len(known['grid'])} cells; {len(unexplained)} differences without a whole reason")
    return int(bool(unexplained))


def parts(args: argparse.Namespace) -> Iterator[tuple[str, Row]]:
    """Every row as it is measured, with the part that it belongs to."""
    if args.only != "grid":
        for name in args.aims:
            for row in AIMS[name](args.rounds, args.size):
                yield "aims", row
    if args.only != "aims":
        for name in args.networks:
            yield from (("grid", row) for row in grid(subject(name), args))


def renewed(rows: list[Row], made: Row) -> list[Row]:
    """The rows with one put in the place of what was known of the same."""
    keys = ("aim", "what", "network", "task", "library")

    def key(row: Row) -> tuple[Any, ...]:
        return tuple(row.get(each) for each in keys)

    if key(made) in map(key, rows):
        return [made if key(row) == key(made) else row for row in rows]
    return [*rows, made]


def told(row: Row) -> str:
    """A row in a line."""
    return ", ".join(f"{key} {value}" for key, value in row.items() if value not in ("", None))


# The grid ------------------------------------------------------------------------------------------------------------


def grid(asked: Subject, args: argparse.Namespace) -> Iterator[Row]:
    """All tasks on one network."""
    models: dict[str, nn.Module] = {"whycam": asked.network} | {name: asked.of_its_own() for name in LIBRARIES}
    plain = asked.of_its_own()
    for task in tasks(asked):
        if not args.tasks or any(task.name.startswith(each) for each in args.tasks):
            yield from cells(asked, task, models, plain, args.rounds, args.patience)


def cells(
    asked: Subject, task: Task, models: dict[str, nn.Module], plain: nn.Module, rounds: int, patience: float
) -> Iterator[Row]:
    """One task by every library that has it."""
    unit = forward(plain, task.inputs)
    forwards, _ = flops(unit)
    answers: list[whycam.Explanation] = []
    works: dict[str, Callable[[], Tensor]] = {"whycam": _ours(task, models["whycam"], answers)}
    works |= {each: task.answer(each, models[each], asked.reshape) for each in task.peers}
    rows: dict[str, Row] = {}
    maps: dict[str, Tensor] = {}
    _look(task, models["whycam"])
    for library, work in works.items():
        rows[library] = {"network": asked.name, "task": task.name, "said": task.said, "library": library}
        try:
            counts, maps[library] = _counted(work, models[library], forwards)
        except Exception as error:  # a peer's own, or what whycam has against the question
            rows[library]["error"] = _words(error)
            continue
        rows[library] |= counts
    if "whycam" in maps:
        cost = answers[0].cost
        rows["whycam"] |= {"forwards": cost.forwards, "backwards": cost.backwards, "parts": cost.parts}
    found = timed({name: works[name] for name in maps}, unit, rounds, patience) if maps else None
    for library, row in rows.items():
        if found is not None and library in maps:
            row["time"] = [round(each, 3) for each in found.ratios[library]]
            row |= {"processor": True} if measuring.clock is time.process_time else {}
            if library != "whycam" and "whycam" in maps:
                row["times whycam"] = [round(each, 3) for each in found.times(library, "whycam")]
        if library != "whycam":
            row |= _judged(task, library, models["whycam"], maps)
        yield row


def _ours(task: Task, network: nn.Module, answers: list[whycam.Explanation]) -> Callable[[], Tensor]:
    def work() -> Tensor:
        made = task.explain(network)
        answers[:] = [made]
        return made.maps if not task.parts else made.parts  # type: ignore[attr-defined]

    return work


def _look(task: Task, network: nn.Module) -> None:
    """Have whycam look at the layer, which it does once for each network and shape."""
    try:
        task.explain(network, "grad_cam")
    except WhycamError:
        return


def _counted(work: RunStats, network: nn.Module, forwards: int) -> tuple[Row, Tensor]:
    seed()
    with passes(network) as counts:
        spent, maps = flops(work)
    return {"calls": counts.calls, "rows": counts.rows, "flops": round(spent / forwards, 3)}, maps


def _words(error: Exception) -> str:
    first = str(error).strip().partition("\n")[0]
    return first[:300] if isinstance(error, WhycamError) else f"{type(error).__name__}: {first[:200]}"


def _judged(task: Task, library: str, network: nn.Module, maps: dict[str, Tensor]) -> Row:
    """Whether a peer's maps are whycam's, or why not."""
    why = reason(task, library)
    if library not in maps or "whycam" not in maps:
        return {"verdict": "no map"}
    ours, theirs = maps["whycam"], maps[library]
    if theirs.ndim != ours.ndim:
        row = {"largest": None, "shape": list(theirs.shape), "verdict": "explained" if why else "unexplained"}
        return row | ({"reason": why.words, "where": why.where} if why else {})
    if task.parts:
        (ours,), (theirs,) = ours, theirs
        ours = matched(ours, theirs)
    found = compared(ours, theirs, task.scale)
    row: Row = {"largest": found.largest, "rank": None if math.isnan(found.rank) else round(found.rank, 4)}
    if found.same:
        return row | {"verdict": "agrees"}
    if why is None:
        return row | {"verdict": "unexplained"}
    row |= {"reason": why.words, "where": why.where}
    twin = why.check(task, network, theirs, task.scale)
    if twin is None:
        return row | {"verdict": "explained"}
    return row | {"twin": twin.largest, "verdict": "reproduced" if twin.largest <= WHOLE else "partly explained"}


if __name__ == "__main__":
    sys.exit(main())
