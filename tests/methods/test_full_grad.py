"""FullGrad and its simple form against the sum over layers in loops; completeness on a network written out here."""

import numpy as np
import pytest
import torch
from masks_by_hand import resized

from whycam.kit.quantities import BiasGradient
from whycam.methods.full_grad import full_grad
from whycam.methods.simple_full_grad import simple_full_grad

every_rank = pytest.mark.parametrize("space", [(7,), (4, 5), (3, 4, 4)], ids=["1d", "2d", "3d"])


def by_loops(inputs, input_gradients, biases, *, times_bias=True, corners=False):
    x, g = inputs.numpy(), input_gradients.numpy()
    maps = np.zeros((x.shape[0], *x.shape[2:]))

    def add(n, terms):
        """Of one layer: the magnitudes, scaled over all channels at once, resized, summed."""
        size = np.abs(terms)
        low, high = size.min(), size.max()
        for channel in size:
            if high > low:
                maps[n] += resized((channel - low) / (high - low), x.shape[2:], corners=corners)

    for n in range(x.shape[0]):
        add(n, np.stack([x[n, c] * g[n, c] for c in range(x.shape[1])]))
        for each in biases:
            grown = each.gradients[n].numpy()
            if grown.ndim == x.ndim - 1:
                add(n, np.stack([grown[k] * (each.bias[k].item() if times_bias else 1) for k in range(len(grown))]))
    return torch.from_numpy(maps)


def layers(space, generator, samples=2):
    """A layer of the input's size, a smaller one, one of a single location, one of none, and one of other axes."""

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    half, one = [max(1, side // 2) for side in space], [1] * len(space)
    return [
        BiasGradient("same", draw(4), draw(samples, 4, *space)),
        BiasGradient("half", draw(5), draw(samples, 5, *half)),
        BiasGradient("gate", draw(6), draw(samples, 6, *one)),
        BiasGradient("head", draw(3), draw(samples, 3)),
        BiasGradient("other", draw(2), draw(samples, 2, 3, *space)),
    ]


def measured(space, generator, samples=2):
    inputs, gradients = torch.randn(2, samples, 3, *space, generator=generator, dtype=torch.float64)
    return inputs, gradients, layers(space, generator, samples)


@every_rank
def test_both_are_the_sum_over_layers(space, generator):
    inputs, gradients, biases = measured(space, generator)
    found = full_grad(inputs, gradients, biases, torch.zeros(2).double())
    torch.testing.assert_close(found.maps, by_loops(inputs, gradients, biases))
    simple = simple_full_grad(inputs, gradients, biases)
    torch.testing.assert_close(simple, by_loops(inputs, gradients, biases, times_bias=False))
    assert not torch.allclose(simple, found.maps)


@every_rank
def test_layers_can_be_resized_from_corner_to_corner(space, generator):
    inputs, gradients, biases = measured(space, generator)
    found = full_grad(inputs, gradients, biases, torch.zeros(2).double(), align_corners=True)
    torch.testing.assert_close(found.maps, by_loops(inputs, gradients, biases, corners=True))
    simple = simple_full_grad(inputs, gradients, biases, align_corners=True)
    torch.testing.assert_close(simple, by_loops(inputs, gradients, biases, times_bias=False, corners=True))
    assert not torch.allclose(found.maps, by_loops(inputs, gradients, biases))


def test_worked_example():
    inputs, gradients = torch.tensor([[[1.0, -2.0]]]), torch.tensor([[[2.0, 3.0]]])
    biases = [BiasGradient("conv", torch.tensor([1.0, -2.0]), torch.tensor([[[1.0, 3.0], [4.0, 0.0]]]))]
    # input: 2 and 6, to 0 and 1; layer: 1, 3, 8 and 0 over 8
    found = full_grad(inputs, gradients, biases, torch.tensor([-12.0]))
    torch.testing.assert_close(found.maps, torch.tensor([[0 + 1 / 8 + 1, 1 + 3 / 8]]))
    # 2 - 6 and 1 + 3 - 8
    torch.testing.assert_close(found.values["completeness_gap"], torch.tensor([-12.0 + 4 + 4]))
    assert found.status[0].kind == "incomplete"
    simple = simple_full_grad(inputs, gradients, biases)
    torch.testing.assert_close(simple, torch.tensor([[0 + 1 / 4 + 1, 1 + 3 / 4]]))


def test_trap_r3_channels_of_a_layer_are_scaled_together():
    inputs, gradients = torch.zeros(1, 1, 3), torch.zeros(1, 1, 3)
    strong, faint = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, 1e-6])
    biases = [BiasGradient("conv", torch.ones(2), torch.stack([strong, faint])[None])]
    for maps in (
        full_grad(inputs, gradients, biases, torch.zeros(1)).maps,
        simple_full_grad(inputs, gradients, biases),
    ):
        torch.testing.assert_close(maps, torch.tensor([[0.0, 1.0, 1e-6]]))


def test_each_image_is_scaled_by_itself(generator):
    inputs, gradients, biases = measured((4, 5), generator)
    expected = full_grad(inputs, gradients, biases, torch.zeros(2).double()).maps
    scale = torch.tensor([1.0, 1000.0]).double()
    larger = [
        each._replace(gradients=each.gradients * scale.reshape(-1, *[1] * (each.gradients.ndim - 1))) for each in biases
    ]
    found = full_grad(inputs, gradients * scale[:, None, None, None], larger, torch.zeros(2).double()).maps
    torch.testing.assert_close(found, expected)


def convolutional(space, generator):
    """Convolution, ReLU, mean, linear: the score, and every gradient, with biases."""
    rank = len(space)
    convolve = (None, torch.conv1d, torch.conv2d, torch.conv3d)[rank]

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs = draw(2, 3, *space).requires_grad_()
    first, second = draw(4), draw(2)
    hidden = convolve(inputs, draw(4, 3, *[2] * rank)) + first.reshape(-1, *[1] * rank)
    hidden.retain_grad()
    logits = hidden.relu().flatten(2).mean(2) @ draw(4, 2) + second
    scores = logits[:, 0]
    scores.sum().backward()
    of_head = torch.tensor([[1.0, 0.0]] * 2).double()
    biases = [BiasGradient("conv", first, hidden.grad), BiasGradient("head", second, of_head)]
    return inputs.detach(), inputs.grad, biases, scores.detach()


@every_rank
def test_identity_9_nothing_is_missing_in_a_network_of_convolutions(space, generator):
    inputs, gradients, biases, scores = convolutional(space, generator)
    found = full_grad(inputs, gradients, biases, scores)
    assert found.values["completeness_gap"].abs().max() < 1e-12
    assert all(status.ok for status in found.status)


@every_rank
def test_what_is_missing_is_said_in_units_of_the_score(space, generator):
    inputs, gradients, biases, scores = convolutional(space, generator)
    missing = torch.tensor([0.5, 0.0]).double() * scores.abs().amax()
    found = full_grad(inputs, gradients, biases, scores + missing)
    torch.testing.assert_close(found.values["completeness_gap"], missing, atol=1e-12, rtol=1e-9)
    assert [status.kind for status in found.status] == ["incomplete", "ok"]
    assert f"of a score of {(scores + missing)[0].item():.4g}:" in found.status[0].message
    # without the head's bias, which has no place and is counted
    found = full_grad(inputs, gradients, biases[:1], scores)
    torch.testing.assert_close(found.values["completeness_gap"], biases[1].bias[:1].expand(2))


@pytest.mark.parametrize(
    ("part", "kind"), [(0.009, "ok"), (-0.009, "ok"), (0.011, "incomplete"), (-0.012, "incomplete")]
)
def test_a_hundredth_may_be_missing(part, kind):
    inputs, gradients = torch.full((1, 1, 4), 5.0), torch.full((1, 1, 4), 5.0)
    assert full_grad(inputs, gradients, [], torch.tensor([100 * (1 + part)])).status[0].kind == kind


def test_rounding_of_large_terms_that_cancel_is_no_gap():
    inputs, gradients = torch.tensor([[[1e6, 1.0]]]), torch.tensor([[[1.0, 0.0]]])
    biases = [BiasGradient("conv", torch.tensor([-1e6]), torch.ones(1, 1))]
    assert full_grad(inputs, gradients, biases, torch.tensor([0.25])).status[0].ok


def test_half_biases_of_a_float32_score_are_taken(generator):
    inputs, gradients, biases = measured((4, 5), generator)
    single = [BiasGradient(each.name, each.bias, each.gradients.float()) for each in biases]
    found = full_grad(inputs.float(), gradients.float(), single, torch.zeros(2))
    assert found.maps.dtype == torch.float32
    assert found.values["completeness_gap"].dtype == torch.float32
    torch.testing.assert_close(found.maps.double(), by_loops(inputs, gradients, biases), rtol=1e-4, atol=1e-4)


@every_rank
def test_a_batch_is_its_samples(space, generator):
    inputs, gradients, biases = measured(space, generator, 3)
    scores = torch.randn(3, generator=generator, dtype=torch.float64)
    together = full_grad(inputs, gradients, biases, scores)
    simple = simple_full_grad(inputs, gradients, biases)
    for n in range(3):
        own = slice(n, n + 1)
        some = [BiasGradient(each.name, each.bias, each.gradients[own]) for each in biases]
        alone = full_grad(inputs[own], gradients[own], some, scores[own])
        torch.testing.assert_close(together.maps[own], alone.maps, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(
            together.values["completeness_gap"][own], alone.values["completeness_gap"], rtol=1e-10, atol=1e-12
        )
        torch.testing.assert_close(simple[own], simple_full_grad(inputs[own], gradients[own], some))


def test_layers_without_gradient_and_flat_ones_add_nothing(generator):
    inputs, gradients, biases = measured((4, 5), generator)
    flat = [BiasGradient("flat", torch.ones(2).double(), torch.full((2, 2, 4, 5), value).double()) for value in (0, 3)]
    zeros = torch.zeros(2).double()
    expected = full_grad(inputs, gradients, biases, zeros).maps
    torch.testing.assert_close(full_grad(inputs, gradients, biases + flat, zeros).maps, expected)
    expected = simple_full_grad(inputs, gradients, biases)
    torch.testing.assert_close(simple_full_grad(inputs, gradients, biases + flat), expected)
    nothing = full_grad(torch.zeros_like(inputs), gradients, [], zeros)
    assert nothing.maps.eq(0).all()
    assert all(status.ok for status in nothing.status)


def test_a_sample_that_is_not_finite_shows_and_stays_alone(generator):
    inputs, gradients, biases = measured((4, 5), generator)
    zeros = torch.zeros(2).double()
    expected = full_grad(inputs, gradients, biases, zeros)
    simple = simple_full_grad(inputs, gradients, biases)
    for value in (torch.nan, torch.inf):
        for spoilt in (gradients, biases[0].gradients):
            before, spoilt[1, 0, 0, 0] = spoilt[1, 0, 0, 0].clone(), value
            found = full_grad(inputs, gradients, biases, zeros)
            assert found.maps[1].isnan().any()
            assert simple_full_grad(inputs, gradients, biases)[1].isnan().any()
            torch.testing.assert_close(found.maps[0], expected.maps[0])
            torch.testing.assert_close(simple_full_grad(inputs, gradients, biases)[0], simple[0])
            spoilt[1, 0, 0, 0] = before


def test_what_was_measured_is_left_as_it_was(generator):
    inputs, gradients, biases = measured((4, 5), generator)
    copies = inputs.clone(), gradients.clone(), [each.gradients.clone() for each in biases]
    full_grad(inputs, gradients, biases, torch.zeros(2).double())
    simple_full_grad(inputs, gradients, biases)
    assert inputs.equal(copies[0])
    assert gradients.equal(copies[1])
    assert all(each.gradients.equal(copy) for each, copy in zip(biases, copies[2], strict=True))
