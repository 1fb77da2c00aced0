"""The layers that a detector's heads read: one for each scale, by how the families are built.

Torchvision's detectors have a pyramid of features or, as SSD, a backbone that returns several; ultralytics' heads name
the modules whose outputs they take; transformers' project each scale before the encoder or the decoder.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from whycam.network.layer_refs import LayerRef

#: What transformers' detectors call the projections of their scales, the nearest to the decoder first.
_PROJECTIONS = ("decoder_input_proj", "input_proj", "input_projection")


def pyramid(model: Any) -> list[str]:
    """The dotted names of the layers that the heads read, finest first; empty for a network of no known family."""
    backbone: Any = getattr(model, "backbone", None)
    fpn: Any = getattr(backbone, "fpn", None)
    if isinstance(fpn, nn.Module):
        found = [f"backbone.fpn.layer_blocks.{i}" for i in _count(fpn.layer_blocks)]
        extra = [name for name in ("p6", "p7") if hasattr(getattr(fpn, "extra_blocks", None), name)]
        return found + [f"backbone.fpn.extra_blocks.{name}" for name in extra]
    if hasattr(model, "anchor_generator") and hasattr(
        backbone, "extra"
    ):  # SSD, whose first scale is one module or several
        first = (
            ["features"] if hasattr(backbone, "scale_weight") else [f"features.{i}" for i in _count(backbone.features)]
        )
        return [f"backbone.{name}" for name in (*first, *(f"extra.{i}" for i in _count(backbone.extra)))]
    layers: Any = getattr(model, "model", None)
    read = getattr(layers[-1], "f", None) if isinstance(layers, nn.Sequential) and len(layers) else None
    if isinstance(read, list):
        return [f"model.{i % len(layers) if i >= 0 else len(layers) - 1 + i}" for i in read]
    names = [name for name, _ in model.named_modules()]
    for ending in _PROJECTIONS:
        for name in names:
            if name.rpartition(".")[2] == ending:
                module = model.get_submodule(name)
                several = isinstance(module, (nn.ModuleList, nn.Sequential)) and not isinstance(module[0], nn.Conv2d)
                return [f"{name}.{i}" for i in range(len(module))] if several else [name]
    return []


def _count(modules: Any) -> range:
    return range(len(modules))


def why_pyramid(taps: Sequence[LayerRef]) -> str:
    """The reason, in words."""
    if len(taps) == 1:
        return "the features that the detector reads"
    return f"all {len(taps)} scales that the detector reads; its last stage alone cannot tell its boxes apart"
