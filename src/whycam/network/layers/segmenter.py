"""The layers of networks with an answer for each place: the bottleneck, and the deepest stage behind it.

The bottleneck has seen the most of the picture, and so is asked what of it speaks for a region: Seg-Grad-CAM's choice
(arXiv:2002.11434). The deepest decoder stage is asked what speaks for it nearby. The last layers are no choice: where
only layers of one cell follow, a map redraws the region whatever the reasons. All is found in the features: their
grids, what they are made of, and one backward from one place of the answer, which says how far it looks.
"""

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any

from torch import Tensor, nn

from whycam.kit.registry import Side
from whycam.network.cache import Cache
from whycam.network.layer_refs import LayerRef
from whycam.network.layers.default_layer import collapsed, main_stream, with_gradient
from whycam.network.layers.features import DENSE, Feature, answer_name, features
from whycam.network.outputs import OutputPath, OutputSelector
from whycam.network.recording.record import Inputs, Resolve
from whycam.network.unwrap import unwrapped
from whycam.targets.outputs import dense

_settled: Cache[list[tuple[Feature, str]]] = Cache()


def of_segmenter(
    model: nn.Module, inputs: Inputs, resolve: Resolve, *, side: Side, asked: bool, part: OutputPath | None
) -> tuple[list[tuple[LayerRef, str]], int, int]:
    """The bottleneck and the deepest decoder stage, if there is one, each with the reason; and the passes spent.

    Nothing where the answer is not dense, or no layer is known to be better than the last.

    Args:
        resolve: a score of an output that all of its numbers have a part in.
        asked: whether the target is one for dense answers. Else the answer must be a tensor with a grid that the
            network comes back to from a coarser one.
    """
    model = unwrapped(model)
    known = _settled.of(model, inputs)
    found, forwards = features(model, inputs)
    name = DENSE if asked else answer_name(model, inputs, part)
    backwards = 0
    if name not in known:
        known[name], *spent = _found(model, inputs, found, name, resolve, asked=asked)
        forwards, backwards = forwards + spent[0], spent[1]
    taps = [(each.before if side == "before" and each.before else each.tap, why) for each, why in known[name]]
    return taps, forwards, backwards


def _found(
    model: nn.Module, inputs: Inputs, found: Sequence[Feature], name: str | None, resolve: Resolve, *, asked: bool
) -> tuple[list[tuple[Feature, str]], int, int]:
    stream = [each for each in main_stream(found) if each.least and each.reaches and not each.redraws]
    stream = [each for each in stream if {DENSE, name} <= (each.reaches or set())]
    if not stream:
        return [], 0, 0
    fewest = min(each.least for each in stream)
    grown = [each for each in stream if prod(each.grid) > each.least == fewest]
    if not grown and not asked:
        return [], 0, 0
    end = stream.index(grown[0]) if grown else len(stream)
    coarse = _ends([each for each in stream[:end] if prod(each.grid) == fewest])
    if not coarse:
        return [], 0, 0
    at_one = OutputSelector(resolve, partial(_one_place, axes=len(coarse[0].grid)))
    seeing, _, forwards, backwards = with_gradient(model, inputs, coarse, at_one)
    bottleneck = (seeing or coarse)[-1]
    why = "the bottleneck, " * bool(grown) + f"the last feature on the coarsest grid ({_sizes(bottleneck)})"
    if seeing:
        why += " of which most bears on what is said of one place"
    why += "; what skips carry past it is not in its map" * bool(grown)
    chosen = [(bottleneck, why + "; it has a single cell along an axis of the input" * collapsed(bottleneck))]
    if grown:
        grid = min((each.grid for each in grown), key=prod)
        start = next(i for i, each in enumerate(stream) if each in grown and each.grid == grid)
        later = [i for i, each in enumerate(stream[start:], start) if each.grid != grid]
        stage = _ends(stream[start : later[0] if later else None])[-1]
        chosen.append((stage, f"the deepest stage behind the coarsest grid ({_sizes(stage)}): what is near the region"))
    return chosen, forwards, backwards


def _ends(several: Sequence[Feature]) -> Sequence[Feature]:
    """Those that modules made of others return, and no steps inside of these, if there are any."""
    return [each for each in several if each.role == "block" or len(each.names) > 1] or several


def _one_place(output: Any, axes: int) -> Tensor:
    """The scores of the place in the middle, `(batch, class)`."""
    scores = dense(output, axes).scores
    at: tuple[Any, ...] = (slice(None), slice(None), *[side // 2 for side in scores.shape[2:]])
    return scores[at]


def _sizes(feature: Feature) -> str:
    return "x".join(map(str, feature.grid))
