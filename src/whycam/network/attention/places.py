"""Where each attention of a network runs, and which position each of its keys holds: measured, never declared.

Between what a block is given and the values of its attention lie a norm and a linear layer. With the values of one key
weighted by 1 and by a number of its own, the gradients at a position that feeds this key alone differ by that number,
so two backwards through the little in between name the key of every position. Positions that feed several keys (channel
attention, overlapping windows) show as gradients of another direction.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from whycam.errors import LayerRefused
from whycam.kit.arrays import is_half
from whycam.network.adapted import Adapted
from whycam.network.attention.capture import Attention, Capture
from whycam.network.attention.unseen import NONE_SEEN, refuse_recomputed, refuse_unseen
from whycam.network.cache import Cache
from whycam.network.hooks import Inputs, call, watching
from whycam.network.preserve_state import as_found
from whycam.network.pytree import detached_copy, first_sample, first_tensor, mapped, tensors
from whycam.network.unwrap import eager, unwrapped

#: tokens: every token of a sample asks every other; pool: other queries ask all tokens; windows: each token once, in
#: groups or in another order; pooled keys: several positions a key; other: channels, overlapping windows, other inputs.
Kind: TypeAlias = Literal["tokens", "pool", "windows", "pooled keys", "other"]

#: How far gradients may be from the same direction, in parts of their length, and a code from a whole number.
_APART, _WHOLE = 1e-2, 0.2


@dataclass(frozen=True, eq=False)
class Place:
    """One attention of a pass.

    Attributes:
        number: which of the pass's it is.
        block: the outermost module that holds this attention alone and returns what it is given, changed; `inside` are
            the names of all modules that it runs in.
        leading: the axes between the samples and (query, key), and which of them are the heads; -1 for none.
        positions: which position of the block's input each key holds, window by window, of each sample's `size`.
        after: the numbers of the attentions that what it is given comes of, by the graph.
    """

    number: int
    block: str
    inside: tuple[str, ...]
    kind: Kind
    leading: tuple[int, ...]
    heads: int
    queries: int
    keys: int
    size: int
    positions: Tensor | None = None
    after: frozenset[int] = frozenset()

    def aligned(self, tensor: Tensor) -> Tensor:
        """A captured tensor as `(batch * window, head, row, column)`."""
        rows = tensor.reshape(-1, *self.leading, *tensor.shape[-2:])
        rows = rows.unsqueeze(-3) if self.heads < 0 else rows.movedim(1 + self.heads, -3)
        return rows.reshape(-1, *rows.shape[-3:])

    def __str__(self) -> str:
        words = {
            "tokens": "all tokens of a sample attend to each other",
            "pool": "learned queries attend to all tokens",
            "windows": "tokens attend within windows, or in another order than that of the block",
            "pooled keys": "a key stands for several tokens",
            "other": "its keys are no tokens of the block (channels, overlapping windows, or another input)",
        }
        return f"the attention in {self.block or 'the network'!r} is of the kind {self.kind!r}: {words[self.kind]}"


_known: Cache[tuple[Place, ...]] = Cache()


def places(model: nn.Module, inputs: Inputs) -> tuple[tuple[Place, ...], int]:
    """Every attention of a pass in running order, and the forwards spent (0 where they are known).

    One forward of a sample taken twice, with gradients on from the start, and a few backwards through part of a block.
    """
    model = unwrapped(model)
    if isinstance(model, Adapted) and not model.in_torch:
        return (), 0  # computed by functions that are not torch's
    refuse_unseen(model)  # also where places are known, for kernels may be changed afterwards
    known = _known.of(model, inputs)
    if "places" in known:
        return known["places"], 0
    one = first_sample(inputs)
    twice = mapped(one, lambda tensor: torch.cat([tensor, tensor]) if tensor.ndim and len(tensor) == 1 else tensor)
    try:
        found, forwards = _measured(model, twice), 1
    except Exception:  # some networks take the caller's number of samples only; what they raise for that goes up
        found, forwards = _measured(model, inputs), 2
    known["places"] = found
    return found, forwards


def place_of(found: Sequence[Place], module: str, call: int = 0) -> Place:
    """The attention of a module: the last inside of it, or that of the block that it is part of.

    Raises:
        LayerRefused: there is none.
    """
    within = [each for each in found if module in each.inside or f"{module}.".startswith(f"{each.block}.")]
    last = within[-1].block if within else ""
    same = [each for each in within if each.block == last]
    if not found:
        raise LayerRefused(NONE_SEEN)
    if not same:
        blocks = list(dict.fromkeys(each.block for each in found))
        raise LayerRefused(
            f"no attention was seen in layer {module!r}; blocks with attention are {', '.join(map(repr, blocks))}."
        )
    return same[min(call, len(same) - 1)]


@dataclass(eq=False)
class _Frame:
    """One call of a module."""

    name: str
    given: list[Tensor]
    returned: list[Tensor] = field(default_factory=list)
    holds: list[int] = field(default_factory=list)

    @property
    def keeps_shape(self) -> bool:
        """Whether it returned as much as it was given."""
        return [each.shape for each in self.given[:1]] == [each.shape for each in self.returned[:1]]


class _Codes(NamedTuple):
    """Which number each position of the block's input feeds, `(*axes without channels)`, -1 for none; of how many."""

    numbers: Tensor
    of: int


def _measured(model: nn.Module, inputs: Inputs) -> tuple[Place, ...]:
    frames: list[_Frame] = []
    stack: list[_Frame] = []
    asides: list[tuple[str, ...]] = []
    nodes: dict[Any, int] = {}  # of the outputs of attentions, in autograd's graph
    after: list[frozenset[int]] = []

    def entered(name: str, value: Any, _: Any) -> Any:
        torch.set_grad_enabled(True)  # a block may have turned them off; put back by the guard around this pass
        begun = mapped(value, lambda each: each.detach().requires_grad_() if _open(each) else each)
        stack.append(_Frame(name, _wide_enough(begun)))
        return begun

    def left(name: str, value: Any, _: Any) -> None:
        frame = stack.pop()
        while frame.name != name:  # what raised and was caught by the network itself
            frame = stack.pop()
        frame.returned = _wide_enough(value)
        if frame.holds:
            frames.append(frame)

    def seen(attention: Attention) -> None:
        near = _reached([attention.output.grad_fn], nodes)
        after.append(near.union(*[after[number] for number in near]))
        nodes[attention.output.grad_fn] = attention.number
        asides.append(tuple(frame.name for frame in stack))
        for frame in stack:
            frame.holds.append(attention.number)

    capture = Capture(seen)
    with as_found(model), eager(model), ExitStack() as hooks:
        given = detached_copy(inputs)
        samples = len(first_tensor(given))
        for name, module in model.named_modules():
            if name and not isinstance(module, torch.jit.ScriptModule):  # which takes no hook
                hooks.enter_context(watching(module, "input", partial(entered, name)))
                hooks.enter_context(watching(module, "output", partial(left, name)))
        with capture:
            output = call(model, mapped(given, torch.clone))
        refuse_recomputed(output, capture.found)
        return tuple(
            replace(_place(each, frames, inside, samples), after=before)
            for each, inside, before in zip(capture.found, asides, after, strict=True)
        )


def _reached(starts: Iterable[Any], nodes: Mapping[Any, int]) -> frozenset[int]:
    """The numbers of the nodes that the graph comes to first from these starts."""
    todo, known, reached = [*starts], set[Any](), set[int]()
    while todo:
        node = todo.pop()
        if node in nodes:
            reached.add(nodes[node])
        elif node is not None and node not in known:
            known.add(node)
            todo += [source for source, _ in node.next_functions]
    return frozenset(reached)


def _wide_enough(value: Any) -> list[Tensor]:
    """The tensors of decimals with an axis beside samples and channels, each once."""
    found = [each for _, each in tensors(value) if each.is_floating_point() and each.ndim >= 3]
    return list({id(each): each for each in found}.values())


def _open(tensor: Tensor) -> bool:
    """Whether nothing before a tensor is in the graph, although gradients could go there."""
    return tensor.is_floating_point() and tensor.ndim >= 3 and not tensor.requires_grad


def _place(attention: Attention, frames: Sequence[_Frame], inside: tuple[str, ...], samples: int) -> Place:
    value, query = attention.value, attention.query
    alone = [each for each in frames if each.holds == [attention.number] and each.given][::-1]
    frame = next((each for each in alone if each.keeps_shape), next(iter(alone), None))
    queries, keys = attention.output.shape[-2], value.shape[-2]
    block = frame.name if frame is not None else (inside[-1] if inside else "")

    def place(kind: Kind, leading: Sequence[int], heads: int, size: int = 0, positions: Tensor | None = None) -> Place:
        return Place(attention.number, block, inside, kind, tuple(leading), heads, queries, keys, size, positions)

    fallback = _leading(value, samples, None)
    if frame is None or fallback is None:
        return place("other", value.shape[:-2], -1)
    apart = _leading(value, samples, attention.projection)
    for given, leading in itertools.product(frame.given, [fallback] if apart is None else [fallback, apart]):
        for heads in (*reversed(range(len(leading))), -1):
            codes = _codes(value.reshape(samples, *leading, *value.shape[-2:]), given, heads)
            if codes is None or bool((codes.numbers < 0).all()):
                continue
            positions, kind = _positions(codes, samples)
            if positions is None:
                return place(kind, leading, heads)
            size = codes.numbers.numel() // samples
            straight = len(positions) == size == keys and bool((positions == torch.arange(size)).all())
            if not straight:
                return place("windows", leading, heads, size, positions)
            asked = codes
            if query is not None:
                found = _codes(query.reshape(samples, *leading, *query.shape[-2:]), given, heads)
                asked = found if found is not None else _Codes(codes.numbers, 0)
            if asked.of != codes.of or not torch.equal(asked.numbers, codes.numbers):
                learned = bool((asked.numbers < 0).all())
                return place("pool" if learned or queries == 1 else "other", leading, heads, size, positions)
            return place("tokens" if queries == keys else "pool", leading, heads, size, positions)
    return place("other", fallback, len(fallback) - 1)


def _leading(value: Tensor, samples: int, projection: tuple[Tensor, Tensor | None] | None) -> tuple[int, ...] | None:
    """The axes before (key, width) without the samples; with the heads split off one axis as the projection counts."""
    first, *rest = value.shape[:-2] or (1,)
    if first % samples:
        return None
    if projection is None:
        return (first // samples, *rest)
    heads = projection[0].shape[1] // value.shape[-1]
    if rest or heads < 2 or (first // samples) % heads:
        return None
    return (first // samples // heads, heads)


def _codes(tensor: Tensor, given: Tensor, heads: int) -> _Codes | None:
    """The number that each position of `given` feeds among the rows `(sample, *leading but heads, row)` of `tensor`.

    `None` where positions feed several.
    """
    rows = tensor.unsqueeze(1) if heads < 0 else tensor.movedim(1 + heads, 1)  # (sample, head, *, row, width)
    shape = (rows.shape[0], *rows.shape[2:-1])
    count = math.prod(shape)
    half = is_half(given) or is_half(tensor)
    base = 16 if half else 4096
    generator = torch.Generator().manual_seed(0)
    along = torch.randn(rows.shape[1], rows.shape[-1], generator=generator, device="cpu").to(rows)
    along = along.reshape(1, len(along), *[1] * (rows.ndim - 3), -1)
    numbers = torch.arange(count, device=rows.device).reshape(shape)
    reached: Sequence[Tensor | None] = torch.autograd.grad(
        (rows * along).sum(), given, retain_graph=True, allow_unused=True
    )
    if (plain := reached[0]) is None:
        return _Codes(numbers.new_full((given.shape[0], *given.shape[1:-1]), -1), count)
    digits = []
    for digit in range(max(1, math.ceil(math.log(max(count, 2), base)))):
        factor = 1 + (numbers // base**digit) % base
        weighted = (rows * along * factor.unsqueeze(1).unsqueeze(-1)).sum()
        (coded,) = torch.autograd.grad(weighted, given, retain_graph=True)
        digits.append(coded)
    for axis in (-1, 1):
        norms = plain.double().square().sum(axis)
        ratios = [(each.double() * plain.double()).sum(axis) / norms for each in digits]
        off = [
            (each.double() - ratio.nan_to_num().unsqueeze(axis) * plain.double()).square().sum()
            / each.double().square().sum()
            for each, ratio in zip(digits, ratios, strict=True)
        ]
        whole = [(ratio - ratio.round()).abs().nan_to_num().max() for ratio in ratios]
        if all(float(each) < _APART**2 for each in off) and all(float(each) < _WHOLE for each in whole):
            code = sum((ratio.nan_to_num().round().long() - 1) * base**i for i, ratio in enumerate(ratios))
            assert isinstance(code, Tensor)
            return _Codes(code.where(norms > 0, -1), count)
    return None


def _positions(codes: _Codes, samples: int) -> tuple[Tensor | None, Kind]:
    """Which position of a sample each of its rows holds, `(row,)`; else of which kind the rows are."""
    if codes.numbers.shape[0] != samples:
        return None, "other"
    numbers = codes.numbers.reshape(samples, -1).cpu()
    rows = codes.of // samples
    own = numbers - rows * torch.arange(samples)[:, None]
    own = own.where(numbers >= 0, -1)
    if not torch.equal(own, own[:1].expand_as(own)) or bool((own[0] >= rows).any()):
        return None, "other"
    fed = own[0][own[0] >= 0]
    if len(set(fed.tolist())) < rows:
        return None, "other"
    if len(fed) > rows:
        return None, "pooled keys"
    positions = torch.empty(rows, dtype=torch.long)
    positions[fed] = (own[0] >= 0).nonzero().squeeze(1)
    return positions, "tokens"
