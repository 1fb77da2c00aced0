"""Masks and what shows through them, against the same in numpy and by hand."""

import masks_by_hand as by_hand
import numpy as np
import pytest
import torch

from whycam.kit.arrays import normalize
from whycam.kit.masks import (
    channel_mask,
    flat_channels,
    shown,
    stand_in,
    strongest,
    through_channels,
    to_unit,
    varying,
    weigh_channels,
)

every_rank = pytest.mark.parametrize("space", [(7,), (5, 7), (2, 3, 4)], ids=["1d", "2d", "3d"])


def test_the_input_shows_where_the_mask_is_one_and_what_is_behind_where_it_is_zero():
    inputs, behind = torch.tensor([[[1.0, 2.0, 4.0]]]), torch.tensor([[[10.0, 20.0, 8.0]]])
    found = shown(inputs, torch.tensor([[1.0, 0.0, 0.25]]), behind)
    assert torch.equal(found, torch.tensor([[[1.0, 20.0, 7.0]]]))


@every_rank
def test_every_color_is_masked_alike_and_outside_of_zero_and_one_too(space, generator):
    inputs, behind = torch.randn(2, 2, 3, *space, generator=generator, dtype=torch.float64)
    mask = 2 * torch.randn(2, *space, generator=generator, dtype=torch.float64)
    expected = np.stack([[mask[n] * inputs[n, c] + (1 - mask[n]) * behind[n, c] for c in range(3)] for n in range(2)])
    np.testing.assert_allclose(shown(inputs, mask, behind), expected, atol=1e-13)


def test_a_mask_of_another_precision_leaves_the_inputs_theirs():
    found = shown(torch.ones(1, 1, 2), torch.tensor([[0.5, 1.0]], dtype=torch.float64), torch.zeros(1, 1, 2))
    assert torch.equal(found, torch.tensor([[[0.5, 1.0]]]))


@every_rank
def test_a_map_to_unit_is_normalized_by_its_extremes(space, generator):
    maps = torch.randn(3, *space, generator=generator, dtype=torch.float64)
    maps[1] = 1e-30 * maps[1]
    maps[2] = -5
    expected = np.stack([by_hand.unit(each.numpy()) for each in maps])
    np.testing.assert_allclose(to_unit(maps), expected, atol=1e-15)
    torch.testing.assert_close(to_unit(maps), normalize(maps, "minmax"))
    assert to_unit(maps)[:2].flatten(1).amax(1).tolist() == [1, 1]


def test_a_flat_map_to_unit_has_gradients_that_are_finite():
    maps = torch.full((1, 3), 2.0, requires_grad=True)
    (gradient,) = torch.autograd.grad(to_unit(maps).sum(), maps)
    assert gradient.isfinite().all()


@every_rank
def test_a_channel_is_resized_and_then_scaled(space, generator):
    maps = torch.randn(2, 3, *space, generator=generator, dtype=torch.float64)
    size = tuple(2 * side + 1 for side in space)
    expected = np.stack([by_hand.unit(by_hand.resized(maps[n, 1].numpy(), size)) for n in range(2)])
    np.testing.assert_allclose(channel_mask(maps, 1, size), expected, atol=1e-13)


def test_trap_s6_a_peak_between_two_pixels_still_reaches_one():
    # half a pixel off every sample: scaling first would leave a maximum of 5/6
    maps = torch.tensor([[[0.0, 1.0, 0.0]]], dtype=torch.float64)
    assert by_hand.resized(maps[0, 0].numpy(), (2,)).max() < 1
    assert channel_mask(maps, 0, (4,)).max() == 1


def test_a_mask_leaves_its_channel_as_it_was(generator):
    maps = torch.randn(1, 2, 4, 4, generator=generator)
    before = maps.clone()
    channel_mask(maps, 0, (4, 4)).mul_(0)
    assert torch.equal(maps, before)


def test_channels_are_varying_unless_flat_in_every_sample():
    maps = torch.tensor([[[1.0, 2.0], [3.0, 3.0], [4.0, 4.0]], [[5.0, 5.0], [6.0, 6.0], [7.0, 8.0]]])
    assert flat_channels(maps).tolist() == [[False, True, True], [True, True, False]]
    assert torch.equal(varying(maps), maps[:, [0, 2]])
    assert torch.equal(varying(maps[:1]), maps[:1, :1])
    assert torch.equal(varying(maps[:, 1:2]), maps[:, 1:2])
    assert torch.equal(varying(maps[1:, :2]), maps[1:, :1])  # one is left where none varies
    assert varying(maps[:, [0, 2]]).shape == (2, 2, 2)


def test_each_sample_has_its_own_strongest_channels():
    maps = torch.arange(8.0).reshape(2, 4, 1)
    strength = torch.tensor([[1.0, 3.0, 3.0, -5.0], [0.0, -1.0, 2.0, 9.0]])
    assert strongest(maps, strength, 2)[..., 0].tolist() == [[1, 2], [7, 6]]
    assert strongest(maps, strength, 9)[..., 0].tolist() == [[1, 2, 0, 3], [7, 6, 4, 5]]
    assert strongest(maps, torch.zeros(2, 4), 3)[..., 0].tolist() == [[0, 1, 2], [4, 5, 6]]


@pytest.mark.parametrize("baseline", ["zero", "blur", 0.5])
def test_inputs_are_shown_through_each_channel_in_turn(baseline, generator):
    inputs = torch.randn(2, 3, 4, 6, generator=generator, dtype=torch.float64)
    maps = torch.randn(2, 5, 2, 3, generator=generator, dtype=torch.float64)
    variants = through_channels(inputs, maps, baseline)
    assert len(variants) == 5
    behind = stand_in(inputs, baseline)
    for channel, variant in enumerate(variants):
        mask = channel_mask(maps, channel, (4, 6))[:, None]
        torch.testing.assert_close(variant, mask * inputs + (1 - mask) * behind)


@every_rank
def test_gains_weigh_the_channels(space, generator):
    maps = torch.randn(2, 4, *space, generator=generator, dtype=torch.float64)
    maps[1, 2] = 0.7
    gains = 3 * torch.randn(4, 2, generator=generator, dtype=torch.float64)
    for softmax in (True, False):
        expected, spread = [], []
        for n, channels in enumerate([[0, 1, 2, 3], [0, 1, 3]]):
            values = [float(gains[k, n]) for k in channels]
            weights = by_hand.softmax(values) if softmax else np.array(values)
            pairs = zip(weights, channels, strict=True)
            expected.append(np.maximum(sum(w * maps[n, k].numpy() for w, k in pairs), 0))
            positive = weights[weights > 0]
            shares = positive / positive.sum()
            spread.append(np.exp(-(shares * np.log(shares)).sum()) if len(positive) else 0)
        found = weigh_channels(maps, gains, softmax=softmax)
        np.testing.assert_allclose(found.maps, np.stack(expected), atol=1e-13)
        np.testing.assert_allclose(found.values["effective_channels"], spread, atol=1e-13)


def test_weights_that_are_alike_are_told_for_each_sample():
    maps = torch.eye(4, dtype=torch.float64).expand(3, -1, -1).clone()
    maps[2, 0] = 0
    gains = torch.tensor([[5.0, 5.001, 5.002, 4.999], [9.0, 1.0, 1.0, 1.0], [50.0, 1.0, 1.0, 1.0]]).double().T
    found = weigh_channels(maps, gains, softmax=True)
    assert [status.kind for status in found.status] == ["uniform weights", "ok", "uniform weights"]
    assert found.status[0].message.startswith("all 4 channels weigh nearly the same")
    assert found.status[2].message.startswith("all 3 channels")
    torch.testing.assert_close(found.values["effective_channels"][2], torch.tensor(3.0).double())


@pytest.mark.parametrize(("low", "kind"), [(0.83, "uniform weights"), (0.77, "ok")])
def test_alike_means_within_one_per_cent_of_the_most_entropy(low, kind):
    # of two weights in the ratio 0.83 the entropy is 99.4% of log 2, in 0.77 it is 98.8%
    entropy = sum(-p * np.log(p) for p in (1 / (1 + low), low / (1 + low))) / np.log(2)
    assert (entropy >= 0.99) == (kind != "ok")
    found = weigh_channels(torch.eye(2)[None], torch.tensor([[1.0], [low]]), softmax=False)
    assert [status.kind for status in found.status] == [kind]


@pytest.mark.parametrize("softmax", [True, False])
def test_one_channel_is_not_called_uniform_and_none_weighs_nothing(softmax):
    maps = torch.tensor([[[1.0, 2.0], [3.0, 3.0]], [[4.0, 4.0], [5.0, 5.0]]])
    found = weigh_channels(maps, torch.ones(2, 2), softmax=softmax)
    assert torch.equal(found.maps, torch.tensor([[1.0, 2.0], [0.0, 0.0]]))
    assert found.values["effective_channels"].tolist() == [1, 0]
    assert all(status.ok for status in found.status)


def test_a_gain_that_is_no_number_is_not_hidden():
    maps = torch.eye(2).expand(2, -1, -1)
    for softmax in (True, False):
        found = weigh_channels(maps, torch.tensor([[torch.nan, 1.0], [1.0, 2.0]]), softmax=softmax)
        assert found.maps[0].isnan().any()
        assert found.maps[1].isfinite().all()
