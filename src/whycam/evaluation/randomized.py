"""Networks that are no longer what they were: randomized from the top down, or deaf to a constant."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from whycam.errors import WhycamError
from whycam.kit.arrays import generator, noise
from whycam.network.adapted import refuse_adapted
from whycam.network.hooks import Inputs, call, edit_inputs, watching
from whycam.network.preserve_state import as_found
from whycam.network.pytree import first_tensor, on_first_sample, replaced, tensors
from whycam.network.two_towers import has_towers
from whycam.network.unwrap import eager
from whycam.network.variants.shared_copy import twin


class Stage(NamedTuple):
    """A copy of a network in which the layers from the top down to one are randomized.

    Attributes:
        layer: the name of that one. `drawn`: parameters of these that no initializer set; see `randomized`.
    """

    layer: str
    module: nn.Module
    drawn: tuple[str, ...]


def randomized(module: nn.Module, inputs: Inputs, stages: int = 8, seed: int = 0) -> Iterator[Stage]:
    """Private copies of a network with ever more of its layers randomized, from the top down, each over the last.

    Every layer that has parameters or running statistics of its own is set by its own initializer,
    `reset_parameters()`, from a seed of its own. Parameters that this leaves alone, such as a class token, and those of
    layers without one are drawn with the mean and the deviation that they had. What is above comes from the order in
    which the layers begin to run on `inputs`; one that is run again counts where it runs last, and one that is never
    called, as the projection inside of `nn.MultiheadAttention`, with the module that holds it. A seed draws other
    numbers on another kind of device, as initializers draw where the network is.

    Args:
        stages: at most so many copies. The first has its last layer randomized alone, the last one all, and those
            between are spread evenly.

    Raises:
        WhycamError: nothing can be randomized, or the network is another framework's.
    """
    refuse_adapted(module, "randomizing a network", "leave out what asks for that")
    order = _from_the_top(module, inputs)
    if not order:
        raise WhycamError(f"no layer of this {type(module).__name__} has parameters, so none can be randomized.")
    copy, drawn, done = module, list[str](), 0
    number = min(stages, len(order))
    for stage in range(number):
        until = 1 + round(stage * (len(order) - 1) / (number - 1)) if stage < number - 1 else len(order)
        copy = twin(copy, _own)
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            for place in range(done, until):
                drawn += _initialize(copy.get_submodule(order[place]), order[place], seed, place)
        done = until
        yield Stage(order[done - 1], copy, tuple(drawn))


def shifted(module: nn.Module, constant: float) -> nn.Module:
    """A private copy that takes `constant` off its picture first; its layers are called as they were."""
    copy = twin(module)

    def without(_: nn.Module, *given: Any) -> Any:
        picture = first_tensor(given)
        path = next(path for path, tensor in tensors(given) if tensor is picture)
        return replaced(given, path, picture - constant)

    towers = [getattr(copy, name, None) for name in ("vision_model", "visual")] if has_towers(copy) else []
    edit_inputs(next((each for each in towers if isinstance(each, nn.Module)), copy), without)
    return copy


def _own(tensor: Tensor) -> Tensor:
    held = tensor.detach().clone()
    return nn.Parameter(held, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else held


def _from_the_top(module: nn.Module, inputs: Inputs) -> list[str]:
    """The names of the layers with parameters or statistics of their own, the last to begin first."""
    every, clock, begun = dict(module.named_modules()), count(), dict[str, int]()

    def seeing(name: str) -> Callable[[Any, Any], None]:
        return lambda *_: begun.update({name: next(clock)})

    with as_found(module), eager(module), torch.no_grad(), ExitStack() as stack:
        for name, each in every.items():
            stack.enter_context(watching(each, "input", seeing(name)))
        on_first_sample(lambda some: call(module, some), inputs)

    def begins(name: str) -> int:
        while name and name not in begun:
            name = name.rpartition(".")[0]
        return begun.get(name, -1)

    names = [name for name, each in every.items() if any(True for _ in each.parameters(recurse=False)) or _counts(each)]
    return [name for _, name in sorted(enumerate(names), key=lambda each: (begins(each[1]), each[0]), reverse=True)]


def _counts(layer: nn.Module) -> bool:
    """Whether it has running statistics."""
    return getattr(layer, "running_mean", None) is not None and hasattr(layer, "reset_running_stats")


def _initialize(layer: nn.Module, name: str, seed: int, number: int) -> list[str]:
    """Set a layer anew; the names of its parameters that its own initializer leaves alone."""
    own = {key: each for key, each in layer.named_parameters(recurse=False) if each.is_floating_point()}
    before = {key: each.detach().clone() for key, each in own.items()}
    drawn = []
    with torch.no_grad():
        for each in own.values():
            each.fill_(torch.nan)
        torch.manual_seed(generator(seed, number).initial_seed())
        reset = getattr(layer, "reset_parameters", getattr(layer, "_reset_parameters", None))
        if reset is not None:
            with suppress(Exception):  # one of the layer's own that takes arguments, or asks for what is not there
                reset()
        for place, (key, each) in enumerate(own.items()):
            if each.isnan().any():
                old = before[key].double()
                spread = old.std(correction=0)
                each.copy_(old.mean() + spread * noise(old.shape, seed + number, place).to(old.device))
                drawn.append(f"{name}.{key}".lstrip("."))
    return drawn
