"""The curves behind an evaluation's metrics, a panel for each metric."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from whycam.errors import WhycamError
from whycam.kit.metric import Metric, find_metric
from whycam.kit.statistics import band
from whycam.pictures.plots import Curve, Plot, plots
from whycam.results.evaluation_values import EvaluationValues

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any

#: Images differ far more than methods do, and all methods see the same ones.
_NOTE = "Bands: the mean with 95% confidence, without what all curves of an image share."


def figure(found: EvaluationValues, wanted: Sequence[str | Metric] | None, target: str | None) -> Figure:
    """What `Evaluation.figure` returns."""
    if target is not None and target not in found.targets:
        raise WhycamError(f"no target {target!r}; there are {', '.join(found.targets)}.")
    able = [name for name in found.metrics if found.at.get(name)]
    asked = able if wanted is None else [find_metric(each).name for each in wanted]
    if none := [name for name in asked if name not in able]:
        raise WhycamError(f"{', '.join(none)} has no curve here; there are those of {', '.join(able) or 'none'}.")
    if not asked:
        raise WhycamError("none of these metrics has a curve; ask for insertion, deletion or road.")
    chosen = target if target is not None else found.targets[0]
    panels = [_panel(found, found.metrics[name], chosen) for name in asked]
    return plots(panels, title=f"Target {chosen}" if len(found.targets) > 1 else "", note=_NOTE)


def _panel(found: EvaluationValues, metric: Metric, target: str) -> Plot:
    accounts, seed = found.judge.bootstrap.accounts, found.judge.bootstrap.seed
    places = [*found.placed(target, metric.name), *found.placed(target, metric.name, controls=True)]
    held = {place: accounts[place, metric.name] for place in places if accounts[place, metric.name].named}
    each: dict[str, list[Tensor]] = {}
    for account in held.values():
        for name in account.named:
            each.setdefault(name, []).append(account.curves[name])
    shared = {name: torch.stack(curves).mean(0) for name, curves in each.items()}
    middle = torch.stack([*shared.values()]).mean(0)
    made = []
    for place, account in held.items():
        own = torch.stack([account.curves[name] - shared[name] for name in account.named]) + middle
        low, high = band(own, seed=seed)
        made.append(Curve(str(place), own.mean(0).numpy(), low.numpy(), high.numpy(), quiet=place.is_control))
    along = f"share of the {'layers' if metric.family == 'randomization' else 'pixels'}"
    return Plot(f"{metric.title} ({metric.better} is better)", along, found.at[metric.name], made)
