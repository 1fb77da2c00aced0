"""What a caller is told when the network does not take the inputs, and when it is left to speak for itself."""

import nets
import pytest
import torch
import torchvision_shim
from torch import nn

import whycam
from whycam import WhycamError

torchvision_shim.register()
import timm  # noqa: E402
import transformers  # noqa: E402


def vit():
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8
    )
    return transformers.ViTForImageClassification(config).eval()


def viewing():
    class Viewing(nets.Plain):
        def forward(self, x):
            return super().forward(x.view(len(x), 3, 8, 8))

    return nets.fixed(Viewing())


def normed():
    return nets.fixed(nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4), nn.Flatten())).train()


MISFITS = {
    "channels": (
        nets.plain,
        lambda: nets.images()[:, :2],
        r"cannot be run on inputs of shape \(3, 2, 8, 8\) float64: .*expected input.* to have 3 channels, but got 2",
        RuntimeError,
    ),
    "head": (
        lambda: nets.fixed(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(7, 5))),
        nets.images,
        r"\(3, 3, 8, 8\) float64: mat1 and mat2 shapes cannot be multiplied",
        RuntimeError,
    ),
    "an operation in the network's own code": (
        viewing,
        lambda: nets.images(side=16),
        r"\(3, 3, 16, 16\) float64: shape '\[3, 3, 8, 8\]' is invalid",
        RuntimeError,
    ),
    "batch statistics": (normed, lambda: nets.images(1), "Expected more than 1 value per channel", ValueError),
    "timm's size": (
        lambda: timm.create_model("vit_tiny_patch16_224", depth=1, img_size=(32, 48)).eval(),
        lambda: torch.zeros(2, 3, 64, 64),
        r"\(2, 3, 64, 64\) float32: Input height \(64\) doesn't match model \(32\)\. The model is made for 32 x 48\.",
        AssertionError,
    ),
    "timm's channels": (
        lambda: timm.create_model("test_resnet").eval(),
        lambda: torch.zeros(2, 4, 64, 64),
        r"but got 4 channels instead\. The model is made for 3 x 160 x 160\.",
        RuntimeError,
    ),
    "transformers' size": (
        vit,
        lambda: torch.zeros(1, 3, 64, 64),
        r"doesn't match model \(32\*32\)\. The model is made for 32 x 32\.",
        ValueError,
    ),
    "transformers' channels": (
        vit,
        lambda: {"pixel_values": torch.zeros(1, 4, 32, 32)},
        r"of shape pixel_values \(1, 4, 32, 32\) float32: Make sure that the channel dimension",
        ValueError,
    ),
    "half precision": (
        lambda: nets.plain().half(),
        lambda: nets.images().float(),
        r"weights are float16 and the inputs float32: convert one of them, the inputs with \.to\(torch\.float16\)",
        RuntimeError,
    ),
    "one input of two": (
        lambda: nets.fixed(nets.TwoInputs()),
        nets.images,
        r"forward\(numbers.*, picture.*\) was called with one tensor: .*missing 1 .*: 'picture'\. Pass .* a tuple",
        TypeError,
    ),
    "a wrong name": (
        lambda: nets.fixed(nets.TwoInputs()),
        lambda: {"numbers": torch.ones(3, 2), "image": nets.images()},
        "called with the arguments numbers, image: .*unexpected keyword argument 'image'",
        TypeError,
    ),
    "one input too many": (
        nets.plain,
        lambda: (nets.images(), nets.images()),
        "called with 2 positional arguments: .*takes 2 positional arguments but 3 were given",
        TypeError,
    ),
}


@pytest.mark.parametrize("layer", ["conv2", None])
@pytest.mark.parametrize(("make", "inputs", "sentence", "cause"), MISFITS.values(), ids=MISFITS)
@pytest.mark.filterwarnings("ignore:the model is in training mode")
def test_what_torch_says_of_the_inputs_comes_with_what_was_given(make, inputs, sentence, cause, layer):
    model = make()
    if layer is not None:
        layer = next(name for name, each in model.named_modules() if isinstance(each, nn.Conv2d))
    before = nets.state(model)
    with pytest.raises(WhycamError, match=sentence) as caught:
        whycam.explain(model, inputs(), layer=layer)
    assert type(caught.value.__cause__) is cause
    assert nets.differences(before, nets.state(model)) == []


class Refusing(nets.Plain):
    """Checks its input, or has a mistake of its own, in its own words."""

    def __init__(self, do):
        super().__init__()
        self.do = do

    def features(self, x):
        self.do(x)
        return super().features(x)


def raising(error):
    def do(x):
        raise error

    return do


def asserting(x):
    assert x.shape[-1] == 224, "mine"


def mistaken(x):
    return x.shape + 1


def missing(x):
    return {}["key"]


class Own(RuntimeError):
    pass


@pytest.mark.parametrize(
    ("do", "kind"),
    [
        (raising(RuntimeError("mine")), RuntimeError),
        (raising(ValueError("mine")), ValueError),
        (raising(TypeError("mine")), TypeError),
        (raising(Own("mine")), Own),
        (raising(torch.OutOfMemoryError("mine")), torch.OutOfMemoryError),
        (raising(KeyboardInterrupt("mine")), KeyboardInterrupt),
        (asserting, AssertionError),
        (mistaken, TypeError),
        (missing, KeyError),
    ],
    ids=["RuntimeError", "ValueError", "TypeError", "own class", "memory", "Ctrl-C", "assert", "mistake", "key"],
)
@pytest.mark.parametrize("layer", ["conv2", None])
def test_the_networks_own_exceptions_pass_as_they_are(do, kind, layer):
    with pytest.raises(kind) as caught:
        whycam.explain(nets.fixed(Refusing(do)), nets.images(), layer=layer)
    assert type(caught.value) is kind
    assert caught.value.__cause__ is None


def test_an_inner_module_called_wrongly_is_the_networks_own_mistake():
    class Wrong(nets.Plain):
        def features(self, x):
            return self.relu2(self.conv2(self.conv1(x, x)))

    with pytest.raises(TypeError, match="positional arguments") as caught:
        whycam.explain(nets.fixed(Wrong()), nets.images(), layer="conv2")
    assert caught.value.__cause__ is None


@pytest.mark.filterwarnings("ignore:the model is in training mode")
def test_a_network_that_takes_whole_batches_only_needs_no_layer_named():
    model = nets.fixed(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4), nn.Flatten())
    ).train()
    found = whycam.explain(model, nets.images(), target=0)
    assert found.layer.name == "0"
    assert found.cost.choosing == 2
    expected = whycam.explain(model, nets.images(), layer="0", target=0)
    assert torch.equal(found.maps, expected.maps)
