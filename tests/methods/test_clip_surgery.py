import functools

import nets
import pytest
import torch
from small_vit import HEADS, SmallViT, on_grid, pictures, small_vit
from torch import nn

import whycam
from whycam.targets import Text


def second_path(model, x, blocks):
    """Each token behind the last block as the paper has it, by loops over blocks and heads."""
    tokens = model.embed(x)
    for block in model.blocks[:-blocks]:
        tokens = block(tokens)
    own, plain = tokens.clone(), tokens
    for block in model.blocks[-blocks:]:
        _, _, v = block.split(plain)
        heads = []
        for head in range(HEADS):
            alike = torch.einsum("bid,bjd->bij", v[:, head], v[:, head]) / v.shape[-1] ** 0.5
            heads.append(alike.softmax(-1) @ v[:, head])
        own = own + torch.cat(heads, -1) @ block.proj.weight.T + block.proj.bias
        plain = block(plain)
    return own.detach()


@pytest.mark.parametrize("options", [{"blocks": 4}, {"blocks": 3, "prefix": 5}, {"blocks": 3, "pool": "mean"}], ids=str)
@pytest.mark.parametrize("blocks", [1, 2])
def test_a_class_of_each_patch_alone(options, blocks):
    model = small_vit(**options)
    x = pictures(model)
    with torch.no_grad():
        expected = on_grid(model, model.head(model.norm(second_path(model, x, blocks)))[..., 3])
    found = whycam.explain(model, x, "clip_surgery", target=3, blocks=blocks)
    torch.testing.assert_close(found.maps.double(), expected, rtol=2e-7, atol=1e-9)


class Towers(nn.Module):
    """A tower for pictures and one for texts, called as open_clip's."""

    def __init__(self) -> None:
        super().__init__()
        self.visual, self.words = SmallViT(blocks=3), nn.Embedding(7, 5)
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def encode_image(self, image):
        self.runs = getattr(self, "runs", 0) + 1
        return self.visual(image)

    def encode_text(self, text):
        return self.words(text).mean(1)

    def forward(self, image, text):
        return self.encode_image(image) @ self.encode_text(text).T


@pytest.fixture
def towers():
    model = nets.fixed(Towers())
    for norm in (each for each in model.modules() if isinstance(each, nn.LayerNorm)):
        norm.weight.data += 1
    return model


SENTENCES = ([1, 2], [3, 4, 0], [5, 6])


def unit(vectors):
    return vectors / vectors.norm(dim=-1, keepdim=True)


def test_what_sentences_share_is_taken_away(towers):
    x = pictures(towers.visual)
    with torch.no_grad():
        texts = [unit(towers.encode_text(torch.tensor([each])))[0] for each in SENTENCES]
        whole = unit(towers.visual(x))
        tokens = unit(towers.visual.head(towers.visual.norm(second_path(towers.visual, x, 2))))
    weights = torch.stack([(2 * (whole * each).sum(-1)).exp() for each in texts], 1)
    weights = weights / weights.mean(1, keepdim=True)  # the softmax over its own mean
    # number by number of the vectors, as the authors do it
    parts = torch.stack([tokens * each * weights[:, i, None, None] for i, each in enumerate(texts)])
    surgery = (parts - parts.mean(0)).sum(-1)
    for i, own in enumerate(SENTENCES):
        others = [each for each in SENTENCES if each is not own]
        target = Text(torch.tensor(own), against=[torch.tensor(each) for each in others])
        found = whycam.explain(towers, x, "clip_surgery", target=target, blocks=2)
        torch.testing.assert_close(found.maps.double(), on_grid(towers.visual, surgery[i]), rtol=2e-6, atol=1e-9)
    assert float(surgery.sum(0).abs().max()) < 1e-12


def test_one_sentence_is_the_similarity_of_each_patch(towers):
    x = pictures(towers.visual)
    with torch.no_grad():
        text = unit(towers.encode_text(torch.tensor([[1, 2]])))[0]
        tokens = unit(towers.visual.head(towers.visual.norm(second_path(towers.visual, x, 2))))
    found = whycam.explain(towers, x, "clip_surgery", target=Text(torch.tensor([1, 2]), norm="live"), blocks=2)
    torch.testing.assert_close(found.maps.double(), on_grid(towers.visual, tokens @ text), rtol=2e-6, atol=1e-9)


@pytest.mark.parametrize("method", ["clip_surgery", "generic_attention", "legrad", "grad_eclip", "grad_rollout"])
def test_any_number_of_sentences_takes_one_forward_of_the_picture(method, towers):
    x = pictures(towers.visual)
    targets = [Text(torch.tensor(each)) for each in SENTENCES]
    options = {"clip_surgery": {"blocks": 2}} if method == "clip_surgery" else {}
    whycam.compare(towers, x, [method], targets=targets, options=options)
    before = towers.runs
    made = whycam.compare(towers, x, [method], targets=targets, options=options)
    assert towers.runs - before == made.cost.forwards == 1
    assert len({each.maps.sum().item() for each in made.values()}) == 3


def test_too_many_blocks_are_refused():
    model = small_vit(blocks=3)
    with pytest.raises(whycam.errors.OptionError, match="at most 2"):
        whycam.explain(model, pictures(model), "clip_surgery", target=3, blocks=3)


def test_the_product_of_softmax_and_its_mean_is_what_the_docstring_says():
    similarities = torch.tensor([0.3, 0.1])
    weights = (2 * similarities).softmax(0)
    assert functools.reduce(float.__add__, (weights / weights.mean()).tolist()) == pytest.approx(2)


@pytest.mark.parametrize("layer", ["blocks.2.down", "blocks.2:input"])
def test_a_layer_that_is_not_what_a_block_returns_is_refused_with_the_blocks_name(layer):
    model = small_vit(blocks=3)
    with pytest.raises(whycam.WhycamError, match=r"Name the block: layer='blocks\.2'"):
        whycam.explain(model, pictures(model), "clip_surgery", target=3, layer=layer)
