"""What asking nothing of the user costs: at most one forward's work on the first call, and nothing after it."""

import nets
import pytest
import torch
import torchvision_shim
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import whycam

torchvision_shim.register()
import timm  # noqa: E402
import torchvision  # noqa: E402

BATCH = 8


def resnet50():
    return torchvision.models.resnet50(num_classes=10).eval()


def vit_tiny():
    model = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=10).eval()
    nn.init.normal_(model.head.weight)
    return model


def flops(function):
    with FlopCounterMode(display=False) as counter:
        made = function()
    return counter.get_total_flops(), made


@pytest.mark.parametrize(("make", "layer"), [(resnet50, "layer4"), (vit_tiny, "blocks.11.norm1")])
def test_the_first_call_costs_at_most_a_forward_more_and_the_next_nothing(make, layer):
    torch.manual_seed(0)
    model, inputs = make(), torch.randn(BATCH, 3, 64, 64)
    with torch.no_grad():
        prediction, _ = flops(lambda: model(inputs))
    first, found = flops(lambda: whycam.explain(model, inputs, "grad_cam"))
    again, _ = flops(lambda: whycam.explain(model, inputs, "grad_cam"))
    named, _ = flops(lambda: whycam.explain(model, inputs, layer=layer))
    assert found.layer.name == layer
    assert again == named
    assert 0 < (first - again) / prediction <= 1.0
    print(f"first {first / prediction:.2f}, next {again / prediction:.2f} predictions")


@pytest.mark.parametrize(("make", "method"), [(resnet50, "grad_cam"), (vit_tiny, "generic_attention")])
def test_looking_whether_tokens_attend_costs_nothing_where_all_is_convolved_and_elsewhere_once(make, method):
    torch.manual_seed(0)
    model, inputs = make(), torch.randn(BATCH, 3, 64, 64)
    with torch.no_grad():
        prediction, _ = flops(lambda: model(inputs))
    first, found = flops(lambda: whycam.explain(model, inputs))
    again, _ = flops(lambda: whycam.explain(model, inputs))
    named, _ = flops(lambda: whycam.explain(make(), inputs, method))
    assert found.method == method
    assert first == named
    assert again < first
    assert (first - again) / prediction <= 1.5


def test_naming_a_layer_of_tokens_is_checked_once():
    torch.manual_seed(0)
    model, inputs = vit_tiny(), torch.randn(BATCH, 3, 64, 64)
    costs = [whycam.explain(model, inputs, layer="blocks.9").cost for _ in range(3)]
    assert [(cost.forwards, cost.choosing) for cost in costs] == [
        (3, 2),
        (1, 0),
        (1, 0),
    ]  # what precedes it is looked at, and where it lies


def test_a_guided_pass_that_is_refused_is_owned_up_to():
    torch.manual_seed(0)
    model, inputs = (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.LazyLinear(5)).eval(),
        torch.randn(1, 3, 8, 8),
    )
    model(inputs)
    passes = []
    model.register_forward_pre_hook(lambda *_: passes.append(1))
    made = whycam.compare(model, inputs, ["grad_cam", "guided_backprop"])
    assert made.failures.keys() == {("guided_backprop", "input", None)}
    assert made.cost.forwards == len(passes)


def test_where_numbers_are_lost_no_other_layer_is_looked_for():
    """What is NaN has no gradient behind `nan_to_num`, and nor has any other layer: that is no reason to look."""

    class Lost(nets.Plain):
        def forward(self, x):
            return self.head(nets.spatial_mean(self.features(x).nan_to_num()))

    model, inputs = nets.fixed(Lost()), nets.images()
    whycam.explain(model, inputs, target=1)
    found = whycam.explain(model, inputs * torch.nan, target=1)
    assert {status.kind for status in found.status} == {"non-finite"}
    assert (found.cost.forwards, found.cost.backwards) == (2, 1)  # the second finds where they were lost
