"""Floating-point operations, counted as a network runs: a number that does not depend on the machine or its load."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils import flop_counter
from torch.utils.flop_counter import FlopCounterMode


@contextmanager
def counted() -> Iterator[FlopCounterMode]:
    """Count what this thread's products and convolutions cost until the block ends; `get_total_flops()` tells."""
    with FlopCounterMode(display=False, custom_mapping=_attention_on_cpus()) as counter:
        yield counter


def _attention_on_cpus() -> dict[Any, Any]:
    """Torch counts attention on GPUs alone; on CPUs it is the same products under another name."""
    formulas = {
        "_scaled_dot_product_flash_attention_for_cpu": _attention,
        "_scaled_dot_product_flash_attention_for_cpu_backward": _attention_backward,
    }
    known = ((getattr(torch.ops.aten, name, None), formula) for name, formula in formulas.items())
    return {each: formula for each, formula in known if each is not None and each not in flop_counter.flop_registry}


_counts: Any = flop_counter  # whose formulas have no types


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(_counts.sdpa_flop_count(query, key, value))


def _attention_backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    if gradient is None:  # as where no path to the score passes through
        return 0
    return int(_counts.sdpa_backward_flop_count(gradient, query, key, value))
