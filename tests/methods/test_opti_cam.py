"""Opti-CAM against torch's own Adam on the whole chain at once, and on problems whose answer is known."""

from functools import partial

import masks_by_hand as by_hand
import pytest
import torch
import torch.nn.functional as F

from whycam.methods import opti_cam as module

opti_cam = partial(module.opti_cam, baseline="zero")

every_rank = pytest.mark.parametrize(
    ("space", "size"), [((4,), (9,)), ((2, 3), (5, 7)), ((2, 1, 2), (3, 4, 2))], ids=["1d", "2d", "3d"]
)
MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def slope_of(net):
    """`differentiate`, of a network given as a function."""

    def differentiate(inputs, *, probability=False):
        with torch.enable_grad():
            leaf = inputs.detach().requires_grad_()
            score = net(leaf).sigmoid() if probability else net(leaf)
            (slopes,) = torch.autograd.grad(score.sum(), leaf)
        return score.detach(), slopes

    return differentiate


def by_torch(activations, inputs, net, *, steps, lr, probability=False, behind=0.0):
    """One sample at a time, its score differentiated down to the weights in one graph, by `torch.optim.Adam`."""
    maps = []
    for features, picture in zip(activations.relu(), inputs, strict=True):
        numbers = torch.full((len(features),), 0.5, dtype=torch.float64, requires_grad=True)
        adam = torch.optim.Adam([numbers], lr=lr)
        for _ in range(steps):
            combined = torch.tensordot(numbers.softmax(0), features, 1)
            mode = MODES[combined.ndim]
            large = F.interpolate(combined[None, None], picture.shape[1:], mode=mode, align_corners=False)[0, 0]
            mask = (large - large.min()) / (large.max() - large.min())
            score = net((picture * mask + behind * (1 - mask))[None])
            loss = -(score.sigmoid() if probability else score).sum()
            adam.zero_grad()
            loss.backward()
            adam.step()
        maps.append(torch.tensordot(numbers.detach().softmax(0), features, 1))
    return torch.stack(maps)


def case(generator, space=(2, 3), size=(5, 7)):
    activations = torch.randn(3, 4, *space, generator=generator, dtype=torch.float64)
    inputs = torch.randn(3, 2, *size, generator=generator, dtype=torch.float64)
    return activations, inputs, by_hand.network(generator, (2, *size), strength=0.1)


def test_worked_example():
    # channels [1, 0, 0] and [0, 1, 0] in equal parts: the mask is [1, 1, 0], and its slope along the first weight falls
    # to the larger of the two values, a tie that is shared. The score reads the first pixel: Adam's first step is the
    # rate, up for the first number and down for the second
    activations = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    differentiate = slope_of(lambda x: x[:, 0, 0] + 0 * x.sum((1, 2)))
    found = opti_cam(activations, torch.ones(1, 1, 3), differentiate, steps=1, lr=0.25)
    first, second = torch.tensor([0.25, -0.25]).softmax(0)
    torch.testing.assert_close(found.maps, torch.tensor([[first, second, 0.0]]))
    assert found.status[0].ok


def test_channels_that_happen_not_to_move_are_no_cause_for_a_status():
    # the last two are the mean of the first two, so their slope is 0 beside one of 1/4 and one of -1/4
    activations = torch.tensor([[[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]])
    found = opti_cam(activations, torch.ones(1, 1, 3), slope_of(lambda x: x[:, 0, 0]), steps=1, lr=0.25)
    weights = torch.tensor([0.25, -0.25, 0.0, 0.0]).softmax(0)
    torch.testing.assert_close(found.maps[0], weights @ activations[0])
    assert found.status[0].ok


@every_rank
@pytest.mark.parametrize("probability", [False, True])
def test_is_adam_on_the_weights(space, size, probability, generator):
    activations, inputs, net = case(generator, space, size)
    options = {"steps": 7, "lr": 0.3, "probability": probability}
    found = opti_cam(activations, inputs, slope_of(net), **options, baseline=0.2)
    torch.testing.assert_close(found.maps, by_torch(activations, inputs, net, **options, behind=0.2))


def test_defaults_are_the_authors(generator):
    activations, inputs, net = case(generator)
    calls = []
    differentiate = slope_of(net)
    found = opti_cam(activations, inputs, lambda x, probability=False: calls.append(1) or differentiate(x))
    assert len(calls) == 50
    torch.testing.assert_close(found.maps, by_torch(activations, inputs, net, steps=50, lr=0.1))


@every_rank
def test_the_channel_that_shows_what_the_score_reads_is_found(space, size, generator):
    inputs = torch.rand(2, 2, *size, generator=generator, dtype=torch.float64) + 0.5
    activations = torch.rand(2, 5, *space, generator=generator, dtype=torch.float64)
    wanted = torch.stack([torch.from_numpy(by_hand.resized(each.numpy(), size)) for each in activations[:, 3]])
    wanted = (wanted - wanted.flatten(1).mean(1).reshape(-1, *[1] * len(size)))[:, None]
    found = opti_cam(activations, inputs, slope_of(lambda x: (x * wanted[: len(x)]).flatten(1).sum(1)), steps=300)
    for n in range(2):
        angles = [F.cosine_similarity(found.maps[n].flatten(), each.flatten(), dim=0) for each in activations[n]]
        assert max(range(5), key=lambda k: angles[k]) == 3


def test_the_score_of_the_masked_input_rises(generator):
    activations, inputs, net = case(generator)
    scores = []

    def differentiate(x, *, probability=False):
        value, slopes = slope_of(net)(x)
        scores.append(value)
        return value, slopes

    opti_cam(activations, inputs, differentiate, steps=40)
    assert (scores[-1] > scores[0]).all()


def test_what_is_below_zero_is_left_out(generator):
    activations, inputs, net = case(generator)
    one = opti_cam(activations, inputs, slope_of(net), steps=3)
    other = opti_cam(activations.relu(), inputs, slope_of(net), steps=3)
    assert torch.equal(one.maps, other.maps)
    assert (one.maps >= 0).all()


def test_without_a_gradient_the_map_is_the_mean_and_the_status_says_so(generator):
    activations, inputs, net = case(generator)
    some = torch.tensor([1.0, 0.0, 1.0]).double()
    found = opti_cam(activations, inputs, slope_of(lambda x: net(x) * some), steps=3)
    torch.testing.assert_close(found.maps[1], activations[1].relu().mean(0))
    assert [status.kind for status in found.status] == ["ok", "zero gradient", "ok"]


@pytest.mark.parametrize("value", [0.0, 3.0])
@pytest.mark.parametrize("space", [(3, 3), (1, 1)], ids=["flat", "one location"])
def test_a_flat_layer_has_a_flat_map_without_nan(value, space):
    flat = torch.full((2, 4, *space), value)
    found = opti_cam(flat, torch.rand(2, 1, 6, 6), slope_of(lambda x: x.sum((1, 2, 3))), steps=3)
    torch.testing.assert_close(found.maps, flat[:, 0])
    assert [status.kind for status in found.status] == ["zero gradient"] * 2


def test_a_batch_is_its_samples(generator):
    activations, inputs, net = case(generator)
    together = opti_cam(activations, inputs, slope_of(net), steps=20)
    for n in range(3):
        each = slice(n, n + 1)
        alone = opti_cam(activations[each], inputs[each], slope_of(net), steps=20)
        torch.testing.assert_close(together.maps[each], alone.maps, rtol=1e-12, atol=1e-13)
        assert together.status[n] == alone.status[0]


@pytest.mark.parametrize("around", [torch.no_grad, torch.enable_grad])
def test_nothing_is_changed_and_no_graph_is_left(around, generator):
    activations, inputs, net = case(generator)
    before = activations.clone(), inputs.clone()
    with around():
        one = opti_cam(activations.float(), inputs.float(), slope_of(net), steps=3)
        two = opti_cam(activations, inputs, slope_of(net), steps=3)
    assert one.maps.dtype == torch.float32
    assert not one.maps.requires_grad
    assert torch.equal(activations, before[0])
    assert torch.equal(inputs, before[1])
    assert torch.equal(two.maps, opti_cam(activations, inputs, slope_of(net), steps=3).maps)
