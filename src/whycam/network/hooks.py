"""How a network is called, and watched while it runs. The only module that registers hooks."""

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from torch import Tensor, nn

from whycam.errors import WhycamError
from whycam.network.input_errors import misfit
from whycam.network.two_towers import picture_alone

#: torch numbers hooks by a counter that two threads may read at once; the second of a number takes the first's place.
_NUMBERS = threading.Lock()
#: What a model is called with: one tensor, a tuple of positional or a mapping of keyword arguments.
Inputs: TypeAlias = Tensor | tuple[Any, ...] | Mapping[str, Any]


def call(model: nn.Module, inputs: Inputs) -> Any:
    """Run the eager module on one tensor, a tuple of arguments, or a mapping of keyword arguments.

    Of a model with a tower for pictures and one for texts a picture alone runs its tower.

    Raises:
        WhycamError: torch or a model library refuses the inputs; what it said is the cause. What the network's own code
            raises passes as it is.
    """
    # _call_impl: what model(...) runs when model.compile() has not put compiled code in its place
    run = getattr(model, "_call_impl", model) if getattr(model, "_compiled_call_impl", None) is not None else model
    try:
        if (tower := picture_alone(model, inputs)) is not None:
            return tower()
        if isinstance(inputs, Tensor):
            return run(inputs)
        return run(**inputs) if isinstance(inputs, Mapping) else run(*inputs)
    except Exception as error:
        if sentence := misfit(model, inputs, error):
            raise WhycamError(sentence) from error
        raise


def on_gradient(tensor: Tensor, see: Callable[[Tensor], Tensor | None]) -> None:
    """Let `see` look at, and replace, the gradient that arrives at a tensor in every backward."""
    with _NUMBERS:
        tensor.register_hook(see)  # type: ignore[no-untyped-call]


def edit_inputs(module: nn.Module, change: Callable[..., Any]) -> None:
    """Let a private copy's module be given what `change(module, args, kwargs)` returns, for good."""
    with _NUMBERS:
        module.register_forward_pre_hook(change, with_kwargs=True)


class watching:
    """Let `see` look at, and replace, what a module returns or is given, for this thread's calls, until the block ends.

    `see(value, given)` gets the output, or for side `"input"` the pair of positional and keyword arguments, and what
    the module was given; returning `None` leaves the value as it is. Other threads' calls pass by unseen.
    """

    def __init__(self, module: nn.Module, side: str, see: Callable[[Any, Any], Any]) -> None:
        self._module, self._side, self._see = module, side, see

    def __enter__(self) -> None:
        owner, see = threading.get_ident(), self._see

        # `given` is (args, kwargs), or (args,) alone in another thread that caught a hook half registered or removed

        def output_hook(module: nn.Module, *given_and_output: Any) -> Any:
            *given, output = given_and_output
            return see(output, tuple(given)) if threading.get_ident() == owner else None

        def input_hook(module: nn.Module, *given: Any) -> Any:
            return see(given, given) if threading.get_ident() == owner else None

        with _NUMBERS:
            self._handle = (
                self._module.register_forward_hook(output_hook, with_kwargs=True)
                if self._side == "output"
                else self._module.register_forward_pre_hook(input_hook, with_kwargs=True)
            )

    def __exit__(self, *_: object) -> None:
        self._handle.remove()
