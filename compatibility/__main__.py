"""Runs the zoo through whycam: `python -m compatibility --help`."""

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Check what was asked for, a line for each row; returns 1 if any row has a fault."""
    parser = argparse.ArgumentParser(prog="python -m compatibility", description=__doc__)
    parser.add_argument("--library", choices=["timm", "torchvision", "video", "transformers"], help="one of them alone")
    parser.add_argument("--match", default="", help="only models whose family or name contains this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there; rows found there are kept")
    parser.add_argument("--write", action="store_true", help="write docs/compatibility.md (needs the whole zoo)")
    parser.add_argument("--no-places", action="store_true", help="leave out the slow check of places")
    asked = parser.parse_args(arguments)
    _prepare()

    from compatibility.check import Row, check
    from compatibility.zoo import zoo

    rows: list[Row] = []
    try:
        for entry in zoo(asked.library, asked.match):
            for row in check(entry, places=not asked.no_places):
                rows.append(row)
                print(row, flush=True)
                if asked.json:
                    asked.json.write_text(json.dumps([each.to_dict() for each in rows], indent=1))
    except KeyboardInterrupt:
        print("stopped; what was done is kept", file=sys.stderr)
    print(f"{sum(row.ok for row in rows)} of {len(rows)} without a fault")
    return int(not all(row.ok for row in rows))


def _prepare() -> None:
    """What the suite needs around it: the tests' helpers, torchvision beside a CPU-only torch, and quiet libraries."""
    sys.path.insert(0, str(ROOT / "tests"))
    import torchvision_shim

    torchvision_shim.register()
    warnings.simplefilter("ignore")
    import transformers

    transformers.logging.set_verbosity_error()


if __name__ == "__main__":
    raise SystemExit(main())
