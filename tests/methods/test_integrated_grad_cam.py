"""Integrated Grad-CAM against its sum over the path, loop by loop, and a network whose integral is known."""

import itertools

import numpy as np
import pytest
import torch
from small import Small, pictures

from whycam.kit.masks import blur
from whycam.kit.quantities import Traced
from whycam.methods.grad_cam import grad_cam
from whycam.methods.integrated_grad_cam import integrated_grad_cam

every_rank = pytest.mark.parametrize("space", [(6,), (5, 7), (3, 4, 5)], ids=["1d", "2d", "3d"])


def by_loops(net, inputs, start, steps, *, notebook=False):
    before = net.run(start).activations.numpy() * (not notebook)
    maps = np.zeros((before.shape[0], *before.shape[2:]))
    for step in range(steps) if notebook else range(1, steps + 1):
        run = net.run(start + (inputs - start) * (step / steps))
        a, g = run.activations.numpy(), run.gradients.numpy()
        for n in range(len(a)):
            weights = [np.mean(g[n, k]) for k in range(a.shape[1])]
            for at in itertools.product(*map(range, a.shape[2:])):
                value = sum(weights[k] * (a[(n, k, *at)] - before[(n, k, *at)]) for k in range(a.shape[1]))
                maps[(n, *at)] += max(value, 0.0) / steps
    return torch.from_numpy(maps)


def made(net, inputs, **options):
    run = net.run(inputs)
    return integrated_grad_cam(run.activations, run.gradients, inputs, net.trace, **options)


@every_rank
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_is_the_mean_over_the_path_of_what_was_gained(space, steps, generator):
    net, inputs = Small(len(space), generator), pictures(space, generator)
    expected = by_loops(net, inputs, torch.zeros_like(inputs), steps)
    torch.testing.assert_close(made(net, inputs, steps=steps), expected)
    assert expected.any()


BASELINES = {
    "number": (0.5, lambda inputs: torch.full_like(inputs, 0.5)),
    "tensor": (torch.ones(3, 1, 1), lambda inputs: torch.ones_like(inputs)),
    "blur": ("blur", blur),
}


@pytest.mark.parametrize(("baseline", "start"), BASELINES.values(), ids=BASELINES)
def test_the_path_begins_at_the_baseline(baseline, start, generator):
    net, inputs = Small(2, generator), pictures((5, 7), generator)
    expected = by_loops(net, inputs, start(inputs), 3)
    torch.testing.assert_close(made(net, inputs, steps=3, baseline=baseline), expected)
    assert not torch.allclose(made(net, inputs, steps=3), expected)


@every_rank
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_notebook_subtracts_nothing_and_begins_at_the_baseline(space, steps, generator):
    net, inputs = Small(len(space), generator), pictures(space, generator)
    found = made(net, inputs, steps=steps, baseline=0.5, form="notebook")
    start = torch.full_like(inputs, 0.5)
    torch.testing.assert_close(found, by_loops(net, inputs, start, steps, notebook=True))
    assert not torch.allclose(found, by_loops(net, inputs, start, steps))
    assert len(net.traced) == steps


@every_rank
def test_identity_13_one_step_from_a_layer_of_zeros_is_grad_cam(space, generator):
    net, inputs = Small(len(space), generator), pictures(space, generator)
    run = net.run(inputs)
    assert net.run(torch.zeros_like(inputs)).activations.eq(0).all()
    torch.testing.assert_close(made(net, inputs, steps=1), grad_cam(run.activations, run.gradients))


def test_worked_example():
    # the layer is the input plus 1 and the score its sum squared, over two locations: gradients are twice the sum
    def trace(variants):
        for variant in variants:
            a = variant[:, :1] + 1
            g = (2 * a.sum(2, keepdim=True)).expand_as(a)
            yield Traced(a, g, a.sum((1, 2)) ** 2, a.sum((1, 2))[:, None])

    inputs = torch.tensor([[[2.0, -4.0]]])
    (run,) = trace([inputs])
    # at half the way gains are 1 and -2, the sum 2 - 1; at the end 2 and -4, and 3 - 3
    found = integrated_grad_cam(run.activations, run.gradients, inputs, trace, steps=2)
    torch.testing.assert_close(found, torch.tensor([[(2.0 * 1 + 0.0 * 2) / 2, 0.0]]))


def test_many_steps_come_near_the_integral():
    # one channel, layer = input, score = mean of squares / 2: the integral of t x mean(x) t is mean(x) x / 3
    def trace(variants):
        for a in variants:
            g = (a / a.shape[2]).expand_as(a)
            yield Traced(a, g, (a**2).sum((1, 2)), a.sum(2))

    inputs = torch.tensor([[[3.0, 1.0, 2.0]]], dtype=torch.float64)
    (run,) = trace([inputs])
    found = integrated_grad_cam(run.activations, run.gradients, inputs, trace, steps=2000)
    torch.testing.assert_close(found, inputs[:, 0] * (2 / 3) / 3, rtol=1e-3, atol=0)


def test_as_many_runs_as_steps_and_each_of_the_whole_batch(generator):
    net, inputs = Small(2, generator), pictures((5, 7), generator, 3)
    made(net, inputs, steps=4)
    assert net.traced == [(3, 3, 5, 7)] * 4


@every_rank
def test_a_batch_is_its_samples(space, generator):
    net, inputs = Small(len(space), generator), pictures(space, generator, 3)
    together = made(net, inputs, steps=3)
    for n in range(3):
        torch.testing.assert_close(together[n : n + 1], made(net, inputs[n : n + 1], steps=3), rtol=1e-12, atol=1e-14)


def test_an_input_that_is_the_baseline_gains_nothing(generator):
    assert made(Small(2, generator), torch.zeros(1, 3, 5, 5).double(), steps=3).eq(0).all()


def test_what_was_measured_is_left_as_it_was(generator):
    net, inputs = Small(2, generator), pictures((5, 7), generator)
    run, given = net.run(inputs), inputs.clone()
    copies = run.activations.clone(), run.gradients.clone()
    integrated_grad_cam(run.activations, run.gradients, inputs, net.trace, steps=2)
    assert inputs.equal(given)
    assert run.activations.equal(copies[0])
    assert run.gradients.equal(copies[1])
