"""Where NaN and infinity come from."""

import nets
import pytest
import torch

import whycam
from whycam.network.diagnosis.non_finite import first_non_finite


def test_a_sample_that_is_bad_from_the_start():
    inputs = nets.images()
    inputs[1, 0, 2, 2] = torch.nan
    assert first_non_finite(nets.plain(), inputs) == [None, "the input", None]


def test_bad_weights_are_named_for_all():
    model = nets.plain()
    model.conv2.bias.data[3] = torch.inf
    assert first_non_finite(model, nets.images()) == ["the weights (conv2.bias)"] * 3


def test_the_first_layer_that_overflows_is_named_for_each_sample():
    class Overflowing(nets.Plain):
        def features(self, x):
            return self.relu2(self.conv2(self.relu1(self.conv1(x)) * 1e300))

    inputs = nets.images()
    inputs[0] = 0
    model = nets.fixed(Overflowing())
    model.conv1.bias.data.zero_()
    model.conv2.weight.data *= 1e10
    assert first_non_finite(model, inputs) == [None, "layer 'conv2'", "layer 'conv2'"]


def test_what_no_module_made_is_found_in_the_output():
    class Dividing(nets.Plain):
        def forward(self, x):
            return super().forward(x) / 0

    assert set(first_non_finite(nets.fixed(Dividing()), nets.images())) == {"the output"}


def test_a_sound_pass_names_nothing_and_leaves_no_trace():
    model = nets.plain()
    before = nets.state(model)
    assert first_non_finite(model, nets.images()) == [None] * 3
    assert nets.differences(before, nets.state(model)) == []


@pytest.mark.parametrize("method", ["grad_cam", "eigen_cam", "layer_cam", "guided_backprop", "kpca_cam"])
def test_the_status_says_where_and_the_other_samples_are_unharmed(method):
    model, inputs = nets.plain(), nets.images()
    expected = whycam.explain(model, inputs, method)
    inputs[1, 0, 2, 2] = torch.nan
    found = whycam.explain(model, inputs, method)
    assert found.status[1].kind == "non-finite"
    assert "first appears in the input" in found.status[1].message
    for sound in (0, 2):
        torch.testing.assert_close(found.maps[sound], expected.maps[sound])
        assert found.status[sound] == expected.status[sound]


def test_a_gradient_that_alone_is_not_finite_is_told_apart():
    found = whycam.explain(
        nets.plain(), nets.images(), layer="relu2", target=lambda output: (output[:, 0] - output[:, 0].detach()).sqrt()
    )
    assert {status.kind for status in found.status} == {"non-finite"}
    assert "the forward pass is finite, the gradient is not" in found.status[0].message


def test_what_an_operation_between_modules_made_is_told_by_who_is_given_it():
    class Rooted(nets.Plain):
        def features(self, x):
            return self.relu2(self.conv2((self.relu1(self.conv1(x)) - 1).sqrt()))

    assert set(first_non_finite(nets.fixed(Rooted()), nets.images())) == {"what layer 'conv2' is given"}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_scripted_part_takes_no_hook_and_is_told_by_the_next():
    part = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.ReLU()).double()
    part[0].bias.data.fill_(1e308)
    part[0].weight.data.fill_(1e308)
    model = torch.nn.Sequential(torch.nn.Identity(), torch.jit.script(part), torch.nn.Flatten()).eval()
    assert set(first_non_finite(model, nets.images().abs() + 1)) == {"what layer '2' is given"}
