"""A network of two convolutions for any number of axes, cut in its middle, and `trace` and `score` of it."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from whycam.kit.quantities import Traced

_CONVOLVE: dict[int, Callable[..., Tensor]] = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}


class Small:
    """Convolution, ReLU, which is the layer, convolution, ReLU, mean, linear; float64, inputs of three colors."""

    def __init__(self, rank: int, generator: torch.Generator, *, channels: int = 4, classes: int = 3) -> None:
        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.convolve = _CONVOLVE[rank]
        self.first, self.second = draw(channels, 3, *[2] * rank), draw(5, channels, *[2] * rank)
        self.head = draw(5, classes)
        self.traced: list[tuple[int, ...]] = []
        self.scored = 0

    def features(self, inputs: Tensor) -> Tensor:
        return self.convolve(inputs, self.first).relu()

    def above(self, activations: Tensor) -> Tensor:
        return self.convolve(activations, self.second).relu().flatten(2).mean(2) @ self.head

    def run(self, inputs: Tensor, target: int = 0) -> Traced:
        """One pass forwards and backwards."""
        with torch.enable_grad():
            activations = self.features(inputs).detach().requires_grad_()
            output = self.above(activations)
            scores = output[:, target]
            (gradients,) = torch.autograd.grad(scores.sum(), activations)
        return Traced(activations.detach(), gradients, scores.detach(), output.detach())

    def trace(self, variants: Iterable[Tensor]) -> Iterator[Traced]:
        """As a method is given it; keeps the sizes."""
        for variant in variants:
            self.traced.append(tuple(variant.shape))
            yield self.run(variant)

    def score(self, variants: Iterable[Tensor], *, probability: bool = False) -> Tensor:
        """As a method is given it; keeps how many there were."""
        outputs = torch.stack([self.above(self.features(each)) for each in variants])
        self.scored += len(outputs)
        return (outputs.softmax(2) if probability else outputs)[..., 0]


def pictures(space: tuple[int, ...], generator: torch.Generator, samples: int = 2) -> Tensor:
    return torch.randn(samples, 3, *space, generator=generator, dtype=torch.float64)
