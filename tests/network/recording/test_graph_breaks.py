"""Where a gradient's way ends, named by the first module that ends it."""

import nets
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import whycam
from whycam.network.layer_refs import LayerRef
from whycam.network.recording.graph_breaks import Cut, cuts, follow
from whycam.network.recording.record import record
from whycam.targets import resolve


class Cutting(nets.Plain):
    """Does something to its features between the first ReLU and the second convolution."""

    def __init__(self, between):
        super().__init__()
        self.between = between

    def features(self, x):
        return self.relu2(self.conv2(self.between(self.relu1(self.conv1(x)))))


class Module(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Rounding(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        rounded = x.round()
        ctx.mark_non_differentiable(rounded)
        return rounded

    @staticmethod
    def backward(ctx, gradient):
        raise AssertionError


def without_gradients(x):
    with torch.no_grad():
        return x * 2


def one_hot(x):
    return F.one_hot(x.argmax(1), 6).movedim(-1, 1).to(x)


FUNCTIONS = {
    "detach": (torch.Tensor.detach, "calls detach"),
    "data": (lambda x: x.data, "calls data"),
    "no_grad": (without_gradients, "computes without gradients"),
    "argmax": (one_hot, "calls argmax"),
    "numpy": (lambda x: torch.from_numpy(x.detach().numpy()), "calls detach"),
}


@pytest.mark.parametrize(("function", "what"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_cut_in_the_networks_own_forward_is_placed_behind_the_module_before_it(function, what):
    model, inputs = nets.fixed(Cutting(function)), nets.images()
    for layer in (None, LayerRef("conv1"), LayerRef("relu1")):
        ((module, said),) = cuts(model, inputs, layer)
        assert module == ""
        assert said.startswith(what)
        assert said.endswith("behind 'relu1'")
    assert cuts(model, inputs, LayerRef("conv2")) == []


FUNCTIONS["function of its own"] = (Rounding.apply, "computes without gradients")


@pytest.mark.parametrize(("function", "what"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_module_that_cuts_is_named(function, what):
    model = nets.fixed(Cutting(nn.Sequential(nn.Identity(), Module(function))))
    before = nets.state(model)
    ((module, said),) = cuts(model, nets.images(), LayerRef("conv1"))
    assert module == "between.1"
    assert said.startswith(what)
    assert nets.differences(before, nets.state(model)) == []
    expected = f"does not depend on 'conv1': the gradient ends at 'between.1', which {what}"
    with pytest.raises(whycam.WhycamError, match=expected):
        whycam.explain(model, nets.images(), layer="conv1")


def test_a_block_under_no_grad_is_named_as_a_whole():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
            self.head = nn.Linear(4, 5)

        def forward(self, x):
            with torch.no_grad():
                x = self.backbone(x)
            return self.head(nets.spatial_mean(x))

    model = nets.fixed(Frozen())
    assert cuts(model, nets.images()) == [Cut("backbone", "runs with gradients off (torch.no_grad)")]
    assert cuts(model, nets.images(), LayerRef("backbone.0")) == []  # gradients are put on at the layer


def test_cuts_come_in_running_order_and_the_first_is_named():
    model = nets.fixed(
        nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.Sequential(Module(torch.Tensor.detach)), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten()
        )
    )
    model[2].weight.requires_grad_(False)
    model[2].bias.requires_grad_(False)
    assert [cut.module for cut in cuts(model, nets.images())] == ["1.0"]
    with pytest.raises(whycam.WhycamError, match=r"ends at '1\.0', which calls detach\. Choose a layer behind that"):
        whycam.explain(model, nets.images(), layer="0")


def test_weights_that_learn_do_not_hide_a_cut():
    model = nets.fixed(Cutting(torch.Tensor.detach))
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not follow(model, nets.images(), LayerRef("relu1")).arrives


def test_what_goes_on_beside_the_way_is_no_cut():
    class Logging(nets.Plain):
        def features(self, x):
            x = super().features(x)
            self.seen = float(x.detach().mean())
            with torch.no_grad():
                self.conv1(x[:, :3])
            return x

    model = nets.fixed(Logging())
    assert follow(model, nets.images()) == (True, (), True)
    assert cuts(model, nets.images()) == []


def test_a_layer_beside_the_way_is_not_cut():
    model = nets.fixed(nets.Beside())
    assert follow(model, nets.images(), LayerRef("decoder"))[:2] == (False, ())
    with pytest.raises(whycam.WhycamError, match="'decoder': it comes after or beside what the score is computed from"):
        whycam.explain(model, nets.images(), layer="decoder")


def test_a_block_with_a_layer_beside_its_way_is_no_cut():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.decoder = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

        def forward(self, x):
            self.decoder(x)
            return self.conv(x)

    model = nets.fixed(nn.Sequential(Block(), nn.ReLU(), nn.Flatten()))
    assert follow(model, nets.images(), LayerRef("0.decoder"))[:2] == (False, ())


def test_what_a_module_is_given_can_be_followed_and_so_can_one_of_its_calls():
    model = nets.fixed(Cutting(torch.Tensor.detach))
    assert [cut.module for cut in cuts(model, nets.images(), LayerRef("relu1", side="input"))] == [""]
    assert follow(model, nets.images(), LayerRef("relu2", side="input")).arrives
    shared = nets.fixed(nets.Shared())
    assert follow(shared, nets.images(), LayerRef("conv2", 1)).arrives


def test_a_target_that_cuts_is_told_from_a_network_that_does():
    with pytest.raises(whycam.WhycamError, match="although the model's answer does: the target cuts the gradient"):
        whycam.explain(nets.plain(), nets.images(), layer="conv2", target=lambda output: output[:, 0].detach())


CUTS = [lambda output: output.detach(), lambda output: torch.tensor(output.tolist()), lambda output: output.data * 2]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("layer", ["conv2", None])
def test_a_function_for_the_output_that_cuts_is_named_and_not_the_network(cut, layer):
    with pytest.raises(whycam.WhycamError, match="the function passed as output= cuts the gradient"):
        whycam.explain(nets.plain(), nets.images(), layer=layer, output=cut)


def test_a_network_that_cannot_be_followed_still_gets_the_sentence(monkeypatch):
    class Once(nets.Beside):
        """Runs only as often as the recording runs it."""

        runs = 0

        def forward(self, x):
            self.runs += 1
            if self.runs > 3:
                raise OSError
            return super().forward(x)

    with pytest.raises(whycam.WhycamError, match="'decoder': it comes after or beside"):
        whycam.explain(nets.fixed(Once()), nets.images(), layer="decoder")


def test_following_leaves_no_trace_and_costs_one_forward():
    model, ran = nets.fixed(Cutting(torch.Tensor.detach)), []
    model.register_forward_hook(lambda *_: ran.append(1))
    before = nets.state(model)
    cuts(model, nets.images())
    assert nets.differences(before, nets.state(model)) == []
    assert len(ran) == 1


def test_a_sound_recording_is_never_followed(monkeypatch):
    monkeypatch.setattr("whycam.network.recording.record.follow", lambda *_: pytest.fail("followed for nothing"))
    record(nets.plain(), nets.images(), [LayerRef("conv2")], [lambda output: resolve(None, output)])


@pytest.mark.filterwarnings("ignore:.*quantiz.*:DeprecationWarning", "ignore:.*quantize:UserWarning")
def test_a_quantized_layer_is_named_as_such():
    model = torch.ao.quantization.quantize_dynamic(nets.plain().float(), {nn.Linear})
    ((module, what),) = cuts(model, nets.images().float(), LayerRef("conv2"))
    assert (module, what) == ("head", "is quantized (Linear) and has no gradient")
