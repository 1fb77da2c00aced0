"""What a pass writes is put back."""

import inspect
import threading
from contextlib import contextmanager

import nets
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import whycam
from whycam.network.preserve_state import as_found


class Writing(nets.Plain):
    """Writes to its buffers and draws random numbers, also when it predicts."""

    def __init__(self):
        super().__init__()
        self.register_buffer("counted", torch.zeros(()))
        self.register_buffer("replaced", torch.zeros(2))

    def features(self, x):
        self.counted += 1
        self.replaced = self.replaced + torch.rand(2)
        return super().features(x)


@pytest.mark.parametrize("method", ["grad_cam", "eigen_cam", "guided_backprop"])
def test_buffers_and_random_numbers_are_put_back_outside_training_too(method):
    model = nets.fixed(Writing())
    model.replaced.fill_(torch.nan)
    model.replaced.zero_()
    before = nets.state(model)
    whycam.explain(model, nets.images(), method)
    assert nets.differences(before, nets.state(model)) == []


def test_what_an_exception_interrupts_is_put_back():
    model = nets.fixed(nets.Training())
    model.train()
    before = nets.state(model)
    with pytest.raises(KeyboardInterrupt), pytest.warns(UserWarning, match="training mode"):
        interrupted(model)
    assert nets.differences(before, nets.state(model)) == []


def interrupted(model):
    with as_found(model):
        model(nets.images())
        raise KeyboardInterrupt


def test_training_mode_is_warned_of_once_where_it_matters():
    model = nets.fixed(nets.Training())
    model.train()
    with pytest.warns(UserWarning, match=r"'bn' and 1 other modules act differently.*call model\.eval\(\)"):
        whycam.explain(model, nets.images(), layer="relu2")
    whycam.explain(model, nets.images(), layer="relu2")  # a second warning would be an error here
    assert model.training


def test_training_mode_is_not_warned_of_where_it_makes_no_difference():
    model = nets.plain().train()
    assert whycam.explain(model, nets.images(), layer="relu2").ok


def test_a_frozen_norm_in_a_training_model_is_left_evaluating():
    model = nets.fixed(nets.Training(act=False))
    model.train()
    model.bn.eval()
    model.drop.eval()
    whycam.explain(model, nets.images(), layer="relu2")
    assert (model.training, model.bn.training) == (True, False)


def test_modes_are_those_of_the_caller_afterwards():
    model = nets.plain()
    for mode in (torch.no_grad, torch.enable_grad, torch.inference_mode):
        with mode():
            before = nets.state(model)
            whycam.explain(model, nets.images(), layer="relu2")
            assert nets.differences(before, nets.state(model)) == []


def test_the_callers_own_hooks_stay_and_run():
    model, ran = nets.plain(), []
    model.conv2.register_forward_hook(lambda *_: ran.append("forward"))
    model.conv2.register_forward_pre_hook(lambda *_: ran.append("before"))
    before = nets.state(model)
    whycam.explain(model, nets.images(), layer="conv2")
    assert nets.differences(before, nets.state(model)) == []
    assert ran == ["before", "forward"]


def test_a_hook_of_the_callers_that_writes_in_place_is_no_danger():
    model, inputs = nets.plain(), nets.images()
    expected = whycam.explain(model, inputs, "eigen_cam", layer="conv2").maps

    def spoil(_, given):
        given[0].zero_()

    model.relu2.register_forward_pre_hook(spoil)
    assert torch.equal(whycam.explain(model, inputs, "eigen_cam", layer="conv2").maps, expected)


def test_weights_with_a_parametrization_stay_as_they_are():
    model = nets.fixed(
        nn.Sequential(
            nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)
        )
    )
    before = nets.state(model.train())
    whycam.explain(model, nets.images(), layer="1")
    assert nets.differences(before, nets.state(model)) == []


@pytest.mark.filterwarnings("ignore:the model is in training mode")
def test_a_training_step_with_batch_statistics_can_still_be_finished():
    inputs = nets.images()
    interrupted, undisturbed = (nets.fixed(nets.Training()).train() for _ in range(2))
    for model in (interrupted, undisturbed):
        torch.manual_seed(3)
        loss = model(inputs).square().sum()
        if model is interrupted:
            whycam.explain(model, inputs, layer="relu2")
        loss.backward()
    for one, other in zip(interrupted.parameters(), undisturbed.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    for one, other in zip(interrupted.buffers(), undisturbed.buffers(), strict=True):
        assert torch.equal(one, other)


class Keeping(nets.Plain):
    """Keeps what it computes for a later look, as tutorials do."""

    def __init__(self):
        super().__init__()
        self.features_seen = torch.zeros(1)
        self.ran = 0

    def features(self, x):
        self.ran += 1
        self.features_seen = super().features(x)
        self.all_seen = {"last": [self.features_seen]}
        return self.features_seen


def test_tensors_that_a_model_keeps_for_itself_are_put_back_and_no_graph_stays():
    model = nets.fixed(Keeping())
    before, mine = nets.state(model), model.features_seen
    for method in ("grad_cam", "guided_backprop"):
        whycam.explain(model, nets.images(), method)
    assert model.features_seen is mine
    assert not hasattr(model, "all_seen")
    assert nets.differences(before, nets.state(model)) == []
    assert model.ran == 0  # what changed beside a tensor belongs to it
    assert not any(module._forward_hooks for module in nets.twin(model).modules())  # it can be copied


def test_tensors_that_a_model_keeps_are_put_back_after_several_threads_too():
    from concurrent.futures import ThreadPoolExecutor

    model, inputs = nets.fixed(Keeping()), nets.images()
    mine = model.features_seen
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: whycam.explain(model, inputs, layer="conv2"), range(24)))
    assert model.features_seen is mine
    assert not hasattr(model, "all_seen")


def normed(old, norm):
    """A network whose second convolution is reparametrised by a hook (old) or by a parametrization."""
    home = nn.utils if old else nn.utils.parametrizations
    model = nets.plain().train()
    torch.manual_seed(0)  # where the power iteration starts
    getattr(home, norm)(model.conv2)
    model.double()(nets.images())  # the hook has run once, so that the weight has a history
    return model.eval()


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
@pytest.mark.parametrize("old", [True, False], ids=["hook", "parametrization"])
@pytest.mark.parametrize("training", [True, False])
def test_normalized_weights_are_explained_rightly_and_left_alone(norm, old, training):
    model, inputs = normed(old, norm).train(training), nets.images()
    weight = model.conv2.__dict__.get("weight")
    before = nets.state(model)
    found = whycam.explain(model, inputs, "hires_cam", layer="relu2", target=1)
    assert nets.differences(before, nets.state(model)) == []
    assert model.conv2.__dict__.get("weight") is weight
    if weight is not None:
        assert weight.requires_grad  # as the training step that is under way left it
    activations = model.features(inputs)
    (gradients,) = torch.autograd.grad(model.head(nets.spatial_mean(activations))[:, 1].sum(), activations)
    torch.testing.assert_close(found.maps, (activations * gradients).sum(1).detach().float())


def test_casts_made_meanwhile_are_not_reused_by_the_caller():
    """Autocast keeps a weight's cast; one made with gradients off would leave the weight without a gradient."""
    model, inputs = nets.plain().float(), nets.images().float()
    with torch.autocast("cpu", torch.bfloat16):
        with as_found(model):
            model(inputs)
        model(inputs).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


class Drawing(nets.Plain):
    """Draws in evaluation too."""

    def forward(self, x):
        return super().forward(x + 0.1 * torch.rand_like(x))


@contextmanager
def another_thread():
    """A thread that draws all the time; what it drew."""
    drawn, stop = [], threading.Event()

    def draw():
        while not stop.is_set():
            drawn.append(float(torch.rand((), dtype=torch.float64)))

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        yield drawn
    finally:
        stop.set()
        thread.join()


def test_what_another_thread_draws_is_not_rewound_by_a_network_that_draws_nothing():
    model, inputs = nets.plain(), nets.images()
    with another_thread() as drawn:
        for _ in range(12):
            whycam.explain(model, inputs)
    assert len(drawn) > 100
    assert len(set(drawn)) == len(drawn)


def test_what_a_network_draws_is_put_back_beside_an_idle_thread_as_well():
    model, inputs, wait = nets.fixed(Drawing()), nets.images(), threading.Event()
    thread = threading.Thread(target=wait.wait)
    thread.start()
    try:
        before = torch.get_rng_state()
        for _ in range(3):
            whycam.explain(model, inputs, layer="conv2", target=1)
        assert torch.equal(torch.get_rng_state(), before)
    finally:
        wait.set()
        thread.join()


class Functions(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("where", ["_put_back", "_rewind"])
@pytest.mark.parametrize("gradients", [True, False])
def test_an_interrupt_while_things_are_put_back_leaves_no_mode_behind(where, gradients, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(threading, "active_count", lambda: 1)  # threads of other tests' libraries may be idle

    def enter_and_stay():
        Functions().__enter__()
        Operations().__enter__()
        monkeypatch.setitem(inspect.unwrap(as_found).__globals__, where, interrupted)

    with torch.set_grad_enabled(gradients):
        with pytest.raises(KeyboardInterrupt), as_found(nets.plain()):
            enter_and_stay()
        assert torch.is_grad_enabled() == gradients
        assert torch.is_autocast_cache_enabled()
    assert torch._C._len_torch_function_stack() == torch._C._len_torch_dispatch_stack() == 0
