"""Fixtures that every test file may use."""

import pytest
import torch

pytest_plugins = ["browser"]


@pytest.fixture
def generator() -> torch.Generator:
    """Random numbers that repeat."""
    return torch.Generator().manual_seed(0)
