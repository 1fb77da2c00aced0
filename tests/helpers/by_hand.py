"""What a method asks for, measured in the plainest way: whole forwards of a copy of the network, one variant each."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import nets
import torch
from torch import Tensor, nn

from whycam.kit.quantities import BiasGradient, Traced


class ByHand:
    """Runs the twin of a case, `Case` of tests/engine/test_every_method.py, with all kept and nothing batched."""

    def __init__(self, case: Any) -> None:
        self.case = case
        with torch.inference_mode(False):
            self.picture = case.inputs.clone().detach()
        logits = self.forward(self.picture)
        target = case.target
        self.index = logits.argmax(1) if target is None else torch.tensor(target).expand(len(logits))

    def layer(self, model: nn.Module) -> nn.Module:
        return model.get_submodule(self.case.twin_layer or self.case.layer)

    def forward(self, inputs: Tensor, model: nn.Module | None = None) -> Tensor:
        torch.manual_seed(5)  # dropout draws the same numbers every time
        with self.case.twin_around():
            return self.case.answer((model or self.case.twin)(inputs))

    def picked(self, logits: Tensor, probability: bool = False) -> Tensor:
        values = widened(logits).softmax(1) if probability else logits
        return values.gather(1, self.index[:, None]).squeeze(1)

    def recorded(self, inputs: Tensor, model: nn.Module | None = None) -> tuple[Tensor, Tensor]:
        """What the layer returned (its graph alive), and the logits."""
        kept: list[Tensor] = []
        # a copy goes on, so that what runs in place behind the layer leaves what was kept alone
        hook = self.layer(model or self.case.twin).register_forward_hook(
            lambda _, __, output: kept.append(output) or output.clone()
        )
        logits = self.forward(inputs, model)
        hook.remove()
        return kept[self.case.call], logits

    def quantity(self, name: str) -> Any:
        """What a method is given under that name."""
        measure = getattr(self, f"_{name}", None)
        assert measure is not None, f"{name} is measured in the plainest way by ByHand._{name}; write it"
        return measure()

    def _activations(self) -> Tensor:
        return widened(self.case.to_maps(self.recorded(self.picture)[0].detach()))

    def _gradients(self) -> Tensor:
        layer, logits = self.recorded(self.picture.clone().requires_grad_())
        (gradient,) = torch.autograd.grad(self.picked(logits).sum(), layer)
        return widened(self.case.to_maps(gradient))

    def _curvature(self) -> Tensor:
        layer, logits = self.recorded(self.picture.clone().requires_grad_())
        (gradient,) = torch.autograd.grad(self.picked(logits).sum(), layer, create_graph=True)
        if not gradient.requires_grad:  # the score is linear in the layer
            return torch.zeros_like(self._activations())
        (product,) = torch.autograd.grad((gradient * layer.detach()).sum(), layer, allow_unused=True)
        return widened(self.case.to_maps(torch.zeros_like(layer) if product is None else product))

    def _head_weights(self) -> Tensor:
        return widened(self.case.twin.head.weight.detach()[self.index])

    def _scores(self) -> Tensor:
        return widened(self.picked(self.forward(self.picture)).detach())

    def _inputs(self) -> Tensor:
        return widened(self.picture)

    def _input_gradients(self, model: nn.Module | None = None) -> Tensor:
        picture = self.picture.clone().requires_grad_()
        logits = self.forward(picture, model)
        return widened(torch.autograd.grad(self.picked(logits).sum(), picture)[0])

    def _guided_gradients(self) -> Tensor:
        return self._input_gradients(nets.guided(self.case.twin))

    def _bias_gradients(self) -> list[BiasGradient]:
        kept: list[tuple[str, nn.Module, Tensor]] = []
        hooks = [
            module.register_forward_hook(
                lambda module, _, output, name=name: kept.append((name, module, output)) or output.clone()
            )
            for name, module in self.case.twin.named_modules()
            if getattr(module, "bias", None) is not None
        ]
        logits = self.forward(self.picture.clone().requires_grad_())
        for hook in hooks:
            hook.remove()
        score, found = self.picked(logits).sum(), []
        for name, module, output in kept:
            (gradient,) = torch.autograd.grad(score, output, retain_graph=True, allow_unused=True)
            bias = module.bias
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and not module.training:
                bias = bias - module.running_mean * module.weight / (module.running_var + module.eps).sqrt()
            if gradient is not None:
                last = isinstance(module, nn.Linear) and gradient.ndim > 2
                found.append(
                    BiasGradient(name, widened(bias.detach()), widened(gradient.movedim(-1, 1) if last else gradient))
                )
        return found

    def _score(self) -> Callable[..., Tensor]:
        def score(variants: Iterable[Tensor], *, probability: bool = False) -> Tensor:
            rows = [self.picked(self.forward(v.to(self.picture.dtype)), probability) for v in variants]
            return widened(torch.stack(rows).detach())

        return score

    def _score_from(self) -> Callable[..., Tensor]:
        def score_from(variants: Iterable[Tensor], *, probability: bool = False) -> Tensor:
            raw = self.recorded(self.picture)[0].detach()
            rows = [
                self.picked(self._replaced(self.case.back(v.to(raw.dtype), raw), self.picture), probability)
                for v in variants
            ]
            return widened(torch.stack(rows).detach())

        return score_from

    def _replaced(self, value: Tensor, inputs: Tensor, model: nn.Module | None = None) -> Tensor:
        calls: list[Tensor] = []
        wanted = self.case.call % self._count()

        def see(_: Any, __: Any, output: Tensor) -> Tensor | None:
            calls.append(output)
            return value if len(calls) - 1 == wanted else None

        hook = self.layer(model or self.case.twin).register_forward_hook(see)
        logits = self.forward(inputs, model)
        hook.remove()
        return logits

    def _count(self) -> int:
        """How often the layer runs."""
        if not hasattr(self, "_runs"):
            calls: list[int] = []
            hook = self.layer(self.case.twin).register_forward_hook(lambda *_: calls.append(1))
            self.forward(self.picture)
            hook.remove()
            self._runs = len(calls)
        return self._runs

    def _trace(self) -> Callable[..., Iterator[Traced]]:
        def trace(variants: Iterable[Tensor]) -> Iterator[Traced]:
            for variant in variants:
                with torch.enable_grad():
                    layer, logits = self.recorded(variant.to(self.picture.dtype).detach().requires_grad_())
                    score = self.picked(logits)
                    (gradient,) = torch.autograd.grad(score.sum(), layer)
                maps = (widened(self.case.to_maps(each.detach())) for each in (layer, gradient))
                yield Traced(*maps, widened(score.detach()), widened(logits.detach()))

        return trace

    def _differentiate(self) -> Callable[..., tuple[Tensor, Tensor]]:
        def differentiate(inputs: Tensor, *, probability: bool = False) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                leaf = inputs.to(self.picture.dtype).detach().requires_grad_()
                score = self.picked(self.forward(leaf), probability)
                (gradient,) = torch.autograd.grad(score.sum(), leaf)
            return widened(score.detach()), widened(gradient)

        return differentiate

    def _relevance(self) -> Callable[..., Tensor]:
        """Of networks of convolutions and ReLUs every rule is the gradient, but for statistics of the batch."""

        def relevance(**_: Any) -> Tensor:
            model = nets.twin(self.case.twin)
            for module in model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
                    module.forward = functools.partial(_with_constant_deviation, module)
            return widened(self.picture) * self._input_gradients(model)

        return relevance


def _with_constant_deviation(norm: nn.Module, x: Tensor) -> Tensor:
    centered = x - x.mean((0, 2, 3), keepdim=True)
    deviation = (x.detach().var((0, 2, 3), unbiased=False, keepdim=True) + norm.eps).sqrt()
    return centered / deviation * norm.weight[:, None, None] + norm.bias[:, None, None]


def widened(value: Tensor) -> Tensor:
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
