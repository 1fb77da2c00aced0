"""What methods that read attention need of a pass, block by block, and their quantities from what was folded."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from whycam.engine.inputs import Batch
from whycam.engine.layer_plan import Passes, Plan, of_answer
from whycam.errors import LayerRefused
from whycam.kit.arrays import wide
from whycam.kit.declared import signature
from whycam.kit.quantities import BLOCK_QUANTITIES, BLOCK_SLOPES, OF_ATTENTION, Projection
from whycam.kit.registry import Method
from whycam.network.attention.folding import Fold, Folding
from whycam.network.attention.places import Place, place_of, places
from whycam.network.cache import Cache
from whycam.network.hooks import Inputs
from whycam.network.layer_refs import LayerRef
from whycam.network.layers.attention_block import choose_block
from whycam.network.layers.features import features, is_convolutional
from whycam.network.layouts import ChannelsFirst, Layout
from whycam.network.pytree import on_first_sample
from whycam.network.quantities.tails import tail_gradients
from whycam.network.recording.forward import Attempt
from whycam.network.recording.record import LayerRecord, Recording, Resolve, record

_READING = "reading"
#: The quantity for which each block has a score of its own.
OWN_SCORE = "layer_attention_gradients"
#: How a network's answer as a whole reads the tokens of an attention, by the part of the answer and the attention.
_known: Cache[Tensor] = Cache()


@dataclass(frozen=True)
class Attentions:
    """The attentions of a network, the folds of a request, and how the whole answer reads them.

    Attributes:
        still: the titles of methods that read no gradient, for which the answer as a whole says how it is read.
        answer: how it reads each attention at which some layer ends, `(1, query)`, by its number.
        layered: folds that read each block's own score, in a pass whose graph is cut behind each of `cuts`.
        kept: the blocks of which methods read what they return, by the number of their attention.
    """

    places: tuple[Place, ...]
    folds: Mapping[str, Fold]
    still: frozenset[str]
    answer: Mapping[int, Tensor]
    layered: Mapping[str, Fold]
    cuts: Mapping[int, str]
    kept: Mapping[int, str]

    def folding(self) -> Folding | None:
        """The folds of one recording, and what else is kept of its blocks."""
        return Folding(self.folds, self.places, kept=self.kept) if self.folds or self.kept else None

    def record_layered(
        self,
        module: nn.Module,
        inputs: Inputs,
        taps: Sequence[LayerRef],
        resolvers: Sequence[Resolve],
        layouts: Mapping[LayerRef, Layout],
    ) -> Recording:
        """The pass in which each block has a score of its own."""
        end = max(self.cuts)
        last = LayerRef(_same(self.places, self.places[end])[-1].block)

        def tails(
            layers: Mapping[LayerRef, LayerRecord], attempt: Attempt, returned: Mapping[int, Tensor]
        ) -> tuple[list[dict[int, Tensor]], int]:
            part, output = attempt.answer.part, wide(attempt.output.detach())
            return tail_gradients(module, inputs, layers[last], attempt.targets, part, output, returned)

        return record(
            module,
            inputs,
            [*taps, *({last} - {*taps})],
            resolvers,
            gradients=False,
            layouts=layouts,
            resume=True,
            folding=Folding(self.layered, self.places, self.cuts),
            tails=tails,
        )

    def beyond(self, layer: LayerRecord) -> str:
        """What is said of attention behind a layer's tokens that no product follows; empty if there is none."""
        place = place_of(self.places, layer.tap.module, layer.number)
        end = _end(self.places, place)
        for other in self.places:
            if end in other.after:
                return (
                    f"attention behind these tokens is not followed ({other}): they are read in equal shares, whatever "
                    "it makes of them"
                )
            if other.number != end and other.number not in self.places[end].after:
                return f"attention in {other.block!r} is not followed: by the graph, these tokens do not come of it"
        return ""

    def quantity(self, name: str, recording: Recording, layer: LayerRecord, number: int, title: str) -> Any:
        """One quantity of a target at a layer's block, for the method of that title, from the pass it is read in."""
        place = place_of(self.places, layer.tap.module, layer.number)
        if name == "token_grid":
            return partial(_on_grid, layer)
        if place.kind != "tokens":
            raise LayerRefused(
                f"{title} reads how all tokens of a sample attend to each other, and {place}. Use a method that reads "
                "the layer itself, such as grad_cam, layer_cam or hires_cam."
            )
        if name == "folds":
            found, chain = _of_target(recording.folded[title], number), _chain(self.places, place, title)
            if title in self.layered and place not in _same(self.places, self.places[max(self.cuts)]):
                raise LayerRefused(
                    f"{title} runs what follows the last block, and the layers lie in branches with a last block each; "
                    "explain each branch by a call of its own."
                )
            if title in self.layered and chain[-1].kind == "pool":
                raise LayerRefused(
                    f"{title} averages what a block's tokens say, and this network pools them by the attention in "
                    f"{chain[-1].block!r}; use another method of attention, such as generic_attention."
                )
            return [_arrived(found, each, title) for each in chain]
        if name == _READING:
            end = self.places[_end(self.places, place)]
            if title in self.still:
                return _arrived(self.answer, end, title).expand(len(recording.output), -1)
            return _arrived(_of_target(recording.folded[_READING], number), end, title)
        if name == "output_projection":
            return _projection(recording, place, title)
        if name in ("output_projections", "block_outputs"):
            chain = [each for each in _chain(self.places, place, title) if each.kind == "tokens"]
            if name == "output_projections":
                if layer.tap.side == "input" or layer.tap.module.startswith(f"{place.block}."):
                    raise LayerRefused(
                        f"{title} puts tokens in the place of what a block returns, and {str(layer.tap)!r} is not "
                        f"that. Name the block: layer={place.block!r}."
                    )
                return [_projection(recording, each, title) for each in chain]
            return [wide(layer.layout.to_maps(recording.block_outputs[each.number])) for each in chain]
        return _of_target(recording.folded[name], number)[place.number]


def follows_tokens(module: nn.Module, inputs: Inputs) -> tuple[bool, int]:
    """Whether the same tokens attend to each other in every block, and lie on a grid; the forwards that it took.

    A plain convolutional network is known by its features, which choosing a layer needs anyway.
    """
    forwards = 0
    try:
        forwards = features(module, inputs)[1]
        if is_convolutional(module, inputs):
            return False, forwards
        block, spent = choose_block(module, inputs)
        forwards += spent
        if isinstance(block, str):
            return False, forwards
        found, _ = places(module, inputs)
        size = place_of(found, block.tap.module).size
        return all((each.kind, each.size) == ("tokens", size) for each in found), forwards
    except Exception:  # a network that cannot be watched so is explained as any other, and says why there
        return False, forwards


def attend(
    module: nn.Module,
    batch: Batch,
    methods: Sequence[Method],
    options: Mapping[str, Mapping[str, Any]],
    plans: Mapping[str, Sequence[Plan]],
    resolvers: Sequence[Resolve],
) -> tuple[Attentions | None, Passes]:
    """What the methods of a request need of attention, and the passes spent; `None` where they need nothing of it."""
    reading = [each for each in methods if each.needs & OF_ATTENTION]
    taps = [tap for each in reading for plan in plans[each.name] for tap in plan.taps]
    if not taps:
        return None, Passes()
    found, forwards = places(module, batch.inputs)
    passes = Passes(forwards)
    here = [place for tap in taps for place in _all_of(found, tap) if place.kind == "tokens"]
    chains = frozenset(each.number for place in here for each in _linked(found, place))
    at = frozenset(place.number for place in here)
    ends = frozenset(_end(found, place) for place in here)
    taken = frozenset().union(*[each.takes for each in reading])
    folds = {name: Fold(_itself, frozenset({name}), at=at) for name in sorted(taken & BLOCK_QUANTITIES)}
    layered: dict[str, Fold] = {}
    for method in reading:
        if method.fold is not None:
            needs, names = signature(method.fold)
            given = method.with_defaults(options.get(method.name, {}))
            fold = Fold(method.fold, frozenset(needs), {name: given[name] for name in names}, chains)
            (layered if OWN_SCORE in needs else folds)[method.title] = fold
    still = frozenset(each.title for each in reading if not each.needs & BLOCK_SLOPES)
    if any(_READING in each.takes for each in reading if each.title not in still):
        folds[_READING] = Fold(_rows_read, frozenset({"head_output_gradients"}), at=ends)
    answer: dict[int, Tensor] = {}
    if ends and any(_READING in each.takes for each in reading if each.title in still):
        answer, *spent = _read_by_answer(module, batch.inputs, found, ends, taps[0], resolvers[0])
        passes = passes.plus(*spent)
    tokens = {number: found[number].block for number in sorted(chains) if found[number].kind == "tokens"}
    kept = tokens if "block_outputs" in taken else {}
    return Attentions(found, folds, still, answer, layered, tokens if layered else {}, kept), passes


def _itself(**known: Tensor) -> Tensor:
    (tensor,) = known.values()
    return tensor


def _rows_read(head_output_gradients: Tensor) -> Tensor:
    """Equal shares for the rows whose change would change the score, `(batch, query)`."""
    read = (head_output_gradients != 0).any(-1).any(1).to(head_output_gradients)
    return read / read.sum(1, keepdim=True).clamp(min=1)


def _read_by_answer(
    module: nn.Module, inputs: Inputs, found: Sequence[Place], ends: frozenset[int], tap: LayerRef, resolve: Resolve
) -> tuple[dict[int, Tensor], int, int]:
    """How all of the answer reads the tokens at these attentions; known after one pass of one sample."""
    known = _known.of(module, inputs)
    whole = of_answer(resolve)
    missing = frozenset(each for each in ends if (whole.part, each) not in known)
    spent = (0, 0)
    if missing:
        fold = {_READING: Fold(_rows_read, frozenset({"head_output_gradients"}), at=ends)}

        def run(inputs: Inputs) -> Recording:
            return record(module, inputs, [tap], [whole], must_depend=False, folding=Folding(fold, found))

        made, failed = on_first_sample(run, inputs)
        for number, rows in made.folded[_READING][0].items():
            known[whole.part, number] = rows[:1]
        spent = made.forwards + failed, made.backwards
    return {each: known[whole.part, each] for each in ends if (whole.part, each) in known}, *spent


def _arrived(found: Mapping[int, Tensor], place: Place, title: str) -> Tensor:
    """What was folded at one attention, or the reason why nothing was."""
    if place.number not in found:
        raise LayerRefused(
            f"{title} follows the tokens to the attention in {place.block!r}, and what is explained does not depend on "
            "it. Use a method that reads layers, such as grad_cam, layer_cam or hires_cam."
        )
    return found[place.number]


def _of_target(folded: Sequence[Mapping[int, Any]], number: int) -> Mapping[int, Any]:
    return folded[number] if len(folded) > 1 else folded[0]


def _all_of(found: Sequence[Place], tap: LayerRef) -> list[Place]:
    """The attentions of a layer's block, in each of its calls; none where it has none."""
    try:
        block = place_of(found, tap.module).block
    except LayerRefused:
        return []
    return [each for each in found if each.block == block]


def _same(found: Sequence[Place], place: Place) -> list[Place]:
    """The attentions among all tokens of as many that come before or after one, which another branch's do not."""
    near = [each for each in found if each is place or each.number in place.after or place.number in each.after]
    return [each for each in near if each.kind == "tokens" and each.size == place.size]


def _linked(found: Sequence[Place], place: Place) -> list[Place]:
    """The attentions among all tokens up to a block's, and the pool behind the last."""
    same = _same(found, place)
    linked = [each for each in same if each.number <= place.number]
    behind = found[place.number + 1 : place.number + 2]
    return linked + [each for each in behind if place is same[-1] and each.kind == "pool" and each.keys == place.size]


def _chain(found: Sequence[Place], place: Place, title: str) -> list[Place]:
    """The same, of a network in which no other attention lies in between."""
    others = [each for each in found if each.number in place.after and (each.kind, each.size) != ("tokens", place.size)]
    if others:
        other = others[0]
        said = f"that in {other.block!r} is among {other.size}" if other.kind == "tokens" else str(other)
        raise LayerRefused(
            f"{title} follows the same {place.size} tokens from block to block, and {said}. Use a method that reads "
            "one layer, such as grad_cam, layer_cam or hires_cam."
        )
    linked = _linked(found, place)
    last = ((each, place) for each in found if place.after and place.after == each.after)
    for one, other in (*itertools.pairwise(linked), *last):
        if one is not other and one.number not in other.after:
            raise LayerRefused(
                f"{title} follows tokens from one attention to the next, and those in {one.block!r} and "
                f"{other.block!r} lie side by side. Use a method that reads one layer, such as grad_cam, layer_cam or "
                "hires_cam."
            )
    return linked


def _end(found: Sequence[Place], place: Place) -> int:
    """The attention whose rows say how the score reads what comes of the tokens."""
    last = _linked(found, place)[-1]
    if last.kind == "pool":
        return last.number
    return _same(found, place)[-1].number


def _on_grid(layer: LayerRecord, tokens: Tensor) -> Tensor:
    """A number for each token, `(batch, token)`, laid out as the layer's output and from there as maps."""
    shape = layer.shape[1:]
    first = isinstance(layer.layout, ChannelsFirst)
    laid = tokens.reshape(-1, *((1, *shape[1:]) if first else (*shape[:-1], 1)))
    return layer.layout.to_maps(laid)[:, 0]


def _projection(recording: Recording, place: Place, title: str) -> Projection:
    if place.number not in recording.projections:
        raise LayerRefused(f"{title} needs the linear layer behind the attention, and none was seen: {place}.")
    return partial(_projected, *recording.projections[place.number])


def _projected(weight: Tensor, bias: Tensor | None, heads: Tensor) -> Tensor:
    """Rows of all heads, `(batch, head, token, width)`, through the linear layer behind the attention."""
    return F.linear(heads.transpose(1, 2).flatten(2), weight.to(heads), None if bias is None else bias.to(heads))
