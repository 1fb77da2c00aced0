"""Captured attention against autograd's own graph, in networks of many makers and in calls of every kind."""

import gc
import math
import pickle
import threading
import weakref
from collections.abc import Callable

import attention_by_graph
import nets
import pytest
import torch
import torch.nn.functional as F
import torchvision_shim
from attention_by_graph import score
from torch import Tensor, nn

from whycam.errors import WhycamError
from whycam.network.attention.capture import Attention, Capture

torchvision_shim.register()
timm = pytest.importorskip("timm")
torchvision = pytest.importorskip("torchvision")
transformers = pytest.importorskip("transformers")
open_clip = pytest.importorskip("open_clip")

EXACT = {"rtol": 1e-10, "atol": 1e-12}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def captured(run: Callable[[], Tensor]) -> tuple[Tensor, Capture, dict[int, Tensor]]:
    """The answer, the capture, and the gradient of each attention's output."""
    arrived: dict[int, Tensor] = {}
    with torch.no_grad(), Capture(arrived=lambda each, gradients: arrived.update({each.number: gradients})) as capture:
        output = run()
        value = score(output)
    torch.autograd.grad(value, capture.starts)
    return output.detach(), capture, arrived


def slopes(attention: Attention, arrived: dict[int, Tensor]) -> Tensor:
    """The gradients with respect to the weights; 0 where the score does not depend on this attention."""
    if attention.number not in arrived:
        return torch.zeros_like(attention.weights())
    return arrived[attention.number] @ attention.value.detach().mT


def check(run: Callable[[], Tensor], count: int) -> Capture:
    read = attention_by_graph.read(run)
    output, capture, arrived = captured(run)
    assert len(capture.found) == len(read.products) == count
    assert not read.alone
    for attention, product in zip(capture.found, read.products, strict=True):
        weights = attention.weights()
        torch.testing.assert_close(weights.reshape(product.weights.shape), product.weights, **EXACT)
        size = float(product.gradients.abs().max())
        gradients = slopes(attention, arrived).reshape(product.weights.shape)
        torch.testing.assert_close(gradients, product.gradients, rtol=1e-10, atol=1e-10 * size)
        torch.testing.assert_close(weights @ attention.value, attention.output, rtol=1e-9, atol=1e-11)
    assert sum(float(each.gradients.abs().max()) > 0 for each in read.products) >= count - 1
    torch.testing.assert_close(output, read.output, rtol=1e-10, atol=1e-11)
    return capture


# ---------------------------------------------------------------- networks


def of_timm(name: str, **options: object) -> nn.Module:
    return timm.create_model(name, num_classes=5, **options)


_TRUNK = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
_STAGES = {"embed_dim": 8, "depths": (2, 2), "num_heads": (1, 2)}
_HF = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "patch_size": 8,
    "image_size": 32, "num_labels": 5,
}  # fmt: skip


def of_hf(name: str, kernel: str, **options: object) -> nn.Module:
    config = getattr(transformers, f"{name}Config")(**{**_HF, **options}, attn_implementation=kernel)
    return Logits(getattr(transformers, f"{name}ForImageClassification")(config))


class Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).logits


class Sequence(nn.Module):
    """Patches as tokens for a module that takes tokens."""

    def __init__(self, module: nn.Module, width: int = 16) -> None:
        super().__init__()
        self.patches, self.module = nn.Conv2d(3, width, 8, 8), module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(self.patches(x).flatten(2).mT).mean(1)


class SelfAttention(nn.Module):
    def __init__(self, **options: object) -> None:
        super().__init__()
        self.options = options
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, **self.options)[0]


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    return Sequence(nn.TransformerEncoder(layer, 2))


def open_clip_tower() -> nn.Module:
    from open_clip.transformer import VisionTransformer

    return VisionTransformer(32, 8, 16, 2, 2, 2.0, output_dim=5)


def torchvision_swin() -> nn.Module:
    from torchvision.models.swin_transformer import SwinTransformer

    return SwinTransformer([4, 4], 8, [2, 2], [1, 2], [4, 4], num_classes=5)


def torchvision_maxvit() -> nn.Module:
    from torchvision.models.maxvit import MaxVit

    return MaxVit((64, 64), 8, 4, [8, 16], [1, 1], 4, 0.0, num_classes=5)


def mvit() -> nn.Module:
    from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg

    config = MultiScaleVitCfg(depths=(1, 1), embed_dim=8, num_heads=1, pool_first=False, stride_q=((1, 1), (2, 2)))
    return MultiScaleVit(config, img_size=64, num_classes=5)


def volo() -> nn.Module:
    from timm.models.volo import VOLO

    return VOLO(
        (1, 1), 64, num_classes=5, embed_dims=(8, 16), num_heads=(1, 2), mlp_ratio=2, downsamples=(True, False),
        outlook_attention=(True, False), stem_hidden_dim=8,
    )  # fmt: skip


def hf_swin() -> nn.Module:
    config = transformers.SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[2, 2], num_heads=[1, 2], window_size=4, num_labels=5
    )
    return Logits(transformers.SwinForImageClassification(config))


#: A network, the side of the pictures that it takes, and how many attentions it runs.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "vit": (lambda: of_timm("vit_tiny_patch16_224", **_TRUNK), 32, 2),
    "deit, distilled": (lambda: of_timm("deit_tiny_distilled_patch16_224", **_TRUNK), 32, 2),
    "siglip, attention pool": (lambda: of_timm("vit_base_patch16_siglip_224", **_TRUNK), 32, 3),
    "eva-02": (lambda: of_timm("eva02_tiny_patch14_224", **_TRUNK), 32, 2),
    "beit": (lambda: of_timm("beit_base_patch16_224", **_TRUNK), 32, 2),
    "cait, talking heads": (lambda: of_timm("cait_xxs24_224", **_TRUNK), 32, 4),
    "convit, a mixture": (lambda: of_timm("convit_tiny", **{**_TRUNK, "embed_dim": 8, "local_up_to_layer": 1}), 32, 2),
    "xcit, channels": (lambda: of_timm("xcit_nano_12_p16_224", **{**_TRUNK, "patch_size": 16}), 32, 4),
    "crossvit, two streams": (
        lambda: of_timm(
            "crossvit_tiny_240", img_size=32, patch_size=(8, 16), img_scale=(1.0, 1.0), embed_dim=(8, 16),
            num_heads=(2, 2), depth=((1, 1, 0),),
        ), 32, 4,
    ),
    "swin": (lambda: of_timm("swin_tiny_patch4_window7_224", img_size=32, window_size=4, **_STAGES), 32, 4),
    "swin 2": (lambda: of_timm("swinv2_tiny_window8_256", img_size=32, window_size=4, **_STAGES), 32, 4),
    "maxvit, heads apart": (lambda: of_timm("test_maxvit", img_size=64), 64, 8),
    "coatnet, weights on the right": (lambda: of_timm("test_coatnet", img_size=64), 64, 3),
    "hiera": (lambda: of_timm("hiera_tiny_224", img_size=64, embed_dim=8, num_heads=1, stages=(1, 1, 1, 1)), 64, 4),
    "mvit 2": (mvit, 64, 2),
    "volo, outlook": (volo, 64, 4),
    "torchvision vit": (
        lambda: torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5), 32, 2,
    ),
    "torchvision swin": (torchvision_swin, 32, 4),
    "torchvision maxvit, einsum": (torchvision_maxvit, 64, 4),
    "open_clip": (open_clip_tower, 32, 2),
    "nn.TransformerEncoder": (encoder, 32, 2),
    "nn.MultiheadAttention": (lambda: Sequence(SelfAttention()), 32, 1),
    "nn.MultiheadAttention without weights": (lambda: Sequence(SelfAttention(need_weights=False)), 32, 1),
    **{
        f"transformers {name}, {kernel}": (lambda name=name, kernel=kernel: of_hf(name, kernel), 32, count)
        for name, count in {"ViT": 2, "Dinov2WithRegisters": 2, "Beit": 2}.items()
        for kernel in ("sdpa", "eager")
    },
    "transformers swin": (hf_swin, 32, 4),
}  # fmt: skip


def built(name: str) -> tuple[nn.Module, Tensor, int]:
    build, side, count = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nets.fixed(build()), random(2, 3, side, side, seed=1), count


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_and_their_gradients_are_those_of_the_graph(name: str) -> None:
    model, x, count = built(name)
    check(lambda: model(x), count)
    torch.backends.mha.set_fastpath_enabled(False)  # which an active mode turns off, as gradients do
    try:
        with torch.no_grad():
            plain = model(x)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    with torch.no_grad(), Capture() as quiet:
        assert torch.equal(model(x), plain)
    assert len(quiet.found) == count
    assert not any(each.output.requires_grad for each in quiet.found)
    assert all(each.grad is None for each in model.parameters())


def test_two_streams_both_start_the_graph() -> None:
    """The second has trainable weights, so that its operands require gradients, and depends on no attention."""
    model, x, _ = built("crossvit, two streams")
    assert len(captured(lambda: model(x))[1].starts) == 2
    model.requires_grad_(False)
    assert len(captured(lambda: model(x))[1].starts) == 2


@pytest.mark.parametrize("name", ["vit", "swin", "cait, talking heads", "nn.MultiheadAttention", "open_clip"])
def test_operands_and_projection(name: str) -> None:
    """The weights from queries and keys, but for what is added or mixed before the softmax; the rest of the block."""
    model, x, _ = built(name)
    linears = [each for each in model.modules() if isinstance(each, nn.Linear)]
    with torch.no_grad(), Capture() as capture:
        model(x)
    for each in capture.found:
        assert each.query is not None
        assert each.key is not None
        assert each.query.shape[-1] == each.key.shape[-1]
        assert each.projection is not None
        assert any(each.projection[0] is linear.weight and each.projection[1] is linear.bias for linear in linears)
        if name != "swin" and "cait" not in name:
            by_hand = (each.query @ each.key.mT / math.sqrt(each.query.shape[-1])).softmax(-1)
            torch.testing.assert_close(each.weights(), by_hand, **EXACT)


def test_queries_are_those_before_the_scale_however_attention_is_written() -> None:
    q, k, v = random(3, 2, 2, 5, 4)
    with Capture() as capture:
        F.scaled_dot_product_attention(q, k, v)
        (q * 0.5 @ k.transpose(-2, -1)).softmax(-1) @ v
        ((k @ q.mT) * 0.5).transpose(-2, -1).softmax(-1) @ v
        torch.einsum("bhkq,bhkd->bhqd", torch.einsum("bhkd,bhqd->bhqk", k, q).mul(0.5).softmax(3).mT, v)
    assert len(capture.found) == 4
    for each in capture.found:
        torch.testing.assert_close(each.query, q)
        torch.testing.assert_close(each.key, k)
        torch.testing.assert_close(each.weights(), capture.found[0].weights(), **EXACT)
        torch.testing.assert_close(each.output, capture.found[0].output, **EXACT)


# ---------------------------------------------------------------- calls


def _masks() -> dict[str, dict[str, object]]:
    some = random(2, 1, 5, 7, seed=3) > 0
    some[:, :, 1] = False  # a query that may ask nothing
    return {
        "no mask": {},
        "a bool mask, one row empty": {"attn_mask": some},
        "a float mask": {"attn_mask": random(2, 1, 5, 7, seed=4)},
        "a float mask with infinities": {"attn_mask": random(5, 7, seed=4).masked_fill(~some[0, 0], -math.inf)},
        "causal": {"is_causal": True},
        "a scale": {"scale": 0.3},
        "a scale of 0": {"scale": 0.0},
        "fewer heads of keys": {"enable_gqa": True},
    }


@pytest.mark.parametrize("name", _masks())
def test_fused_calls(name: str) -> None:
    options = _masks()[name]
    leaves = random(2, 4, 5, 4), *(random(2, 2 if "heads" in name else 4, 7, 4, seed=seed) for seed in (1, 2))
    leaves = [each.requires_grad_() for each in leaves]
    capture = check(lambda: F.scaled_dot_product_attention(*leaves, **options).flatten(2), 1)
    attention = capture.found[0]
    assert attention.weights().shape == (2, 4, 5, 7)
    assert attention.value.shape == attention.key.shape == (2, 4, 7, 4)


def test_one_key_of_all_samples_and_heads() -> None:
    """Leading axes that are only broadcast are those of the output."""
    q, k, v, bias = random(2, 3, 5, 4), random(1, 1, 7, 4), random(1, 3, 7, 4), random(1, 3, 5, 7)
    with Capture() as capture:
        F.scaled_dot_product_attention(q, k, v)
        bias.softmax(-1) @ random(2, 3, 7, 4)
    for each in capture.found:
        assert each.weights().shape == (2, 3, 5, 7)
        assert each.value.shape == (2, 3, 7, 4)


def test_the_gradient_of_the_weights_and_what_it_sums_to() -> None:
    model, x, _ = built("cait, talking heads")
    _, capture, arrived = captured(lambda: model(x))
    for each in capture.found:
        weights = each.weights()
        by_keys = (weights * slopes(each, arrived)).sum(-1)
        by_width = (each.output * arrived.get(each.number, torch.zeros(()))).sum(-1)
        torch.testing.assert_close(by_keys, by_width, **EXACT)
        assert weights.dtype == torch.float64
        assert not weights.requires_grad


class Written(nn.Module):
    """Attention with the softmax written out by `weigh`, on tokens `(batch, token, 8)`."""

    def __init__(self, weigh: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.weigh = weigh
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (each.unflatten(-1, (2, 4)).transpose(1, 2) for each in self.qkv(x).chunk(3, -1))
        return self.out(self.weigh(q @ k.transpose(-2, -1), v))


def _joined(heads: Tensor) -> Tensor:
    return heads.transpose(1, 2).flatten(2)


_MIX = random(2, 2, seed=7)
_WAYS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "dropout": lambda s, v: _joined(F.dropout(s.softmax(-1), 0.5, training=False) @ v),
    "a cast": lambda s, v: _joined(F.softmax(s, dim=-1, dtype=torch.float64).to(v.dtype) @ v),
    "a module": lambda s, v: _joined(nn.Softmax(dim=3)(s).matmul(v)),
    "heads in the batch": lambda s, v: _joined(
        torch.bmm(torch.softmax(s.flatten(0, 1), 2), v.flatten(0, 1)).unflatten(0, (-1, 2))
    ),
    "mixed by a linear layer": lambda s, v: _joined(
        F.linear(s.softmax(-1).movedim(1, -1).contiguous(), _MIX, _MIX[0]).movedim(-1, 1) @ v
    ),
    "mixed by a convolution": lambda s, v: _joined(F.conv2d(s.softmax(-1), _MIX[:, :, None, None]) @ v),
    "two softmaxes mixed": lambda s, v: _joined((0.3 * s.softmax(-1) + 0.7 * (-s).softmax(-1)) @ v),
    "divided by its sum": lambda s, v: _joined((p := s.softmax(-1)) / (1e-9 + p.sum(-1, keepdim=True)) @ v),
    "turned, on the right": lambda s, v: (v.mT @ s.softmax(-1).transpose(-2, -1)).flatten(1, 2).mT,
    "an einsum": lambda s, v: torch.einsum("bhqk,bhkd->bqhd", s.softmax(-1), v).flatten(2),
    "an einsum on the right": lambda s, v: torch.einsum("bhkd, bhqk -> bqhd", v, s.softmax(-1)).flatten(2),
    "one key left out": lambda s, v: _joined(s.softmax(-1)[..., 1:] @ v[:, :, 1:]),
    "one head a call": lambda s, v: torch.cat([s[:, i].softmax(-1) @ v[:, i] for i in range(2)], -1),
}


@pytest.mark.parametrize("way", _WAYS)
def test_attention_that_is_written_out(way: str) -> None:
    model = nets.fixed(Written(_WAYS[way]))
    capture = check(lambda: model(random(2, 5, 8)), 2 if "a call" in way else 1)
    assert all(each.query is not None for each in capture.found)
    assert all(each.projection is not None for each in capture.found) == ("a call" not in way)


def test_weights_that_are_changed_in_place() -> None:
    scores, v = random(2, 5, 5), random(2, 5, 4)
    with Capture() as capture:
        weights = scores.clone().softmax(-1)
        weights *= 2.0
        weights += scores.softmax(-1)
        weights.masked_fill_(torch.eye(5) > 0, 0) @ v
    (attention,) = capture.found
    torch.testing.assert_close(attention.weights(), 3 * scores.softmax(-1) * (1 - torch.eye(5)), **EXACT)


@pytest.mark.parametrize(
    "other",
    [
        lambda x: x.softmax(-1) * x,  # a gate
        lambda x: x.softmax(1) @ x,  # its rows are no shares
        lambda x: x.softmax(1).mT @ x,
        lambda x: x.mT @ x.softmax(-1),  # sums over the rows
        lambda x: F.linear(x.softmax(-1), random(8, 8)) @ x,  # fixed numbers for values
        lambda x: x.softmax(-1).mean(1, keepdim=True).sum(-1, keepdim=True) @ x[:, :1],
        lambda x: x.softmax(-1) @ random(8),
        lambda x: torch.einsum("bik,bkj->ij", x.softmax(-1), random(2, 8, 8)),  # sums over the batch too
        lambda x: x @ x.mT,
    ],
)
def test_what_is_no_attention(other: Callable[[Tensor], Tensor]) -> None:
    x = random(2, 8, 8)
    with Capture() as capture:
        found = other(x)
    assert not capture.found
    assert torch.equal(found, other(x))


@pytest.mark.parametrize(
    ("between", "seen"),
    [
        (lambda o: o.permute(0, 2, 1, 3).reshape(2, 5, 8).contiguous().float().double(), True),
        (lambda o: o.mT.flatten(1, 2).mT.clone()[:, :3], True),
        (lambda o: F.dropout(o.transpose(1, 2).flatten(2), 0.1), False),
        (lambda o: o.transpose(1, 2).flatten(2) + 1, False),
        (lambda o: F.layer_norm(o.transpose(1, 2).flatten(2), (8,)), False),
    ],
)
def test_the_output_comes_to_its_projection_unchanged(between: Callable[[Tensor], Tensor], seen: bool) -> None:
    first, second = nn.Linear(8, 8).double(), nn.Linear(8, 8, bias=False).double()
    with Capture() as capture:
        heads = F.scaled_dot_product_attention(*random(3, 2, 2, 5, 4))
        second(first(between(heads)))
        torch.nn.functional.linear(input=between(heads), weight=second.weight)
    projection = capture.found[0].projection
    assert (projection is not None) == seen
    assert not seen or (projection[0] is first.weight and projection[1] is first.bias)


# ---------------------------------------------------------------- conditions


def test_half_precision() -> None:
    model, x, _ = built("vit")
    with torch.no_grad(), Capture() as exact:
        model(x)
    model = model.bfloat16()
    with torch.no_grad():
        plain = model(x.bfloat16())
        with Capture() as capture:
            assert torch.equal(model(x.bfloat16()), plain)
            (x.bfloat16().softmax(-1) @ x.bfloat16().mT).sum()  # written out
    assert all(each.weights().dtype == torch.float32 for each in capture.found)
    for half, double in zip(capture.found, exact.found, strict=False):
        torch.testing.assert_close(half.weights().double(), double.weights(), rtol=0, atol=0.05)
    _, capture, arrived = captured(lambda: model(x.bfloat16()))
    assert sorted(arrived) == [0, 1]


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_guards(guard: type) -> None:
    for name in ("vit", "cait, talking heads", "nn.MultiheadAttention"):
        model, x, count = built(name)
        with guard(), Capture() as capture:
            model(x)
            assert torch.is_grad_enabled() == (guard is torch.enable_grad)
        assert len(capture.found) == count
        assert capture.starts == []


def test_threads_see_their_own() -> None:
    model, x, _ = built("swin")
    with torch.no_grad():
        expected = model(x)
    wrong: list[object] = []

    def work(capturing: bool) -> None:
        for _ in range(5):
            with torch.no_grad(), Capture() as capture:
                if not capturing:
                    capture.__exit__(None, None, None)
                output = model(x)
                if not capturing:
                    capture.__enter__()
            if len(capture.found) != (4 if capturing else 0) or not torch.equal(output, expected):
                wrong.append(len(capture.found))

    threads = [threading.Thread(target=work, args=(number % 2 == 0,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert wrong == []


def test_an_exception_leaves_nothing() -> None:
    model, x, _ = built("vit")
    attributes = {name: dict(vars(each)) for name, each in model.named_modules()}

    def fails(_: Attention) -> None:
        raise KeyError("seen")

    with pytest.raises(KeyError), torch.no_grad(), Capture(seen=fails):
        model(x)
    assert torch.overrides._get_current_function_mode_stack() == []
    assert {name: dict(vars(each)) for name, each in model.named_modules()} == attributes
    with torch.no_grad(), Capture() as capture:
        output = model(x)
    assert len(capture.found) == 2
    assert vars(output) == {}


def test_no_tensor_is_marked() -> None:
    q, k, v = random(3, 2, 5, 4)
    kept = []
    with Capture():
        kept += [q @ k.mT]
        kept += [kept[0].softmax(-1)]
        kept += [kept[1] @ v]
    assert all(vars(each) == {} for each in kept)
    pickle.dumps(kept)


@pytest.mark.parametrize("name", ["vit", "cait, talking heads", "nn.MultiheadAttention"])
@pytest.mark.parametrize("differentiates", [False, True])
def test_nothing_is_kept_alive(name: str, differentiates: bool) -> None:
    model, x, _ = built(name)
    gc.collect()
    gc.disable()  # a cycle would need it
    try:
        with torch.no_grad(), Capture(arrived=(lambda *_: None) if differentiates else None) as capture:
            value = score(model(x))
        if differentiates:
            torch.autograd.grad(value, capture.starts)
        kept = [weakref.ref(each.output) for each in capture.found] + [weakref.ref(capture)]
        del value, capture
        assert [each() for each in kept] == [None] * len(kept)
    finally:
        gc.enable()


def test_no_weights_of_a_fused_kernel_are_kept() -> None:
    q, k, v = random(3, 1, 2, 64, 4)
    sizes = []
    with Capture(seen=lambda each: sizes.append(sum(t.numel() for t in tensors_of(each)))):
        F.scaled_dot_product_attention(q, k, v)
    assert sizes == [4 * q.numel()]


def test_written_out_weights_go_when_they_were_seen() -> None:
    model, x, _ = built("cait, talking heads")
    kept = []
    with torch.no_grad(), Capture(seen=lambda each: kept.append(weakref.ref(each.weights()._base))) as capture:
        model(x)
    assert [each() for each in kept] == [None] * 4
    with pytest.raises(RuntimeError, match="while `seen` runs"):
        capture.found[0].weights()


def tensors_of(attention: Attention) -> list[Tensor]:
    held = [each for each in gc.get_referents(attention, vars(attention)) if isinstance(each, Tensor)]
    return list({id(each): each for each in held}.values())


def test_hooks_fire_in_every_backward_and_never_afterwards() -> None:
    model, x, _ = built("vit")
    calls: list[int] = []
    with torch.no_grad(), Capture(arrived=lambda each, _: calls.append(each.number)) as capture:
        value = score(model(x))
    for _ in range(2):
        torch.autograd.grad(value, capture.starts, retain_graph=True)
    assert calls == [1, 0, 1, 0]
    starts = capture.starts
    del capture
    torch.autograd.grad(value, starts)
    assert len(calls) == 4


def test_weights_under_dropout_are_refused() -> None:
    q, k, v = random(3, 1, 2, 5, 4)
    with Capture() as capture:
        F.scaled_dot_product_attention(q, k, v, dropout_p=0.5)
    with pytest.raises(WhycamError, match=r"with dropout.*model\.eval\(\)"):
        capture.found[0].weights()


def test_weights_are_handed_out_as_ever() -> None:
    attention = nets.fixed(nn.MultiheadAttention(8, 2, batch_first=True, add_bias_kv=True))
    x = random(2, 5, 8)
    for options in ({}, {"average_attn_weights": False}, {"need_weights": False}, {"key_padding_mask": x[..., 0] > 1}):
        plain = attention(x, x, x, **options)
        with Capture() as capture:
            output = attention(x, x, x, **options)
        assert torch.equal(output[0], plain[0])
        assert (output[1] is plain[1] is None) or torch.equal(output[1], plain[1])
        assert capture.found[0].weights().shape[-2:] == (5, 6)
        assert capture.found[0].projection[0] is attention.out_proj.weight
