"""Which method is taken where none is named: a target's own, then what suits the network, by what it was seen to do."""

import nets
import pytest
import torch
from small_vit import Block, SmallViT, pictures, small_vit
from torch import nn

import whycam
from whycam.network.attention.capture import Capture
from whycam.targets import Value


class Turned(Block):
    """Its attention has the patches in another order, as windows have."""

    def forward(self, x):
        order = [0, *range(x.shape[1] - 1, 0, -1)]
        return super().forward(x[:, order])[:, order]


class Watched(SmallViT):
    """Cannot be looked at."""

    def forward(self, x):
        if isinstance(torch.overrides._get_current_function_mode(), Capture):
            raise TypeError("not under a mode")
        return super().forward(x)


@pytest.mark.parametrize(
    "asked",
    [{}, {"method": "auto"}, {"target": 2}, {"target": lambda output: output[:, 1]}],
    ids=["nothing", "auto", "class", "function"],
)
@pytest.mark.parametrize("pool", ["class", "mean"])
def test_where_tokens_attend_in_every_block_it_is_chefers(asked, pool):
    model = small_vit(pool=pool)
    found = whycam.explain(model, pictures(model), **asked)
    assert found.method == "generic_attention"
    assert "no method was named" in found.notes[0]
    assert "docs/benchmarks.md" in found.notes[0]
    named = {name: value for name, value in asked.items() if name != "method"}
    expected = whycam.explain(model, pictures(model), "generic_attention", **named)
    assert torch.equal(found.maps, expected.maps)
    assert not any("no method" in note for note in expected.notes)


@pytest.mark.parametrize(
    "asked",
    [
        {"layer": "blocks.0"},
        {"path": 2},
        {"signed": True},
        {"per_channel": True},
        {"target": Value(1)},
        {"layout": whycam.layouts.Tokens((4, 3))},
    ],
    ids=str,
)
def test_what_is_asked_about_layers_or_other_things_than_classes_keeps_grad_cam(asked):
    model = small_vit()
    found = whycam.explain(model, pictures(model), **asked)
    assert found.method == "grad_cam"
    assert not any("no method" in note for note in found.notes)


def test_other_networks_keep_grad_cam():
    mixed, unseen = small_vit(), nets.fixed(Watched())
    mixed.blocks[0] = nets.fixed(Turned())
    for model in (mixed, unseen):
        assert whycam.explain(model, pictures(model)).method == "grad_cam"
    plain = whycam.explain(nets.plain(), nets.images())
    assert (plain.method, plain.cost.forwards, plain.notes) == ("grad_cam", 2, ())


def test_what_was_seen_is_kept_and_counted():
    model = small_vit()
    x, runs = pictures(model), []
    model.register_forward_pre_hook(lambda *_: runs.append(1))
    first = whycam.explain(model, x)
    assert first.cost.forwards == len(runs)
    again = whycam.explain(model, x)
    assert (again.cost.forwards, again.cost.choosing, again.cost.backwards) == (1, 0, 1)


def test_a_comparison_takes_it_too():
    model = small_vit()
    for methods in (None, "auto"):
        made = whycam.compare(model, pictures(model), methods, targets=[0, 3])
        assert [method for method, _, _ in made] == ["generic_attention"] * 2
    with pytest.raises(whycam.WhycamError, match="methods is a list"):
        whycam.compare(model, pictures(model), "grad_cam")


def test_attention_beside_a_network_of_convolutions_is_no_transformer():
    class Pooled(nets.Plain):
        def __init__(self):
            super().__init__()
            self.ask = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            tokens = self.features(x).flatten(2).mT
            return self.head(self.ask(tokens.mean(1, keepdim=True), tokens, tokens)[0][:, 0])

    assert whycam.explain(nets.fixed(Pooled()), nets.images()).method == "grad_cam"
