"""The rows as a page of the documentation."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version

from compatibility.check import METHODS, Row

TITLES = {
    "timm": "timm",
    "torchvision": "torchvision, images",
    "video": "torchvision, video",
    "transformers": "transformers",
}
_PACKAGES = {"timm": "timm", "torchvision": "torchvision", "transformers": "transformers"}
_ORDER = ("by construction", "verified", "undetermined")

INTRODUCTION = """# Compatibility

What `whycam.explain(model, batch)` makes of {models} models when nothing else is said: no layer, no layout, no
reshaping function. This page is made by `make compat` ({versions}).

Models are built with random weights, and whatever starts at zero (heads, gates, residual branches) is given random
values, so that every part of them matters. Each is shown two samples, square ones first and then, where the model
takes them, others. A model is **right** at a size if

- Grad-CAM, LayerCAM and Eigen-CAM give finite maps, and the gradient reaches the layer;
- the map's grid is the one that the model itself gives its last feature (timm's intermediate features, a hook on the
  last stage by torchvision's code, the strides in a configuration);
- the activations are those that an ordinary forward hook reads there, in the layout that is named;
- an independent check does not refute the place of the positions: noise is added to one band of the input after the
  other, and where each position answers to is compared with where it is said to lie;
- parameters, buffers, hooks, flags and random state are as before.

`location` is whycam's own account: *by construction* (convolutions keep the raster), *verified* (a change of one half
of the input showed in that half of the map), or *undetermined* (the change spread over all positions, so that a place
cannot be shown with these weights). `check` is the answer of the independent check; it *cannot tell* where random
weights leave too little of the place in the last feature at these small sizes. With random weights LayerCAM often says
*signed activations*, as it should at a layer without an activation function, and a map without positive evidence is
no fault. Where two values stand in a cell, the second is for the input that is not square. Passes are forwards and
backwards of the first call for all three methods, the choice of the layer included; `seconds` are theirs.
"""


def page(rows: Sequence[Row]) -> str:
    """The whole page, in Markdown."""
    libraries = [library for library in TITLES if any(row.library == library for row in rows)]
    packages = ["torch", *dict.fromkeys(_PACKAGES[each] for each in libraries if each in _PACKAGES)]
    versions = ", ".join(f"{name} {version(name).partition('+')[0]}" for name in packages)
    parts = [INTRODUCTION.format(models=len(models_of(rows)), versions=versions), _summary(rows, libraries)]
    parts += [_faults(rows), _undetermined(rows), _sizes(rows)]
    parts += [_table(library, [row for row in rows if row.library == library]) for library in libraries]
    return "\n".join(part for part in parts if part)


def models_of(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """The rows of each model, by library and name."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row.library, row.name), []).append(row)
    return found


def _summary(rows: Sequence[Row], libraries: Sequence[str]) -> str:
    lines = _head(
        "library", "models", "right, square", "right, not square", *_ORDER, "check holds", "cannot tell", "refutes"
    )
    for library in [*libraries, None]:
        mine = [row for row in rows if library in (None, row.library)]
        square = [row for row in mine if _square(row)]
        oblong = [row for row in mine if not _square(row)]
        places = Counter(row.location for row in mine)
        answers = Counter(row.oracle for row in mine)
        lines.append(
            _line(
                f"[{TITLES[library]}](#{TITLES[library].replace(',', '').replace(' ', '-')})" if library else "all",
                len(models_of(mine)),
                _of(square),
                _of(oblong),
                *(places[each] for each in _ORDER),
                *(answers[each] for each in ("holds", "cannot tell", "does not hold")),
            )
        )
    return "## Summary\n\n" + "\n".join(lines) + "\n"


def _faults(rows: Sequence[Row]) -> str:
    faulty = [row for row in rows if not row.ok]
    if not faulty:
        return ""
    lines = [f"- `{row.name}` ({row.library}, {size(row)}): {'; '.join(row.faults)}" for row in faulty]
    return "## Not right\n\n" + "\n".join(lines) + "\n"


def _undetermined(rows: Sequence[Row]) -> str:
    unsure = [row for row in rows if row.location == "undetermined"]
    if not unsure:
        return ""
    told = {
        "holds": "finds them in place",
        "cannot tell": "cannot tell either",
        "does not hold": "finds them elsewhere",
    }
    lines = [
        f"- `{name}` ({library}, {' and '.join(size(row) for row in several)}): the independent check "
        f"{' and '.join(dict.fromkeys(told.get(row.oracle, 'did not run') for row in several))}"
        for (library, name), several in models_of(unsure).items()
    ]
    return (
        "## Undetermined places\n\nThese networks, with these weights, spread a change of the input over all "
        "positions. The map is given, and its result says that the place is undetermined.\n\n" + "\n".join(lines) + "\n"
    )


def _sizes(rows: Sequence[Row]) -> str:
    remarks = {key: several[0].remark for key, several in models_of(rows).items() if several[0].remark}
    if not remarks:
        return ""
    by_remark: dict[str, list[str]] = {}
    for (_, name), remark in remarks.items():
        by_remark.setdefault(remark, []).append(f"`{name}`")
    lines = [f"- {', '.join(names)}: {remark}" for remark, names in by_remark.items()]
    return "## Sizes that models insist on\n\n" + "\n".join(lines) + "\n"


def _table(library: str, rows: Sequence[Row]) -> str:
    lines = _head(
        "model", "right", "input", "layer", "layout", "grid", "location", "check", *METHODS, "passes", "seconds"
    )
    for (_, name), several in models_of(rows).items():
        lines.append(
            _line(
                f"`{name}`",
                "yes" if all(row.ok for row in several) else "**no**",
                _each(several, size),
                _each(several, lambda row: f"`{row.layer}`" if row.layer else ""),
                _each(several, _layout),
                _each(several, lambda row: "x".join(map(str, row.grid))),
                _each(several, lambda row: row.location),
                _each(several, lambda row: row.oracle),
                *(_each(several, lambda row, method=method: row.statuses.get(method, "none")) for method in METHODS),  # type: ignore[misc]
                _each(several, lambda row: f"{row.forwards} + {row.backwards}"),
                _each(several, lambda row: f"{row.seconds:.1f}"),
            )
        )
    return f"## {TITLES[library]}\n\n" + "\n".join(lines) + "\n"


def _layout(row: Row) -> str:
    """The layout without its grid, which has a column of its own."""
    return row.layout.replace(" on a grid of " + "x".join(map(str, row.grid)), "")


def _each(rows: Sequence[Row], value: Callable[[Row], str]) -> str:
    return ", ".join(dict.fromkeys(value(row) or "none" for row in rows))


def size(row: Row) -> str:
    """The input's size, as `96x160`."""
    return "x".join(map(str, row.size))


def _square(row: Row) -> bool:
    return row.size[-1] == row.size[-2]


def _of(rows: Sequence[Row]) -> str:
    return f"{sum(row.ok for row in rows)}/{len(rows)}"


def _head(*cells: str) -> list[str]:
    return [_line(*cells), _line(*["---"] * len(cells))]


def _line(*cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
