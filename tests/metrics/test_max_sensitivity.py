"""Max-sensitivity against distances of maps of noisy pictures, one by one."""

import math

import nets
import pytest
import torch
from metrics_by_hand import FourPixels, by_gradient
from torch import Tensor, nn

import whycam

max_sensitivity = whycam.metrics.max_sensitivity


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("radius", [0.02, 0.5])
def test_is_the_largest_distance_to_the_maps_of_noisy_pictures(radius, relative):
    net, pictures, asked = nets.plain(), nets.images(3), []

    def seen(module: nn.Module, inputs: Tensor, classes: Tensor) -> Tensor:
        asked.append(inputs)
        return by_gradient(module, inputs, classes)

    maps = by_gradient(net, pictures, torch.full((3,), 1))
    found = max_sensitivity(maps, net, pictures, 1, explain=seen, radius=radius, samples=7, relative=relative)
    assert len(asked) == 7
    for place in range(3):
        moved = [each[place] - pictures[place] for each in asked]
        assert all(each.abs().max() <= radius for each in moved)
        assert sum(each.abs().mean().item() for each in moved) / 7 == pytest.approx(radius / 2, rel=0.1)
        assert sum(each.mean().item() for each in moved) / 7 == pytest.approx(0, abs=radius / 10)  # on both sides
        away = []
        for each in asked:
            again = by_gradient(net, each[place : place + 1], torch.tensor([1]))[0]
            away.append(math.dist(again.flatten().tolist(), maps[place].flatten().tolist()))
        length = math.hypot(*maps[place].flatten().tolist()) if relative else 1
        assert found[place].item() == pytest.approx(max(away) / length, rel=1e-9)


def test_four_pixels_by_hand():
    # the map is the weight times the pixel, so it moves by the weights times the noise
    net = FourPixels([[1.0, 1.0, 1.0, 1.0], [0.0] * 4])
    picture = torch.tensor([[[[3.0, 0.0], [0.0, 4.0]]]], dtype=torch.float64)
    maps, asked = by_gradient(net, picture, torch.tensor([0])), []

    def seen(module: nn.Module, inputs: Tensor, classes: Tensor) -> Tensor:
        asked.append(torch.linalg.vector_norm(inputs - picture).item())
        return by_gradient(module, inputs, classes)

    found = max_sensitivity(maps, net, picture, 0, explain=seen, radius=0.1)
    assert found.item() == pytest.approx(max(asked) / 5)  # the map's length
    assert max(asked) <= 0.1 * 2


def test_a_map_of_zeros_is_infinitely_sensitive_or_not_at_all():
    net, pictures = nets.plain(), nets.images(2)
    zeros = torch.zeros(2, 8, 8)
    assert max_sensitivity(zeros, net, pictures, explain=lambda _, x, __: 0 * x[:, 0]).isnan().all()
    still = max_sensitivity(zeros, net, pictures, explain=lambda _, x, __: 0 * x[:, 0], relative=False)
    assert still.tolist() == [0, 0]


def test_more_samples_never_find_less():
    net, pictures = nets.plain(), nets.images(2)
    maps = whycam.explain(net, pictures, method="grad_cam")
    few, many = (max_sensitivity(maps, net, pictures, samples=number) for number in (2, 12))
    assert (many >= few).all()
    assert (many > few).any()
    assert not torch.equal(few, max_sensitivity(maps, net, pictures, samples=2, seed=1))


def test_noisy_pictures_are_run_once_for_all_methods():
    class Counting(nets.Plain):
        rows = 0

        def forward(self, x: Tensor) -> Tensor:
            Counting.rows += len(x)
            return super().forward(x)

    def rows(*methods: str) -> int:
        net, before = nets.fixed(Counting()), Counting.rows
        whycam.evaluate(
            net, nets.images(1), methods=methods, metrics=["max_sensitivity"], layers=["relu2"], controls=False,
            sanity=0,
        )  # fmt: skip
        return Counting.rows - before

    assert rows("grad_cam") == rows("grad_cam", "hires_cam", "layer_cam", "xgrad_cam")
