"""Sensitivity-n: every size by itself, correlated by numpy; and that it is not what a peer calls so."""

import numpy as np
import pytest
import torch
from metrics_by_hand import FourPixels, Seen, Small, drawn

from whycam.metrics import faithfulness_correlation, sensitivity_n


def test_is_the_mean_of_one_correlation_for_each_size():
    net, inputs, maps = Small(), drawn(3, 3, 5, 6), drawn(3, 5, 6, seed=3)
    seen = Seen(lambda pictures: net(pictures).detach()[:, 1])
    found = sensitivity_n.function(maps, inputs, seen, shares=(0.01, 0.2, 0.8), samples=12)
    assert found.at == (0.01, 0.2, 0.8)
    gone = torch.stack([(each != inputs).any(1).flatten(1) for each in seen.variants]).reshape(3, 12, 3, 30)
    assert gone.sum(3).flatten(1).tolist() == [[1] * 36, [6] * 36, [24] * 36]  # one pixel at least
    whole = net(inputs).detach()[:, 1]
    for n in range(3):
        expected = []
        for size in range(3):
            sums = [float(maps[n].flatten()[removed[n]].sum()) for removed in gone[size]]
            drops = [float(whole[n] - net(each).detach()[n, 1]) for each in seen.variants[12 * size : 12 * size + 12]]
            expected.append(np.corrcoef(sums, drops)[0, 1])
        np.testing.assert_allclose(found.curve[n], expected, rtol=1e-8)
        assert float(found.values[n]) == pytest.approx(sum(expected) / 3, rel=1e-8)


def test_a_linear_model_is_sensitive_to_any_n_of_its_four_pixels():
    net = FourPixels([[4.0, -3.0, 2.0, 1.0], [0.0] * 4])
    inputs = torch.tensor([[[[1.0, 2.0], [-1.0, 3.0]]]], dtype=torch.float64)
    added = torch.tensor([[[4.0, -6.0], [-2.0, 3.0]]], dtype=torch.float64)
    found = sensitivity_n(added, net, inputs, 0, shares=(0.25, 0.5, 0.75), curves=True)
    assert found.curve[0].tolist() == pytest.approx([1, 1, 1])
    assert float(found.values) == pytest.approx(1)
    assert float(sensitivity_n(-added, net, inputs, 0, shares=(0.25, 0.5, 0.75))) == pytest.approx(-1)


def test_every_image_is_correlated_by_itself_whatever_the_batch():
    """Quantus correlates across the images of its first batch: 0.05 or 0.63 of the same maps."""
    net, inputs, maps = Small(), drawn(6, 3, 5, 6), drawn(6, 5, 6, seed=3)
    whole = sensitivity_n(maps, net, inputs, samples=9)
    for size in (1, 2):
        parts = [sensitivity_n(maps[n : n + size], net, inputs[n : n + size], samples=9) for n in range(0, 6, size)]
        torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-9, atol=1e-12)
    assert len(set(whole.tolist())) == 6


def test_of_one_size_it_is_faithfulness_correlation():
    net, inputs, maps = Small(), drawn(3, 3, 5, 6), drawn(3, 5, 6, seed=3)
    one = sensitivity_n(maps, net, inputs, shares=(0.3,), samples=9)
    assert torch.equal(one, faithfulness_correlation(maps, net, inputs, share=0.3, samples=9))
