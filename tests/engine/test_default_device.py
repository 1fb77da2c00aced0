"""A device that a caller made the default: noise drawn for a measurement lies on the CPU, or beside the inputs."""

import pytest
import torch
from torch import nn

import whycam
from whycam.checkup.doctor import trial_input


@pytest.fixture
def elsewhere():
    """A default device that nothing can be read from, as a graphics card beside inputs on the CPU cannot."""
    before = torch.get_default_device()
    torch.set_default_device("meta")
    yield
    torch.set_default_device(before)


class Siamese(nn.Module):
    """Looks at both pictures with the same convolution, at the second first."""

    def __init__(self):
        super().__init__()
        self.look = nn.Conv2d(3, 4, 3, 2, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, one, other):
        return self.head(torch.cat([self.look(each).mean((2, 3)) for each in (other, one)], 1))


def test_noise_for_want_of_a_photo(elsewhere):
    noise = trial_input(whycam.VisionModel(nn.Conv2d(3, 2, 3, device="cpu")), (3, 5, 7))
    assert noise.device.type == "cpu"
    assert float(noise.std()) > 0.5


def test_pictures_are_told_apart(request):
    model = Siamese().eval()
    pictures = (torch.randn(2, 3, 16, 16), torch.randn(2, 3, 16, 24))
    request.getfixturevalue("elsewhere")
    e = whycam.explain(model, pictures, layer="look#1", target=0)
    assert e.layer.grid == (8, 8)
    assert "drawn on input [0]" in e.layer.why


def test_noise_that_shows_where_positions_lie(elsewhere):
    from whycam.network.layers.positions import halves

    picture = torch.ones(1, 3, 4, 4, device="cpu")
    made = halves(picture, (2, 3))
    assert made.device.type == "cpu"
    assert not torch.equal(made[1], made[0])
