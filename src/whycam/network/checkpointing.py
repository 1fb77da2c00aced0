"""Networks that compute a part of themselves once more in the backward pass, to keep less: activation checkpointing.

What is computed again with gradients on must keep the same tensors as before, so such a network is run with gradients
on from the start. Checkpointing that is reentrant runs its part without gradients at first, hidden from any graph, and
cannot be asked for the gradient at a tensor at all.
"""

from collections.abc import Collection, Sequence

from torch import Tensor
from torch.utils.checkpoint import CheckpointError

_WHY = (
    "the network recomputes a part of itself in the backward pass (reentrant activation checkpointing), where no "
    "gradient can be asked for. Turn that off while explaining: model.set_grad_checkpointing(False) in timm, "
    "model.gradient_checkpointing_disable() in transformers (activation_checkpointing_disable() in newer ones), "
    "use_reentrant=False in torch.utils.checkpoint."
)


def asks_for_a_start(error: RuntimeError) -> bool:
    """Whether a pass failed because gradients were turned on in its middle."""
    return isinstance(error, CheckpointError) or "A view was created in no_grad mode" in str(error)


def recomputed(error: RuntimeError) -> str:
    """What to do where a pass failed because of reentrant checkpointing; empty for any other error."""
    return _WHY if "torch.utils.checkpoint is incompatible with .grad()" in str(error) else ""


def hidden(scores: Sequence[Tensor], off: Collection[object]) -> str:
    """What to do where reentrant checkpointing hid a layer that ran with gradients off; empty if it did not.

    Args:
        off: the layers that ran with gradients off although they were on at the start.
    """
    return _WHY if off and any(_has_part(score) for score in scores) else ""


def _has_part(score: Tensor) -> bool:
    """Whether a graph holds a part that is computed again by reentrant checkpointing."""
    todo, known = [score.grad_fn], set()
    while todo:
        node = todo.pop()
        if node is None or node in known:
            continue
        known.add(node)
        if node.name() == "CheckpointFunctionBackward":
            return True
        todo += [source for source, _ in node.next_functions]
    return False
