"""What a network is like before it runs."""

import nets
import pytest
import torch
from torch import nn

from whycam.network.diagnosis.condition import condition


def test_a_healthy_network_has_nothing_to_say():
    state = condition(nets.plain())
    assert state.dtypes == (torch.float64,)
    assert state.devices == (torch.device("cpu"),)
    assert not any((state.acting, state.mixed, state.training, state.non_finite, state.absent, state.compiled,
                    state.scripted, state.checkpointed, state.parallel))  # fmt: skip


def test_modes():
    acting = condition(nets.fixed(nets.Training()).train())
    assert acting.acting == ("bn", "drop")
    assert not acting.mixed
    model = nets.plain()
    model.relu1.train()
    mixed = condition(model)
    assert (mixed.acting, mixed.mixed, mixed.training) == ((), True, 1)
    wrapped = nn.Sequential(nets.plain())
    assert wrapped.training  # which says nothing: it holds others
    assert not condition(wrapped).mixed


def test_weights_that_are_not_finite_or_not_there():
    model = nets.fixed(nets.Training())
    model.conv2.bias.data[1] = torch.inf
    model.bn.running_var[0] = torch.nan
    assert condition(model).non_finite == ("conv2.bias", "bn.running_var")
    model.head = nn.Linear(8, 5, device="meta")
    state = condition(model)
    assert state.absent == ("head.weight", "head.bias")
    assert state.devices == (torch.device("cpu"),)


def test_types_of_numbers():
    assert condition(nets.plain().half()).dtypes == (torch.float16,)
    model = nets.plain().float()
    model.head = model.head.double()
    assert condition(model).dtypes == (torch.float32, torch.float64)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_wrappers():
    compiled = torch.compile(nets.plain(), backend="eager")
    assert condition(compiled).compiled == ("",)
    model = nets.plain()
    model.conv2.compile(backend="eager")
    assert condition(model).compiled == ("conv2",)
    with torch.no_grad():
        traced = torch.jit.trace(nets.plain(), nets.images(1))
    assert condition(traced).scripted[0] == ""
    model.relu1 = torch.jit.script(nn.ReLU().eval())
    assert condition(model).scripted == ("relu1",)
    assert condition(nn.DataParallel(nets.plain())).parallel == "DataParallel"


def test_activation_checkpointing_by_its_flags():
    model = nn.Sequential(nets.plain(), nets.plain())
    model[1].grad_checkpointing = False
    assert condition(model).checkpointed == ()
    model[1].grad_checkpointing = True
    assert condition(model).checkpointed == ("1",)
    model[1].grad_checkpointing = 1  # a number of segments, perhaps
    assert condition(model).checkpointed == ()
