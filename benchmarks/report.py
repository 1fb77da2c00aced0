"""The part of docs/benchmarks.md that is made from what `bench.py` measured."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from measuring import number, shortest

BEGIN, END = "<!-- bench: made by benchmarks/bench.py -->", "<!-- end of bench -->"
TITLES = {
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "mobilenet_v2": "MobileNetV2",
    "builtin": "built-in",
    "vit_tiny": "ViT-Tiny",
}
Row = dict[str, Any]


def written(text: str, known: dict[str, Any]) -> str:
    """The page with its generated part renewed."""
    if BEGIN not in text or END not in text:
        raise ValueError(f"the page has no place for what was measured, between {BEGIN} and {END}")
    made = page(known)
    return re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{made}\n{END}", text, flags=re.DOTALL)


def page(known: dict[str, Any]) -> str:
    """All that was measured, as Markdown."""
    parts = [_setup(known.get("setup", {}))]
    if known["aims"]:
        parts += ["### Aims", aims(known["aims"])]
    if known["grid"]:
        numbers = numbered(known["grid"])
        parts += [
            "### Time",
            "Of one picture, in plain forwards of it made in the same round: the median, and in brackets the least and "
            "the most of the rounds; for the peers then how many times as long as whycam. A median alone is one round. "
            "With a star: processor time on one thread, while other programs ran.",
            by_network(known["grid"], _time),
            "### Passes",
            "Rows that went through the whole network, and FLOPs in plain forwards of one row. whycam's runs of the "
            "part above the layer stand after a plus.",
            by_network(known["grid"], _passes),
            "### Agreement",
            "The largest difference from whycam's map, both over [0, 1] (signed ones over [-1, 1]) at the peer's size, "
            "and the rank correlation; up to 1e-4 they agree. Numbers lead to the reasons below.",
            by_network(
                [row for row in known["grid"] if row["library"] != "whycam" or "error" in row],
                lambda row: _apart(row, numbers),
            ),
            "Why they differ. *Reproduced* means that whycam's own quantities, with the peer's step put in, make the "
            "peer's map, to the largest difference given: the reason is the whole reason.",
            "\n".join(_reasons(known["grid"], numbers)),
        ]
        if smaller := "\n".join(_smaller(known["grid"])):
            parts += [
                "Where the work is not the whole one at `layer4`, `features.18`, the last features or the last block's "
                "first norm, it is made smaller for all libraries alike, because a peer would take many minutes:",
                smaller,
            ]
    return "\n\n".join(filter(None, parts))


def _setup(setup: Row) -> str:
    if not setup:
        return ""
    return f"torch {setup['torch']} on {setup['threads']} threads; {setup['peers']}."


def aims(rows: Sequence[Row]) -> str:
    """What was aimed at, and what was found."""
    made = [[row["what"], _limit(row["wanted"]), row["found"], _met(row)] for row in rows]
    return table(["what", "aim", "found", "met"], made)


def _limit(wanted: str) -> str:
    return wanted.replace(">=", "at least").replace("<=", "at most")


def _met(row: Row) -> str:
    return "" if "met" not in row else "yes" if row["met"] else "**no**"


def by_network(rows: Sequence[Row], cell: Callable[[Row], str]) -> str:
    """A line for each task and library, a column for each network."""
    networks = [name for name in TITLES if any(row["network"] == name for row in rows)]
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        lines.setdefault((row["task"], row["library"]), {})[row["network"]] = cell(row)
    made, last = [], ""
    order = list(dict.fromkeys(task for task, _ in lines))
    for (task, library), cells in sorted(lines.items(), key=lambda line: order.index(line[0][0])):
        made.append([f"`{task}`" if task != last else "", library, *(cells.get(name, "") for name in networks)])
        last = task
    return table(["method", "library", *(TITLES[name] for name in networks)], made)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _time(row: Row) -> str:
    if "time" not in row:
        return "-"
    times = row.get("times whycam")
    star = "*" * ("processor" in row)
    return shortest(row["time"]) + star + (f", {number(sorted(times)[len(times) // 2])}x" if times else "")


def _passes(row: Row) -> str:
    if "rows" not in row:
        return "-"
    parts = f" + {row['parts']:,}" if row.get("parts") else ""
    return f"{row['rows']:,}{parts}; {number(row['flops'])}"


def _apart(row: Row, numbers: dict[tuple[str, str, str], int]) -> str:
    verdict = row.get("verdict", "no map")
    note = f" [{numbers[_note(row)]}]" if _note(row) in numbers else ""
    if verdict == "agrees":
        return f"{row['largest']:.0e}"
    if verdict == "no map":
        return ("-" if "error" not in row else "refuses" if row["library"] == "whycam" else "fails") + note
    if row["largest"] is None:
        return f"no map{note}"
    rank = "" if row["rank"] is None else f", {row['rank']:.2f}"
    doubt = {"unexplained": " **unexplained**", "partly explained": " **in part**"}.get(verdict, "")
    return f"{row['largest']:.2g}{rank}{doubt}{note}"


def _note(row: Row) -> tuple[str, str, str]:
    return row["task"], row["library"], row.get("error", row.get("reason", ""))


def numbered(rows: Sequence[Row]) -> dict[tuple[str, str, str], int]:
    """A number for each reason, and for each error, of a task and library."""
    notes = dict.fromkeys(_note(row) for row in rows if _note(row)[2])
    return {note: place for place, note in enumerate(notes, 1)}


def _reasons(rows: Sequence[Row], numbers: dict[tuple[str, str, str], int]) -> Iterator[str]:
    for note, place in numbers.items():
        task, library, words = note
        mine = [row for row in rows if _note(row) == note]
        if "error" in mine[0]:
            where = ", ".join(TITLES[row["network"]] for row in mine)
            said = "whycam says" if library == "whycam" else f"{library} fails"
            yield f"{place}. `{task}` on {where}, {said}: {words}"
            continue
        twins = [row["twin"] for row in mine if row["verdict"] == "reproduced"]
        how = f"to {max(twins):.0e}" if twins and max(twins) else "exactly"
        checked = f" Reproduced {how} on {len(twins)} of {len(mine)} networks." if twins else ""
        yield f"{place}. `{task}`, {library}. {words} (`{mine[0]['where']}`){checked}"


def _smaller(rows: Sequence[Row]) -> Iterator[str]:
    said: dict[str, dict[str, str]] = {}
    for row in rows:
        if row["library"] == "whycam" and row["said"]:
            said.setdefault(row["task"], {})[TITLES[row["network"]]] = row["said"]
    for task, by in said.items():
        if len(set(by.values())) == 1:
            yield f"- `{task}`: {next(iter(by.values()))}"
        else:
            yield f"- `{task}`: " + "; ".join(f"{title}: {words}" for title, words in by.items())
