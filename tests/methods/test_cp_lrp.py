"""CP-LRP against relevance handed back by hand through a ViT of two blocks."""

import pytest
import torch
from lrp_by_hand import OPTIONS, relevances, start, vit
from small_vit import ByItself, pictures

import whycam
from whycam.methods.cp_lrp import cp_lrp


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("pool", ["class", "mean"])
def test_is_relevance_by_hand(pool, options):
    model = vit(pool=pool)
    images, classes = pictures(model), torch.tensor([3, 1])
    expected, _ = relevances(model, images, start(model, images, classes), "cp_lrp", **options)
    found = whycam.explain(model, images, "cp_lrp", target=classes.tolist(), **options)
    scale = float(expected.sum(1).abs().max())
    torch.testing.assert_close(found.maps / scale, expected.sum(1).float() / scale, rtol=0, atol=1e-6)
    assert found.notes == ()


def test_softmax_written_out_is_the_fused_call():
    fused, written = vit(), vit(kind=ByItself)
    images = pictures(fused)
    one, other = (whycam.explain(model, images, "cp_lrp", target=2).maps for model in (fused, written))
    torch.testing.assert_close(one, other)


def test_colors_are_added_up():
    given = torch.tensor([[[1.0, -2.0], [3.0, 5.0]]])
    asked = {}

    def relevance(**options):
        asked.update(options)
        return given

    assert cp_lrp(relevance, linear_gamma=0.5, conv_gamma=2.0).tolist() == [[4.0, 3.0]]
    assert asked == {"rules": "cp_lrp", "linear_gamma": 0.5, "conv_gamma": 2.0}


def test_one_forward_and_one_backward_for_each_target_beside_the_recording():
    model = vit()
    found = whycam.compare(model, pictures(model), ["cp_lrp"], targets=[1, 2])
    assert (found["cp_lrp", "input", 1].cost.forwards, found["cp_lrp", "input", 1].cost.backwards) == (3, 2)


@pytest.mark.parametrize(
    "target",
    [
        whycam.targets.Probability(1),
        whycam.targets.Similarity([1.0, 0.0, 2.0, 0.0, 1.0]),
        lambda output: output[:, 1] - output[:, 2],
    ],
    ids=["probability", "similarity", "function"],
)
def test_every_target_starts_as_its_share_of_each_logit(target):
    model = vit()
    images = pictures(model)
    logits = model(images).detach().requires_grad_()
    if isinstance(target, whycam.targets.Probability):
        score = logits.softmax(1)[:, 1]
    elif isinstance(target, whycam.targets.Similarity):
        reference = torch.tensor([1.0, 0.0, 2.0, 0.0, 1.0], dtype=torch.float64)
        score = logits @ reference / reference.norm() / logits.detach().norm(dim=1)
    else:
        score = target(logits)
    (slope,) = torch.autograd.grad(score.sum(), logits)
    expected, _ = relevances(model, images, (logits * slope).detach(), "cp_lrp")
    found = whycam.explain(model, images, "cp_lrp", target=target)
    scale = float(expected.sum(1).abs().max())
    torch.testing.assert_close(found.maps / scale, expected.sum(1).float() / scale, rtol=0, atol=1e-6)
