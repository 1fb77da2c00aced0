"""Which sample each row of a layer belongs to, and which picture each pass looks at, where a network sees several.

A siamese network calls its backbone once for each input; a network for several views folds them into the batch; a
wrapper for little memory splits the batch. What belongs together is measured and not guessed: a row belongs to the one
sample whose score has gradient there, and a pass looks at the picture whose change changes it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from whycam.kit.arrays import apart, noise_like
from whycam.network.cache import Cache
from whycam.network.hooks import Inputs, call, watching
from whycam.network.preserve_state import as_found
from whycam.network.pytree import Path, detached_copy, first_sample, only_tensor, pictures, replaced, spell
from whycam.network.recording.forward import Attempt, Forward, Pass, Where
from whycam.network.unwrap import eager, unwrapped

#: More pictures than that are taken in their order, without a forward for each.
_MANY = 64


class View(NamedTuple):
    """A picture that a network looks at: its name as code would write it, and `(batch, channel, *space)`."""

    name: str
    picture: Tensor


@dataclass(frozen=True)
class Slot:
    """Where a picture lies among the inputs: in a tensor, or at one position of one of its axes."""

    path: Path
    axis: int | None = None
    index: int = 0

    def of(self, inputs: Inputs) -> View:
        """The picture there."""
        tensor = dict(pictures(inputs))[self.path]
        name = spell(self.path)
        if self.axis is None:
            return View(name, tensor)
        return View(f"{name}[{':, ' * self.axis}{self.index}]", tensor.select(self.axis, self.index))


class Seen(NamedTuple):
    """What a pass of a layer looks at: the view (`None`: the one picture there is), and how that is known, in words."""

    view: View | None
    about: str = ""


def seen(
    model: nn.Module, inputs: Inputs, passes: Sequence[Pass], rows: Mapping[Where, Tensor], views: Sequence[View] | None
) -> tuple[dict[Pass, Seen], int]:
    """For each pass of the batch through a layer, the picture it looks at; and the forwards spent on finding out.

    Where the caller gave views they are taken in the order of the passes. Costs nothing for a network that is given
    one picture and runs the layer once, and for others nothing after the first call. A pass is missing from the result
    where no picture can be told: windows folded into the batch, say.

    Args:
        rows: for layers whose rows are no samples, `(pass, sample)`, where the rows of each lie.
    """
    if views is not None:
        return {
            each: Seen(view := views[each.number], f"drawn on input {view.name}, as asked")
            for each in passes
            if each.count == len(views)
        }, 0
    if isinstance(inputs, Tensor) and inputs.ndim < 5 and not rows:
        return dict.fromkeys(passes, Seen(None)), 0
    found = pictures(inputs)
    if len(found) > 1:
        return _told(model, inputs, passes, [[Slot(path) for path, _ in found]])
    result: dict[Pass, Seen] = {}
    forwards = 0
    for each in passes:
        folded = each.odd and len(each.calls) < each.count  # several rows of one sample in one call
        tensor = found[0][1] if found else None
        if tensor is not None and tensor.ndim >= 5 and each.count > 1:
            stacks = [
                [Slot(found[0][0], axis, index) for index in range(each.count)]
                for axis in (1, 2)
                if tensor.shape[axis] == each.count
            ]
            told, spent = _told(model, inputs, [each], stacks)
            forwards += spent
            result |= told
        if each in result:
            continue
        if not folded:
            result[each] = Seen(None)
        elif tensor is not None and each.where in rows and len(tensor) == rows[each.where].numel():
            at = rows[each.where][each.number]
            result[each] = Seen(View(f"row {each.number + 1} of {each.count} of each sample", tensor[at]))
    return result, forwards


def _told(
    model: nn.Module, inputs: Inputs, passes: Sequence[Pass], families: Sequence[Sequence[Slot]]
) -> tuple[dict[Pass, Seen], int]:
    """The view of each pass among several slots; of stacked ones the axis that the passes follow one by one."""
    result: dict[Pass, Seen] = {}
    forwards = 0
    for slots in families:
        stacked = slots[0].axis is not None
        changed, spent = _changed(model, inputs, list(dict.fromkeys(each.where for each in passes)), slots)
        forwards += spent
        for each in passes:
            sources = changed.get(each.where, [])
            known = sources[each.number] if len(sources) == each.count else None
            if known is not None and len(known) == 1:
                view = slots[next(iter(known))].of(inputs)
                result.setdefault(each, Seen(view, f"drawn on input {view.name}"))
            elif not stacked:
                number = each.number if each.count == len(slots) else 0
                view = slots[number].of(inputs)
                if each.count == len(slots):
                    how = "by order"
                elif known:
                    how = f"the first of {len(known)} that it looks at"
                else:
                    how = "the first"
                result[each] = Seen(view, f"drawn on input {view.name}, {how} (say otherwise with views=)")
    return result, forwards


#: For a layer and slots, for each pass of one sample the slots whose change changes it.
_known: Cache[list[frozenset[int]]] = Cache()


def _changed(
    model: nn.Module, inputs: Inputs, places: Sequence[Where], slots: Sequence[Slot]
) -> tuple[dict[Where, list[frozenset[int]]], int]:
    """For each pass of the first sample through each layer, the slots whose change changes it; the forwards spent.

    A network that cannot be run on one sample alone tells nothing.
    """
    model = unwrapped(model)
    known = _known.of(model, inputs)
    shape = tuple(slots)
    asked = [where for where in places if (where, shape) not in known]
    forwards = 0
    if asked and len(slots) <= _MANY:
        one = detached_copy(first_sample(inputs))
        try:
            forwards = 1
            base = _rows(model, one, asked)
            moved = []
            for slot in slots:
                forwards += 1
                moved.append(_rows(model, _with_noise(one, slot), asked))
        except Exception:  # whatever a network raises for a batch that is not its caller's
            base, moved = {}, []
        for where in asked:
            known[where, shape] = [
                frozenset(
                    slot
                    for slot, other in enumerate(moved)
                    if len(other[where]) == len(base[where]) and _differ(row, other[where][number])
                )
                for number, row in enumerate(base.get(where, []))
            ]
    return {where: known[where, shape] for where in places if (where, shape) in known}, forwards


def _rows(model: nn.Module, inputs: Inputs, places: Sequence[Where]) -> dict[Where, list[Tensor]]:
    """What the layers return for one sample, row by row over all their calls."""
    kept: dict[Where, list[Tensor]] = {where: [] for where in places}

    def keep(where: Where, value: Any, _: Any) -> None:
        kept[where] += only_tensor(value, where[0])[1].detach().clone().unbind()

    with as_found(model), eager(model), ExitStack() as stack:
        for where in places:
            stack.enter_context(watching(model.get_submodule(where[0]), where[1], partial(keep, where)))
        call(model, detached_copy(inputs))
    return kept


def _with_noise(inputs: Inputs, slot: Slot) -> Inputs:
    """The inputs with the picture at one slot changed throughout."""
    changed = dict(pictures(inputs))[slot.path].clone()
    picture = changed if slot.axis is None else changed.select(slot.axis, slot.index)
    picture += noise_like(picture)
    with_it: Inputs = replaced(inputs, slot.path, changed)
    return with_it


def _differ(one: Tensor, other: Tensor) -> bool:
    """Whether two values differ by more than a device's own unsteadiness."""
    return apart(other, one) > 1e-4


def arranged(run: Forward, attempt: Attempt) -> dict[Where, Tensor]:
    """For layers whose rows are no samples, `(pass, sample)`, where each sample's rows lie, told by one more backward.

    Layers of which it cannot be told are left out.
    """
    odd = {each.where: each for each in attempt.passes if each.odd}
    if not odd:
        return {}
    if run.samples == 1:
        every = {
            where: torch.arange(each.count, device=run.tensor(each.calls[0]).device) for where, each in odd.items()
        }
        return {where: rows[:, None] for where, rows in every.items()}
    known = [each for each in odd.values() if attempt.found and run.depends(each, attempt.found[0])]
    if not known:
        return {}
    score = attempt.scores[0]
    points = {one: run.tensor(one) for each in known for one in each.calls}
    (weighted,) = run.differentiate([torch.arange(1, run.samples + 1).to(score) * score], points, keep=False)
    orders = {
        each.where: arrange(run.joined(each, attempt.found[0]), run.joined(each, weighted), run.samples)
        for each in known
    }
    return {where: order for where, order in orders.items() if order is not None}


def arrange(plain: Tensor, weighted: Tensor, samples: int) -> Tensor | None:
    """The row indices of each sample, `(pass, sample)`, for a layer whose first axis is not the batch; else `None`.

    A row belongs to one sample if the gradient of a weighted sum of the scores, sample i counting i + 1 times, is i + 1
    times that of the plain sum there. Rows without gradient are taken to lie as the others do, sample by sample or pass
    by pass.

    Args:
        plain, weighted: gradients of the two sums at the rows, `(row, ...)`.
    """
    count = len(plain) // samples
    owners = list(_owners(plain, weighted, samples))
    if None in owners:
        every = range(len(plain))
        orders = {tuple(row // count for row in every), tuple(row % samples for row in every)}
        fitting = [
            order for order in orders if all(owner in (None, place) for owner, place in zip(owners, order, strict=True))
        ]
        if len(fitting) != 1:
            return None
        owners = list(fitting[0])
    rows = [[row for row, owner in enumerate(owners) if owner == sample] for sample in range(samples)]
    if any(len(mine) != count for mine in rows):
        return None
    return torch.tensor(rows, device=plain.device).T


def _owners(plain: Tensor, weighted: Tensor, samples: int) -> Iterator[int | None]:
    """The sample of each row; `None` without gradient, -1 where it belongs to several."""
    one, other = plain.flatten(1).double(), weighted.flatten(1).double()
    power = one.square().sum(1)
    ratio = (one * other).sum(1) / power.clamp(min=torch.finfo(torch.float64).tiny)
    rest = (other - ratio[:, None] * one).square().sum(1)
    for has, times, left in zip(power.tolist(), ratio.tolist(), rest.tolist(), strict=True):
        if not has:
            yield None
        elif left > (0.05 * times) ** 2 * has or not math.isfinite(times) or abs(times - round(times)) > 0.25:
            yield -1
        else:
            yield round(times) - 1
