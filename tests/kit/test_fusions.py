"""Several maps into one, by hand."""

import math
from functools import partial

import masks_by_hand as by_hand
import nets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import whycam
from whycam import fusions
from whycam.errors import WhycamError

COARSE = torch.tensor([[[0.0, 4.0], [-2.0, 1.0]]], dtype=torch.float64)
FINE = torch.tensor(
    [[[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0], [-8.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]], dtype=torch.float64
)


def enlarged(maps):
    return F.interpolate(maps[:, None], (4, 4), mode="bilinear", align_corners=False)[:, 0]


def test_the_mean_lets_no_layer_count_for_its_size():
    expected = (enlarged(COARSE / 4) + FINE / 8) / 2
    torch.testing.assert_close(fusions.mean([COARSE, FINE]), expected)
    torch.testing.assert_close(fusions.mean([1e6 * COARSE, 1e-9 * FINE]), expected)


def test_the_maximum_is_of_positive_parts():
    expected = torch.maximum(enlarged(COARSE.clamp(min=0) / 4), FINE.clamp(min=0) / 2)
    torch.testing.assert_close(fusions.maximum([COARSE, FINE]), expected)


def test_tanh_lifts_the_shallow_layers_as_layercam_does():
    shallow, deep = FINE.clamp(min=0), COARSE.clamp(min=0)
    expected = torch.maximum(torch.tanh(2 * shallow / shallow.max()), enlarged(deep / deep.max()))
    torch.testing.assert_close(fusions.tanh([FINE, COARSE]), expected)
    torch.testing.assert_close(fusions.tanh([COARSE, FINE]), expected)
    assert float(fusions.tanh([FINE, COARSE * 0]).max()) == pytest.approx(math.tanh(2))


def test_the_product_is_of_scaled_maps_at_one_size():
    large = enlarged(COARSE)
    scaled = [(each - each.min()) / (each.max() - each.min()) for each in (large, FINE)]
    torch.testing.assert_close(fusions.product([COARSE, FINE]), scaled[0] * scaled[1])


@pytest.mark.parametrize("size", [(8, 8), [6, 9]])
def test_the_product_can_be_of_maps_at_the_inputs_size(size):
    scaled = [by_hand.unit(by_hand.resized(each[0].numpy(), size)) for each in (COARSE, FINE)]
    found = fusions.product([COARSE, FINE], size=size)
    torch.testing.assert_close(found, torch.from_numpy(scaled[0] * scaled[1])[None])
    small = F.interpolate(fusions.product([COARSE, FINE])[:, None], tuple(size), mode="bilinear")[:, 0]
    assert not torch.allclose(found, small, atol=0.05)


def test_a_product_at_the_inputs_size_is_a_map_of_that_size():
    torch.manual_seed(0)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.ReLU(), pool).eval()
    x = torch.rand(2, 3, 16, 16)
    large = partial(fusions.product, size=(16, 16))
    found = whycam.explain(model, x, layer=["1", "4"], target=0, fusion=large)
    assert found.maps.shape == (2, 16, 16)
    assert torch.equal(found.maps, found.heatmaps(normalize="none"))
    with pytest.raises(WhycamError, match="the option 'size' of product takes"):
        whycam.explain(model, x, layer=["1", "4"], target=0, fusion=partial(fusions.product, size=(0, 16)))


def test_poly_by_hand():
    # by twos the fine map is [2, 0], and back at its own size [2, 1.5, 0.5, 0]: locally [0.5, 2, 0] and nothing to
    # divide by; the coarse one is [2, 2.5, 3.5, 4] there
    fine, coarse = torch.tensor([[1.0, 3.0, 0.0, 0.0]]), torch.tensor([[2.0, 4.0]])
    expected = torch.tensor([[1.0, 5.0, 0.0, 0.0]])
    torch.testing.assert_close(fusions.poly([fine, coarse]), expected)
    torch.testing.assert_close(fusions.poly([1e-20 * fine, coarse]), expected)
    torch.testing.assert_close(fusions.poly([fine, 1e-20 * coarse]), 1e-20 * expected)
    torch.testing.assert_close(fusions.poly([fine - 9 * (fine == 0), coarse - 9]), torch.zeros(1, 4))


@pytest.mark.parametrize("sizes", [[(9,), (5,), (2,)], [(7, 4), (4, 4), (2, 3)], [(4, 2, 3), (2, 2, 3), (2, 1, 2)]])
def test_poly_goes_from_coarse_to_fine(sizes, generator):
    maps = [torch.randn(2, *size, generator=generator, dtype=torch.float64) + 0.5 for size in sizes]
    expected = []
    for parts in zip(*maps, strict=True):
        fine, middle, fused = (np.maximum(part.numpy(), 0) for part in parts)
        for each in (middle, fine):
            level = by_hand.resized(by_hand.resized(each, fused.shape), each.shape)
            local = np.divide(each, level, out=np.zeros_like(each), where=level > 0)
            fused = local * by_hand.resized(fused, each.shape)
        expected.append(torch.from_numpy(fused))
    torch.testing.assert_close(fusions.poly(maps), torch.stack(expected))
    torch.testing.assert_close(fusions.poly([maps[1], maps[2], maps[0]]), torch.stack(expected))
    assert all(each.any() for each in expected)


def test_poly_of_a_fine_map_without_detail_is_the_coarse_one():
    torch.testing.assert_close(fusions.poly([0.7 * torch.ones_like(FINE), COARSE]), enlarged(COARSE.clamp(min=0)))
    assert torch.equal(fusions.poly([FINE]), FINE.clamp(min=0))


def test_poly_of_layers_of_one_size_keeps_the_later_where_the_earlier_is_positive():
    torch.testing.assert_close(fusions.poly([FINE, FINE * 0 + 3]), 3 * (FINE > 0).double())


def test_poly_does_not_hide_what_is_no_number():
    fine = torch.tensor([[1.0, torch.nan, 0.0, 0.0]])
    assert fusions.poly([fine, torch.ones(1, 2)]).isnan().any()


ANY = fusions.names()
OF_MAPS = [name for name in ANY if not fusions.needs(fusions.find(name))]


def fused(name, maps, seed=0):
    """The fusion of these maps, and of whatever else it asks for, at random for each layer and sample."""
    quantities = {}
    for need in fusions.needs(fusions.find(name)):
        source = torch.Generator().manual_seed(seed)
        samples = [torch.randn(3, 5, *each.shape[1:], generator=source) for each in maps]
        quantities[need] = [each[: len(maps[0])] for each in samples]
    return fusions.find(name)(maps, **quantities), quantities


@pytest.mark.parametrize("name", ANY)
@pytest.mark.parametrize("sizes", [[(3,), (6,)], [(2, 4), (4, 2)], [(2, 2, 2), (3, 4, 2)]], ids=str)
def test_any_rank_and_every_sample_by_itself(name, sizes, generator):
    maps = [torch.randn(3, *size, generator=generator) for size in sizes]
    together, quantities = fused(name, maps)
    assert together.shape == (3, *map(max, zip(*sizes, strict=True)))
    fuse = fusions.find(name)
    for n in range(3):
        one = {need: [each[n : n + 1] for each in values] for need, values in quantities.items()}
        torch.testing.assert_close(fuse([each[n : n + 1] for each in maps], **one), together[n : n + 1])
    turned = {need: values[::-1] for need, values in quantities.items()}
    torch.testing.assert_close(fuse(maps[::-1], **turned), together)


@pytest.mark.parametrize("name", ANY)
def test_nothing_shown_stays_nothing(name):
    assert not fused(name, [torch.zeros(2, 3, 3), torch.zeros(2, 6, 6)])[0].any()


def test_names_are_found_and_near_misses_suggested():
    assert {"mean", "maximum", "tanh", "product"} <= set(fusions.names())
    with pytest.raises(WhycamError, match=r"no fusion 'maximun'; there are mean.*Did you mean 'maximum'"):
        whycam.explain(nets.plain(), nets.images(), layer=["conv1", "conv2"], fusion="maximun")


@pytest.mark.parametrize("name", [*OF_MAPS, lambda maps: maps[0] - maps[0]])
def test_several_layers_become_one_map(name):
    model, inputs = nets.plain(), nets.images()
    parts = [whycam.explain(model, inputs, "layer_cam", layer=layer).maps for layer in ("relu1", "relu2")]
    for layers in (["relu1", "relu2"], "relu*", [model.relu1, model.relu2]):
        found = whycam.explain(model, inputs, "layer_cam", layer=layers, fusion=name)
        torch.testing.assert_close(found.maps, fusions.find(name)(parts))
        assert found.layer.name == "relu1 + relu2"
        assert found.layer.grid == (8, 8)
        assert "2 layers fused by" in found.layer.why
        assert found.cost.forwards == 1


def test_fused_maps_carry_the_worst_status_of_their_parts():
    model, inputs = nets.plain(), nets.images()
    found = whycam.explain(model, inputs, "xgrad_cam", layer=["relu2", "conv1"])
    assert {status.kind for status in found.status} == {"signed activations"}
    assert found.status[0].message.startswith("at conv1: ")


@pytest.mark.parametrize("layers", [["early", "late"], ["late", "early"]], ids=" ".join)
def test_one_layer_of_unknown_place_is_enough_to_doubt_a_fused_map(layers):
    """After the first mixing every token depends on its own place most; after the last all depend on all alike."""

    class Washed(nets.Tokens):
        def __init__(self):
            super().__init__()
            self.early, self.late = nn.Identity(), nn.Identity()

        def forward(self, x):
            x = self.early(self.embed(x).flatten(2).mT)
            x = self.late(x.mean(1, keepdim=True).expand(-1, 16, -1) + 0)
            return self.head(x.mean(1))

    model, inputs = nets.fixed(Washed()), nets.images()
    alone = {name: whycam.explain(model, inputs, layer=name, target=1).layer.location for name in layers}
    assert alone == {"early": "verified", "late": "undetermined"}
    found = whycam.explain(model, inputs, layer=layers, target=1)
    assert found.layer.location == "undetermined"
    assert any("could not be told" in note for note in found.notes)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_fusing_is_plain_arithmetic_wherever_the_caller_is(mode):
    model, inputs = nets.plain().float(), nets.images().float()
    expected = fusions.mean([torch.ones(1, 2, 2), torch.eye(4)[None]])

    def fuse(_):
        assert not torch.is_inference_mode_enabled()
        assert not torch.is_autocast_enabled("cpu")
        return expected.expand(3, -1, -1)

    with mode():
        found = whycam.explain(model, inputs, layer=["relu1", "relu2"], fusion=fuse)
    assert torch.equal(found.maps[0], expected[0])
    assert not found.maps.is_inference()


def layered(*importances):
    """Gradients of layers of one map each, whose channels' means are on average the importances."""
    return [torch.stack([torch.full((2, 3), value + 1), torch.full((2, 3), value - 1)])[None].double()
            for value in importances]  # fmt: skip


def one_each(count):
    """Maps that are 1 at a location of their own and 0 elsewhere, so that a fused map reads off the weights."""
    return list(torch.eye(6, dtype=torch.float64)[:count].reshape(count, 1, 2, 3))


@pytest.mark.parametrize(
    ("percentile", "weights"),
    [
        # of the importances 1, 2, 3, 11 the median is 2.5, and three quarters of the way 5
        (100, [0.1, 0.1 + 0.9 * 1 / 10, 0.1 + 0.9 * 2 / 10, 1.0, 0.0, 0.0]),
        (75, [0.1, 0.1 + 0.9 * 1 / 4, 0.1 + 0.9 * 2 / 4, 1.0, 0.0, 0.0]),
        (50, [0.1, 0.1 + 0.9 * 1 / 1.5, 1.0, 1.0, 0.0, 0.0]),
        (0, [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]),
    ],
)
def test_winsor_cuts_off_the_most_important_layers_by_hand(percentile, weights):
    gradients = layered(1.0, 2.0, 3.0, 11.0, 0.0, -4.0)
    found = fusions.winsor(one_each(6), gradients, percentile=percentile)
    torch.testing.assert_close(found.flatten(), torch.tensor(weights, dtype=torch.float64))
    # a scale of all gradients changes nothing
    again = fusions.winsor(one_each(6), [1e-9 * each for each in gradients], percentile=percentile)
    torch.testing.assert_close(again, found)


def test_winsor_takes_means_or_the_largest_channel():
    gradients = [torch.tensor([[[[2.0, 4.0]], [[-1.0, -3.0]]]]), torch.tensor([[[[1.0, 1.0]], [[1.0, 1.0]]]])]
    maps = [torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]])]
    # channels' means 3 and -2, and 1 and 1: on average 0.5 and 1, at most 3 and 1
    assert fusions.winsor(maps, gradients, percentile=100)[0, 0].tolist() == pytest.approx([0.1, 1.0])
    assert fusions.winsor(maps, gradients, percentile=100, importance="max")[0, 0].tolist() == pytest.approx([1.0, 0.1])


def test_winsor_scales_maps_and_resizes_them_linearly():
    maps = [2 + COARSE.clamp(min=0), FINE]
    found = fusions.winsor(maps, [torch.ones(1, 2, 2, 2).double(), torch.ones(1, 2, 4, 4).double()])
    torch.testing.assert_close(found, enlarged(COARSE.clamp(min=0) / 4) + FINE.clamp(min=0) / 2)


def test_winsor_weighs_each_sample_by_itself_and_shows_what_is_not_finite():
    maps = [torch.cat([each] * 3) for each in one_each(2)]
    gradients = [torch.cat([*layered(a), *layered(b), *layered(c)]) for a, b, c in ((1.0, 5.0, 2.0), (2.0, 4.0, -1.0))]
    found = fusions.winsor(maps, gradients, percentile=100).flatten(1)[:, :2]
    torch.testing.assert_close(found, torch.tensor([[0.1, 1.0], [1.0, 0.1], [1.0, 0.0]], dtype=torch.float64))
    gradients[0][1, 0, 0, 0] = torch.nan
    spoilt = fusions.winsor(maps, gradients, percentile=100).flatten(1)[:, :2]
    assert spoilt[1].isnan().any()
    assert torch.equal(spoilt[[0, 2]], found[[0, 2]])
    assert not fusions.winsor(one_each(2), layered(-1.0, 0.0)).any()


def test_a_fusion_says_what_it_needs_by_its_parameters():
    def asks(maps, gradients, activations, *, power=2.0):
        return maps[0]

    def leaves_open(maps, *, power):
        return maps[0]

    def has_a_default(maps, power=2.0, *more, **options):
        return maps[0]

    assert fusions.needs(fusions.mean) == frozenset()
    assert fusions.needs(fusions.winsor) == {"gradients"}
    assert fusions.needs(partial(fusions.winsor, percentile=50)) == {"gradients"}
    assert fusions.needs(asks) == {"gradients", "activations"}
    assert fusions.needs(partial(leaves_open, power=3)) == frozenset()
    assert fusions.needs(has_a_default) == frozenset()
    assert fusions.needs(max) == frozenset()
    with pytest.raises(WhycamError, match=r"the fusion leaves_open asks for 'power'; .* can ask for activations, "):
        fusions.needs(leaves_open)
    with pytest.raises(WhycamError, match=r"asks for 'score_from'"):
        fusions.needs(lambda maps, score_from: maps[0])


@pytest.mark.parametrize("sizes", [[(4, 6), (2, 3), (1, 1)], [(5, 7), (2, 3)], [(9,), (4,)], [(4, 6, 4), (2, 3, 3)]])
def test_the_sum_adds_up_to_the_sum_over_all_layers(sizes):
    torch.manual_seed(0)
    maps = [torch.randn(2, *size, dtype=torch.float64) for size in sizes]
    found = fusions.sum(maps)
    assert found.shape == maps[0].shape
    torch.testing.assert_close(found.flatten(1).sum(1), torch.stack([each.flatten(1).sum(1) for each in maps]).sum(0))


def test_the_sum_spreads_a_coarse_cell_over_its_area_and_scales_nothing():
    fine, coarse = torch.zeros(1, 4, 4), torch.zeros(1, 2, 2)
    fine[0, 0, 0], coarse[0, 1, 1] = 0.001, 16.0
    found = fusions.sum([fine, coarse])
    assert float(found[0, 0, 0]) == pytest.approx(0.001)
    assert float(found[0, 2:, 2:].sum()) > 8
