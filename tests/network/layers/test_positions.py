"""Where positions lie is measured, and a wrong claim is found out."""

import nets
import pytest
import torch
from torch import nn

import whycam
from whycam.network.layer_refs import LayerRef
from whycam.network.layers.positions import _along, changes, halves, locate
from whycam.network.layouts import ChannelsFirst, ChannelsLast, Tokens, readings


class Patches(nn.Module):
    """Each 2 x 2 patch becomes a token by itself, and the tokens come in the order given; their mean is classified."""

    def __init__(self, order=None, before=0, behind=0, mix=0.0, side=4):
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 2, stride=2)
        self.order, self.before, self.behind, self.mix = order, before, behind, mix
        self.block = nn.Sequential(nn.LayerNorm(8))
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        tokens = self.embed(x).flatten(2).mT
        if self.order is not None:
            tokens = tokens[:, self.order]
        tokens = tokens + self.mix * tokens.mean(1, keepdim=True)
        extra = tokens.mean(1, keepdim=True)
        tokens = torch.cat([extra.expand(-1, self.before, -1), tokens, extra.expand(-1, self.behind, -1)], 1)
        return self.head(self.block(tokens).mean(1))


class Moved(nn.Module):
    """A convolution's maps with their axes in another order."""

    def __init__(self, axes, channels=8):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.axes = axes
        self.move = nets.ToLast() if axes is None else Permute(axes)
        self.head = nn.Linear(channels, 5)

    def forward(self, x):
        maps = self.conv(x)
        return self.head(self.move(maps).sum() * 0 + maps.mean((2, 3)))


class Permute(nn.Module):
    def __init__(self, axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.permute(self.axes)


def verdict(model, inputs, name, layout):
    return changes(model, inputs, [LayerRef(name)])[LayerRef(name)].verdict(layout)


SHUFFLED = torch.randperm(16, generator=torch.Generator().manual_seed(0))
#: Hiera's: the place inside a unit of 2 x 2 first, then the unit.
UNROLLED = torch.arange(16).reshape(2, 2, 2, 2).permute(1, 3, 0, 2).flatten()


def test_halves_change_one_half_each_and_add_up():
    picture = nets.images(1, side=5)
    base, top, bottom, left, right = halves(picture, (2, 3))
    assert torch.equal(base, picture[0])
    assert torch.equal(top[:, 2:], base[:, 2:])
    assert (top[:, :2] != base[:, :2]).all()
    assert torch.equal(bottom[:, :2], base[:, :2])
    assert (bottom[:, 2:] != base[:, 2:]).all()
    assert torch.equal(left[..., 2:], base[..., 2:])
    assert torch.equal(right[..., :2], base[..., :2])
    assert torch.allclose(top + bottom, left + right, atol=1e-12, rtol=0)  # the same noise everywhere
    noise = (top + bottom - 2 * base).std() / picture.std()
    assert 0.08 < noise < 0.12


def test_an_input_of_one_value_is_changed_too():
    assert halves(torch.zeros(1, 3, 4, 4), (2, 3)).abs().amax() > 0.1


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolutions_lie_where_the_input_does(rank):
    model, inputs = nets.plain(rank), nets.images(rank=rank)
    assert verdict(model, inputs, "conv2", ChannelsFirst()) == "verified"


@pytest.mark.parametrize(
    ("axes", "layout"), [((0, 1, 3, 2), ChannelsFirst()), ((0, 2, 3, 1), ChannelsFirst()), (None, ChannelsFirst())]
)
def test_axes_in_another_order_are_refuted(axes, layout):
    model = nets.fixed(Moved(axes))
    assert verdict(model, nets.images(), "move", layout) == "refuted"
    assert verdict(model, nets.images(), "conv", layout) == "verified"


def test_what_no_shape_can_tell_is_told_by_the_change():
    model, inputs = nets.fixed(Moved((0, 2, 3, 1))), nets.images()  # 8 x 8 x 8, whichever the channels are
    assert readings((3, 8, 8, 8), inputs.shape)[0] == ChannelsFirst()
    found, forwards = locate(model, inputs, {LayerRef("move"): [ChannelsFirst(), ChannelsLast()]})
    assert found[LayerRef("move")] == (ChannelsLast(), "verified")
    assert forwards == 1


@pytest.mark.parametrize("order", [SHUFFLED, UNROLLED], ids=["shuffled", "unrolled"])
@pytest.mark.parametrize("mix", [0.0, 1.0])
def test_tokens_in_another_order_are_refuted(order, mix):
    inputs = nets.images()
    assert verdict(nets.fixed(Patches(mix=mix)), inputs, "block", Tokens((4, 4), 0)) == "verified"
    assert verdict(nets.fixed(Patches(order, mix=mix)), inputs, "block", Tokens((4, 4), 0)) == "refuted"


def test_the_wrong_number_of_leading_tokens_is_refuted_where_it_moves_the_grid():
    model, inputs = nets.fixed(Patches(before=1, behind=8)), nets.images()
    assert verdict(model, inputs, "block", Tokens((4, 4), 1, 8)) == "verified"
    assert verdict(model, inputs, "block", Tokens((5, 5), 0)) != "verified"
    model = nets.fixed(Patches(before=9))
    found, _ = locate(model, inputs, {LayerRef("block"): [Tokens((5, 5), 0), Tokens((4, 4), 9)]})
    assert found[LayerRef("block")].layout in (Tokens((5, 5), 0), Tokens((4, 4), 9))
    assert verdict(model, inputs, "block", Tokens((4, 4), 9)) == "verified"


def test_of_grids_of_one_count_the_measured_one_is_taken():
    class Clips(Patches):
        def __init__(self):
            super().__init__(mix=2.0)
            self.embed = nn.Conv3d(3, 8, (2, 4, 4), stride=(2, 4, 4))

    model, inputs = nets.fixed(Clips()), torch.randn(1, 3, 8, 16, 16, dtype=torch.float64)
    wrong, right = Tokens((1, 8, 8), 0), Tokens((4, 4, 4), 0)
    found, _ = locate(model, inputs, {LayerRef("block"): [wrong, right]})
    assert found[LayerRef("block")] == (right, "verified")


def test_another_prefix_that_fits_by_chance_does_not_win_over_the_likeliest():
    washed, inputs = nets.fixed(Patches(SHUFFLED, mix=100.0)), nets.images()
    likely = Tokens((4, 4), 0)
    for seed in range(20):  # some draws rank the positions as the second reading would
        washed.embed.weight.data.add_(torch.randn(8, 3, 2, 2, generator=torch.Generator().manual_seed(seed)) * 0.1)
        found, _ = locate(nets.twin(washed), inputs, {LayerRef("block"): [likely, Tokens((1, 2), 7, 7)]})
        assert found[LayerRef("block")] == (likely, "undetermined")


def test_a_place_that_is_washed_out_is_undetermined():
    mean = nets.fixed(nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Upsample(size=(4, 4))))
    assert verdict(mean, nets.images(), "2", ChannelsFirst()) == "undetermined"
    assert (
        verdict(nets.fixed(Patches(SHUFFLED, mix=100.0)), nets.images(), "block", Tokens((4, 4), 0)) == "undetermined"
    )


def test_an_order_among_all_but_equal_shares_may_be_chance_and_is_not_believed():
    assert verdict(nets.fixed(Patches(mix=3.0)), nets.images(), "block", Tokens((4, 4), 0)) == "verified"
    assert verdict(nets.fixed(Patches(mix=300.0)), nets.images(), "block", Tokens((4, 4), 0)) == "undetermined"


def test_one_half_that_moves_everything_more_does_not_matter():
    class Uneven(Patches):
        def forward(self, x):
            weight = torch.linspace(20, 1, 8, dtype=x.dtype)[:, None]
            return super().forward(x * weight) + 0

    assert verdict(nets.fixed(Uneven(mix=3.0)), nets.images(), "block", Tokens((4, 4), 0)) != "refuted"


def test_a_network_of_a_fixed_batch_tells_nothing_and_is_not_an_error():
    class One(nets.Plain):
        def forward(self, x):
            if len(x) != 1:
                raise RuntimeError("one at a time")
            return super().forward(x)

    found, _ = locate(nets.fixed(One()), nets.images(1), {LayerRef("conv2"): [ChannelsFirst()]})
    assert found[LayerRef("conv2")] == (ChannelsFirst(), "undetermined")


def test_what_was_found_is_kept_for_the_shape_and_the_network_left_as_it_was():
    model, inputs = nets.fixed(Patches()), nets.images()
    before = nets.state(model)
    asked = {LayerRef("block"): [Tokens((4, 4), 0)]}
    assert [locate(model, inputs, asked)[1] for _ in range(2)] == [1, 0]
    assert locate(model, inputs[:1], asked)[1] == 0
    assert locate(model, nets.images(side=12), {LayerRef("block"): [Tokens((6, 6), 0)]})[1] == 1
    assert nets.differences(before, nets.state(model)) == []


def test_the_picture_among_several_inputs_is_the_one_that_is_changed():
    model = nets.fixed(nets.TwoInputs())
    numbers = torch.randn(3, 2, dtype=torch.float64)
    found = changes(model, (numbers, nets.images()), [LayerRef("conv2"), LayerRef("numbers")])
    assert found[LayerRef("conv2")].verdict(ChannelsFirst()) == "verified"
    assert torch.equal(found[LayerRef("numbers")].outputs, found[LayerRef("numbers")].outputs[:1].expand(5, -1))


def test_each_call_of_a_layer_is_told_apart():
    model, inputs = nets.fixed(nets.Shared()), nets.images()
    found = changes(model, inputs, [LayerRef("relu", 0), LayerRef("relu"), LayerRef("relu", 7)])
    assert found.keys() == {LayerRef("relu", 0), LayerRef("relu")}
    assert not torch.equal(found[LayerRef("relu", 0)].outputs, found[LayerRef("relu")].outputs)


def test_a_named_layer_whose_tokens_are_shuffled_is_refused_and_not_misdrawn():
    model, inputs = nets.fixed(Patches(SHUFFLED)), nets.images()
    with pytest.raises(whycam.WhycamError, match="positions of layer 'block' do not lie as in the input"):
        whycam.explain(model, inputs, layer="block")
    made = whycam.compare(model, inputs, ["grad_cam"], layers=["block", "embed"])
    assert [layer for _, layer, _ in made] == ["embed"]
    assert "do not lie as in the input" in made.failures["grad_cam", "block", None]
    given = whycam.explain(model, inputs, layer="block", layout=Tokens((4, 4), 0))
    assert given.layer.location == "as given"


def test_with_no_layer_named_the_shuffled_one_is_passed_over_and_that_is_said():
    model, inputs = nets.fixed(Patches(SHUFFLED)), nets.images()
    found = whycam.explain(model, inputs)
    assert found.layer.name == "embed"
    assert found.layer.location == "verified"
    assert "'block'" in found.layer.why


def test_a_named_layer_with_its_channels_last_is_read_so_by_measuring():
    model, twin, inputs = nets.fixed(nets.ChannelsLast()), nets.plain(), nets.images(side=16)
    model.conv2 = nets.fixed(nn.Conv2d(6, 8, 3, stride=2, padding=1))  # 8 x 8 x 8
    twin.conv1, twin.conv2, twin.head = model.conv1, model.conv2, model.head
    found, expected = whycam.explain(model, inputs, layer="relu2"), whycam.explain(twin, inputs, layer="relu2")
    assert found.layer.layout == "channels last"
    assert found.layer.location == "verified"
    torch.testing.assert_close(found.maps, expected.maps)
    assert found.maps.any()


def along(first, second):
    """The verdict where so much of the change in each place of the two halves came from the first half."""
    share = torch.tensor([*first, *second], dtype=torch.float64)
    return _along(torch.stack([share, 1 - share]), 0)


@pytest.mark.parametrize(
    ("apart", "expected"),
    [(0.021, "verified"), (0.019, "undetermined"), (-0.29, "undetermined"), (-0.31, "refuted")],
)
def test_places_that_hardly_differ_tell_nothing_and_a_wrong_order_must_be_clear(apart, expected):
    assert along([0.5 + apart] * 5, [0.5 - apart] * 5) == expected


@pytest.mark.parametrize(("ties", "expected"), [(0, "verified"), (1, "refuted")])
def test_four_pairs_of_five_must_be_as_claimed(ties, expected):
    """Eight of ten places in the first half come before all of the second, and two behind; a tie is half a pair."""
    first, second = [0.9] * 8 + [0.1] * 2, [0.2] * 10
    second[:ties] = [0.9] * ties
    assert along(first, second) == expected
