"""Maps averaged along the path from a blank input, by plain autograd at every point."""

import math

import nets
import pytest
import torch
from torch import nn

import whycam


class Gate(nn.Module):
    """A class that a distant cause decides, saturated: at the input itself nothing would change it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, inputs):
        features = self.layer(inputs)
        cause = features[:, 0, 0, 0]
        return torch.stack([torch.tanh(8 * cause), features[:, 0, 3, 3] * 0.1], 1)


@pytest.mark.parametrize("method", ["hires_cam", "layer_cam"])
def test_it_is_the_mean_over_the_points(method):
    model, inputs = nets.plain(), nets.images()
    found = whycam.explain(model, inputs, method, target=1, layer="conv2", path=4)
    expected = 0
    for k in range(1, 5):
        kept = {}
        handle = model.conv2.register_forward_hook(lambda module, given, output, kept=kept: kept.update(a=output))
        blank = torch.stack([torch.full_like(c, float(c.mean())) for row in inputs for c in row]).reshape(inputs.shape)
        score = model(blank + (inputs - blank) * k / 4)[:, 1].sum()
        handle.remove()
        (gradient,) = torch.autograd.grad(score, kept["a"])
        products = gradient * kept["a"] if method == "hires_cam" else gradient.relu() * kept["a"]
        one = products.sum(1).detach()
        expected = expected + (one if method == "hires_cam" else one.relu()) / 4
    torch.testing.assert_close(found.maps.double(), expected, rtol=1e-5, atol=1e-7)
    assert (found.cost.forwards, found.cost.backwards) == (4, 4)
    assert "the mean over 4 points of the path from the input's mean color to it" in found.notes


def test_a_saturated_cause_shows_on_the_way_alone():
    inputs = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    inputs[..., 0, 0] = inputs[..., 3, 3] = 1
    local = whycam.explain(Gate(), inputs, "hires_cam", target=0, layer="layer").maps[0]
    along = whycam.explain(Gate(), inputs, "hires_cam", target=0, layer="layer", path=20).maps[0]
    assert float(local[0, 0]) < 1e-4
    way = [0.125 + 0.875 * k / 20 for k in range(1, 21)]
    expected = sum(8 * (1 - math.tanh(8 * cause) ** 2) * cause for cause in way) / 20
    assert float(along[0, 0]) == pytest.approx(expected, rel=1e-5)
    assert expected > 400 * float(local[0, 0])


def test_what_cannot_be_averaged_so():
    model, inputs = nets.plain(), nets.images()
    with pytest.raises(whycam.WhycamError, match="Eigen-CAM reads none"):
        whycam.explain(model, inputs, "eigen_cam", layer="conv2", path=4)
    for wrong in (0, -1):
        with pytest.raises(whycam.OptionError, match="'path' of explain takes a whole number, 1 or more"):
            whycam.explain(model, inputs, layer="conv2", target=1, path=wrong)


def test_the_axes_that_are_no_space_keep_their_own_color():
    """Of a clip `(N, T, C, H, W)` each channel has its own mean, over frames, rows and columns."""
    seen = []

    class Clips(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, clips):
            seen.append(clips.detach())
            return self.layer(clips.flatten(0, 1)).relu().mean((2, 3)).reshape(len(clips), -1, 4).mean(1)

    clip = torch.rand(1, 5, 3, 6, 6)
    whycam.explain(Clips(), clip, "hires_cam", target=0, layer="layer", path=2)
    blank = torch.stack([torch.full((5, 6, 6), float(clip[0, :, c].mean())) for c in range(3)], 1)[None]
    halfway = [each for each in seen if torch.allclose(each, (blank + clip) / 2, atol=1e-6)]
    assert halfway
