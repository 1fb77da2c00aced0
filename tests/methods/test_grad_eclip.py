import pytest
import torch
from small_vit import WIDTH, by_hand, pictures, small_vit

import whycam


def oracle(model, x, index, similarity=True):
    """Token by token and number by number: the class token's row, or each row that is read, added up."""
    made, block = by_hand(model, x, index), model.blocks[-1]
    q, k, v, do = (
        each[-1].transpose(1, 2).flatten(2) for each in (made.q, made.k, made.v, made.do)
    )  # heads side by side
    out = lambda rows: rows @ block.proj.weight.T + block.proj.bias  # noqa: E731
    patches = range(model.prefix, model.prefix + model.grid[0] * model.grid[1])
    maps = torch.zeros(len(x), len(patches), dtype=torch.float64)
    for n in range(len(x)):
        for row in [0] if model.pool == "class" else range(q.shape[1]):
            cosines = torch.stack([torch.cosine_similarity(out(q[n, row]), out(k[n, i]), dim=0) for i in patches])
            share = (cosines - cosines.min()) / (cosines.max() - cosines.min())
            terms = torch.stack([sum(do[n, row, d] * v[n, i, d] for d in range(WIDTH)) for i in patches])
            maps[n] += terms * (share if similarity else 1)
    return maps.clamp(min=0).reshape(-1, *model.grid)


@pytest.mark.parametrize("options", [{}, {"prefix": 5}, {"pool": "mean", "prefix": 0}, {"blocks": 3}], ids=str)
@pytest.mark.parametrize("similarity", [True, False])
def test_the_formula(options, similarity):
    model = small_vit(**options)
    x = pictures(model)
    found = whycam.explain(model, x, "grad_eclip", target=3, similarity=similarity)
    torch.testing.assert_close(found.maps.double(), oracle(model, x, 3, similarity), rtol=2e-7, atol=1e-12)
    assert found.maps.any()
    assert (found.maps == 0).any()


def test_the_scale_of_the_score_scales_the_map():
    model = small_vit()
    x = pictures(model)
    one = whycam.explain(model, x, "grad_eclip", target=lambda output: output[:, 3])
    many = whycam.explain(model, x, "grad_eclip", target=lambda output: 100 * output[:, 3])
    torch.testing.assert_close(many.maps, 100 * one.maps, rtol=1e-6, atol=0)
