"""The tensor that holds the answer, whatever a model wraps it in."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from whycam.errors import WhycamError
from whycam.network.structures import spell, tensors

#: Names under which model families keep their answer, most telling first.
NAMES = ("logits", "out", "output", "scores", "prediction", "logits_per_image")


def answer(output: Any) -> tuple[str, Tensor]:
    """The tensor to explain and where it was found, as code would write it (`""` for the output itself).

    A tensor is its own answer. Of a mapping, dataclass or tuple: the tensor under a usual name, else the first one of
    shape (batch, class), else the only one.

    Raises:
        WhycamError: none of these, with what the output holds.
    """
    if isinstance(output, Tensor):
        return "", output
    found = [(path, tensor) for path, tensor in tensors(output) if tensor.is_floating_point()]
    for name in NAMES:
        for path, tensor in found:
            if path == (name,):
                return spell(path), tensor
    matrices = [(path, tensor) for path, tensor in found if tensor.ndim == 2]
    for candidates in (matrices, found if len(found) == 1 else []):
        if candidates:
            return spell(candidates[0][0]), candidates[0][1]
    listed = ", ".join(f"{spell(path)} {tuple(tensor.shape)}" for path, tensor in found) or "no floating-point tensor"
    kind = type(output).__name__ if not isinstance(output, Mapping) else f"mapping ({type(output).__name__})"
    raise WhycamError(
        f"cannot tell which part of the model's output to explain: a {kind} with {listed}. "
        "Wrap the model in one that returns the class scores alone."
    )
