"""Activation checkpointing: the right map, or what to turn off."""

import nets
import pytest
import torch
import torchvision_shim
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import whycam
from whycam import WhycamError
from whycam.kit.registry import methods

torchvision_shim.register()
import timm  # noqa: E402
import torchvision.models as zoo  # noqa: E402
import transformers  # noqa: E402

# torch's remark on what is checkpointed while gradients are off
pytestmark = pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
GRADIENT = [name for name, each in methods().items() if each.has_layer and "gradients" in each.needs]
LAYERS = ["conv1", "relu1", "conv2", "relu2"]


def checkpointed(**options):
    return nets.fixed(nets.Checkpointed(**options))


#: Every method at every layer; in the quick run they take turns, each at one layer.
IN_TURNS = [
    pytest.param(method, layer, id=f"{method}-{layer}", marks=[pytest.mark.slow] * (number % len(LAYERS) != turn))
    for number, method in enumerate(GRADIENT)
    for turn, layer in enumerate(LAYERS)
]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(("method", "layer"), IN_TURNS)
def test_what_is_computed_again_is_explained_like_what_is_not(whole, layer, method):
    inputs, model = nets.images(), checkpointed(reentrant=False, whole=whole)
    before = nets.state(model)
    found = whycam.explain(model, inputs, method, layer=layer, target=1)
    assert nets.differences(before, nets.state(model)) == []
    expected = whycam.explain(nets.plain(), inputs, method, layer=layer, target=1)
    torch.testing.assert_close(found.maps, expected.maps)


def test_frozen_and_without_gradients_around_it_too():
    inputs, expected = nets.images(), whycam.explain(nets.plain(), nets.images(), layer="conv2").maps
    model = nets.frozen(checkpointed(reentrant=False))
    with torch.no_grad():
        assert torch.allclose(whycam.explain(model, inputs, layer="conv2").maps, expected)
    with torch.inference_mode():
        assert torch.allclose(whycam.explain(model, inputs, layer="conv2").maps, expected)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("layer", [*LAYERS, ["conv1", "relu2"]], ids=str)
def test_reentrant_checkpointing_is_refused_with_what_to_turn_off(whole, layer):
    model = checkpointed(reentrant=True, whole=whole)
    before = nets.state(model)
    with pytest.raises(WhycamError, match=r"reentrant activation checkpointing.*set_grad_checkpointing\(False\)"):
        whycam.explain(model, nets.images(), layer=layer)
    assert nets.differences(before, nets.state(model)) == []


def test_a_layer_below_a_reentrant_part_is_refused_and_one_above_it_explained():
    class Middle(nets.Plain):
        def features(self, x):
            return self.relu2(checkpoint(self.conv2, self.relu1(self.conv1(x)), use_reentrant=True))

    model, inputs = nets.fixed(Middle()), nets.images()
    with pytest.raises(WhycamError, match="reentrant"):
        whycam.explain(model, inputs, layer="relu1")
    found = whycam.explain(model, inputs, layer="relu2")
    assert torch.equal(found.maps, whycam.explain(nets.plain(), inputs, layer="relu2").maps)
    assert (found.cost.forwards, found.cost.backwards) == (1, 1)
    with pytest.raises(WhycamError, match="reentrant"):
        whycam.compare(model, inputs, layers=["conv2", "relu2"])  # and not a map that says the first has no gradient
    with pytest.raises(WhycamError, match="reentrant"):
        whycam.explain(model, inputs, "guided_backprop")


def test_a_branch_that_first_keeps_less_than_it_computes_again_is_run_once_more():
    class Branches(nets.Plain):
        """Two branches from the picture; the second is computed again, and holds nothing that learns."""

        def __init__(self):
            super().__init__()
            self.conv2 = nn.Conv2d(3, 6, 3, padding=1)
            self.head = nn.Linear(6, 5)
            self.again = True

        def features(self, x):
            first = self.relu1(self.conv1(x))
            branch = lambda y: self.relu2(self.conv2(y) * 2)  # noqa: E731
            return first + (checkpoint(branch, x, use_reentrant=False) if self.again else branch(x))

    model, plain = (nets.frozen(nets.fixed(Branches())) for _ in range(2))
    plain.again = False
    found, expected = (
        whycam.compare(each, nets.images(), ["hires_cam"], ["conv1", "conv2"], [1]) for each in (model, plain)
    )
    for layer in ("conv1", "conv2"):
        torch.testing.assert_close(found["hires_cam", layer].maps, expected["hires_cam", layer].maps)
    assert (found.cost.forwards, expected.cost.forwards) == (2, 1)


def test_methods_without_gradients_do_not_mind():
    expected = whycam.explain(nets.plain(), nets.images(), "eigen_cam", layer="conv2").maps
    for reentrant in (False, True):
        model = checkpointed(reentrant=reentrant, whole=True)
        assert torch.equal(whycam.explain(model, nets.images(), "eigen_cam", layer="conv2").maps, expected)


def test_a_layer_beside_a_reentrant_part_is_still_beside():
    class Beside(nets.Beside):
        def features(self, x):
            return checkpoint(super().features, x, use_reentrant=True)

    with pytest.raises(WhycamError, match="after or beside"):
        whycam.explain(nets.fixed(Beside()), nets.images(), layer="decoder")


def test_sequences_in_segments():
    layers = nets.fixed(nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU()))

    class Segments(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers, self.head = layers, nets.fixed(nn.Linear(8, 5))

        def forward(self, x):
            return self.head(nets.spatial_mean(checkpoint_sequential(self.layers, 2, x, use_reentrant=False)))

    model = Segments()
    plain = nn.Sequential(layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), model.head)
    for number in range(4):
        found = whycam.explain(model, nets.images(), layer=f"layers.{number}")
        torch.testing.assert_close(found.maps, whycam.explain(plain, nets.images(), layer=f"0.{number}").maps)


def small_vit():
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=3, embed_dim=24, num_heads=2)
    return model.eval()


@pytest.mark.parametrize("layer", [None, "blocks.0", "blocks.1.norm1", "blocks.1.attn", "patch_embed"])
def test_timms_checkpointing(layer):
    inputs = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    plain, model = small_vit(), small_vit()
    model.set_grad_checkpointing(True)
    before = nets.state(model)
    found = whycam.explain(model, inputs, layer=layer, target=3)
    assert nets.differences(before, nets.state(model)) == []
    expected = whycam.explain(plain, inputs, layer=layer, target=3)
    assert found.layer.name == expected.layer.name
    torch.testing.assert_close(found.maps, expected.maps)
    assert expected.maps.any()


@pytest.mark.parametrize("layer", ["features.denseblock1.denselayer1.conv1", "features.denseblock2", "features.norm5"])
def test_torchvisions_networks_of_little_memory(layer):
    def densenet(efficient):
        torch.manual_seed(0)
        return zoo.DenseNet(8, (2, 2), 8, num_classes=5, memory_efficient=efficient).eval()

    inputs = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found, expected = (
        whycam.explain(densenet(efficient), inputs, "hires_cam", layer=layer, target=3) for efficient in (True, False)
    )
    torch.testing.assert_close(found.maps, expected.maps)
    assert expected.maps.any()


def hugging_face(reentrant=None):
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=24, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config).train()
    if reentrant is not None:
        switch(model, "enable")({"use_reentrant": reentrant})
    return model


def switch(model, way):
    """Its method by the name of this version."""
    return getattr(model, f"activation_checkpointing_{way}", None) or getattr(model, f"gradient_checkpointing_{way}")


def layers_of(model):
    blocks = [name for name, each in model.named_modules() if type(each).__name__ == "ViTLayer"]
    inner = (name for name, each in model.named_modules() if type(each) is nn.Linear and blocks[1] in name)
    return blocks[0], next(inner)


@pytest.mark.filterwarnings("ignore:the model is in training mode")
def test_transformers_checkpointing():
    inputs = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    plain, model, reentrant = hugging_face(), hugging_face(False), hugging_face(True)
    for layer in layers_of(plain):
        found, expected = (whycam.explain(each, inputs, layer=layer, target=1) for each in (model, plain))
        torch.testing.assert_close(found.maps, expected.maps)
        assert expected.maps.any()
        with pytest.raises(WhycamError, match=r"model\.gradient_checkpointing_disable\(\) in transformers"):
            whycam.explain(reentrant, inputs, layer=layer, target=1)
    switch(reentrant, "disable")()
    found = whycam.explain(reentrant, inputs, layer=layer, target=1)
    torch.testing.assert_close(found.maps, expected.maps)
