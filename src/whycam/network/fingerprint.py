"""A short name for a network's weights, by which results are told apart that came of other weights."""

import hashlib

import torch
from torch import nn


def fingerprint(module: nn.Module) -> str:
    """Sixteen hexadecimal digits made of every parameter and buffer: its name, type, shape and bytes."""
    made = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if isinstance(tensor, torch.Tensor):
            made.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            made.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return made.hexdigest()[:16]
