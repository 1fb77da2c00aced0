"""Tiny networks with fixed weights, one for each way in which real ones differ. Float64 and ready to predict."""

import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

CLASSES = 5
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def fixed(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in evaluation mode and float64, its weights drawn from the seed alone and large enough to matter."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    for parameter in model.parameters():
        fan = parameter.shape[1:].numel() if parameter.ndim > 1 else 4
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * (2 / fan) ** 0.5
    return model


def images(samples: int = 3, rank: int = 2, side: int = 8, seed: int = 1) -> Tensor:
    """A batch, `(samples, 3, side, ...)`, float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, 3, *[side] * rank, generator=generator, dtype=torch.float64)


def spatial_mean(maps: Tensor) -> Tensor:
    return maps.flatten(2).mean(2)


class Plain(nn.Module):
    """Convolution, ReLU, convolution of stride 2, ReLU, mean, linear."""

    def __init__(self, rank: int = 2, *, inplace: bool = False, classes: int = CLASSES) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[rank]
        self.conv1 = convolution(3, 6, 3, padding=1)
        self.relu1 = nn.ReLU(inplace=inplace)
        self.conv2 = convolution(6, 8, 3, stride=2, padding=1)
        self.relu2 = nn.ReLU(inplace=inplace)
        self.head = nn.Linear(8, classes)

    def features(self, x: Tensor) -> Tensor:
        return self.relu2(self.conv2(self.relu1(self.conv1(x))))

    def forward(self, x: Tensor) -> Any:
        return self.head(spatial_mean(self.features(x)))


class Functional(Plain):
    """The same numbers with ReLU as a function."""

    def __init__(self, rectify: Callable[[Tensor], Tensor] = F.relu) -> None:
        super().__init__()
        self.rectify = rectify
        del self.relu1, self.relu2

    def features(self, x: Tensor) -> Tensor:
        return self.rectify(self.conv2(self.rectify(self.conv1(x))))


class ToLast(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.movedim(1, -1)


class ChannelsLast(Plain):
    """The same numbers with the channels moved last before the last ReLU, which is recorded there."""

    def __init__(self) -> None:
        super().__init__()
        self.last = ToLast()

    def features(self, x: Tensor) -> Tensor:
        return self.relu2(self.last(self.conv2(self.relu1(self.conv1(x))))).movedim(-1, 1)


class Mixing(nn.Module):
    """Tokens talk to each other and then think: what a transformer's block does, without softmax."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.talk = nn.Linear(tokens, tokens)
        self.think = nn.Linear(width, width)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.talk(x.mT).mT
        return x + self.relu(self.think(x))


class Tokens(nn.Module):
    """A class token before 4 x 4 patches, two blocks; the answer reads the class token alone, as in a ViT."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, 2, stride=2)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.Sequential(Mixing(17, width), Mixing(17, width))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.embed(x).flatten(2).mT
        x = torch.cat([self.cls.expand(len(x), -1, -1), patches], 1)
        return self.head(self.blocks(x)[:, 0])


class Shared(Plain):
    """One ReLU, and one convolution between, called twice each."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, CLASSES)
        self.relu = nn.ReLU()
        del self.relu1, self.relu2

    def features(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv1(x))
        return self.conv2(self.relu(self.conv2(x)))


@dataclass
class Answer:
    """A dataclass of an answer and what came with it."""

    loss: Tensor | None
    logits: Tensor
    extra: tuple[Tensor, ...] = ()


class ModelOutput(OrderedDict[str, Any]):
    """What Hugging Face returns: a dataclass and an ordered dict at once."""

    def __init__(self, **values: Any) -> None:
        super().__init__(values)
        self.__dict__.update(values)


class Wrapped(Plain):
    """Its answer in some container, after a decoy of another shape."""

    def __init__(self, wrap: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.wrap = wrap

    def forward(self, x: Tensor) -> Any:
        features = self.features(x)
        return self.wrap(features, self.head(spatial_mean(features)))


class Nested(nn.Module):
    """A layer that returns its one tensor inside a container."""

    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.wrap = wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.conv(x))


class NestedFeatures(nn.Module):
    """The container is opened by the model, which writes to what it finds."""

    def __init__(self, wrap: Callable[[Tensor], Any], unwrap: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.layer = Nested(wrap)
        self.unwrap = unwrap
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(spatial_mean(self.unwrap(self.layer(x)).relu_()))


class InnerNoGrad(Plain):
    """A frozen backbone as people write it: gradients off inside."""

    def features(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return super().features(x)


class Training(nn.Module):
    """Batch normalization and dropout: in training mode they act, and write."""

    def __init__(self, *, act: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.relu2 = nn.ReLU()
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(8, CLASSES)
        self.train(act)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu2(self.conv2(self.relu1(self.bn(self.conv1(x)))))
        return self.head(spatial_mean(self.drop(x)))


class Dense(nn.Module):
    """Features are concatenated, normalized, and rectified in place by a function, as in DenseNet."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(10)
        self.head = nn.Linear(10, CLASSES)
        self.rectify = F.relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = self.norm(torch.cat([x, self.conv2(self.rectify(x))], 1))
        return self.head(spatial_mean(self.rectify(x, inplace=True)))


class TwoInputs(Plain):
    """A picture and a few numbers; the numbers come first."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = nn.Linear(2, CLASSES)

    def forward(self, numbers: Tensor, picture: Tensor) -> Any:
        return super().forward(picture) * self.numbers(numbers)


class TwoHeads(Plain):
    """A named answer beside another of the same shape."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        pooled = spatial_mean(self.features(x))
        return {"auxiliary": self.other(pooled), "logits": self.head(pooled)}


class Beside(Plain):
    """A branch that runs last and that the answer does not read."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Conv2d(8, 4, 3, padding=1)
        self.unused = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Any:
        features = self.features(x)
        answer = self.head(spatial_mean(features))
        self.decoder(features)
        return answer


class Parts(Plain):
    """Runs its layers on parts of the batch, to save memory, in their order or backwards."""

    def __init__(self, size: int, *, backwards: bool = False) -> None:
        super().__init__()
        self.size, self.backwards = size, backwards

    def forward(self, x: Tensor) -> Any:
        order = -1 if self.backwards else 1
        parts = [super(Parts, self).forward(part) for part in x.split(self.size)[::order]]
        return torch.cat(parts[::order])


class Checkpointed(Plain):
    """Computes its features, or all of itself, again in the backward pass."""

    def __init__(self, *, reentrant: bool = False, whole: bool = False) -> None:
        super().__init__()
        self.reentrant, self.whole = reentrant, whole

    def forward(self, x: Tensor) -> Any:
        if self.whole:
            return checkpoint(super().forward, x, use_reentrant=self.reentrant)
        return super().forward(x)

    def features(self, x: Tensor) -> Tensor:
        if self.whole:
            return super().features(x)
        made: Tensor = checkpoint(super().features, x, use_reentrant=self.reentrant)
        return made


class Raising(Plain):
    """Raises in the middle of its forward pass, while `error` is set."""

    error: BaseException | None = None

    def features(self, x: Tensor) -> Tensor:
        x = self.relu1(self.conv1(x))
        x = self.conv2(x)
        if self.error is not None:
            raise self.error
        return self.relu2(x)


def plain(rank: int = 2, **options: Any) -> nn.Module:
    return fixed(Plain(rank, **options))


def twin(model: nn.Module) -> nn.Module:
    """A copy for a reference run."""
    return copy.deepcopy(model)


def frozen(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


class _Guided(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * (gradient > 0) * (x > 0)


class GuidedReLU(nn.Module):
    """Guided backprop's rule from its definition: positive gradients where the input is positive."""

    def forward(self, x: Tensor, inplace: bool = False) -> Tensor:
        return _Guided.apply(x)


def guided(model: nn.Module) -> nn.Module:
    """A copy whose ReLUs, modules or `rectify`, follow guided backprop's rule."""
    model = twin(model)
    if hasattr(model, "rectify"):
        model.rectify = GuidedReLU()
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, GuidedReLU())
    return model


def state(model: nn.Module) -> dict[str, Any]:
    """Everything that explaining must leave alone: about the model, and about torch."""
    found: dict[str, Any] = {
        "random numbers": torch.get_rng_state(),
        "gradients on": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()),
        "keys": list(model.state_dict()),
    }
    for name, module in model.named_modules(remove_duplicate=False):
        found[name, "module"] = id(module)
        found[name, "kind"] = type(module)
        found[name, "training"] = module.training
        found[name, "attributes"] = sorted(vars(module))
        found[name, "children"] = {key: id(child) for key, child in module._modules.items()}
        for key, value in vars(module).items():
            if "hooks" in key:
                found[name, key] = dict(value) if isinstance(value, dict) else value
        for key, buffer in module._buffers.items():
            found[name, key] = (id(buffer), None if buffer is None else buffer.clone())
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        found[name, "parameter"] = (id(parameter), parameter.detach().clone(), parameter.requires_grad)
        found[name, "version"] = parameter._version
        found[name, "gradient"] = (id(gradient), None if gradient is None else gradient.clone())
    return found


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[Any]:
    """What is not as it was."""
    return [key for key in before.keys() | after.keys() if not _same(before.get(key), after.get(key))]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _compiled() -> nn.Module:
    model = plain()
    model.conv2.compile(backend="eager")
    model(images())
    return model


#: The numbers of `plain` in other conditions, by what they are.
AS_PLAIN: dict[str, Callable[[], nn.Module]] = {
    "in place": lambda: plain(inplace=True),
    "frozen": lambda: frozen(plain()),
    "compiled": _compiled,
    "no gradients inside": lambda: fixed(InnerNoGrad()),
    "parts of the batch": lambda: fixed(Parts(2)),
    "parts of the batch, backwards": lambda: fixed(Parts(2, backwards=True)),
    "computed again": lambda: fixed(Checkpointed()),
    "all computed again": lambda: fixed(Checkpointed(whole=True)),
    "traced": lambda: torch.fx.symbolic_trace(plain()),
    "beside": lambda: fixed(Beside()),
}
