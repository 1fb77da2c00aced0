"""Weights beside weights."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def assert_same_weights(module: nn.Module, wanted: nn.Module | Mapping[str, Tensor]) -> None:
    """Every parameter and buffer is there, bit for bit, and nothing else."""
    expected = wanted.state_dict() if isinstance(wanted, nn.Module) else wanted
    found = module.state_dict()
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert torch.equal(value, expected[name]), name
