"""CAM against the linear head it is read from, location by location."""

import numpy as np
import pytest
import torch

from whycam.methods.cam import cam

every_rank = pytest.mark.parametrize("space", [(7,), (5, 7), (2, 3, 4)], ids=["1d", "2d", "3d"])


def test_worked_example():
    activations = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[4.0, 3.0], [2.0, 1.0]]]])
    # 2 x the first channel less 1 x the second
    expected = torch.tensor([[[2.0 - 4, 4.0 - 3], [6.0 - 2, 8.0 - 1]]])
    torch.testing.assert_close(cam(activations, torch.tensor([[2.0, -1.0]])), expected)


@every_rank
def test_each_location_is_the_head_applied_there(space, generator):
    activations = torch.randn(2, 3, *space, generator=generator, dtype=torch.float64)
    heads = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    maps = cam(activations, heads).numpy()
    for sample in range(2):
        for at in np.ndindex(*space):
            there = sum(heads[sample, k].item() * activations[(sample, k, *at)].item() for k in range(3))
            assert maps[(sample, *at)] == pytest.approx(there, abs=1e-12)


@every_rank
def test_its_mean_is_the_score_less_the_bias(space, generator):
    features = torch.randn(4, 5, *space, generator=generator, dtype=torch.float64).relu()
    head = torch.nn.Linear(5, 3, dtype=torch.float64)
    logits = head(features.flatten(2).mean(-1))
    targets = torch.tensor([0, 2, 1, 1])
    maps = cam(features, head.weight.detach()[targets])
    torch.testing.assert_close(
        maps.flatten(1).mean(1), (logits[torch.arange(4), targets] - head.bias[targets]).detach()
    )


def test_negative_evidence_is_kept():
    assert cam(torch.ones(1, 2, 3, 3), torch.tensor([[-1.0, -2.0]])).eq(-3).all()


def test_heads_of_zero_give_no_map():
    assert not cam(torch.ones(1, 2, 3, 3), torch.zeros(1, 2)).any()
