"""Run the zoo through whycam, one model after the other."""

import argparse
import gc
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "compatibility.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Check what was asked for, a line for each row; returns 1 if any row has a fault."""
    asked = _arguments(arguments)
    prepare()

    from compatibility.attention import apart
    from compatibility.check import Row, check
    from compatibility.page import page
    from compatibility.zoo import zoo

    rows: list[Row] = []
    if asked.json and asked.json.exists():
        rows = [Row.from_dict(values) for values in json.loads(asked.json.read_text())]
    known = {(row.library, row.name) for row in rows}
    complete = False
    try:
        entries = zoo(asked.library, asked.match)
        for entry in entries:
            wanted = not asked.models or f"{entry.library}:{entry.name}" in asked.models
            if not wanted or (entry.library, entry.name) in known:
                continue
            new = []
            for row in check(entry, patience=asked.patience):
                new.append(row)
                print(row, flush=True)
            gc.collect()
            rows += new  # a model counts when all of its sizes are done
            if asked.json:
                asked.json.write_text(json.dumps([each.to_dict() for each in rows], indent=1) + "\n")
        complete = True
    except KeyboardInterrupt:
        kept = f"; {asked.json} holds what was done, and the same command goes on from there" if asked.json else ""
        print(f"\nstopped{kept}", file=sys.stderr)
    print(f"{sum(row.ok for row in rows)} of {len(rows)} without a fault")
    if asked.write and complete:
        order = {(entry.library, entry.name): number for number, entry in enumerate(entries)}
        rows = sorted(
            (row for row in rows if (row.library, row.name) in order), key=lambda row: order[row.library, row.name]
        )
        written = PAGE.read_text() if PAGE.exists() else ""
        PAGE.write_text(page(rows) + apart(written)[1])
        print(f"wrote {PAGE.relative_to(ROOT)}")
        if asked.json:
            asked.json.unlink()  # the page has it all; the next run starts afresh
    return int(not complete or not all(row.ok for row in rows))


def prepare() -> None:
    """What the suite needs around it: the tests' helpers, torchvision beside a CPU-only torch, and quiet libraries."""
    sys.path.insert(0, str(ROOT / "tests" / "helpers"))
    import torchvision_shim

    torchvision_shim.register()
    warnings.simplefilter("ignore")
    import transformers

    transformers.logging.set_verbosity_error()


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m compatibility", description=__doc__)
    parser.add_argument("models", nargs="*", metavar="LIBRARY:NAME", help="these alone")
    parser.add_argument("--library", choices=["timm", "torchvision", "video", "transformers"], help="one of them alone")
    parser.add_argument("--match", default="", metavar="TEXT", help="only models whose family or name contains this")
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="keep the rows there; models that it holds are not run again (removed once the page is written)",
    )
    parser.add_argument("--write", action="store_true", help="write docs/compatibility.md, of the whole zoo")
    parser.add_argument(
        "--patience",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="for the slow, independent check of places of one model and size; 0 leaves it out",
    )
    asked = parser.parse_args(arguments)
    if asked.write and (asked.library or asked.match or asked.models or not asked.patience):
        parser.error("--write is for a full run; leave out what narrows it")
    return asked


if __name__ == "__main__":
    raise SystemExit(main())
