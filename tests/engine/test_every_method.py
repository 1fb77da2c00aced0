"""Every registered method under every condition that people put a network in: the right value, and no trace left.

Values are those of the registered function applied to what plain autograd measures on a copy of the network. A method
that is added is covered without a line here.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import nets
import pytest
import torch
from by_hand import ByHand
from few import FEW, OF_ANY, few
from torch import Tensor, nn

import whycam
from whycam.kit.quantities import Result
from whycam.kit.registry import Method

TABLE = OF_ANY
every_method = pytest.mark.parametrize("method", TABLE.values(), ids=TABLE)
class_specific = {name: each for name, each in TABLE.items() if each.class_specific}
class_independent = {name: each for name, each in TABLE.items() if not each.class_specific}
differentiated = {name: each for name, each in TABLE.items() if any("gradients" in need for need in each.needs)}
LAYER_FREE = {name: each for name, each in TABLE.items() if not each.has_layer}


@dataclass
class Case:
    """A network in some condition, and the copy on which plain autograd is run."""

    model: nn.Module
    twin: nn.Module
    inputs: Any
    layer: str = "relu2"
    twin_layer: str = ""
    around: Callable[[], Any] = contextlib.nullcontext  # the block in which a caller explains
    twin_around: Callable[[], Any] = contextlib.nullcontext
    to_maps: Callable[[Tensor], Tensor] = lambda output: output
    back: Callable[[Tensor, Tensor], Tensor] = lambda maps, output: maps  # and back, beside what was not mapped
    answer: Callable[[Any], Tensor] = lambda output: output
    target: Any = None
    call: int = -1
    pooled: bool = True  # whether the recorded layer is what the pooling is given


def measure(case: Case, method: Method) -> dict[str, Any]:
    """What the method asks for, by plain forwards and backwards with everything kept."""
    by_hand = ByHand(case)
    return {name: by_hand.quantity(name) for name in method.needs}


#: Quantities that follow gradients further down than the layer.
BELOW = {"guided_gradients", "input_gradients", "bias_gradients", "differentiate", "relevance"}
FEW_AT_A_LAYER = {name: options for name, options in FEW.items() if TABLE[name].has_layer}


def plain_case(make: Callable[[], nn.Module] = nets.plain, **changes: Any) -> Case:
    model = make()
    return Case(model, nets.twin(model), nets.images(), **changes)


def at_convolution() -> Case:
    return plain_case(layer="conv2", pooled=False)


def in_place() -> Case:
    return Case(nets.plain(inplace=True), nets.plain(), nets.images(), layer="conv2", pooled=False)


def in_place_at_the_activation() -> Case:
    return Case(nets.plain(inplace=True), nets.plain(), nets.images())


def in_place_by_a_function() -> Case:
    return plain_case(lambda: nets.fixed(nets.Dense(), seed=1), layer="norm", pooled=False)


def one_dimension() -> Case:
    model = nets.plain(1)
    return Case(model, nets.twin(model), nets.images(rank=1, side=16))


def three_dimensions() -> Case:
    model = nets.plain(3)
    return Case(model, nets.twin(model), nets.images(rank=3, side=6))


def channels_last() -> Case:
    return Case(
        nets.fixed(nets.ChannelsLast()),
        nets.fixed(nets.ChannelsLast()),
        nets.images(),
        to_maps=lambda output: output.movedim(-1, 1),
        back=lambda maps, output: maps.movedim(1, -1),
    )


def memory_format() -> Case:
    case = plain_case()
    case.model.to(memory_format=torch.channels_last)
    return case


def tokens() -> Case:
    return plain_case(
        lambda: nets.fixed(nets.Tokens()),
        layer="blocks.0",
        to_maps=lambda output: output[:, 1:].mT.unflatten(-1, (4, 4)),
        back=lambda maps, output: torch.cat([output[:, :1], maps.flatten(2).mT], 1),
        pooled=False,
    )


def shared_module() -> Case:
    return plain_case(lambda: nets.fixed(nets.Shared()), layer="conv2#0", twin_layer="conv2", call=0, pooled=False)


def last_call_of_a_shared_module() -> Case:
    return plain_case(lambda: nets.fixed(nets.Shared()), layer="conv2", pooled=True)


def frozen() -> Case:
    case = plain_case()
    nets.frozen(case.model)
    return case


def frozen_backbone() -> Case:
    case = plain_case()
    nets.frozen(case.model.conv1)
    nets.frozen(case.model.conv2)
    return case


def without_gradients() -> Case:
    return plain_case(around=torch.no_grad)


def in_inference_mode() -> Case:
    return plain_case(around=torch.inference_mode)


def inference_tensors() -> Case:
    case = plain_case()
    with torch.inference_mode():
        case.inputs = case.inputs.clone()
    assert case.inputs.is_inference()
    return case


def inner_no_grad() -> Case:
    return Case(nets.fixed(nets.InnerNoGrad()), nets.plain(), nets.images(), layer="conv2", pooled=False)


def autocast() -> Case:
    around = lambda: torch.autocast("cpu", torch.bfloat16)  # noqa: E731
    case = plain_case(around=around, twin_around=around)
    case.model.float(), case.twin.float()
    case.inputs = case.inputs.float()
    return case


def bfloat16() -> Case:
    case = plain_case()
    case.model.bfloat16(), case.twin.bfloat16()
    case.inputs = case.inputs.bfloat16()
    return case


def float16() -> Case:
    case = plain_case()
    case.model.half(), case.twin.half()
    case.inputs = case.inputs.half()
    return case


def compiled() -> Case:
    case = plain_case()
    case.model = torch.compile(case.model, backend="eager")
    return case


def compiled_and_run() -> Case:
    case = compiled()
    case.model(case.inputs)
    return case


def compiled_in_place_of_itself() -> Case:
    case = plain_case()
    case.model.compile(backend="eager")
    case.model(case.inputs)
    return case


def compiled_part() -> Case:
    case = plain_case()
    case.model.conv2.compile(backend="eager")
    case.model(case.inputs)
    return case


def compiled_forward() -> Case:
    case = plain_case()
    case.model.forward = torch.compile(case.model.forward, backend="eager")
    case.model(case.inputs)
    return case


def answer_in_a_tuple() -> Case:
    wrap = lambda features, logits: (features, logits)  # noqa: E731
    return plain_case(lambda: nets.fixed(nets.Wrapped(wrap)), answer=lambda output: output[1])


def answer_in_a_dict() -> Case:
    return plain_case(lambda: nets.fixed(nets.TwoHeads()), answer=lambda output: output["logits"])


def answer_in_a_dataclass() -> Case:
    wrap = lambda features, logits: nets.Answer(None, logits, (features,))  # noqa: E731
    return plain_case(lambda: nets.fixed(nets.Wrapped(wrap)), answer=lambda output: output.logits)


def answer_in_a_model_output() -> Case:
    wrap = lambda features, logits: nets.ModelOutput(hidden=(features,), logits=logits)  # noqa: E731
    return plain_case(lambda: nets.fixed(nets.Wrapped(wrap)), answer=lambda output: output["logits"])


def data_parallel() -> Case:
    case = plain_case()
    case.model = nn.DataParallel(case.model)
    return case


def parts_of_the_batch() -> Case:
    return Case(nets.fixed(nets.Parts(2)), nets.plain(), nets.images())


def parts_of_the_batch_backwards() -> Case:
    return Case(nets.fixed(nets.Parts(2, backwards=True)), nets.plain(), nets.images(), target=[4, 1, 0])


def computed_again() -> Case:
    return Case(nets.fixed(nets.Checkpointed()), nets.plain(), nets.images())


def all_computed_again() -> Case:
    return Case(nets.fixed(nets.Checkpointed(whole=True)), nets.plain(), nets.images(), layer="conv2", pooled=False)


def traced_by_fx() -> Case:
    case = plain_case()
    case.model = torch.fx.symbolic_trace(case.model)
    return case


def mixed_targets() -> Case:
    return plain_case(target=[2, 0, 4])


def training() -> Case:
    case = plain_case(lambda: nets.fixed(nets.Training()), pooled=False)
    case.model.train(), case.twin.train()
    return case


CASES = [
    plain_case, at_convolution, in_place, in_place_at_the_activation, in_place_by_a_function, one_dimension,
    three_dimensions, channels_last, memory_format, tokens, shared_module, last_call_of_a_shared_module, frozen,
    frozen_backbone, without_gradients, in_inference_mode, inference_tensors, inner_no_grad, autocast, bfloat16,
    float16, compiled, compiled_and_run, compiled_in_place_of_itself, compiled_part, compiled_forward,
    answer_in_a_tuple, answer_in_a_dict, answer_in_a_dataclass, answer_in_a_model_output, mixed_targets, training,
    data_parallel, parts_of_the_batch, parts_of_the_batch_backwards, computed_again, all_computed_again, traced_by_fx,
]  # fmt: skip


def in_turns() -> Iterator[Any]:
    """Every method in every case. What a case can break is the measuring, so methods that ask for the same take turns
    at the cases in the quick run.
    """
    alike: dict[frozenset[str], list[Method]] = {}
    for method in TABLE.values():
        alike.setdefault(method.needs, []).append(method)
    for number, make in enumerate(CASES):
        for some in alike.values():
            for turn, method in enumerate(some):
                waits = make is not plain_case and number % len(some) != turn
                marks = [pytest.mark.slow] * waits
                yield pytest.param(method, make, id=f"{make.__name__}-{method.name}", marks=marks)


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled_code():
    yield
    torch._dynamo.reset()


def explain(case: Case, method: Method) -> whycam.Explanation:
    with case.around():
        return whycam.explain(
            case.model,
            case.inputs,
            method.name,
            target=case.target if method.class_specific else None,
            layer=case.layer if method.has_layer else None,
            **few(method),
        )


@pytest.mark.parametrize(("method", "make"), list(in_turns()))
@pytest.mark.filterwarnings("ignore:the model is in training mode")
def test_the_map_is_that_of_plain_autograd_and_nothing_is_left_behind(method, make):
    case = make()
    if "head_weights" in method.needs and not case.pooled:
        with pytest.raises(whycam.WhycamError, match="pooling"):
            explain(case, method)
        return
    if make is inner_no_grad and method.needs & BELOW:
        pytest.skip("one of its convolutions runs below what plain autograd would follow")
    torch.manual_seed(5)  # dropout draws the same numbers in both
    before = nets.state(case.model)
    refusal, found = "", None
    try:
        found = explain(case, method)
    except whycam.WhycamError as error:
        refusal = str(error)
    assert nets.differences(before, nets.state(case.model)) == []
    if found is None:  # a ViT has a fixed size, and some methods run others
        assert make is tokens
        assert "trace" in method.needs
        assert "cannot be run on inputs of shape" in refusal
        return
    black = (
        {"baseline": "zero"} if "baseline" in method.options and method.options["baseline"].default == "black" else {}
    )
    expected = method.function(
        **measure(case, method), **few(method), **black
    )  # of a ready batch, what black is is open
    expected = (expected.maps if isinstance(expected, Result) else expected).float()
    # iterating over a batch magnifies rounding, and half precision rounds otherwise in packs of other sizes
    own = torch.finfo(next(case.model.parameters()).dtype).eps if method.moves else 0
    tolerance = max(own, 1e-2 if method.couples else 1e-5) * float(expected.abs().max())
    torch.testing.assert_close(found.maps, expected, rtol=0, atol=tolerance)
    assert expected.any()
    assert found.maps.dtype == torch.float32
    assert not found.maps.requires_grad
    assert not found.maps.is_inference()


@every_method
def test_a_batch_is_its_samples(method):
    if method.couples:
        pytest.skip("it is made of the whole batch")
    model, inputs = nets.plain(), nets.images()
    layer = "relu2" if method.has_layer else None
    together = whycam.explain(model, inputs, method.name, layer=layer, **few(method))
    for n in range(len(inputs)):
        alone = whycam.explain(model, inputs[n : n + 1], method.name, layer=layer, **few(method))
        torch.testing.assert_close(together[n].maps, alone.maps, rtol=1e-5, atol=1e-7)
        assert together[n].target == alone.target
        assert together[n].status == alone.status


def at_layers() -> Iterator[Any]:
    """Every method at every layer; in the quick run they take turns, each at one."""
    for number, method in enumerate(TABLE.values()):
        pooled = ["relu2"] if "head_weights" in method.needs else ["conv1", "relu1", "conv2", "relu2"]
        layers = pooled if method.has_layer else [None]
        for turn, layer in enumerate(layers):
            marks = [pytest.mark.slow] * (number % len(layers) != turn)
            yield pytest.param(method, layer, id=f"{method.name}-{layer}", marks=marks)


@pytest.mark.parametrize(("method", "layer"), list(at_layers()))
def test_in_place_and_out_of_place_agree_bit_for_bit(method, layer):
    one, other = (
        whycam.explain(nets.plain(inplace=inplace), nets.images(), method.name, layer=layer, **few(method))
        for inplace in (False, True)
    )
    assert torch.equal(one.maps, other.maps)


def test_the_order_of_layers_changes_nothing():
    model, inputs = nets.plain(), nets.images()
    layers = ["relu2", "conv1", "conv2", "relu1"]
    names = [name for name, each in TABLE.items() if each.has_layer]
    one = whycam.compare(model, inputs, names, layers, [1], options=FEW_AT_A_LAYER)
    other = whycam.compare(model, inputs, names[::-1], layers[::-1], [1], options=FEW_AT_A_LAYER)
    assert set(one) == set(other)
    assert set(one.failures) == set(other.failures)
    for key, each in one.items():
        assert torch.equal(each.maps, other[key].maps), key


@pytest.fixture(scope="module")
def together():
    """Every method at two layers for two classes at once."""
    return whycam.compare(nets.plain(), nets.images(), list(TABLE), ["relu2", "conv1"], [3, 1], options=FEW)


@every_method
def test_a_comparison_holds_what_single_explanations_hold(method, together):
    alone = whycam.explain(
        nets.plain(),
        nets.images(),
        method.name,
        target=1 if method.class_specific else None,
        layer="relu2" if method.has_layer else None,
        **few(method),
    )
    found = together[method.name, "relu2", 1]
    torch.testing.assert_close(found.maps, alone.maps, rtol=1e-5, atol=1e-7)
    assert found.target == alone.target
    assert found.status == alone.status
    assert found.layer == alone.layer


@pytest.mark.parametrize("method", class_independent.values(), ids=class_independent)
@pytest.mark.parametrize("target", [0, "cat", [0, 1, 2], whycam.targets.Probability(1), lambda output: output[:, 0]])
def test_a_method_that_explains_no_class_refuses_a_target(method, target):
    with pytest.raises(whycam.WhycamError, match="explains no class"):
        whycam.explain(nets.plain(), nets.images(), method.name, target=target)


@pytest.mark.parametrize("method", class_independent.values(), ids=class_independent)
def test_a_method_that_explains_no_class_names_none(method):
    found = whycam.explain(nets.plain(), nets.images(), method.name, target=None)
    assert found.target == ()
    assert found.cost.backwards == 0


@pytest.mark.parametrize("method", LAYER_FREE.values(), ids=LAYER_FREE)
def test_a_method_without_a_layer_refuses_one(method):
    with pytest.raises(whycam.WhycamError, match="reads no layer"):
        whycam.explain(nets.plain(), nets.images(), method.name, layer="conv2")


class Stop(BaseException):
    """Neither an error nor Ctrl-C: nothing may swallow it."""


@every_method
@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), Stop()], ids=lambda e: type(e).__name__)
def test_an_exception_in_the_network_passes_through_and_leaves_no_trace(method, error):
    model = nets.fixed(nets.Raising())
    model.error = error
    before = nets.state(model)
    with pytest.raises(type(error)) as caught:
        whycam.explain(model, nets.images(), method.name, layer="conv1" if method.has_layer else None, **few(method))
    assert caught.value is error
    assert nets.differences(before, nets.state(model)) == []


@pytest.mark.parametrize("method", class_specific.values(), ids=class_specific)
@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyboardInterrupt()], ids=lambda e: type(e).__name__)
def test_an_exception_in_the_target_passes_through_and_leaves_no_trace(method, error):
    def target(output):
        raise error

    model = nets.plain()
    before = nets.state(model)
    with pytest.raises(type(error)):
        whycam.explain(
            model, nets.images(), method.name, target=target, layer="relu2" if method.has_layer else None, **few(method)
        )
    assert nets.differences(before, nets.state(model)) == []


@pytest.mark.parametrize("method", differentiated.values(), ids=differentiated)
def test_an_exception_in_the_backward_pass_leaves_no_trace(method):
    def target(output):
        output.register_hook(lambda gradient: 1 / 0)
        return output[:, 0]

    model = nets.plain()
    before = nets.state(model)
    with pytest.raises(ZeroDivisionError):
        whycam.explain(
            model, nets.images(), method.name, target=target, layer="conv1" if method.has_layer else None, **few(method)
        )
    assert nets.differences(before, nets.state(model)) == []


@every_method
def test_a_training_step_around_it_is_not_disturbed(method):
    """Between the forward and the backward of a training step, with gradients already accumulated."""
    inputs = nets.images()
    with_it, without = nets.plain(), nets.plain()
    for model in (with_it, without):
        model(inputs).sum().backward()
    with torch.autocast("cpu", torch.bfloat16, enabled=False):
        losses = [model(inputs).square().sum() for model in (with_it, without)]
        whycam.explain(with_it, inputs, method.name, layer="relu2" if method.has_layer else None, **few(method))
        for loss in losses:
            loss.backward()
    for one, other in zip(with_it.parameters(), without.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


@every_method
def test_weights_that_autocast_keeps_still_learn_afterwards(method):
    model, inputs = nets.plain().float(), nets.images().float()
    with torch.autocast("cpu", torch.bfloat16):
        whycam.explain(model, inputs, method.name, layer="relu2" if method.has_layer else None, **few(method))
        model(inputs).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@every_method
def test_inputs_are_left_as_they_are(method):
    model, inputs = nets.plain(), nets.images().requires_grad_()
    before = inputs.detach().clone()
    whycam.explain(model, inputs, method.name, layer="relu2" if method.has_layer else None, **few(method))
    assert torch.equal(inputs, before)
    assert inputs.grad is None
    assert inputs.requires_grad
    assert inputs.is_leaf


@pytest.mark.parametrize("turns", [25, pytest.param(100, marks=pytest.mark.slow)])
def test_eight_threads_share_one_model_and_all_are_right(turns):
    """So many Grad-CAMs each, of other images and layers in every call."""
    model, batches = nets.plain(inplace=True), [nets.images(2, seed=n) for n in range(8)]
    expected = {
        (n, layer): whycam.explain(model, batch, layer=layer).maps
        for n, batch in enumerate(batches)
        for layer in ("conv1", "conv2")
    }
    before = nets.state(model)
    start = threading.Barrier(8)

    def many(worker: int) -> int:
        start.wait()
        wrong = 0
        for turn in range(turns):
            number, layer = (worker + turn) % 8, ("conv1", "conv2")[(worker * turn) % 2]
            found = whycam.explain(model, batches[number], layer=layer)
            wrong += not torch.equal(found.maps, expected[number, layer]) or found.cost.forwards != 1
        return wrong

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(many, range(8))) == 0
    assert nets.differences(before, nets.state(model)) == []


@pytest.mark.parametrize("rounds", [0.5, pytest.param(2, marks=pytest.mark.slow)])
def test_eight_threads_with_every_method_are_all_right(rounds):
    """Every method that many times in each thread, no two of which begin with the same."""
    model, batch = nets.plain(inplace=True), nets.images(2)
    expected = {
        name: whycam.explain(model, batch, name, layer="relu2" if each.has_layer else None, **few(each)).maps
        for name, each in TABLE.items()
    }
    before = nets.state(model)
    names = list(TABLE)
    start = threading.Barrier(8)

    def many(worker: int) -> int:
        start.wait()
        wrong = 0
        for turn in range(int(rounds * len(names))):
            name = names[(worker * 5 + turn) % len(names)]
            found = whycam.explain(
                model, batch, name, layer="relu2" if TABLE[name].has_layer else None, **few(TABLE[name])
            )
            wrong += not torch.equal(found.maps, expected[name])
        return wrong

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(many, range(8))) == 0
    assert nets.differences(before, nets.state(model)) == []


def test_eight_threads_share_a_compiled_model():
    model, batch = torch.compile(nets.plain(), backend="eager"), nets.images(2)
    model(batch)
    expected = whycam.explain(model, batch, layer="conv2").maps

    def many(worker: int) -> int:
        return sum(not torch.equal(whycam.explain(model, batch, layer="conv2").maps, expected) for _ in range(10))

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(many, range(8))) == 0
    assert torch._dynamo.eval_frame._stance.stance == "default"


@pytest.mark.filterwarnings("ignore:the model is in training mode")
def test_eight_threads_leave_a_model_in_training_as_it_was():
    model, batch = nets.fixed(nets.Training()), nets.images(2)
    model.train()
    before = nets.state(model)

    def many(worker: int) -> None:
        for _ in range(10):
            whycam.explain(model, batch, layer="relu2")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(many, range(8)))
    assert nets.differences(before, nets.state(model)) == []
