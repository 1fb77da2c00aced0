"""`whycam metrics`."""

import math
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from whycam.cli import arguments as given
from whycam.cli.output import Output, fields, table

if TYPE_CHECKING:
    from whycam.kit.metric import Metric
else:
    Metric = Any  # brings torch


def metrics(json: given.Json = False, quiet: given.Quiet = False) -> None:
    """List the metrics: what each asks of a map, which way is better, in which range, and its options.

    Faithfulness: does the answer hang on what the map shows. Localization: does it show where the target is; asks for
    --boxes or --masks. Robustness: does it stay when nothing changes. Complexity: is it simple. Randomization: does it
    hang on the network and the class.

    \b
    Examples:
      whycam metrics
      whycam evaluate photos/ -M insertion,deletion,average_drop
      whycam compare cat.png -M insertion
    """
    out = Output(json=json, quiet=quiet)
    with out.sentences():
        from whycam.kit.metric import list_metrics

        found = list_metrics()
        out.document({"metrics": [_described(each) for each in found]})
        wide = table("Name", "Title", "Family", "Better", "Range", "Options", "Paper")
        narrow: dict[str, RenderableType] = {}
        for each in found:
            options = ", ".join(map(str, each.options.values()))
            between = f"{_end(each.low)} to {_end(each.high)}"
            wide.add_row(
                Text(each.name, "bold"), each.title, each.family, each.better, between, options or "-", each.paper
            )
            narrow[each.name] = Text.assemble(
                each.title,
                f", {each.paper}\n{each.family}, {each.better} is better, {between}",
                f"\noptions {options}" if options else "",
                "\n",
            )
        out.show(wide if out.fits(wide) else fields(narrow, style="bold"))


def _end(value: float) -> str:
    return f"{value:g}" if math.isfinite(value) else "any"


def _described(metric: Metric) -> dict[str, Any]:
    said = ("name", "title", "paper", "summary", "family", "better", "low", "high", "domain", "mosaics")
    options = {option.name: option.default for option in metric.options.values()}
    return {each: getattr(metric, each) for each in said} | {"takes": sorted(metric.takes), "options": options}
