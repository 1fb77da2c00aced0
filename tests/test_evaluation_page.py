"""docs/evaluation.md is what the measurements and the table of metrics say."""

import sys
from pathlib import Path

import whycam

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))

import meaning_page  # noqa: E402


def test_the_page_is_what_was_measured():
    assert (ROOT / "docs" / "evaluation.md").read_text() == meaning_page.page(), "python benchmarks/meaning.py page"


def test_it_names_every_metric_and_control():
    text = meaning_page.page()
    for metric in whycam.list_metrics():
        assert f"| `{metric.name}` | {metric.better} |" in text
    for control in ("control: random", "control: centre", "control: edges"):
        assert control in text
    assert "<!--" not in text
