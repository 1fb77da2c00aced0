"""AttnLRP against its equations, handed back by hand through a ViT of two blocks."""

import nets
import pytest
import torch
from lrp_by_hand import OPTIONS, relevances, start, vit
from small_vit import Block, ByItself, pictures

import whycam
from whycam.methods.attn_lrp import attn_lrp


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", [Block, ByItself], ids=["fused", "written out"])
def test_is_relevance_by_hand(kind, options):
    model = vit(kind=kind)
    images, classes = pictures(model), torch.tensor([3, 1])
    expected, _ = relevances(model, images, start(model, images, classes), "attn_lrp", **options)
    found = whycam.explain(model, images, "attn_lrp", target=classes.tolist(), **options)
    scale = float(expected.sum(1).abs().max())
    torch.testing.assert_close(found.maps / scale, expected.sum(1).float() / scale, rtol=0, atol=1e-6)
    assert found.notes == ()


def test_colors_are_added_up():
    given = torch.tensor([[[1.0, -2.0], [3.0, 5.0]]])
    asked = {}

    def relevance(**options):
        asked.update(options)
        return given

    assert attn_lrp(relevance, linear_gamma=0.5, conv_gamma=2.0).tolist() == [[4.0, 3.0]]
    assert asked == {"rules": "attn_lrp", "linear_gamma": 0.5, "conv_gamma": 2.0}


def test_without_attention_it_is_cp_lrp():
    model, images = nets.plain(), nets.images()
    one, other = (whycam.explain(model, images, name, target=1).maps for name in ("attn_lrp", "cp_lrp"))
    assert torch.equal(one, other)
