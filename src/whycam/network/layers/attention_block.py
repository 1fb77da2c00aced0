"""The block at which methods of attention are read where none is named: the last of which the tokens are a grid."""

from torch import nn

from whycam.network.attention.places import Place, places
from whycam.network.attention.unseen import NONE_SEEN
from whycam.network.layer_refs import LayerRef
from whycam.network.layers.default_layer import Choice
from whycam.network.layers.features import features
from whycam.network.layers.positions import locate
from whycam.network.recording.record import Inputs


def choose_block(model: nn.Module, inputs: Inputs) -> tuple[Choice | str, int]:
    """The last block whose attention is among all tokens and whose tokens lie as in the input; or why there is none.

    Beside it the forwards spent.
    """
    every, forwards = places(model, inputs)
    tokens = [each for each in every if each.kind == "tokens"]
    if not tokens:
        return _none(every), forwards
    seen, spent = features(model, inputs)
    forwards += spent
    by_name = {name: feature for feature in seen for name in feature.names}
    doubtful: Choice | None = None
    for size in dict.fromkeys(each.size for each in reversed(tokens)):
        # deep blocks may spread every change over all tokens; the first holds the same tokens in the same order
        blocks = dict.fromkeys(each.block for each in tokens if each.size == size and each.block in by_name)
        if not blocks:
            continue
        first, *_, last = (*blocks, *blocks)
        readings = {LayerRef(block): by_name[block].readings for block in (first, last)}
        located, spent = locate(model, inputs, readings)
        forwards += spent
        early, late = located[LayerRef(first)], located[LayerRef(last)]
        found = early if late.location == "undetermined" and early.location == "verified" else late
        if late.layout is None or found.layout is None:
            continue
        grid = "x".join(map(str, found.layout.grid(by_name[last].shape)))
        why = f"the last block with attention among all tokens ({grid})"
        choice = Choice(LayerRef(last), why, found.layout, found.location)
        if found.location != "undetermined":
            return choice, forwards
        doubtful = doubtful or choice
    if doubtful is None:
        names = list(dict.fromkeys(repr(each.block) for each in tokens))
        why = (
            f"The tokens of {', '.join(names[-3:])} could not be put on a grid of the input; name a layer with layer= "
        )
        return why + "and say how to read it with layout=.", forwards
    return doubtful, forwards


def _none(found: tuple[Place, ...]) -> str:
    if not found:
        return NONE_SEEN
    kinds = dict.fromkeys(each.kind for each in found)
    return (
        f"No block of this network has attention among all tokens of a sample; what was found is {', '.join(kinds)}: "
        f"{found[-1]}. Use a method that reads layers, such as grad_cam, layer_cam or hires_cam."
    )
