"""Score-CAM against Algorithm 1 and the authors' code, channel by channel in numpy."""

import math

import masks_by_hand as by_hand
import numpy as np
import pytest
import torch

from whycam.errors import WhycamError
from whycam.methods.score_cam import score_cam

every_rank = pytest.mark.parametrize(
    ("space", "size"), [((4,), (9,)), ((2, 3), (5, 7)), ((2, 1, 2), (3, 4, 2))], ids=["1d", "2d", "3d"]
)


def by_loops(activations, inputs, net, *, probability=False, behind=None):
    behind = torch.zeros_like(inputs) if behind is None else behind
    maps = []
    for n in range(len(inputs)):
        channels, scores = [], []
        for channel in activations[n].numpy():
            if channel.max() == channel.min():
                continue
            mask = by_hand.unit(by_hand.resized(channel, inputs.shape[2:]))
            picture = np.stack(
                [mask * x + (1 - mask) * b for x, b in zip(inputs[n].numpy(), behind[n].numpy(), strict=True)]
            )
            channels.append(channel)
            scores.append(by_hand.of_one(net, picture, probability=probability))
        weights = scores if probability else by_hand.softmax(scores)
        maps.append(np.maximum(sum(w * channel for w, channel in zip(weights, channels, strict=True)), 0))
    return torch.from_numpy(np.stack(maps))


def case(generator, space=(2, 3), size=(5, 7), channels=4):
    activations = torch.randn(3, channels, *space, generator=generator, dtype=torch.float64)
    inputs = torch.randn(3, 2, *size, generator=generator, dtype=torch.float64)
    return activations, inputs, by_hand.network(generator, (2, *size), strength=0.1)


def test_worked_example():
    # masks [0, 1] and [1, 0] show the inputs [0, 5] and [3, 0], which score log 3 and log 1: weights 3/4 and 1/4
    activations, inputs = torch.tensor([[[0.0, 2.0], [4.0, 0.0]]]), torch.tensor([[[3.0, 5.0]]])
    score = by_hand.Scored(lambda x: (x[:, 0, 0] / 3 + x[:, 0, 1] * 3 / 5).log())
    found = score_cam(activations, inputs, score)
    torch.testing.assert_close(found.maps, torch.tensor([[1.0, 1.5]]))
    spread = math.exp(0.75 * math.log(4 / 3) + 0.25 * math.log(4))
    torch.testing.assert_close(found.values["effective_channels"], torch.tensor([spread]))
    assert found.status[0].ok


def test_worked_example_of_the_authors_form():
    # the same inputs score log 3 and log 1, hence probabilities 3/4 and 1/2, which are the weights
    activations, inputs = torch.tensor([[[0.0, 2.0], [4.0, 0.0]]]), torch.tensor([[[3.0, 5.0]]])
    score = by_hand.Scored(lambda x: (x[:, 0, 0] / 3 + x[:, 0, 1] * 3 / 5).log())
    found = score_cam(activations, inputs, score, probability=True)
    torch.testing.assert_close(found.maps, torch.tensor([[2.0, 1.5]]))


@every_rank
@pytest.mark.parametrize("probability", [False, True], ids=["Algorithm 1", "authors"])
def test_is_the_algorithm(space, size, probability, generator):
    activations, inputs, net = case(generator, space, size)
    activations[0, 1] = 0.3
    activations[2, :2] = 0
    found = score_cam(activations, inputs, by_hand.Scored(net), probability=probability)
    expected = by_loops(activations, inputs, net, probability=probability)
    torch.testing.assert_close(found.maps, expected)
    assert expected.any()


@pytest.mark.parametrize("probability", [False, True])
def test_trap_s7_what_is_hidden_is_what_was_asked_for(probability, generator):
    activations, inputs, net = case(generator)
    behind = torch.randn(3, 2, 5, 7, generator=generator, dtype=torch.float64)
    for baseline, stands in [(0.7, torch.full_like(inputs, 0.7)), (behind, behind)]:
        found = score_cam(activations, inputs, by_hand.Scored(net), probability=probability, baseline=baseline)
        expected = by_loops(activations, inputs, net, probability=probability, behind=stands)
        torch.testing.assert_close(found.maps, expected)
        zero = score_cam(activations, inputs, by_hand.Scored(net), probability=probability).maps
        assert not torch.allclose(found.maps, zero)


def test_a_constant_added_to_the_score_changes_nothing(generator):
    activations, inputs, net = case(generator)
    one = score_cam(activations, inputs, by_hand.Scored(net))
    other = score_cam(activations, inputs, by_hand.Scored(lambda x: net(x) + 123))
    torch.testing.assert_close(one.maps, other.maps)


def test_the_channel_that_shows_what_the_score_reads_decides():
    activations = torch.eye(4).reshape(1, 4, 4)
    found = score_cam(activations, torch.ones(1, 1, 4), by_hand.Scored(lambda x: 50 * x[:, 0, 2]))
    torch.testing.assert_close(found.maps, activations[:, 2])
    torch.testing.assert_close(found.values["effective_channels"], torch.ones(1))


def test_equal_channels_have_equal_weights(generator):
    activations, inputs, net = case(generator, channels=1)
    one = score_cam(activations, inputs, by_hand.Scored(net))
    three = score_cam(activations.expand(-1, 3, -1, -1), inputs, by_hand.Scored(net))
    torch.testing.assert_close(three.maps, one.maps)
    torch.testing.assert_close(three.values["effective_channels"], torch.full((3,), 3.0).double())


def test_trap_s3_small_scores_give_the_mean_for_any_target_and_the_status_says_so(generator):
    activations, inputs, net = case(generator)
    found = score_cam(activations, inputs, by_hand.Scored(lambda x: 1e-9 * net(x)))
    torch.testing.assert_close(found.maps, activations.mean(1).relu())
    assert [status.kind for status in found.status] == ["uniform weights"] * 3
    large = score_cam(activations, inputs, by_hand.Scored(lambda x: 10 * net(x)))
    assert all(status.ok for status in large.status)
    assert (large.values["effective_channels"] < 2.5).all()


def test_trap_s5_a_flat_channel_has_no_part_and_is_not_run_where_it_is_flat_in_every_sample(generator):
    activations, inputs, net = case(generator)
    dead = torch.cat([activations, torch.zeros_like(activations), torch.full_like(activations, 5.0)], 1)
    few, many = by_hand.Scored(net), by_hand.Scored(net)
    one, other = score_cam(activations, inputs, few), score_cam(dead, inputs, many)
    torch.testing.assert_close(one.maps, other.maps)
    assert few.runs == many.runs == 4


@pytest.mark.parametrize("activations", [torch.ones(2, 3, 4, 4), torch.rand(2, 3, 1, 1)], ids=["flat", "one location"])
@pytest.mark.parametrize("probability", [False, True])
def test_where_every_channel_is_flat_there_is_no_map(activations, probability):
    score = by_hand.Scored(lambda x: x.flatten(1).sum(1))
    found = score_cam(activations, torch.ones(2, 3, 8, 8), score, probability=probability)
    assert not found.maps.any()
    assert found.values["effective_channels"].tolist() == [0, 0]


@pytest.mark.parametrize("probability", [False, True])
def test_a_batch_is_its_samples(probability, generator):
    activations, inputs, net = case(generator)
    activations[1, 2] = 4.0
    together = score_cam(activations, inputs, by_hand.Scored(net), probability=probability)
    for n in range(3):
        each = slice(n, n + 1)
        alone = score_cam(activations[each], inputs[each], by_hand.Scored(net), probability=probability)
        torch.testing.assert_close(together.maps[each], alone.maps, rtol=1e-14, atol=1e-14)
        assert together.status[n] == alone.status[0]


def test_nothing_is_changed_and_precision_is_kept(generator):
    activations, inputs, net = (each.float() if isinstance(each, torch.Tensor) else each for each in case(generator))
    before = activations.clone(), inputs.clone()
    assert score_cam(activations, inputs, by_hand.Scored(net)).maps.dtype == torch.float32
    assert torch.equal(activations, before[0])
    assert torch.equal(inputs, before[1])


def test_a_score_that_is_no_number_is_not_hidden(generator):
    activations, inputs, net = case(generator)
    found = score_cam(activations, inputs, by_hand.Scored(lambda x: net(x) / torch.tensor([1, 0, 1]) * 0))
    assert found.maps[1].isnan().any()
    assert found.maps[[0, 2]].isfinite().all()


def test_a_baseline_that_is_none_is_refused(generator):
    activations, inputs, net = case(generator)
    with pytest.raises(WhycamError, match="cannot stand in"):
        score_cam(activations, inputs, by_hand.Scored(net), baseline=torch.ones(9))
