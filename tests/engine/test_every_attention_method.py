"""Every method that reads attention under the conditions that people put a network in: the same map, and no trace left.

Values are settled in tests/methods; here the map of a network in some condition is that of the plain network. A method
that is added is covered without a line here.
"""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import nets
import pytest
import torch
from few import OF_TOKENS, few
from small_vit import ByItself, SmallViT, pictures, small_vit
from torch import nn

import whycam
from whycam.kit.quantities import BLOCK_SLOPES

every_method = pytest.mark.parametrize("method", OF_TOKENS.values(), ids=OF_TOKENS)
differentiated = {name: each for name, each in OF_TOKENS.items() if each.needs & BLOCK_SLOPES}


def explain(model, x, method, **more):
    if method.class_specific:
        more.setdefault("target", 3)
    return whycam.explain(model, x, method.name, **few(method), **more)


@pytest.fixture
def model():
    return small_vit()


@pytest.fixture
def x(model):
    return pictures(model)


def frozen(model):
    nets.frozen(model)
    return model


def compiled(model):
    return torch.compile(model, backend="eager")


def parallel(model):
    return nn.DataParallel(model)


def inside_no_grad(model):
    forward = model.embed
    model.embed = lambda x: torch.no_grad()(forward)(x)
    return model


CHANGES = [frozen, compiled, parallel, inside_no_grad]


@every_method
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_network_in_that_condition_has_the_same_map(method, change, model, x):
    expected = explain(model, x, method)
    changed = change(small_vit())
    before = nets.state(changed)
    found = explain(changed, x, method)
    assert nets.differences(before, nets.state(changed)) == []
    torch.testing.assert_close(found.maps, expected.maps, rtol=1e-5, atol=1e-7)
    assert found.maps.any()
    assert found.status == expected.status


@every_method
@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode, torch.enable_grad, contextlib.nullcontext])
def test_whatever_the_caller_works_under(method, around, model, x):
    expected = explain(model, x, method)
    before = nets.state(model)
    with around():
        found = explain(model, x.clone(), method)
    assert torch.equal(found.maps, expected.maps)
    assert not found.maps.requires_grad
    assert not found.maps.is_inference()
    assert nets.differences(before, nets.state(model)) == []


def rough(method):
    """How far off bfloat16 may be: relevance divides by sums that come near zero, which its 8 bits turn."""
    return 1.0 if "attention_relevance" in method.needs else 0.1


@every_method
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_another_precision(method, dtype, model, x):
    expected = explain(model, x, method).maps
    found = explain(small_vit().to(dtype), x.to(dtype), method).maps
    assert found.dtype == torch.float32
    near = 1e-4 if dtype == torch.float32 else rough(method) if dtype == torch.bfloat16 else 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=near * float(expected.abs().max()))


@every_method
def test_autocast(method, x):
    model = small_vit().float()
    expected = explain(model, x.float(), method).maps
    with torch.autocast("cpu", torch.bfloat16):
        found = explain(model, x.float(), method).maps
        model(x.float()).sum().backward()
    assert all(each.grad is not None for each in model.parameters() if each.numel())
    torch.testing.assert_close(found, expected, rtol=0, atol=rough(method) * float(expected.abs().max()))


@every_method
def test_a_batch_is_its_samples(method, model, x):
    together = explain(model, x, method)
    for n in range(len(x)):
        alone = explain(model, x[n : n + 1], method)
        torch.testing.assert_close(together[n].maps, alone.maps, rtol=1e-5, atol=1e-7)
        assert together[n].status == alone.status


@every_method
def test_a_softmax_that_is_written_out(method, model, x):
    found = explain(small_vit(kind=ByItself), x, method)
    torch.testing.assert_close(found.maps, explain(model, x, method).maps, rtol=1e-5, atol=1e-7)


@pytest.fixture(scope="module")
def together():
    """Every method at two layers for two classes at once."""
    model = small_vit()
    options = {name: few(each) for name, each in OF_TOKENS.items()}
    return whycam.compare(model, pictures(model), list(OF_TOKENS), ["blocks.0", "blocks.1"], [3, 1], options=options)


@every_method
def test_a_comparison_holds_what_single_explanations_hold(method, together, model, x):
    for layer in ("blocks.0", "blocks.1"):
        if (method.name, layer, 3) in together.failures:  # of one block no part can be taken
            with pytest.raises(whycam.WhycamError, match="blocks"):
                explain(model, x, method, layer=layer)
            continue
        alone = explain(model, x, method, layer=layer)
        found = together[method.name, layer, 3]
        torch.testing.assert_close(found.maps, alone.maps, rtol=1e-5, atol=1e-7)
        assert found.status == alone.status
        assert found.layer == alone.layer


class Stop(BaseException):
    """Neither an error nor Ctrl-C: nothing may swallow it."""


class Raising(SmallViT):
    def answer(self, tokens):
        raise self.error


@every_method
@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), Stop()], ids=lambda e: type(e).__name__)
def test_an_exception_in_the_network_leaves_no_trace(method, error, x):
    model = nets.fixed(Raising())
    model.error = error
    before, mode = nets.state(model), torch.overrides._get_current_function_mode()
    with pytest.raises(type(error)):
        explain(model, x, method)
    assert nets.differences(before, nets.state(model)) == []
    assert torch.overrides._get_current_function_mode() is mode


@pytest.mark.parametrize("method", differentiated.values(), ids=differentiated)
def test_an_exception_in_the_backward_leaves_no_trace(method, model, x):
    def target(output):
        output.register_hook(lambda gradient: 1 / 0)
        return output[:, 0]

    before = nets.state(model)
    with pytest.raises(ZeroDivisionError):
        explain(model, x, method, target=target)
    assert nets.differences(before, nets.state(model)) == []


@every_method
def test_a_training_step_around_it_is_not_disturbed(method, x):
    with_it, without = small_vit(), small_vit()
    for each in (with_it, without):
        each(x).sum().backward()
    losses = [each(x).square().sum() for each in (with_it, without)]
    explain(with_it, x, method)
    for loss in losses:
        loss.backward()
    for one, other in zip(with_it.parameters(), without.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_four_threads_with_every_method_are_all_right(model, x):
    expected = {name: explain(model, x, each).maps for name, each in OF_TOKENS.items()}
    before, names = nets.state(model), list(OF_TOKENS)
    start = threading.Barrier(4)

    def many(worker):
        start.wait()
        turns = [names[(worker * 3 + turn) % len(names)] for turn in range(2 * len(names))]
        return sum(not torch.equal(explain(model, x, OF_TOKENS[name]).maps, expected[name]) for name in turns)

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(many, range(4))) == 0
    assert nets.differences(before, nets.state(model)) == []


@every_method
def test_a_network_without_attention_is_refused_in_words(method):
    model = nets.plain()
    before = nets.state(model)
    with pytest.raises(whycam.WhycamError, match="attention"):
        explain(model, nets.images(), method)
    assert nets.differences(before, nets.state(model)) == []
