"""Every method and metric says on a GPU what it says on the CPU. Skipped where there is none.

Those that draw at random too, except for randomized networks: their layers' own initializers draw on the GPU.
"""

import nets
import pytest
import small_vit
import torch
from few import OF_ANY, OF_TOKENS, few
from metrics_by_hand import by_gradient
from torch import nn

import whycam
from whycam.kit.metric import Measurement
from whycam.kit.registry import find

GPU = torch.device("cuda")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def asked(method: str) -> tuple[nn.Module, torch.Tensor]:
    """A network in float64 that the method works on, and its inputs."""
    if method in OF_TOKENS:
        model = small_vit.small_vit()
        return model.double(), small_vit.pictures(model).double()
    return nets.plain().double(), nets.images().double()


@pytest.mark.parametrize("method", [*OF_ANY, *OF_TOKENS])
def test_a_methods_maps(method):
    options = few(find(method))
    model, inputs = asked(method)
    here = whycam.explain(model, inputs, method, **options)
    there = whycam.explain(model.to(GPU), inputs.to(GPU), method, **options)
    assert there.maps.device.type == "cuda"
    torch.testing.assert_close(there.maps.cpu(), here.maps, rtol=1e-4, atol=1e-6)
    assert there.status == here.status
    assert there.target == here.target
    torch.testing.assert_close(there.heatmaps().cpu(), here.heatmaps(), rtol=1e-4, atol=1e-5)


METRICS = {each.name: each for each in whycam.list_metrics() if each.name != "model_randomization"}


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize("maps_on", ["cpu", "cuda"])
def test_a_metrics_values(metric, maps_on):
    model, inputs = nets.plain().double(), nets.images(8, seed=5).double()
    maps, masks = nets.images(8, seed=6)[:, 0].clamp(min=0), nets.images(8, seed=7)[:, 0] > 0.5
    options = dict.fromkeys(few(metric), 12)
    made = [
        metric(each[0], each[1], each[2], masks=each[3], explain=by_gradient, **options)
        for each in (
            (maps, model, inputs, masks),
            (maps.to(maps_on), nets.twin(model).to(GPU), inputs.to(GPU), masks.to(maps_on)),
        )
    ]
    here, there = (each.values if isinstance(each, Measurement) else each for each in made)
    torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-5, equal_nan=True)


def test_an_evaluation_beside_controls_and_on_mosaics(tmp_path):
    model, inputs = nets.plain().double(), nets.images(8, side=16, seed=3).double()
    options = {"grid_pointing_game": {"confidence": 0.01}, "insertion": {"steps": 4}, "rise": {"samples": 8}}
    asked = (["grad_cam", "rise"], None, ["insertion", "road", "grid_pointing_game", "input_invariance"])
    here = whycam.evaluate(nets.twin(model), inputs, *asked, options=options, sanity=2)
    there = whycam.evaluate(model.to(GPU), inputs.to(GPU), *asked, options=options, sanity=2, folder=tmp_path)
    assert there.failures == here.failures
    assert len(there.rows) == len(here.rows)
    for row, other in zip(there.rows, here.rows, strict=True):
        if row["metric"] != "model_randomization":
            assert row == {**other, "value": pytest.approx(other["value"], rel=1e-4, abs=1e-5, nan_ok=True)}
