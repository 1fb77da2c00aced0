"""One pass, kept exactly: what is recorded, by which name, and what it costs, counted from outside."""

import collections
import contextlib
import threading

import nets
import pytest
import torch
import torch.nn.functional as F
import torchvision_shim
from torch import nn
from torch.utils.checkpoint import checkpoint

import whycam
from whycam.kit.quantities import AGAIN, OF_ATTENTION
from whycam.kit.registry import methods
from whycam.network.layer_refs import LayerRef, find_layers
from whycam.network.layouts import ChannelsFirst
from whycam.network.recording.record import record
from whycam.targets import resolve

torchvision_shim.register()
import torchvision.models as zoo  # noqa: E402

AT_A_LAYER = [name for name, each in methods().items() if each.has_layer and not each.needs & (AGAIN | OF_ATTENTION)]


def recorded(model, inputs, *layers, targets=(None,), **options):
    resolvers = [lambda output, spec=spec: resolve(spec, output) for spec in targets]
    return record(model, inputs, [tap for layer in layers for tap in find_layers(model, layer)], resolvers, **options)


def by_autograd(model, inputs, layer, index=None, call=-1):
    """A layer's output and its gradient, with copies taken before anything can write to it."""
    kept = []
    handle = model.get_submodule(layer).register_forward_hook(
        lambda _, __, output: kept.append(output) or output.clone()
    )
    output = model(inputs)
    handle.remove()
    score = output.amax(1) if index is None else output[:, index]
    (gradient,) = torch.autograd.grad(score.sum(), kept[call])
    return kept[call].detach(), gradient


class Counter:
    """Counts what runs: forwards of the model, and backwards through each module."""

    def __init__(self, model):
        self.forwards, self.backwards = 0, collections.Counter()
        model.register_forward_hook(lambda *_: self.ran())
        for name, module in model.named_modules():
            if name:
                module.register_full_backward_hook(lambda *_, name=name: self.backwards.update([name]))

    def ran(self):
        self.forwards += 1


@pytest.mark.parametrize(("name", "layer"), [("resnet18", "layer4.1.bn2"), ("densenet121", "features")])
def test_networks_that_write_in_place_are_recorded_exactly(name, layer):
    torch.manual_seed(0)
    model = getattr(zoo, name)(weights=None).eval()
    inputs = torch.randn(2, 3, 64, 64)
    found = recorded(model, inputs, layer, targets=[7]).layers[LayerRef(layer)]
    activations, gradients = by_autograd(model, inputs, layer, 7)
    assert torch.equal(found.activations, activations)
    assert torch.equal(found.gradients[0], gradients)
    assert (activations < 0).any()  # before the ReLU, which densenet runs in place and resnet after adding in place


def test_twelve_methods_at_four_layers_cost_one_forward_and_one_backward_that_stops_at_the_earliest():
    model, inputs = nets.plain(), nets.images()
    count = Counter(model)
    layers = ["conv2", "relu2", "conv2:input", "relu2:input"]
    made = whycam.compare(model, inputs, AT_A_LAYER, layers, [1])
    assert len(AT_A_LAYER) >= 12
    assert len(made) + len(made.failures) == 4 * len(AT_A_LAYER)
    assert count.forwards == 1
    assert count.backwards == {"conv2": 1, "relu2": 1, "head": 1}
    assert (made.cost.forwards, made.cost.backwards) == (1, 1)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_a_backward_stops_at_the_earliest_recorded_layer():
    model = nets.plain()
    count = Counter(model)
    recorded(model, nets.images(), "relu2")
    assert count.backwards == {"relu2": 1, "head": 1}  # of relu2 itself nothing but its output


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_five_targets_cost_one_forward_and_five_backwards():
    model = nets.plain()
    count = Counter(model)
    made = whycam.compare(model, nets.images(), ["grad_cam", "layer_cam"], ["conv2"], [0, 1, 2, 3, 4])
    assert count.forwards == 1
    assert count.backwards["head"] == 5
    assert (made.cost.forwards, made.cost.backwards) == (1, 5)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_guided_backprop_costs_one_more_forward_and_the_cost_says_so():
    model = nets.plain()
    count = Counter(model)
    made = whycam.compare(model, nets.images(), ["grad_cam", "guided_backprop", "guided_grad_cam"], ["conv2"], [0, 1])
    assert count.forwards == 2
    assert (made.cost.forwards, made.cost.backwards) == (2, 4)


def test_methods_that_read_no_gradient_cost_no_backward():
    model = nets.plain()
    count = Counter(model)
    made = whycam.compare(model, nets.images(), ["eigen_cam", "fem", "kpca_cam", "random_cam"], ["conv2", "conv1"])
    assert (count.forwards, count.backwards) == (1, {})
    assert (made.cost.forwards, made.cost.backwards) == (1, 0)


def test_nothing_is_kept_for_the_network_below_the_first_recorded_layer():
    model, inputs = nets.plain(), nets.images()
    saved, ran = [], []
    for name, module in model.named_children():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))

    def pack(tensor):
        saved.append((len(ran), tensor))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        recorded(model, inputs, "relu2", "conv2")
    assert ran == ["conv1", "relu1", "conv2", "relu2", "head"]
    assert saved
    assert min(position for position, _ in saved) >= ran.index("conv2") + 1
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: pytest.fail("kept for nothing"), lambda tensor: tensor
    ):
        recorded(model, inputs, "relu2", gradients=False)


def test_no_gradient_of_a_parameter_is_computed():
    model = nets.plain()
    for parameter in model.parameters():
        parameter.register_hook(lambda gradient: pytest.fail("a parameter's gradient was computed"))
    recorded(model, nets.images(), "conv1", "relu2")
    assert all(parameter.grad is None for parameter in model.parameters())


def test_each_call_of_a_shared_module_has_a_number():
    model, inputs = nets.fixed(nets.Shared()), nets.images()
    first, last = (by_autograd(model, inputs, "conv2", 1, call) for call in (0, 1))
    labels = {"conv2": last, "conv2#0": first, "conv2#1": last, "conv2#-1": last, "conv2#-2": first}
    together = recorded(model, inputs, *labels, targets=[1])
    for label, (activations, gradients) in labels.items():
        for found in (together, recorded(model, inputs, label, targets=[1])):
            (tap,) = find_layers(model, label)
            layer = found.layers[tap]
            torch.testing.assert_close(layer.activations, activations, rtol=0, atol=0)
            torch.testing.assert_close(layer.gradients[0], gradients)
            assert layer.calls == 2


def test_all_calls_can_be_had_at_once():
    model, inputs = nets.fixed(nets.Shared()), nets.images()
    found = recorded(model, inputs, "conv2#*", targets=[1])
    assert [str(tap) for tap in found.layers] == ["conv2#0", "conv2#1"]
    for call, each in enumerate(found.layers.values()):
        torch.testing.assert_close(each.gradients[0], by_autograd(model, inputs, "conv2", 1, call)[1])


def test_all_calls_and_the_last_are_not_counted_twice():
    model, inputs = nets.fixed(nets.Shared()), nets.images()
    made = whycam.compare(model, inputs, ["hires_cam"], ["relu#*", "relu", "relu#0"], [1])
    assert {layer for _, layer, _ in made} == {"relu#1", "relu#0"}
    fused = whycam.compare(model, inputs, ["hires_cam"], [["relu#*"]], [1])
    alone = whycam.explain(model, inputs, "hires_cam", target=1, layer="relu#*")
    assert torch.equal(fused["hires_cam", "relu#0 + relu#1", 1].maps, alone.maps)


def test_all_calls_are_read_by_the_layout_that_was_given():
    model, inputs = nets.fixed(nets.Shared()), nets.images()
    wrong = whycam.layouts.ChannelsLast()
    assert whycam.explain(model, inputs, layer="relu#*", layout=wrong).maps.shape == (3, 6, 8)
    assert whycam.explain(model, inputs, layer="relu", layout=wrong).maps.shape == (3, 6, 8)


def test_an_ambiguous_call_is_said_and_can_be_looked_up_as_asked():
    model, inputs = nets.fixed(nets.Shared()), nets.images()
    made = whycam.compare(model, inputs, ["grad_cam"], ["relu"], [1])
    found = made["grad_cam", "relu", 1]
    assert found.layer.name == "relu#1"
    assert "'relu' ran 2 times and this is call #1" in found.layer.why
    assert "ran" not in whycam.explain(model, inputs, layer="conv1").layer.why


def test_a_call_that_does_not_exist_is_refused():
    model = nets.fixed(nets.Shared())
    for label in ("relu#2", "relu#-3"):
        with pytest.raises(whycam.WhycamError, match=r"ran 2 times.*#0 to #1"):
            whycam.explain(model, nets.images(), layer=label)
        with pytest.raises(whycam.WhycamError, match="ran 2 times"):
            whycam.explain(model, nets.images(), "eigen_cam", layer=label)


def test_what_a_layer_is_given_can_be_recorded():
    model, inputs = nets.plain(inplace=True), nets.images()
    found = recorded(model, inputs, "relu2:input", "conv2", targets=[1])
    given, returned = found.layers[LayerRef("relu2", side="input")], found.layers[LayerRef("conv2")]
    assert torch.equal(given.activations, returned.activations)
    assert torch.equal(given.gradients[0], returned.gradients[0])
    assert (given.activations < 0).any()


def test_an_outer_and_an_inner_layer_of_one_tensor_agree():
    model = nets.fixed(
        nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)), nets.Plain().conv1, nn.Flatten())
    )
    model[1] = nets.fixed(nn.Conv2d(4, 2, 3))
    found = recorded(model, nets.images(), "0", "0.1", "0.0", targets=[1])
    outer, inner, before = found.layers.values()
    assert torch.equal(outer.activations, inner.activations)
    assert torch.equal(outer.gradients[0], inner.gradients[0])
    assert torch.equal(before.activations.relu(), inner.activations)
    assert torch.equal(before.gradients[0], inner.gradients[0] * (before.activations > 0))


def test_a_layer_that_returns_what_it_was_given_is_kept_apart_from_it():
    class Passing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.same = nn.Identity()
            self.head = nn.Linear(4, 5)

        def forward(self, x):
            x = self.conv(x)
            y = self.same(x)
            x.zero_()
            return self.head(nets.spatial_mean(y))

    model, inputs = nets.fixed(Passing()), nets.images()
    found = recorded(model, inputs, "same").layers[LayerRef("same")]
    assert torch.equal(found.activations, model.conv(inputs).detach())


def test_gradients_cut_inside_the_network_are_found_by_a_second_forward():
    model, inputs = nets.fixed(nets.InnerNoGrad()), nets.images()
    reference = nets.plain()
    found = recorded(model, inputs, "conv2", targets=[2])
    activations, gradients = by_autograd(reference, inputs, "conv2", 2)
    assert torch.equal(found.layers[LayerRef("conv2")].activations, activations)
    torch.testing.assert_close(found.layers[LayerRef("conv2")].gradients[0], gradients)
    assert (found.forwards, found.backwards) == (2, 2)


class WritesToItsInput(nn.Module):
    """Normalizes the batch in place, and computes its features without gradients."""

    def __init__(self, *, cut: bool):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU()
        self.head = nn.Linear(4, 5)
        self.cut = cut

    def forward(self, x):
        x -= 0.5
        x *= 2
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.cut):
            x = self.relu(self.conv(x))
        return self.head(nets.spatial_mean(x))


@pytest.mark.parametrize("cut", [False, True])
def test_a_network_may_write_to_its_input(cut):
    model, inputs = nets.fixed(WritesToItsInput(cut=cut)), nets.images()
    expected = model(inputs.clone()).amax(1)
    found = recorded(model, inputs, "conv")
    assert torch.equal(found.scores[0], expected)
    assert found.layers[LayerRef("conv")].gradients[0].any()


def test_input_gradients_of_a_network_that_writes_to_its_input():
    model, inputs = nets.fixed(WritesToItsInput(cut=False)), nets.images()
    leaf = inputs.clone().requires_grad_()
    (expected,) = torch.autograd.grad(model(leaf.clone()).amax(1).sum(), leaf)
    found = recorded(model, inputs, input_gradients=True)
    torch.testing.assert_close(found.input_gradients[0], expected)


class WritesToAView(nn.Module):
    """Adds a later layer's output, in place, to part of what was made before it."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.layer = nn.Conv2d(8, 4, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x)
        half = x[:, :4]
        half += self.layer(x)
        return self.head(nets.spatial_mean(x.relu()))


def test_a_view_made_below_the_layer_may_be_written_to_above_it():
    model, inputs = nets.fixed(WritesToAView()), nets.images()
    found = recorded(model, inputs, "layer", targets=[1])
    activations, gradients = by_autograd(model, inputs, "layer", 1)
    assert torch.equal(found.layers[LayerRef("layer")].activations, activations)
    torch.testing.assert_close(found.layers[LayerRef("layer")].gradients[0], gradients)
    assert (found.forwards, found.backwards) == (2, 1)


class Checkpointed(nets.Plain):
    """Does not keep what it can compute again."""

    def features(self, x):
        return self.relu2(checkpoint(lambda y: self.conv2(self.relu1(y)), self.conv1(x), use_reentrant=False))


@pytest.mark.parametrize("layer", ["conv1", "relu1", "conv2", "relu2"])
def test_activation_checkpointing_makes_no_difference(layer):
    inputs = nets.images()
    found = recorded(nets.fixed(Checkpointed()), inputs, layer, "relu2", targets=[1]).layers[LayerRef(layer)]
    activations, gradients = by_autograd(nets.plain(), inputs, layer, 1)
    torch.testing.assert_close(found.activations, activations)
    torch.testing.assert_close(found.gradients[0], gradients)


def test_a_layer_that_did_not_run_is_said():
    with pytest.raises(whycam.WhycamError, match="'unused' did not run"):
        whycam.explain(nets.fixed(nets.Beside()), nets.images(), layer="unused")


def test_a_layer_beside_the_path_is_said():
    model, inputs = nets.fixed(nets.Beside()), nets.images()
    with pytest.raises(whycam.WhycamError, match="the score does not depend on 'decoder'"):
        whycam.explain(model, inputs, layer="decoder")
    made = whycam.compare(model, inputs, ["grad_cam", "eigen_cam"], ["decoder", "conv2"], [1])
    assert made["grad_cam", "conv2", 1].ok
    assert {str(status) for status in made["grad_cam", "decoder", 1].status} == {
        "zero gradient: the score does not depend on this layer."
    }
    assert whycam.explain(model, inputs, "eigen_cam", layer="decoder").maps.any()


def test_a_score_that_is_cut_off_says_what_may_cut_it():
    with pytest.raises(whycam.WhycamError, match="detach"):
        whycam.explain(nets.plain(), nets.images(), layer="conv2", target=lambda output: output[:, 0].detach())


@pytest.mark.parametrize("method", ["grad_cam", "eigen_cam"])
def test_a_layer_without_spatial_axes_is_said(method):
    with pytest.raises(whycam.WhycamError, match=r"'head' has no spatial axes.*\(3, 5\)"):
        whycam.explain(nets.plain(), nets.images(), method, layer="head")


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 3, padding=1)
        self.rnn = kind(4, 6, batch_first=True)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        return self.head(self.rnn(self.conv(x).mT)[0][:, -1])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_layer_of_several_tensors_is_refused_with_a_list_of_them(kind):
    model, inputs = nets.fixed(Recurrent(kind)), nets.images(rank=1)
    before = nets.state(model)
    with pytest.raises(
        whycam.WhycamError, match=r"'rnn' is a tuple with \d floating-point tensors: \[0\] of shape \(3, 8, 6\)"
    ):
        whycam.explain(model, inputs, layer="rnn")
    assert nets.differences(before, nets.state(model)) == []
    assert whycam.explain(model, inputs, layer="conv").maps.any()


WRAPPINGS = {
    "tuple": (lambda x: (x,), lambda made: made[0]),
    "tuple with weights": (lambda x: (x, torch.ones(3, 4)), lambda made: made[0]),
    "list": (lambda x: [None, x], lambda made: made[1]),
    "dict": (lambda x: {"out": x, "size": 3}, lambda made: made["out"]),
    "ordered": (lambda x: collections.OrderedDict(out=x), lambda made: made["out"]),
    "dataclass": (lambda x: nets.Answer(None, x), lambda made: made.logits),
    "named": (lambda x: Named(x, 3), lambda made: made.features),
    "nested": (lambda x: ({"deep": [x]}, "text"), lambda made: made[0]["deep"][0]),
}
Named = collections.namedtuple("Named", "features size")


@pytest.mark.parametrize(("wrap", "unwrap"), WRAPPINGS.values(), ids=WRAPPINGS)
def test_one_tensor_in_a_container_is_opened_and_put_back(wrap, unwrap):
    model, inputs = nets.fixed(nets.NestedFeatures(wrap, unwrap)), nets.images()
    found = recorded(model, inputs, "layer", targets=[1]).layers[LayerRef("layer")]
    expected = model.layer.conv(inputs).detach()
    assert torch.equal(found.activations, expected)
    assert (found.activations < 0).any()
    share = model.head.weight[1].detach()[:, None, None] / expected[0, 0].numel()
    torch.testing.assert_close(found.gradients[0], share * (expected > 0))


def test_rows_that_are_no_samples_are_refused_rather_than_mistaken():
    class Padded(nets.Plain):
        """Runs one sample more than it answers for."""

        def forward(self, x):
            return super().forward(torch.cat([x, x[:1]]))[: len(x)]

    for method in ("grad_cam", "eigen_cam"):
        with pytest.raises(whycam.WhycamError, match="5 samples where the model answers for 4; choose a layer"):
            whycam.explain(nets.fixed(Padded()), nets.images(4), method, layer="conv2")


def test_several_inputs_may_come_in_any_order_and_by_name():
    model, inputs = nets.fixed(nets.TwoInputs()), nets.images()
    numbers = torch.ones(3, 2, dtype=torch.float64)
    positional = whycam.explain(model, (numbers, inputs), target=1)
    named = whycam.explain(model, {"numbers": numbers, "picture": inputs}, target=1)
    assert torch.equal(positional.maps, named.maps)
    assert positional.maps.shape == (3, 4, 4)
    logits = model(numbers, inputs)
    torch.testing.assert_close(positional.scores, logits[:, 1])


def test_scripted_models_are_refused_with_a_way_out():
    model = nets.plain()
    with pytest.warns(DeprecationWarning, match="trace"):
        traced = torch.jit.trace(model, nets.images())
    with pytest.raises(whycam.WhycamError, match="scripted or traced"):
        whycam.explain(traced, nets.images(), layer="conv2")


def test_parameters_created_in_inference_mode_are_refused_with_the_reason():
    with torch.inference_mode():
        model = nets.plain()
    with pytest.raises(whycam.WhycamError, match=r"created inside torch\.inference_mode"):
        whycam.explain(model, nets.images(), layer="conv2")
    assert whycam.explain(model, nets.images(), "eigen_cam", layer="conv2").ok


def test_other_threads_calls_are_not_recorded():
    class Elsewhere(nets.Plain):
        """Runs itself on another picture, in another thread, in the middle."""

        def features(self, x):
            x = self.relu1(self.conv1(x))
            worker = threading.Thread(target=lambda: self.conv2(torch.zeros_like(x)))
            worker.start()
            worker.join()
            x = self.conv2(x)
            worker = threading.Thread(
                target=lambda: self.conv2(torch.zeros_like(self.relu1(self.conv1(nets.images()))))
            )
            worker.start()
            worker.join()
            return self.relu2(x)

    inputs = nets.images()
    found = recorded(nets.fixed(Elsewhere()), inputs, "conv2").layers[LayerRef("conv2")]
    assert found.calls == 1
    assert torch.equal(found.activations, by_autograd(nets.plain(), inputs, "conv2")[0])


def test_a_copy_of_the_model_made_meanwhile_and_afterwards_is_clean():
    model = nets.plain()
    explanation = whycam.explain(model, nets.images(), layer="conv2")
    copied = nets.twin(model)
    assert nets.differences(nets.state(model), nets.state(copied))  # other objects
    assert not any(module._forward_hooks for module in copied.modules())
    assert explanation.maps.grad_fn is None


def test_a_layout_can_be_given():
    model, inputs = nets.plain(), nets.images()
    taps = find_layers(model, "conv2")
    found = record(model, inputs, taps, [lambda output: resolve(None, output)], layouts={taps[0]: ChannelsFirst()})
    assert found.layers[taps[0]].layout == ChannelsFirst()


def test_half_precision_is_recorded_in_float32():
    model, inputs = nets.plain().bfloat16(), nets.images().bfloat16()
    found = recorded(model, inputs, "conv2")
    layer = found.layers[LayerRef("conv2")]
    assert {layer.activations.dtype, layer.gradients[0].dtype, found.output.dtype, found.scores[0].dtype} == {
        torch.float32
    }
    assert torch.equal(
        layer.activations,
        F.conv2d(model.relu1(model.conv1(inputs)), model.conv2.weight, model.conv2.bias, 2, 1).float(),
    )


@pytest.mark.parametrize("method", ["grad_cam", "eigen_cam"])
def test_a_forward_decorated_with_no_grad_is_no_hindrance(method):
    class Lightning(nn.Module):
        """A wrapper as people write it for validation."""

        def __init__(self):
            super().__init__()
            self.model = nets.Plain()

        @torch.no_grad()
        def forward(self, x):
            return self.model(x)

    found = whycam.explain(nets.fixed(Lightning()), nets.images(), method, layer="model.conv2")
    expected = whycam.explain(nets.plain(), nets.images(), method, layer="conv2")
    torch.testing.assert_close(found.maps, expected.maps)
    torch.testing.assert_close(found.scores, expected.scores)


class Inferring(nets.Plain):
    """Runs all of itself, or the part below the last layer, in inference mode."""

    part = False

    def forward(self, x):
        if self.part:
            return super().forward(x)
        with torch.inference_mode():
            return super().forward(x)

    def features(self, x):
        with torch.inference_mode() if self.part else contextlib.nullcontext():
            x = self.relu1(self.conv1(x))
        return self.relu2(self.conv2(x))


@pytest.mark.parametrize("part", [False, True])
def test_a_network_that_runs_in_inference_mode_is_refused_with_what_to_do(part):
    model, plain = nets.fixed(Inferring()), nets.plain()
    model.part = part
    before = nets.state(model)
    with pytest.raises(whycam.WhycamError, match=r"runs itself, or a part of itself, under torch\.inference_mode\(\)"):
        whycam.explain(model, nets.images(), layer="conv1")
    found = whycam.explain(model, nets.images(), "eigen_cam", layer="conv1")
    expected = whycam.explain(plain, nets.images(), "eigen_cam", layer="conv1")
    torch.testing.assert_close(found.maps, expected.maps)
    assert not found.maps.is_inference()
    assert not found.scores.is_inference()
    assert nets.differences(before, nets.state(model)) == []
    raw = whycam.explain(model.float(), nets.images().float(), lambda activations: activations[:, 0], layer="conv1")
    assert not raw.maps.is_inference()


def test_a_wrapper_inside_that_runs_copies_in_other_threads_is_said():
    class Elsewhere(nn.DataParallel):
        """What it does with two devices, on none."""

        def forward(self, x):
            made = []
            worker = threading.Thread(target=lambda: made.append(self.module(x)))
            worker.start()
            worker.join()
            return made[0].detach()

    model = nets.plain()
    model.conv2 = Elsewhere(model.conv2)
    model.conv2.device_ids = [0, 1]
    with pytest.raises(
        whycam.WhycamError, match=r"'conv2' is a DataParallel over 2 devices.*conv2\.module, in its place"
    ):
        whycam.explain(model, nets.images(), layer="conv2.module")
    model.conv2.device_ids = [0]
    with pytest.raises(whycam.WhycamError, match="did not run in this forward pass; choose one that does"):
        whycam.explain(model, nets.images(), layer="conv2.module")


@pytest.mark.parametrize(("reads", "outside"), [("the class token", True), ("all", False), ("the patches", False)])
def test_gradient_beside_the_map_alone_is_noticed(reads, outside):
    class Reading(nets.Tokens):
        def __init__(self):
            super().__init__()
            self.last = nn.Identity()

        def forward(self, x):
            patches = self.embed(x).flatten(2).mT
            tokens = self.last(torch.cat([self.cls.expand(len(x), -1, -1), patches], 1))
            part = {"the class token": tokens[:, :1], "all": tokens, "the patches": tokens[:, 1:]}[reads]
            return self.head(part.mean(1))

    layer = recorded(nets.fixed(Reading()), nets.images(), "last").layers[LayerRef("last")]
    assert list(layer.outside) == [outside]
