"""What an evaluation found, shown as a table, a recommendation, curves and files."""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whycam.kit.files import write_whole
from whycam.kit.metric import Metric
from whycam.results.evaluation_values import EvaluationValues
from whycam.results.recommendation import Recommendation, recommend

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any  # an extra that only figures need


class Evaluation(EvaluationValues):
    """Metrics of methods at layers over images, beside controls.

    Printed, it is a table of methods and layers by metrics, and what is recommended.

    Attributes:
        rows: one dict for each method, layer, target, metric and sample, with the keys `method`, `layer`, `target`,
            `metric`, `sample`, `value` and `status` (of the map). Controls are methods named `control: random`,
            `control: centre`, ... at the layer `-`; parts of a metric are metrics named `adcc.coherency`; a mosaic is a
            sample named by its photos, `one+two+three+four`. A value that is not defined is NaN. The target is `top`
            where it is each sample's top class, and `own` where each sample had one of its own.
        curves: what lies behind a value, by (method, layer, target, metric, sample); `at` says where its points lie.
        metrics: the metrics by name. `seconds`: for each (method, layer), per image.
        failures: what could not be explained or measured, with the reason.
        notes: what a reader should know.
        asked: what was asked: the model, its weights' fingerprint, methods, layers, metrics, targets, options, seed.

    Examples:
        >>> found = whycam.evaluate(net, batch, ["grad_cam"], metrics=["deletion"], controls=False, sanity=0)
        >>> len(found.rows), found.rows[0]["metric"], found.summary()[0]["count"]
        (2, 'deletion', 2)
        >>> found.recommendation.text[:59]
        'Which method is best cannot be told from 2 images: it takes'
    """

    @cached_property
    def recommendation(self) -> Recommendation:
        """The method and layer to use, how sure that is, and what not to believe."""
        return recommend(self)

    def table(self, width: int | None = None) -> str:
        """Methods and layers by metrics, controls below a line.

        `*` marks the best of a column, `~` what cannot be told apart from it, `!` what is not surely better than every
        control, or stays as it is when the network or the class is another.

        Rows are in the order of the metric that decides: insertion, or else the first of faithfulness.

        Args:
            width: in letters; metrics that do not fit stand below. Without: all side by side.
        """
        from whycam.results.tables import as_text

        return as_text(self, width)

    def figure(self, metrics: Sequence[str | Metric] | None = None, *, target: str | None = None) -> Figure:
        """For each metric that has curves the mean curve of each method, in its 95% band (needs `whycam[plot]`).

        A band is of what is a method's own: what all curves of an image share is taken out of each before it is drawn.

        Args:
            metrics: those to draw; all that have curves unless said. `target`: the first unless said.
        """
        from whycam.results.evaluation_figure import figure

        return figure(self, metrics, target)

    def to_csv(self, path: str | Path, *, samples: bool = False) -> Path:
        """Write the summary as CSV, or with `samples` a line for each sample; what is not defined is left empty."""
        from whycam.results.evaluation_files import to_csv

        return to_csv(self, Path(path), samples=samples)

    def to_parquet(self, path: str | Path, *, samples: bool = False) -> Path:
        """Write the same as a Parquet file (needs `whycam[evaluate]`); what is not defined is null."""
        from whycam.results.evaluation_files import to_parquet

        return to_parquet(self, Path(path), samples=samples)

    def to_markdown(self, path: str | Path | None = None) -> str:
        """The table and the recommendation in Markdown, written to a file where one is named."""
        from whycam.results.tables import as_markdown, escaped

        text = f"{as_markdown(self)}\n\n{escaped(str(self.recommendation))}\n"
        if path is not None:
            write_whole(Path(path), text.encode())
        return text

    def to_json(self, path: str | Path) -> Path:
        """Write all that is held here, which `load` reads, with the summary and the recommendation."""
        from whycam.results.evaluation_files import document

        text = json.dumps(document(self, self.recommendation, samples=True), indent=1, allow_nan=False)
        return write_whole(Path(path), f"{text}\n".encode())

    @classmethod
    def load(cls, path: str | Path) -> "Evaluation":
        """Read what `to_json` wrote.

        Raises:
            WhycamError: a file that is none, or metrics of somebody's own that are not registered here.
        """
        from whycam.results.evaluation_files import load

        return cls(**load(Path(path)))

    def report(self, path: str | Path) -> Path:
        """Write one HTML file to send to somebody: what was asked, the table, what is recommended, and the curves.

        Nothing is fetched when it is opened.

        Examples:
            >>> found = whycam.evaluate(net, batch, ["grad_cam"], metrics=["deletion"], controls=False, sanity=0)
            >>> "Which method is best cannot be told" in found.report("evaluation.html").read_text()
            True
        """
        from whycam.reports.page import write
        from whycam.results.evaluation_report import part_of_evaluation

        return write([part_of_evaluation(self, self.recommendation, "Evaluation")], Path(path))

    def __str__(self) -> str:
        return f"{self.table()}\n\n{self.recommendation}"

    def _repr_html_(self) -> str:
        from whycam.results.notebook import of_evaluation
        from whycam.results.tables import as_html

        return of_evaluation(as_html(self), str(self.recommendation).split("\n"))
