"""cuDNN is switched off around recurrent layers that it would not differentiate, and nowhere else.

There is no GPU here: that a layer lies on one is pretended, and the switch itself is watched.
"""

import threading

import nets
import pytest
import torch
from torch import nn

import whycam
from whycam.network.recording import recurrent
from whycam.network.recording.recurrent import refuses


class Spying(nn.LSTM):
    """Notes the switch while it runs, and may raise."""

    def forward(self, x):
        self.seen = [*getattr(self, "seen", []), torch.backends.cudnn.enabled]
        if getattr(self, "error", None):
            raise self.error
        return super().forward(x)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.rnn = Spying(4, 6, batch_first=True)
        self.head = nn.Linear(6, 5)
        self.between = []
        self.relu.register_forward_hook(lambda *_: self.between.append(torch.backends.cudnn.enabled) or None)

    def forward(self, x):
        return self.head(self.rnn(self.relu(self.conv(x)).mT)[0][:, -1])


@pytest.fixture
def on_cuda(monkeypatch):
    monkeypatch.setattr(recurrent, "_on_cuda", lambda layer: True)


@pytest.fixture
def model():
    assert torch.backends.cudnn.enabled
    return nets.fixed(Recurrent())


def test_it_is_off_while_the_layer_runs_and_no_longer(model, on_cuda):
    found = whycam.explain(model, nets.images(rank=1), layer="relu")
    assert model.rnn.seen == [False]
    assert model.between == [True]
    assert torch.backends.cudnn.enabled
    assert found.maps.any()


def test_it_is_put_back_after_an_error(model, on_cuda):
    model.rnn.error = KeyError()
    with pytest.raises(KeyError):
        whycam.explain(model, nets.images(rank=1), layer="relu")
    assert model.rnn.seen == [False]
    assert torch.backends.cudnn.enabled


def test_a_caller_who_switched_it_off_finds_it_off(model, on_cuda, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "enabled", False)
    whycam.explain(model, nets.images(rank=1), layer="relu")
    assert not torch.backends.cudnn.enabled


def test_threads_share_the_switch(model, on_cuda):
    entered, leave = threading.Barrier(2), threading.Event()

    def other():
        with recurrent._without_cudnn():
            entered.wait(timeout=60)
            leave.wait(timeout=60)

    thread = threading.Thread(target=other)
    thread.start()
    entered.wait(timeout=60)
    try:
        whycam.explain(model, nets.images(rank=1), layer="relu")
        assert model.rnn.seen == [False]
        assert not torch.backends.cudnn.enabled  # the other is still in its layer
        assert refuses(model.rnn)  # so that it stays off for ours when the other is done
    finally:
        leave.set()
        thread.join()
    assert torch.backends.cudnn.enabled


@pytest.mark.parametrize("why", ["no gradient", "training", "on a CPU"])
def test_it_stays_on_where_nothing_is_refused(model, why, monkeypatch):
    if why != "on a CPU":
        monkeypatch.setattr(recurrent, "_on_cuda", lambda layer: True)
    if why == "training":
        model.rnn.train()
    whycam.explain(model, nets.images(rank=1), "eigen_cam" if why == "no gradient" else "grad_cam", layer="relu")
    assert model.rnn.seen == [True]


def test_the_decision(on_cuda, monkeypatch):
    layer = nn.GRU(2, 3)
    assert not refuses(layer)  # in training mode cuDNN keeps what it needs
    assert refuses(layer.eval())
    monkeypatch.setattr(torch.backends.cudnn, "enabled", False)
    assert not refuses(layer)


def test_a_cpu_layer_is_on_no_gpu():
    assert not recurrent._on_cuda(nn.GRU(2, 3))
