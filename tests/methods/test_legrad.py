import pytest
import torch
from small_vit import by_hand, on_grid, pictures, small_vit
from torch import nn

import whycam


def oracle(model, x, index, blocks=None):
    """Block by block as in the paper: the model's own head on the mean of the block's tokens, and its gradient."""
    tokens, maps = model.embed(x).detach(), []
    for block in model.blocks:
        with torch.enable_grad():
            q, k, v = block.split(tokens)
            attention = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1).detach().requires_grad_()
            mixed = tokens + block.proj((attention @ v).transpose(1, 2).flatten(2))
            returned = mixed + block.down(torch.nn.functional.gelu(block.up(block.norm2(mixed))))
            mean = returned.mean(1)
            logits = model.head(model.norm(mean))
            (gradient,) = torch.autograd.grad(logits[:, index].sum(), attention)
        maps.append(gradient.clamp(min=0).mean((1, 2)))
        tokens = returned.detach()
    return on_grid(model, torch.stack(maps[-(blocks or len(maps)) :]).mean(0))


@pytest.mark.parametrize("options", [{}, {"pool": "mean"}, {"prefix": 5, "blocks": 3}], ids=str)
@pytest.mark.parametrize("blocks", [None, 2, 1])
def test_the_formula(options, blocks):
    model = small_vit(**options)
    x = pictures(model)
    found = whycam.explain(model, x, "legrad", target=3, blocks=blocks)
    torch.testing.assert_close(found.maps.double(), oracle(model, x, 3, blocks), rtol=2e-7, atol=1e-12)
    whycam.explain(model, x, "legrad", target=3)
    again = whycam.explain(model, x, "legrad", target=3)
    assert (again.cost.forwards, again.cost.backwards) == (1, 1)
    assert again.cost.parts == 0


def test_at_an_earlier_block():
    model = small_vit(blocks=3)
    x = pictures(model)
    found = whycam.explain(model, x, "legrad", target=3, layer="blocks.1")
    shorter = small_vit(blocks=3)
    del shorter.blocks[2]
    torch.testing.assert_close(found.maps.double(), oracle(shorter, x, 3), rtol=2e-7, atol=1e-12)


def test_beside_other_methods_and_for_several_targets():
    model = small_vit()
    x = pictures(model)
    made = whycam.compare(model, x, ["legrad", "generic_attention", "grad_cam"], targets=[3, 1])
    for index in (3, 1):
        (found,) = [each for (name, _, target), each in made.items() if (name, target) == ("legrad", index)]
        torch.testing.assert_close(found.maps.double(), oracle(model, x, index), rtol=2e-7, atol=1e-12)
    alone = whycam.explain(model, x, "generic_attention", target=1)
    (beside,) = [each for (name, _, target), each in made.items() if (name, target) == ("generic_attention", 1)]
    assert torch.equal(alone.maps, beside.maps)


def test_a_layer_inside_of_a_block_stands_for_the_block():
    model = small_vit()
    x = pictures(model)
    found = whycam.explain(model, x, "legrad", target=3, layer="blocks.1.norm2")
    torch.testing.assert_close(found.maps.double(), oracle(model, x, 3), rtol=2e-7, atol=1e-12)


class OnGrid(nn.Module):
    """The same network with the tokens on a grid between its blocks, channels last."""

    def __init__(self, model):
        super().__init__()
        self.patches, self.norm, self.head = model.patches, model.norm, model.head
        self.blocks = nn.ModuleList(map(OfGrid, model.blocks))

    def forward(self, x):
        x = self.patches(x).movedim(1, -1)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean((1, 2)))


class OfGrid(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, x):
        return self.block(x.flatten(1, 2)).reshape(x.shape)


def test_tokens_on_a_grid():
    model = small_vit(pool="mean", prefix=0)
    model.position.data *= 0
    x = pictures(model)
    found = whycam.explain(OnGrid(model), x, "legrad", target=3, layer="blocks.1")
    torch.testing.assert_close(found.maps.double(), oracle(model, x, 3), rtol=2e-7, atol=1e-12)


def test_a_pool_that_attends_is_refused():
    model = small_vit(pool="attention", prefix=0)
    with pytest.raises(whycam.WhycamError, match="pools them by the attention in 'asks'"):
        whycam.explain(model, pictures(model), "legrad", target=3)


def test_the_scale_of_the_score_scales_the_map():
    model = small_vit()
    x = pictures(model)
    one = whycam.explain(model, x, "legrad", target=lambda output: output[:, 3])
    many = whycam.explain(model, x, "legrad", target=lambda output: 100 * output[:, 3])
    torch.testing.assert_close(many.maps, 100 * one.maps, rtol=1e-6, atol=0)
    assert by_hand(model, x, 3).A  # the helper runs the same network
