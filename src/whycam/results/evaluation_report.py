"""An evaluation as a part of a report: its table, what is recommended, and its curves."""

import io

from whycam.errors import MissingExtraError
from whycam.pictures import inline
from whycam.reports.values import Drawing, Part
from whycam.results.evaluation_figure import figure
from whycam.results.evaluation_values import EvaluationValues
from whycam.results.recommendation import Recommendation
from whycam.results.reporting import in_words, with_options
from whycam.results.tables import as_html


def part_of_evaluation(found: EvaluationValues, recommendation: Recommendation, title: str) -> Part:
    """What a report shows of an evaluation."""
    asked = in_words(found.asked, [place.layer for place in found.places if not place.is_control]) | {
        "Metrics": [
            with_options(each.title, found.asked.get("metrics", {}).get(name, {}))
            for name, each in found.metrics.items()
        ],
        "Images": [f"{found.images:,}"],
    }
    drawings, notes = [], [*found.notes]
    if any(found.at.values()):
        try:
            drawings = [_curves(found)]
        except MissingExtraError as error:
            notes.append(f"The curves are left out: {error}")
    return Part(
        title,
        asked,
        command=found.asked.get("command", ""),
        tables=[as_html(found)],
        advice=str(recommendation).replace("\n- ", "\n").split("\n"),
        drawings=drawings,
        failures=[*found.failures.items()],
        notes=notes,
    )


def _curves(found: EvaluationValues) -> Drawing:
    from PIL import Image

    data = io.BytesIO()
    figure(found, None, None).savefig(data, format="png", dpi=110)
    titles = ", ".join(each.title for name, each in found.metrics.items() if found.at.get(name))
    words = f"The mean curve of each method by {titles}; the values are in the table."
    return Drawing(inline.cells(Image.open(data).convert("RGB").quantize(128)), words)
