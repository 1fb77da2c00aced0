"""Methods that metrics ask again: on other pictures, for other classes, of randomized and shifted networks.

What comes is what `whycam.explain` makes of the same, for the class that was explained at first.
"""

import math
from functools import partial
from types import SimpleNamespace
from typing import Any

import detectors
import nets
import pytest
import segmenters
import torch
from metrics_by_hand import by_gradient
from small_vit import small_vit
from torch import Tensor, nn

import whycam
from whycam.evaluation.randomized import randomized, shifted
from whycam.kit.arrays import lazily
from whycam.kit.metric import TABLE
from whycam.targets import Box, Region

#: A network and its inputs, a method and its layer, by what is special about them.
CASES: dict[str, tuple[Any, Any, str, Any]] = {
    "a layer of its choice": (nets.plain, nets.images, "grad_cam", None),
    "a named layer": (nets.plain, nets.images, "hires_cam", "relu1"),
    "fused layers": (nets.plain, nets.images, "layer_cam", ["relu1", "relu2"]),
    "the input": (nets.plain, nets.images, "guided_backprop", None),
    "scored variants": (nets.plain, nets.images, "score_cam", "relu2"),
    "no class": (nets.plain, nets.images, "eigen_cam", None),
    "a signal": (partial(nets.plain, 1), partial(nets.images, 3, 1, 16), "grad_cam", None),
    "a volume": (partial(nets.plain, 3), partial(nets.images, 3, 3), "grad_cam", None),
    "tokens": (partial(small_vit, grid=(4, 4)), nets.images, "grad_cam", "blocks.0"),
    "attention of all blocks": (partial(small_vit, grid=(4, 4)), nets.images, "generic_attention", None),
    "a block's attention": (partial(small_vit, grid=(4, 4)), nets.images, "legrad", "blocks.1"),
    "relevance": (partial(small_vit, grid=(4, 4)), nets.images, "attn_lrp", None),
}
each_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture
def asked(monkeypatch):
    """A metric that keeps what it was given, and what of it is asked while there is something to ask."""
    whycam.list_metrics()
    for name in ("known", "spellings"):
        monkeypatch.setattr(TABLE, name, dict(getattr(TABLE, name)))
    kept = SimpleNamespace()

    @whycam.metric("Asking again", paper="none", better="higher", values=(0, 1))
    def asking(maps, inputs, explain, explain_class, another_class, explain_randomized, explain_shifted):
        kept.maps = maps
        kept.same = explain([inputs])[0]
        noisy = [inputs + 0.3 * torch.ones_like(inputs).cumsum(-1), 5 - inputs]
        kept.pictures = noisy
        kept.explained = explain(iter(noisy))
        kept.shared = explain(lazily(noisy.__getitem__, range(2), shared=True))
        kept.classes = another_class(None)
        kept.of_class = explain_class(kept.classes)
        kept.randomized = list(explain_randomized(3, 0))
        kept.again = list(explain_randomized(3, 0))
        kept.shifted = explain_shifted(0.5)
        return maps.new_zeros(len(maps))

    return asking, kept


def enlarged(model: nn.Module, inputs: Tensor, method: str, layer: Any, target: Any) -> Tensor:
    given = {} if method == "eigen_cam" else {"target": target}
    if layer is not None:
        given["layer"] = layer
    return whycam.explain(model, inputs, method, **given).heatmaps(normalize="none").double()


@each_case
def test_what_comes_is_what_explain_makes_of_it(case, asked):
    build, make, method, layer = CASES[case]
    metric, kept = asked
    net, inputs = build(), make()
    tops = net(inputs).argmax(1)
    before = nets.state(net)
    explanation = whycam.explain(net, inputs, method, **({} if layer is None else {"layer": layer}))
    metric(explanation, net, inputs)
    # attention that is followed through a network may leave what was found out about it, and nothing else
    assert nets.differences(before, nets.state(net)) == []

    alike = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-6)
    explain = partial(enlarged, method=method, layer=explanation.layer.name.split(" + ") if layer else None)
    if layer is None and explanation.layer.name != "input":
        explain = partial(explain, layer=explanation.layer.name)
    target = tops.tolist()
    alike(kept.maps, explain(net, inputs, target=target))
    alike(kept.same, kept.maps)
    for picture, found, shared in zip(kept.pictures, kept.explained, kept.shared, strict=True):
        # another top class, in some sample, and still the map of the first
        alike(found, explain(net, picture, target=target))
        alike(shared, found)
    logits = net(inputs).detach()
    assert kept.classes.tolist() == logits.argsort(1)[:, -2].tolist()
    alike(kept.of_class, explain(net, inputs, target=kept.classes.tolist()))
    stages = list(randomized(net, inputs, 3))
    assert [name for name, _ in kept.randomized] == [stage.layer for stage in stages]
    for (_, found), (_, again), stage in zip(kept.randomized, kept.again, stages, strict=True):
        alike(found, explain(stage.module, inputs, target=target))
        assert torch.equal(again, found)
    alike(kept.shifted, explain(shifted(net, 0.5), inputs + 0.5, target=target))


def test_the_pictures_of_the_last_test_change_the_answer():
    net, inputs = nets.plain(), nets.images()
    assert (net(5 - inputs).argmax(1) != net(inputs).argmax(1)).all()


def test_a_function_of_another_library_is_asked_the_same(asked):
    metric, kept = asked
    net, inputs, calls = nets.plain(), nets.images(), []
    tops = net(inputs).argmax(1)

    def explain(module: nn.Module, pictures_: Tensor, classes: Tensor) -> Tensor:
        calls.append(module)
        return by_gradient(module, pictures_, classes)

    before = nets.state(net)
    metric(by_gradient(net, inputs, tops).numpy(), net, inputs, explain=explain)
    assert nets.differences(before, nets.state(net)) == []
    assert torch.equal(kept.same, kept.maps)
    for picture, found in zip(kept.pictures, kept.explained, strict=True):
        torch.testing.assert_close(found, by_gradient(net, picture, tops))
    torch.testing.assert_close(kept.of_class, by_gradient(net, inputs, kept.classes))
    stages = list(randomized(net, inputs, 3))
    for (_, found), stage in zip(kept.randomized, stages, strict=True):
        torch.testing.assert_close(found, by_gradient(stage.module, inputs, tops))
    torch.testing.assert_close(kept.shifted, by_gradient(shifted(net, 0.5), inputs + 0.5, tops))
    assert any(module is net for module in calls)


def test_a_target_of_each_sample_stays_its_own(asked):
    metric, kept = asked
    net, inputs, own = nets.plain(), nets.images(), [4, 0, 2]
    metric(whycam.explain(net, inputs, target=own), net, inputs, own)
    explain = partial(enlarged, method="grad_cam", layer="conv2", target=own)
    torch.testing.assert_close(kept.explained[1], explain(net, 5 - inputs), rtol=1e-5, atol=1e-7)
    assert all(mine != other for mine, other in zip(own, kept.classes.tolist(), strict=True))


def test_maps_alone_cannot_be_asked_again(asked):
    net, inputs = nets.plain(), nets.images()
    with pytest.raises(whycam.WhycamError, match="asks the maps' method again, and maps alone came; pass explain="):
        asked[0](torch.rand(3, 8, 8), net, inputs)


@pytest.mark.parametrize(("changed", "given"), [("smoothing", "augmentations"), ("target", 1)])
def test_an_explanation_that_cannot_be_made_again_is_refused(changed, given, asked):
    net, inputs = nets.plain(), nets.images()
    explanation = whycam.explain(net, inputs, **{changed: given})
    with pytest.raises(whycam.WhycamError, match="asks Grad-CAM again, and for this target it has other maps at conv2"):
        asked[0](explanation, net, inputs)
    # what only reads maps and scores does not ask again
    assert whycam.metrics.deletion(explanation, net, inputs).isfinite().all()


def test_a_method_without_a_class_is_measured_for_any(asked):
    net, inputs = nets.plain(), nets.images()
    explanation = whycam.explain(net, inputs, method="eigen_cam")
    expected = whycam.metrics.deletion(explanation.heatmaps(normalize="none"), net, inputs, 1)
    torch.testing.assert_close(whycam.metrics.deletion(explanation, net, inputs, 1), expected)
    asked[0](explanation, net, inputs, 1)
    torch.testing.assert_close(asked[1].of_class, asked[1].maps)


def test_layers_that_were_fused_another_way_are_refused(asked):
    net, inputs = nets.plain(), nets.images()
    explanation = whycam.explain(net, inputs, layer=["relu1", "relu2"], fusion="maximum")
    with pytest.raises(whycam.WhycamError, match="fused by fusion="):
        asked[0](explanation, net, inputs)


def places(asked, model: nn.Module, inputs: Any, target: Any) -> Any:
    """A metric that asks for all but another class, of a target that has no other."""
    kept = SimpleNamespace()

    @whycam.metric("Asking a place again", paper="none", better="higher", values=(0, 1))
    def asking(maps, inputs, explain, explain_randomized, explain_shifted):
        kept.maps, kept.same = maps, explain([inputs])[0]
        kept.noisy = explain([inputs + 0.01 * torch.ones_like(inputs).cumsum(-1).sin()])[0]
        kept.randomized = [made for _, made in explain_randomized(2, 0)]
        kept.shifted = explain_shifted(0.25)
        return maps.new_zeros(len(maps))

    asking(whycam.explain(model, inputs, "layer_cam", target=target), model, inputs, target)
    return kept


@pytest.mark.parametrize("name", ["fcos", "faster_rcnn", "conditional_detr", "segmenter"])
def test_a_box_and_a_region_stay_what_they_were(name, asked):
    if name == "segmenter":
        model, inputs, *_ = segmenters.built("smp unet")
        target: Any = Region(1, "everywhere")
    else:
        model, inputs = detectors.made(getattr(detectors, name))
        target = Box(1)
    before = nets.state(model)
    kept = places(asked, model, inputs, target)
    assert nets.differences(before, nets.state(model)) == []
    torch.testing.assert_close(kept.same, kept.maps, rtol=1e-4, atol=1e-7)
    size = kept.maps.abs().amax()
    assert size > 0
    assert (kept.shifted - kept.maps).abs().amax() < 1e-2 * size
    assert 0 < (kept.noisy - kept.maps).abs().amax() < size
    assert all(made.isfinite().all() for made in kept.randomized)
    # the last layer alone may be that of the corners, which the class does not hang on
    assert (kept.randomized[-1] - kept.maps).abs().amax() > 1e-3 * size


def test_one_method_is_asked_without_the_others():
    class Counting(nets.Plain):
        rows = 0

        def forward(self, x: Tensor) -> Tensor:
            Counting.rows += len(x)
            return super().forward(x)

    def rows(*methods: str) -> int:
        net, before = nets.fixed(Counting()), Counting.rows
        whycam.evaluate(
            net, nets.images(1), methods=methods, metrics=["adcc"], layers=["relu2"], controls=False, sanity=0
        )
        return Counting.rows - before

    alone, dear, both = rows("grad_cam"), rows("rise"), rows("grad_cam", "rise")
    assert dear > 1000
    assert both <= alone + dear


def test_a_layers_layout_is_not_looked_for_in_randomized_networks():
    """Where the positions of a layer lie is seen in changes, which a network that knows nothing may not show."""

    def forwards(stages: int) -> int:
        net, calls = small_vit(grid=(4, 4)), []
        net.register_forward_hook(lambda *_: calls.append(1))
        whycam.evaluate(
            net, nets.images(1), methods=["grad_cam"], metrics=["model_randomization"], layers=["blocks.0"],
            options={"model_randomization": {"stages": stages}}, controls=False, sanity=0,
        )  # fmt: skip
        return len(calls)

    assert forwards(5) - forwards(2) == 3


class Finder(nn.Module):
    """Finds a box in bright pictures, in dark ones none."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 5)

    def forward(self, x):
        found = self.head(torch.relu(self.conv(x)).mean((2, 3))).softmax(1)
        many = [int(each.mean() > 0.2) for each in x.detach()]
        return [
            {"boxes": x.new_tensor([[1, 1, 5, 5]])[:n], "scores": row[:n], "labels": torch.arange(n)}
            for n, row in zip(many, found, strict=True)
        ]


def test_where_there_is_nothing_to_explain_no_metric_has_a_value():
    pictures = 0.5 + 0.2 * torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    pictures[1] = 0.01
    asked = {"targets": [Box(0)], "metrics": ["insertion", "deletion", "pointing_game"], "sanity": 0}
    boxes = torch.tensor([[1.0, 1, 5, 5]] * 4)
    found = whycam.evaluate(nets.fixed(Finder()).float(), pictures, ["grad_cam"], boxes=boxes, **asked)
    assert found.targets == ["Box(of=0)"]
    assert {row["sample"] for row in found.rows if math.isnan(row["value"])} == {"sample1"}
    assert {(row["count"], row["undefined"]) for row in found.summary()} == {(3, 1)}
    assert {row["status"] for row in found.rows if row["method"] == "grad_cam" and row["sample"] == "sample1"} == {
        "nothing to explain"
    }
