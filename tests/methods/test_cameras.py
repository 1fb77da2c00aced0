"""CAMERAS against its mean over sizes, resized in numpy, and with networks that change their mind."""

import numpy as np
import pytest
import torch
from masks_by_hand import resized
from small import Small, pictures

from whycam.kit.quantities import Traced
from whycam.methods.cameras import cameras
from whycam.methods.hires_cam import hires_cam

every_rank = pytest.mark.parametrize("space", [(6,), (5, 7), (3, 4, 4)], ids=["1d", "2d", "3d"])


def enlarged(values, size):
    """Of one sample, `(channel, *space)`."""
    return np.stack([resized(channel, size) for channel in values])


def by_loops(net, inputs, sizes, kept=None):
    """`kept[n]` are the numbers of the sizes that count for a sample."""
    space = tuple(inputs.shape[2:])
    maps = []
    for n in range(len(inputs)):
        layers, slopes = [], []
        for number, size in enumerate(sizes):
            run = net.run(torch.from_numpy(enlarged(inputs[n].numpy(), size))[None])
            if kept is None or number in kept[n]:
                layers.append(enlarged(run.activations[0].numpy(), space))
                slopes.append(enlarged(run.gradients[0].numpy(), space))
        product = sum(
            (sum(a[k] for a in layers) / len(layers)) * (sum(g[k] for g in slopes) / len(slopes))
            for k in range(len(layers[0]))
        )
        maps.append(np.maximum(product, 0))
    return torch.from_numpy(np.stack(maps))


def at(space, steps, largest):
    factors = [1.0] if steps == 1 else [1 + (largest - 1) * step / (steps - 1) for step in range(steps)]
    return [tuple(round(side * factor) for side in space) for factor in factors]


@every_rank
@pytest.mark.parametrize(("steps", "largest"), [(1, 4.125), (2, 1.5), (3, 2.2)])
def test_is_the_product_of_the_means_over_sizes(space, steps, largest, generator):
    net, inputs = Small(len(space), generator), pictures(space, generator)
    sizes = at(space, steps, largest)
    found = cameras(inputs, net.trace, steps=steps, largest=largest, same_class=False)
    torch.testing.assert_close(found, by_loops(net, inputs, sizes))
    assert [shape[2:] for shape in net.traced] == sizes
    assert found.shape == (2, *space)
    assert found.any()


def test_the_input_can_be_enlarged_by_a_cubic_curve(generator):
    net, inputs = Small(2, generator), pictures((5, 7), generator)
    found = cameras(inputs, net.trace, steps=2, largest=1.8, same_class=False, enlarge="cubic")

    def weight(at):  # Keys' cubic convolution, a = -0.75, as torch has it
        at = abs(at)
        if at <= 1:
            return 1.25 * at**3 - 2.25 * at**2 + 1
        return -0.75 * (at**3 - 5 * at**2 + 8 * at - 4) if at < 2 else 0.0

    def cubic(values, length):
        made = np.zeros((*values.shape[:-1], length))
        for i in range(length):
            at = (i + 0.5) * values.shape[-1] / length - 0.5
            for k in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
                made[..., i] += weight(at - k) * values[..., min(max(k, 0), values.shape[-1] - 1)]
        return made

    large = cubic(cubic(inputs.numpy(), 13).swapaxes(2, 3), 9).swapaxes(2, 3)
    runs = [net.run(inputs), net.run(torch.from_numpy(large))]
    means = [
        sum(np.stack([enlarged(one, (5, 7)) for one in getattr(run, what).numpy()]) for run in runs) / 2
        for what in ("activations", "gradients")
    ]
    torch.testing.assert_close(found, torch.from_numpy(np.maximum((means[0] * means[1]).sum(1), 0)))
    assert not torch.allclose(found, cameras(inputs, net.trace, steps=2, largest=1.8, same_class=False))


def test_the_default_sizes_are_the_authors():
    seen = []

    def trace(variants):
        assert len(variants) == 8
        for variant in variants:
            seen.append(variant.shape[2])
            yield Traced(torch.ones(1, 1, 3), torch.ones(1, 1, 3), torch.ones(1), torch.ones(1, 2))

    cameras(torch.zeros(1, 3, 224), trace)
    assert seen == [224, 324, 424, 524, 624, 724, 824, 924]


def test_worked_example():
    # two sizes of one axis; the layer has one channel, of 2 locations and of 4
    answers = [
        Traced(torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[2.0, -2.0]]]), torch.ones(1), torch.ones(1, 2)),
        Traced(torch.tensor([[[5.0, 1.0, 1.0, 1.0]]]), torch.tensor([[[0.0, 4.0, 0.0, 0.0]]]), torch.ones(1),
               torch.ones(1, 2)),
    ]  # fmt: skip
    found = cameras(torch.zeros(1, 3, 2), lambda variants: iter(answers[: len(variants)]), steps=2, largest=2.0)
    # resized to two locations: (3, 1) and (2, 0); means (2, 2) and (2, -1)
    torch.testing.assert_close(found, torch.tensor([[4.0, 0.0]]))


class Fickle:
    """Answers with a class written down for each size and sample; the rest is a small network's."""

    def __init__(self, net, outputs):
        self.net, self.outputs = net, outputs

    def trace(self, variants):
        for number, variant in enumerate(variants):
            yield self.net.run(variant)._replace(output=self.outputs[number])


def one_hot(*classes):
    return torch.eye(3, dtype=torch.float64)[list(classes)]


def test_sizes_that_change_the_class_are_left_out_for_each_sample(generator):
    net, inputs = Small(2, generator), pictures((5, 6), generator)
    outputs = [one_hot(0, 2), one_hot(0, 1), one_hot(1, 2), one_hot(0, 2)]
    found = cameras(inputs, Fickle(net, outputs).trace, steps=4, largest=2.0)
    sizes = at((5, 6), 4, 2.0)
    torch.testing.assert_close(found, by_loops(net, inputs, sizes, [{0, 1, 3}, {0, 2, 3}]))
    everything = cameras(inputs, Fickle(net, outputs).trace, steps=4, largest=2.0, same_class=False)
    torch.testing.assert_close(everything, by_loops(net, inputs, sizes))
    assert not torch.allclose(found, everything)


def test_the_inputs_own_size_stays_where_every_other_goes(generator):
    net, inputs = Small(2, generator), pictures((5, 6), generator, 1)
    found = cameras(inputs, Fickle(net, [one_hot(0), one_hot(1), one_hot(2)]).trace, steps=3)
    torch.testing.assert_close(found, by_loops(net, inputs, [(5, 6)]))


@pytest.mark.parametrize("shape", [(1,), (1, 1)])
def test_a_single_unit_decides_by_its_sign(shape, generator):
    net, inputs = Small(2, generator), pictures((5, 6), generator, 1)
    outputs = [torch.full(shape, value).double() for value in (0.3, -0.1, 7.0)]
    found = cameras(inputs, Fickle(net, outputs).trace, steps=3, largest=2.0)
    torch.testing.assert_close(found, by_loops(net, inputs, at((5, 6), 3, 2.0), [{0, 2}]))


def test_outputs_that_are_no_classes_are_not_compared(generator):
    net, inputs = Small(2, generator), pictures((5, 6), generator, 1)
    outputs = [torch.randn(1, 3, side, side, generator=generator, dtype=torch.float64) for side in (5, 7, 9)]
    found = cameras(inputs, Fickle(net, outputs).trace, steps=3, largest=2.0)
    torch.testing.assert_close(found, by_loops(net, inputs, at((5, 6), 3, 2.0)))


def test_one_size_is_hires_cam_of_the_resized_layer(generator):
    # a layer of the input's own size needs no resizing
    a, g = torch.randn(2, 2, 130, 6, generator=generator, dtype=torch.float64)
    run = Traced(a, g, torch.ones(2).double(), torch.ones(2, 2).double())
    found = cameras(torch.zeros(2, 3, 6).double(), lambda variants: iter([run]), steps=1)
    torch.testing.assert_close(found, hires_cam(a, g).relu())  # of more channels than are resized at once


@every_rank
def test_a_batch_is_its_samples(space, generator):
    net, inputs = Small(len(space), generator), pictures(space, generator, 4)
    together = cameras(inputs, net.trace, steps=3, largest=2.5)
    for n in range(4):
        alone = cameras(inputs[n : n + 1], net.trace, steps=3, largest=2.5)
        torch.testing.assert_close(together[n : n + 1], alone, rtol=1e-12, atol=1e-14)


def test_a_size_that_is_left_out_may_hold_anything(generator):
    net, inputs = Small(2, generator), pictures((5, 6), generator, 1)
    broken = net.run(inputs)
    broken.activations.fill_(torch.inf)
    runs = [net.run(inputs)._replace(output=one_hot(0)), broken._replace(output=one_hot(1))]
    found = cameras(inputs, lambda variants: iter(runs), steps=2)
    torch.testing.assert_close(found, by_loops(net, inputs, [(5, 6)]))


def test_gradients_of_zero_give_no_map(generator):
    run = Traced(torch.ones(1, 2, 3).double(), torch.zeros(1, 2, 3).double(), torch.ones(1).double(), one_hot(0))
    assert cameras(torch.ones(1, 3, 6).double(), lambda variants: iter([run] * 2), steps=2).eq(0).all()


@pytest.mark.parametrize("channels", [1, 2, 5, 6])
def test_channels_are_summed_some_at_a_time(channels, generator, monkeypatch):
    monkeypatch.setattr("whycam.methods.cameras._CHANNELS", channels)
    net, inputs = Small(2, generator, channels=5), pictures((5, 7), generator)
    found = cameras(inputs, net.trace, steps=2, largest=1.5, same_class=False)
    torch.testing.assert_close(found, by_loops(net, inputs, at((5, 7), 2, 1.5)))
