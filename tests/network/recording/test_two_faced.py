"""Both backwards of single functions: the gradient as ever, and relevance as Chefer's first method hands it back."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whycam.network.recording.two_faced import TwoFaced


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def handed(function, *given, mode=None):
    """The relevance `1, 2, 3...` of a function's result, and that of what it was given; its gradient is checked."""
    mode = TwoFaced() if mode is None else mode
    leaves = [each.clone().requires_grad_() for each in given]
    with mode:
        made = function(*[each * 1 for each in leaves])
    plain = function(*[each * 1 for each in leaves])
    assert torch.equal(made, plain)
    relevance = torch.arange(1, made.numel() + 1).to(made).reshape(made.shape)
    wanted = torch.autograd.grad(plain, leaves, relevance)
    for one, other in zip(torch.autograd.grad(made, leaves, relevance, retain_graph=True), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)
    with mode.turning():
        return relevance, torch.autograd.grad(made, leaves, relevance, allow_unused=True)


PASSING = {
    "gelu": F.gelu,
    "relu in place": lambda x: F.relu(x, inplace=True),
    "softmax": lambda x: x.softmax(-1),
    "tanh": torch.tanh,
    "layer_norm": nn.LayerNorm(4).double(),
    "a number": lambda x: x * 0.3,
    "layer scale": lambda x: x.mul_(nn.Parameter(torch.tensor([1.0, -2.0, 3.0, 0.5]).double())),
    "/": lambda x: x / 8,
    "-": lambda x: -x,
    "a constant added": lambda x: x + 3,
    "moved": lambda x: torch.cat([x.mT.mT[:1], x[1:]]).reshape(3, 4),
}


@pytest.mark.parametrize("function", PASSING.values(), ids=PASSING)
def test_what_hands_back_what_it_gets(function):
    mode = TwoFaced()
    relevance, (found,) = handed(function, numbers(3, 4), mode=mode)
    torch.testing.assert_close(found, relevance)
    assert not mode.left


def test_a_gate_and_what_it_gates_get_half_each():
    relevance, (one, other) = handed(lambda a, b: a * b, numbers(3, 4), numbers(3, 1, seed=1))
    torch.testing.assert_close(one, relevance / 2)
    torch.testing.assert_close(other, relevance.sum(1, keepdim=True) / 2)


def test_what_is_divided_gets_all():
    relevance, (one, other) = handed(lambda a, b: a / b, numbers(3, 4), numbers(3, 4, seed=1))
    torch.testing.assert_close(one, relevance)
    assert other is None or not other.any()


def test_sums_and_means_hand_back_in_proportion():
    x = numbers(3, 4)
    relevance, (found,) = handed(lambda x: x.mean(1), x)
    torch.testing.assert_close(found, x / x.sum(1, keepdim=True) * relevance[:, None])


def test_branches_get_their_magnitudes_share_in_each_sample():
    a, b = numbers(2, 3), numbers(2, 3, seed=1)
    relevance, (one, other) = handed(lambda a, b: a + b, a, b)
    for n in range(2):
        first, second = a[n] / (a + b)[n] * relevance[n], b[n] / (a + b)[n] * relevance[n]
        size = float(first.sum().abs() / (first.sum().abs() + second.sum().abs()))
        assert float(one[n].sum()) == pytest.approx(size * float(relevance[n].sum()))
        assert float(other[n].sum()) == pytest.approx((1 - size) * float(relevance[n].sum()))
        torch.testing.assert_close(one[n] / one[n].sum(), first / first.sum())


def test_a_branch_may_be_written_to_afterwards():
    def written(a: Tensor, b: Tensor) -> Tensor:
        made = F.gelu(a)
        made += b
        return made

    a, b = numbers(2, 3), numbers(2, 3, seed=1)
    torch.testing.assert_close(handed(written, a, b)[1], handed(lambda a, b: F.gelu(a) + b, a, b)[1])


def test_what_only_passes_relevance_on_may_be_written_to():
    def written(x: Tensor) -> Tensor:
        made = x * 2
        x += 1
        return made

    relevance, (found,) = handed(written, numbers(2, 3))
    torch.testing.assert_close(found, relevance)


@pytest.mark.parametrize("bias", [True, False])
def test_convolutions_hand_back_by_positive_products(bias):
    layer = nn.Conv2d(2, 3, 1, bias=bias).double()
    x = numbers(1, 2, 2, 2)
    relevance, (found,) = handed(layer, x)
    products = (x[:, None] * layer.weight.detach()[None, :, :, :, :]).clamp(min=0)  # (1, out, in, 2, 2)
    sums = products.sum(2, keepdim=True)
    torch.testing.assert_close(found, (products / sums.where(sums > 0, 1) * relevance[:, :, None]).sum(1))


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_fused_attention_is_its_steps(learned, causal):
    asks, x, y = numbers(2, 1, 4, 3, seed=2), numbers(2, 1, 4, 3), numbers(2, 1, 4, 3, seed=1)
    hidden = torch.zeros(4, 4).double().masked_fill(~torch.ones(4, 4, dtype=torch.bool).tril(), -torch.inf)

    def fused(x: Tensor, y: Tensor) -> Tensor:
        query = asks if learned else x.flip(-1)
        return F.scaled_dot_product_attention(query, x, y, is_causal=causal)

    def steps(x: Tensor, y: Tensor) -> Tensor:
        scores = (asks if learned else x.flip(-1)) @ x.mT * 3**-0.5
        return (scores + (hidden if causal else 0)).softmax(-1) @ y

    relevance = numbers(2, 1, 4, 3, seed=5)
    found = []
    for function in (fused, steps):
        mode, leaves = TwoFaced(), [each.clone().requires_grad_() for each in (x, y)]
        with mode:
            made = function(*leaves)
        with mode.turning():
            found.append(torch.autograd.grad(made, leaves, relevance))
        assert not mode.left
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_functions_without_a_rule_are_named():
    mode = TwoFaced()
    handed(lambda x: x.sin() + x.shape[0] + x.size(1), numbers(2, 3), mode=mode)
    assert list(mode.left) == ["sin"]
