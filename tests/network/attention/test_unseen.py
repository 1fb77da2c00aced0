"""Attention that no capture sees ends in a sentence that names the way out, never in a map without it."""

import nets
import pytest
import torch
import torchvision_shim
from small_vit import SmallViT, pictures, small_vit
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import whycam

#: Torch's remarks on what is checkpointed while gradients are off, and on what will go.
pytestmark = [
    pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*:DeprecationWarning"),
]
METHODS = ["grad_rollout", "generic_attention", "legrad", "grad_eclip"]


class Again(nn.Module):
    """A block that is computed a second time in the backward pass."""

    def __init__(self, block: nn.Module, reentrant: bool) -> None:
        super().__init__()
        self.block, self.reentrant = block, reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.block, x, use_reentrant=self.reentrant)


def recomputing(reentrant: bool) -> SmallViT:
    model = small_vit()
    model.blocks = nn.ModuleList(Again(each, reentrant) for each in model.blocks)
    return model


@pytest.mark.parametrize("method", METHODS)
def test_blocks_computed_again_are_explained_like_others(method: str) -> None:
    model = small_vit()
    x = pictures(model)
    expected = whycam.explain(model, x, method, target=1).maps
    torch.testing.assert_close(whycam.explain(recomputing(False), x, method, target=1).maps, expected)


@pytest.mark.parametrize("method", METHODS)
def test_reentrant_checkpointing_is_refused_with_what_to_turn_off(method: str) -> None:
    model = recomputing(True)
    with pytest.raises(whycam.WhycamError, match=r"reentrant activation.*set_grad_checkpointing\(False\) in timm"):
        whycam.explain(model, pictures(model), method, target=1)


def test_rollout_reads_no_class() -> None:
    model = small_vit()
    x = pictures(model)
    expected = whycam.explain(model, x, "attention_rollout").maps
    torch.testing.assert_close(whycam.explain(recomputing(False), x, "attention_rollout").maps, expected)
    with pytest.raises(whycam.WhycamError, match="reentrant"):
        whycam.explain(recomputing(True), x, "attention_rollout")


def test_a_traced_block_is_not_left_out() -> None:
    model = small_vit(blocks=3)
    x = pictures(model)
    model.blocks[1] = torch.jit.trace(model.blocks[1], model.embed(x).detach())
    with pytest.raises(whycam.WhycamError, match=r"inside of 'blocks\.1', a scripted or traced module.*in its place"):
        whycam.explain(model, x, "generic_attention", target=1)


def test_a_traced_part_without_attention_is_none_of_our_business() -> None:
    model = small_vit()
    x = pictures(model)
    expected = whycam.explain(model, x, "generic_attention", target=1).maps
    model.head = torch.jit.trace(model.head, torch.zeros(2, 8, dtype=torch.float64))
    torch.testing.assert_close(whycam.explain(model, x, "generic_attention", target=1).maps, expected)


@pytest.mark.parametrize("layer", [None, "conv2"])
def test_a_network_without_attention(layer: str | None) -> None:
    with pytest.raises(whycam.WhycamError, match=r'No attention was seen.*attn_implementation="sdpa".*grad_cam'):
        whycam.explain(nets.plain(), nets.images(), "legrad", layer=layer, target=1)


def test_kernels_of_their_own_are_named() -> None:
    torchvision_shim.register()
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=1, intermediate_size=32, patch_size=8, image_size=32
    )
    model = transformers.ViTForImageClassification(config).eval()
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert whycam.explain(model, x, "generic_attention").maps.std() > 0
    model.set_attn_implementation("flex_attention")
    with pytest.raises(whycam.WhycamError, match=r'\(flex_attention\).*set_attn_implementation\("sdpa"\)'):
        whycam.explain(model, x, "generic_attention")
