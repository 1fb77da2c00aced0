"""Scores where locations of a layer are dimmed: what masking the stream of tokens before a block comes to.

A norm brings every token back to one length, so a factor on the stream alone reaches only what goes past the block.
Here the stream and what each norm makes of it have the same factor. The norms that read a layer are found by what they
do: modules that are given the layer's very tensor, answer for each location by itself, and the same for its double.
"""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from whycam.errors import LayerRefused
from whycam.kit.arrays import SAME, apart, is_half
from whycam.network.hooks import watching
from whycam.network.pytree import storage_of, tensors
from whycam.network.variants.scoring import Above

#: How far what a norm makes of a token and of its double may be apart, in parts of the largest value: its epsilon.
_EPSILON = 0.05


class Dimmed(Above):
    """Runs the part above a layer with factors on its locations and on those of the norms that read it."""

    norms: dict[str, Tensor] | None = None  # what each returned, by its name

    def recorded(self) -> Tensor:
        """Factors that change nothing."""
        return torch.ones_like(self.layer.activations[:, 0])

    def _run(self, sample: int, rows: Tensor) -> Tensor:
        assert self.resumed is not None  # since prepared
        if self.norms is None:
            self.norms = self._found()
        raw = self.cast(self.raw[sample : sample + 1])

        def dimmed(value: Tensor) -> Tensor:
            maps = rows.unsqueeze(1).expand(-1, self.layer.layout.to_maps(value[:1]).shape[1], *rows.shape[1:])
            return value * self.layer.layout.from_maps(maps.to(value), torch.ones_like(value))

        with ExitStack() as stack:
            for name, returned in self.norms.items():
                made = dimmed(returned[sample : sample + 1])
                stack.enter_context(
                    watching(self.resumed.model.get_submodule(name), "output", lambda *_, made=made: made)
                )
            return self.resume(sample, dimmed(raw))

    def _found(self) -> dict[str, Tensor]:
        """What the norms return that read the layer, by their names; the innermost ones.

        Raises:
            LayerRefused: there is none.
        """
        assert self.resumed is not None  # since prepared
        resumed, given = self.resumed, []

        def see(name: str) -> Any:
            def look(value: Any, _: Any) -> None:
                same = [tensor for _, tensor in tensors(value) if storage_of(tensor) == storage_of(resumed.room)]
                if same and same[0].shape == resumed.room.shape:
                    given.append(name)

            return look

        with ExitStack() as stack:
            for name, module in resumed.model.named_modules():
                if name:
                    stack.enter_context(watching(module, "input", see(name)))
            self.resume(0, self.cast(self.raw[:1]))
        found = {
            name: made
            for name in given
            if (made := _normalized(resumed.model.get_submodule(name), self.raw)) is not None
        }
        inner = {name: made for name, made in found.items() if not any(each.startswith(f"{name}.") for each in found)}
        if not inner:
            raise LayerRefused(
                f"no norm reads layer {str(self.layer.tap)!r}, so there is nothing to be masked before and behind one; "
                "name the block of a transformer that begins with a norm as 'NAME:input', or use recipro_cam."
            )
        return inner


def _normalized(module: nn.Module, raw: Tensor) -> Tensor | None:
    """What a module makes of the layer's tensor, if it takes each location by itself and its scale away."""
    try:
        with torch.no_grad():
            made, double, some = module(raw.clone()), module(2 * raw), module(raw[:, :1].clone())
    except Exception:  # which takes something else beside
        return None
    if not isinstance(made, Tensor) or made.shape != raw.shape:
        return None
    alone = apart(some, made[:, :1]) <= SAME[is_half(made)]
    return made if alone and apart(double, made) <= _EPSILON else None
