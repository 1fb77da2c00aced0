"""What one watched forward pass shows."""

import nets
import pytest
import torch
from torch import nn

from whycam.errors import WhycamError
from whycam.network.diagnosis.survey import is_ours, survey

#: Convolution of 8 x 8 by 3 x 3 from 3 to 6 channels, of 4 x 4 from 6 to 8, a linear layer: two operations a product.
PLAIN = 2 * (64 * 27 * 6 + 16 * 54 * 8 + 8 * 5)


def test_each_module_is_counted_by_its_calls():
    assert survey(nets.plain(), nets.images(1)).calls == {
        "conv1": 1, "relu1": 1, "conv2": 1, "relu2": 1, "head": 1,
    }  # fmt: skip
    assert survey(nets.fixed(nets.Shared()), nets.images(1)).calls == {"conv1": 1, "conv2": 2, "head": 1, "relu": 2}


def test_one_sample_is_run_without_gradients_and_counted():
    seen = survey(nets.plain(), nets.images(3))
    assert seen.output.shape == (1, 5)
    assert not seen.output.requires_grad
    assert seen.flops == PLAIN
    torch.testing.assert_close(seen.output, nets.plain()(nets.images(3)[:1]).detach())


def test_modules_that_hand_on_what_they_are_given():
    class Drops(nets.Plain):
        def __init__(self, inplace):
            super().__init__(inplace=inplace)
            self.drop, self.same = nn.Dropout(), nn.Sequential(nn.Identity())

        def features(self, x):
            return self.drop(self.same(self.drop(super().features(x))))

    for inplace in (False, True):  # which hands on the tensor, but not what it held
        assert survey(nets.fixed(Drops(inplace)), nets.images(1)).passing == {"drop", "same", "same.0"}
    assert survey(nets.plain(), nets.images(1)).passing == set()


def test_modules_that_do_not_run_and_modules_whose_weights_others_read():
    assert survey(nets.fixed(nets.Beside()), nets.images(1)).unused == ("unused",)
    # attention reads the weights of its last linear layer itself
    attention = nets.fixed(Attends())
    seen = survey(attention, nets.images(1))
    assert seen.calls["attention.out_proj"] == 0
    assert seen.unused == ()


class Attends(nets.Plain):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        tokens = self.features(x).flatten(2).mT
        return self.head(self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1))


def test_to_ask_for_a_weights_type_is_not_to_use_it():
    class Asks(nets.Plain):
        def __init__(self):
            super().__init__()
            self.spare = nn.Linear(2, 2)

        def forward(self, x):
            return super().forward(x.to(self.spare.weight.dtype))

    assert survey(nets.fixed(Asks()), nets.images(1)).unused == ("spare",)


def test_of_unused_modules_the_outermost_is_named():
    model = nets.plain()
    model.part = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)), nn.ReLU())
    model.empty = nn.ModuleList([nn.ReLU()])
    assert survey(model, nets.images(1)).unused == ("part",)


def test_where_zeros_begin():
    model = nets.plain()
    model.conv2.bias.data.fill_(-1e3)
    assert survey(model, nets.images(1)).zero == ("relu2",)
    model = nets.plain()
    model.conv1.weight.data.zero_()
    model.conv1.bias.data.zero_()
    assert survey(model, nets.images(1)).zero == ("conv1",)
    assert survey(nets.plain(), nets.images(1)).zero == ()
    assert survey(nn.Sequential(nn.Sequential(model.conv1)), nets.images(1)).zero == ("0.0",)


def test_zeros_of_zeros_are_nobodys_fault():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU()).double()
    assert survey(model, nets.images(1) * 0).zero == ()


def test_what_the_network_raises_is_kept_with_the_module_that_was_running():
    model = nets.fixed(nn.Sequential(nets.Raising(), nn.ReLU()))
    model[0].error = ValueError("no")
    seen = survey(model, nets.images(1))
    assert seen.error is model[0].error
    assert seen.raised_in == "0"
    assert seen.output is None
    refused = survey(nets.plain(), nets.images(1)[:, :2])
    assert refused.raised_in == "conv1"
    assert "cannot be run on inputs of shape" in str(refused.error)


def test_an_error_that_the_network_catches_itself_disturbs_nothing():
    class Tries(nets.Plain):
        def forward(self, x):
            try:
                self.head(x.flatten(1))
            except RuntimeError:
                return super().forward(x)

    seen = survey(nets.fixed(Tries()), nets.images(1))
    assert seen.error is None
    assert seen.raised_in == ""
    assert seen.calls == {"conv1": 1, "relu1": 1, "conv2": 1, "relu2": 1, "head": 1}
    assert seen.zero == ()


@pytest.mark.filterwarnings("ignore:the model is in training mode")
def test_the_network_is_left_as_found():
    for model in (nets.fixed(nets.Training()).train(), nets.plain(inplace=True)):
        before = nets.state(model)
        inputs = nets.images(1)
        kept = inputs.clone()
        survey(model, inputs)
        assert nets.differences(before, nets.state(model)) == []
        assert torch.equal(inputs, kept)


def caught(home, code, error=None):
    """What code of a module of that name raises."""
    space = {"__name__": home, "error": error, "torch": torch}
    exec(f"def run(): {code}", space)
    with pytest.raises((RuntimeError, LookupError, WhycamError)) as found:
        space["run"]()
    return found.value


def test_mistakes_of_this_packages_own_are_told_from_the_models():
    assert is_ours(caught("whycam.kit.arrays", "raise error", LookupError()))
    assert not is_ours(caught("whycam.kit.arrays", "raise error", WhycamError()))
    assert not is_ours(caught("whycam.kit.arrays", "torch.functional.split(torch.ones(3), -1)"))
    assert not is_ours(caught("whycam.models.objects", "raise error", LookupError()))
    assert not is_ours(caught("mymodels", "raise error", LookupError()))
