"""What is found in one walk over a network."""

import torch
from torch import nn

from whycam.network.model_tree import ModelTree


def test_devices_come_in_order_parameters_first():
    """The first is where a network's inputs go."""
    here, nowhere = torch.device("cpu"), torch.device("meta")
    apart = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, device="meta"))
    assert ModelTree(apart).devices == [here, nowhere]
    assert ModelTree(apart[::-1]).devices == [nowhere, here]
    buffered = nn.Conv2d(3, 4, 3, device="meta")
    buffered.register_buffer("mean", torch.zeros(3))
    assert ModelTree(buffered).devices == [nowhere, here]
    assert ModelTree(nn.ReLU()).devices == []
