"""Infidelity: the changes are read back from what the network is shown, and the paper's mean is taken in loops."""

import numpy as np
import pytest
import torch
from metrics_by_hand import FourPixels, Seen, Small, drawn, scores_of

from whycam.metrics import infidelity

KINDS = ("noise", "baseline", "square")


def by_hand(net, picture, values, variants, kind, index, scaled):
    products, drops = [], []
    for left in variants:
        product = 0.0
        for at in np.ndindex(*values.shape):
            change = picture[(slice(None), *at)] - left[(slice(None), *at)]
            weight = float((change != 0).any()) if kind == "square" else change.sum()
            product += values[at] * weight
        products.append(product)
        drops.append(scores_of(net, picture)[index] - scores_of(net, left)[index])
    beta = 1.0
    if scaled:
        beta = sum(p * d for p, d in zip(products, drops, strict=True)) / sum(p * p for p in products)
    return sum((beta * p - d) ** 2 for p, d in zip(products, drops, strict=True)) / len(drops)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("space", [(9,), (6, 7), (3, 4, 5)], ids=["1d", "2d", "3d"])
def test_is_the_mean_square_of_what_the_map_mistakes(space, kind, scaled):
    net, inputs, maps = Small(axes=len(space)), drawn(3, 3, *space), drawn(3, *space, seed=3)
    answer = lambda pictures: net(pictures).detach()[:, 1]  # noqa: E731
    seen = Seen(answer)
    options = {"perturbation": kind, "scaled": scaled, "samples": 7, "seed": 2}
    found = infidelity.function(maps, inputs, answer(inputs), seen, **options)
    assert len(seen.variants) == 7
    for n in range(3):
        variants = [each[n].numpy() for each in seen.variants]
        expected = by_hand(net, inputs[n].numpy(), maps[n].numpy(), variants, kind, 1, scaled)
        assert float(found[n]) == pytest.approx(expected, rel=1e-9)
    # called by itself it reads the target's own score
    torch.testing.assert_close(infidelity(maps, net, inputs, 1, **options), found, rtol=1e-8, atol=1e-12)


def shown(kind, inputs, samples, **options):
    seen = Seen(lambda pictures: pictures.flatten(1).sum(1))
    infidelity.function(
        inputs.sum(1), inputs, inputs.flatten(1).sum(1), seen, perturbation=kind, samples=samples, **options
    )
    return torch.stack(seen.variants)


def test_noise_is_normal_of_the_deviation_asked_and_stays_where_the_baseline_goes():
    inputs = 5 + drawn(2, 3, 8, 9)
    for kind, kept in (("noise", 1), ("baseline", 0)):
        for deviation in (0.2, 3.0):
            noise = shown(kind, inputs, 200, deviation=deviation) - kept * inputs
            assert float(noise.std()) == pytest.approx(deviation, rel=0.02)
            assert abs(float(noise.mean())) < 0.02 * deviation
            torch.testing.assert_close(noise[:, 0], noise[:, 1])  # the same for each sample
            assert len({float(each) for each in noise[:, 0, 0, 0, 0]}) == 200
    assert not torch.equal(shown("noise", inputs, 3, seed=0), shown("noise", inputs, 3, seed=1))


def test_squares_have_any_side_up_to_the_authors_and_lie_anywhere():
    variants = shown("square", torch.ones(1, 2, 9, 12, dtype=torch.float64), 600)[:, 0]
    assert (variants[:, 0] == variants[:, 1]).all()
    seen = set()
    for each in variants[:, 0]:
        rows, columns = (each == 0).any(1).nonzero().flatten(), (each == 0).any(0).nonzero().flatten()
        assert int((each == 0).sum()) == len(rows) * len(columns) == len(rows) ** 2
        seen.add((len(rows), int(rows[0]), int(columns[0])))
    # 10/28 of 9 is 3: every side and every place, 108 + 88 + 70 of them, of which 600 draws miss few
    assert {side for side, *_ in seen} == {1, 2, 3}
    assert len(seen) > 200
    assert max(row + side for side, row, _ in seen) == 9
    assert max(column + side for side, _, column in seen) == 12


def test_a_linear_model_of_four_pixels():
    net = FourPixels([[4.0, -3.0, 2.0, 1.0], [0.0] * 4])
    inputs = torch.tensor([[[[1.0, 2.0], [-1.0, 3.0]]]], dtype=torch.float64)
    weights = torch.tensor([[[4.0, -3.0], [2.0, 1.0]]], dtype=torch.float64)
    for kind in ("noise", "baseline"):
        assert float(infidelity(weights, net, inputs, 0, perturbation=kind)) == pytest.approx(0, abs=1e-20)
        assert float(infidelity(3 * weights, net, inputs, 0, perturbation=kind, scaled=True)) == pytest.approx(
            0, abs=1e-20
        )
        # nothing said: all of the drop is mistaken, whatever the scale
        nothing = infidelity(0 * weights, net, inputs, 0, perturbation=kind)
        assert float(nothing) > 0.1
        assert torch.equal(nothing, infidelity(0 * weights, net, inputs, 0, perturbation=kind, scaled=True))
        # twice the weights mistake it by once: (2 I w - I w)^2
        assert float(infidelity(2 * weights, net, inputs, 0, perturbation=kind)) == pytest.approx(float(nothing))
    added = inputs[:, 0] * weights
    assert float(infidelity(added, net, inputs, 0, perturbation="square")) == pytest.approx(0, abs=1e-20)
    # of noise on every pixel of deviation s: s^2 times the squares of the weights
    many = infidelity(0 * weights, net, inputs, 0, samples=4000)
    assert float(many) == pytest.approx(0.2**2 * (16 + 9 + 4 + 1), rel=0.1)


def test_each_change_is_of_the_whole_picture():
    """Quantus puts each square on top of those before."""
    variants = shown("square", torch.ones(1, 1, 28, 28, dtype=torch.float64), 60)
    assert max(int((each == 0).sum()) for each in variants) <= 100
