"""Random weights that let every part of a network matter: zeros are drawn, and norms see natural values."""

import torch
from torch import Tensor, nn

#: Names of parameters that scale a branch, where they stand.
_GATES = ("gamma", "scale", "gate", "lambda", "alpha")


def natural(size: tuple[int, ...], samples: int = 2, channels: int = 3, seed: int = 0) -> Tensor:
    """Images, or clips, of soft blobs with some grain, in the range that normalized photos have."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(samples, channels, *(max(2, side // 16) for side in size), generator=generator)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
    blobs = nn.functional.interpolate(coarse, size=size, mode=mode, align_corners=False)
    return blobs + 0.5 * torch.randn(samples, channels, *size, generator=generator)


@torch.no_grad()
def awaken(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model ready to predict, every head, gate and residual branch that starts at zero given random values.

    A parameter that holds one value below a half throughout does not take part yet: gates (LayerScale, the last
    normalization of a residual block) are drawn between 0.5 and 1, anything else as its shape suggests. Convolutions
    drawn so small that a norm's epsilon would swallow what they return are scaled up to keep the size of their input.
    """
    generator = torch.Generator().manual_seed(seed)
    for owner_name, owner in model.named_modules():
        for key, parameter in owner.named_parameters(recurse=False):
            if not parameter.is_floating_point() or not parameter.numel():
                continue
            if isinstance(owner, nn.modules.conv._ConvNd) and key == "weight":
                natural_size = parameter[0].numel() ** -0.5
                if 0 < float(parameter.std()) < 0.5 * natural_size:
                    parameter *= natural_size / parameter.std()
            low, high = parameter.aminmax()
            if low != high or abs(float(low)) >= 0.5:
                continue
            _draw(owner, f"{owner_name}.{key}", key, parameter, generator)
    return model.eval()


def _draw(owner: nn.Module, name: str, key: str, parameter: Tensor, generator: torch.Generator) -> None:
    last = name.rpartition(".")[2]
    linear = isinstance(owner, (nn.Linear, nn.modules.conv._ConvNd))
    if "bias" in last and parameter.ndim == 1:
        parameter.normal_(0, 0.02, generator=generator)
    elif linear:
        parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
    elif parameter.ndim == 1 or any(word in name.lower() for word in _GATES) or float(parameter.flatten()[0]) != 0:
        parameter.uniform_(0.5, 1.0, generator=generator)
    else:
        parameter.normal_(0, 0.1, generator=generator)  # position embeddings, tokens, bias tables


@torch.no_grad()
def settle(model: nn.Module, inputs: Tensor) -> nn.Module:
    """The model after its batch norms took the statistics of `inputs`: else signals die out or explode on the way."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    try:
        if norms:
            model(inputs)
    finally:
        for norm, momentum in zip(norms, kept, strict=True):
            norm.momentum = momentum
            norm.eval()
    return model
