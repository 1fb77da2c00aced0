"""A detector whose threshold is low: of edited inputs weak boxes count as well, and say how much of one is left."""

from torch import nn

from whycam.network.variants.shared_copy import twin

#: At a threshold of 0.5 nineteen of twenty masks left no box, and the halves of D-RISE's masks agreed by 0.3; from 0.2
#: down by 0.7 (a toy FCOS, 400 masks).
_LEAST = 0.01
LOOSENED = f"a score threshold of {_LEAST}, so that weak boxes count"


def loosened(model: nn.Module) -> nn.Module | None:
    """A private copy of a torchvision detector with a threshold of 0.01; `None` for one that has no higher one."""
    for name in ("roi_heads", ""):
        owner = model._modules.get(name) if name else model
        if getattr(owner, "score_thresh", 0.0) > _LEAST and hasattr(model, "transform"):
            copy = twin(model)
            copy.get_submodule(name).score_thresh = _LEAST  # type: ignore[assignment]
            return copy
    return None
