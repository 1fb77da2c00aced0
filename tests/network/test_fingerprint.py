"""A network is known by all that it holds, and by nothing else."""

import copy

import nets
import torch
from torch import nn

from whycam.network.fingerprint import fingerprint


def normed():
    return nets.fixed(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(2, 2)))


def test_it_changes_with_every_parameter_and_buffer():
    model = normed()
    first = fingerprint(model)
    assert fingerprint(copy.deepcopy(model)) == first
    assert fingerprint(model.train()) == first
    for name, tensor in model.state_dict().items():
        changed = copy.deepcopy(model)
        changed.state_dict()[name].add_(1)
        assert fingerprint(changed) != first, name
        assert tensor is not None
    assert fingerprint(model.float()) != first
    renamed = nn.Sequential()
    renamed.add_module("other", model)
    assert fingerprint(renamed) != fingerprint(model)


def test_half_precision_has_one_too():
    model = normed().to(torch.bfloat16)
    assert fingerprint(model) == fingerprint(copy.deepcopy(model))


def test_the_same_bytes_of_another_type_are_another_network():
    one, other = nn.Module(), nn.Module()
    one.register_buffer("held", torch.zeros(2, dtype=torch.int32))
    other.register_buffer("held", torch.zeros(2, dtype=torch.float32))
    assert fingerprint(one) != fingerprint(other)
