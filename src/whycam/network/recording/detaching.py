"""What a network cuts out of its own graph: seen, or followed all the same, in the thread that runs it."""

from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode


class Detaching(TorchFunctionMode):
    """Counts the tensors that a network detaches although a gradient would come that far.

    Args:
        through: give the tensor itself, so that the gradient goes on; values are the same. A function mode belongs to
            its thread, so that what other threads detach stays detached.
    """

    def __init__(self, through: bool) -> None:
        super().__init__()
        self.through, self.count = through, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.detach and args[0].requires_grad:
            self.count += 1
            if self.through:
                return args[0]
        return func(*args, **(kwargs or {}))
