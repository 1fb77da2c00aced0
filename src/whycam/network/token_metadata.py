"""What a model itself says of its tokens: how many precede the patches, and the grid on which the patches lie.

Read by attribute, so that no library needs to be imported: timm keeps `num_prefix_tokens` and a `patch_embed` that
knows its grid; torchvision and transformers keep the patch size, and the tokens beside the patches as parameters whose
names tell them. A claim counts only where the sizes of an output agree with it, and is checked like any other reading.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from whycam.network.layouts import Tokens

#: Parameters that stand before the patches, `(1, tokens, width)`, by the last part of their names.
_BEFORE = {
    "cls_token", "class_token", "class_embedding", "dist_token", "distillation_token", "reg_token", "register_tokens",
}  # fmt: skip
#: And those behind them.
_BEHIND = {"detection_tokens"}


def token_claim(model: nn.Module, inputs: Sequence[int]) -> Tokens | None:
    """How the model says that its tokens lie for inputs of that shape; `None` where it says nothing.

    A model inside it may say it, as the `vit` inside transformers' `ViTForImageClassification`.
    """
    space = tuple(inputs[2:])
    inner = [model, *(child for child in model.children() if any(True for _ in child.children()))]
    grid = next(filter(None, (_grid(each, space) for each in inner)), None)
    if grid is None:
        return None
    said = [_get(each, "num_prefix_tokens") for each in inner]
    prefix = next((each for each in said if isinstance(each, int)), None)
    return Tokens(grid, sum(_tokens(model, _BEFORE)) if prefix is None else prefix, sum(_tokens(model, _BEHIND)))


def _grid(model: nn.Module, space: tuple[int, ...]) -> tuple[int, ...] | None:
    embed = _get(model, "patch_embed")
    if callable(sized := _get(embed, "dynamic_feat_size")):
        try:
            found = tuple(sized(space))
        except (TypeError, ValueError, AssertionError):
            return None
        return found if len(found) == len(space) else None
    for owner in (embed, model, _get(model, "config")):
        patch, tube = _get(owner, "patch_size"), _get(owner, "tubelet_size")
        if isinstance(tube, (tuple, list)):
            patch = tube
        sides = tuple(patch) if isinstance(patch, (tuple, list)) else (patch,) * len(space)
        if len(space) == 3 and not isinstance(patch, (tuple, list)):
            sides = (tube or 1, patch, patch)
        if len(sides) == len(space) and all(isinstance(side, int) and side > 0 for side in sides):
            return tuple(length // side for length, side in zip(space, sides, strict=True))
    return None


def _tokens(model: nn.Module, names: Iterable[str]) -> list[int]:
    """How many tokens each parameter of such a name holds; a lone vector is one."""
    return [
        parameter.shape[-2] if parameter.ndim > 1 else 1
        for name, parameter in model.named_parameters()
        if name.rpartition(".")[2] in names and isinstance(parameter, Tensor)
    ]


def _get(owner: Any, name: str) -> Any:
    return getattr(owner, name, None)
