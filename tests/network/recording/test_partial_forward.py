"""A network resumed at a layer gives what a whole forward with the layer's output replaced gives."""

import nets
import pytest
import torch
import torchvision_shim
from torch import nn

torchvision_shim.register()

from compatibility.resuming import check, made, networks  # noqa: E402

import whycam  # noqa: E402
from whycam.kit.arrays import lazily, weighted_sum  # noqa: E402
from whycam.network.diagnosis.flops import counted  # noqa: E402
from whycam.network.layer_refs import LayerRef  # noqa: E402
from whycam.network.recording import partial_forward  # noqa: E402
from whycam.network.recording.partial_forward import Resumed, Watch, _aliased  # noqa: E402
from whycam.network.recording.record import record  # noqa: E402
from whycam.network.variants.shared_copy import twin  # noqa: E402
from whycam.targets import resolve  # noqa: E402

NETWORKS = networks(small=True)
#: How many layers of each are looked at here; `python -m compatibility.resuming` looks at all.
LAYERS = 6


#: One of each way of building, the quickest: residual, dense, tokens, windows, channels last, a library's own outputs.
QUICK = {"ResNet-18 (residual)", "DenseNet-121 (dense)", "ConvNeXt, timm", "ViT-Tiny, timm", "Swin, torchvision",
         "ViT, transformers"}  # fmt: skip
assert NETWORKS.keys() >= QUICK


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS]
)
@pytest.mark.filterwarnings("ignore")
def test_every_architecture_is_exact_or_run_whole(name):
    model, inputs = made(*NETWORKS[name])
    found = check(model, inputs, at_most=LAYERS)
    assert [each for each in found if each.verdict == "different"] == []
    assert all(each.why for each in found if each.verdict in ("whole forwards", "no layer"))
    assert sum(each.verdict == "exact" for each in found) >= len(found) * 0.8
    assert len(found) >= LAYERS - 1


def recorded(model, inputs, tap):
    return record(model, inputs, [tap], [lambda output: resolve(None, output)], gradients=False, resume=True)


def test_what_finished_before_is_kept_once_and_by_the_outermost_name():
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()),
                          nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()  # fmt: skip
    watch = Watch(model, [LayerRef("1.0")])
    inputs = torch.randn(2, 3, 4, 4)
    with watch.watching(), torch.no_grad():
        model(inputs)
    before = watch.before(LayerRef("1.0"), 0)
    assert before is not None
    assert set(before.finished) == {("0", 0)}
    assert torch.equal(before.finished["0", 0].value, model[0](inputs))
    assert torch.equal(before.value, model[1][0](model[0](inputs)))


def test_only_the_part_above_runs():
    model, inputs = nets.plain(), nets.images()
    layer = recorded(model, inputs, LayerRef("relu2")).layers[LayerRef("relu2")]
    runs = []
    copy = twin(model)
    for name, module in copy.named_children():
        module.register_forward_hook(lambda _, __, ___, name=name: runs.append(name))
    resumed = Resumed(copy, layer.before, inputs, 3)
    with torch.no_grad():
        found = resumed.run(1, layer.activations[1:2].expand(5, -1, -1, -1))
    assert runs == ["head"]
    torch.testing.assert_close(found, model(inputs)[1:2].expand(5, -1).detach())


def test_the_model_itself_is_never_touched():
    model, inputs = nets.plain(inplace=True), nets.images()
    before = nets.state(model)
    record_ = recorded(model, inputs, LayerRef("conv1")).layers[LayerRef("conv1")]
    resumed = Resumed(twin(model), record_.before, inputs, 3)
    with torch.no_grad():
        for sample in range(3):
            resumed.run(sample, (record_.activations[:1] + 1).repeat(2, 1, 1, 1))
    assert nets.differences(before, nets.state(model)) == []


def test_recorded_tensors_are_handed_out_unchanged_every_time():
    """`out += identity` and in-place ReLUs behind a recorded block must not write to the record."""
    model, inputs = made(*NETWORKS["ResNet-18 (residual)"])
    tap = LayerRef("layer4.1.conv1")
    layer = recorded(model, inputs, tap).layers[tap]
    resumed = Resumed(twin(model), layer.before, inputs, 2)
    with torch.no_grad():
        runs = [resumed.run(0, layer.activations[:1].repeat(rows, 1, 1, 1)) for rows in (1, 3, 1, 2)]
    expected = model(inputs)[:1].detach()
    for each in runs:
        torch.testing.assert_close(each, expected.expand_as(each), rtol=1e-4, atol=1e-5)


def ablation(activations, scores, score_from):
    def without(channel):
        edited = activations.clone()
        edited[:, channel] = 0
        return edited

    gone = score_from(lazily(without, range(activations.shape[1])))
    return weighted_sum((scores - gone).mT, activations)


@pytest.mark.filterwarnings("ignore")
def test_ablating_every_channel_of_a_late_layer_costs_little_more_than_a_prediction():
    from torchvision.models import resnet18

    torch.manual_seed(0)
    model, inputs = resnet18().eval(), torch.randn(1, 3, 224, 224)
    with counted() as one, torch.no_grad():
        model(inputs)
    with counted() as all_of_it:
        found = whycam.explain(model, inputs, ablation, layer="layer4")
    assert found.work[0].variants == 512
    assert all_of_it.get_total_flops() <= 1.5 * one.get_total_flops()


def test_a_layer_called_twice_is_resumed_at_the_call_that_was_asked_for():
    model, inputs = nets.fixed(nets.Shared()), nets.images()
    index = model(inputs).argmax(1)
    for call in (0, 1):
        found = whycam.explain(model, inputs, ablation, layer=f"conv2#{call}")
        expected = []
        for channel in range(found.layer.shape[1]):
            calls: list[int] = []

            def drop(_, __, output, channel=channel, call=call, calls=calls):
                calls.append(1)
                if len(calls) - 1 != call:
                    return None
                edited = output.clone()
                edited[:, channel] = 0
                return edited

            hook = model.conv2.register_forward_hook(drop)
            expected.append((found.scores - model(inputs).gather(1, index[:, None]).squeeze(1)).detach())
            hook.remove()
        maps = weighted_sum(torch.stack(expected, 1), recorded(model, inputs, LayerRef("conv2", call)).layers[
            LayerRef("conv2", call)].activations)  # fmt: skip
        torch.testing.assert_close(found.maps, maps.float())
        assert found.work[0].fallback == ""


def test_memory_that_others_look_at_is_noticed():
    base = torch.randn(4)
    assert not _aliased(base)
    view = base[:2]
    assert _aliased(view)
    assert _aliased(base)
    del view
    assert not _aliased(base)


@pytest.mark.parametrize("kept", [lambda x: (x,), lambda x: (2, x), lambda x: [x], lambda x: {"x": (x,)}])
def test_tensors_that_a_pass_leaves_in_containers_are_noticed(kept):
    model = nets.plain()
    model.sizes, model.kept = (3, 4), ()
    before = partial_forward._attributes(model)
    assert partial_forward._changed(model, before) == ""
    model.kept = kept(torch.zeros(2))
    assert partial_forward._changed(model, before) == "kept"
