"""Toy detectors and their scenes: shapes of three classes among bars, each scene from its own seed."""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN

import whycam
from whycam.targets.outputs import detections, iou

#: The trained weights, in half precision.
WEIGHTS = Path(__file__).with_name("detector.pt")
RT_DETR = Path(__file__).with_name("rt_detr.pt")
YOLO = Path(__file__).with_name("yolo.pt")
NAMES = ("square", "disc", "triangle")
SIDE = 128
#: How a photo becomes the input of `rt_detr` and `yolo`.
PREPARE = whycam.Preprocess((SIDE, SIDE), "stretch", mean=(0.0,) * 3, std=(1.0,) * 3, interpolation="nearest")


def detector(weights: Path | None = WEIGHTS) -> nn.Module:
    """An FCOS of four stages and four scales, at strides 4, 8, 16 and 32."""
    body = nn.Sequential()
    before = 3
    for number, after in enumerate((16, 24, 32, 48)):
        layers = [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.Conv2d(after, after, 3, 1, 1), nn.BatchNorm2d(after), nn.ReLU()]
        body.add_module(f"stage{number}", nn.Sequential(*layers))
        before = after
    backbone = BackboneWithFPN(body, {f"stage{i}": str(i) for i in (1, 2, 3)}, [24, 32, 48], 32)
    anchors = AnchorGenerator(((8,), (16,), (32,), (64,)), ((1.0,),) * 4)
    model = detection.FCOS(
        backbone, len(NAMES), anchor_generator=anchors, min_size=SIDE, max_size=SIDE, image_mean=[0.5] * 3,
        image_std=[0.25] * 3, score_thresh=0.3, nms_thresh=0.5, detections_per_img=10,
    )  # fmt: skip
    return _loaded(model, weights)


def rt_detr(weights: Path | None = RT_DETR) -> nn.Module:
    """transformers' RT-DETR, of three scales at strides 8, 16 and 32, and three decoder layers."""
    import transformers

    body = transformers.RTDetrResNetConfig(
        embedding_size=16, hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.RTDetrConfig(
        backbone_config=body, freeze_backbone_batch_norms=False, encoder_in_channels=[24, 32, 48],
        encoder_hidden_dim=48, encoder_ffn_dim=96, encoder_attention_heads=3, hidden_expansion=0.5,
        decoder_in_channels=[48] * 3, d_model=48, decoder_ffn_dim=96, decoder_layers=3, decoder_attention_heads=3,
        num_queries=20, num_denoising=24, num_labels=len(NAMES), id2label=dict(enumerate(NAMES)),
        label2id={name: number for number, name in enumerate(NAMES)}, initializer_range=0.1,
    )  # fmt: skip
    model = transformers.RTDetrForObjectDetection(config)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # drawn around 0, in place of 1, they let hardly anything through
            nn.init.ones_(module.weight)
    return _loaded(model, weights)


def yolo(weights: Path | None = YOLO) -> nn.Module:
    """ultralytics' YOLO11, narrower than its narrowest, at strides 8, 16 and 32."""
    os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())  # where the package keeps settings of its own
    from ultralytics.nn import tasks

    config = tasks.yaml_model_load("yolo11n.yaml") | {"nc": len(NAMES), "scales": {"n": [0.5, 0.125, 256]}}
    model = tasks.DetectionModel(config, ch=3, verbose=False)
    model.names = dict(enumerate(NAMES))
    return _loaded(model, weights)


def _loaded(model: nn.Module, weights: Path | None) -> nn.Module:
    if weights is not None:
        kept = torch.load(weights, weights_only=True)
        model.load_state_dict({name: value.to(model.state_dict()[name].dtype) for name, value in kept.items()})
    return model.eval()


def recall(model: nn.Module, seeds: range = range(30)) -> float:
    """The share of these scenes' shapes that have a box of their class with a score and an IoU above 0.5."""
    found = []
    for seed in seeds:
        picture, truth = scene(seed)
        with torch.no_grad():
            (seen,) = detections(model(picture[None]), (SIDE, SIDE), model)
        for box, label in zip(truth["boxes"], truth["labels"], strict=True):
            kept = (seen.scores > 0.5) & (seen.labels == label)
            found.append(bool((iou(box, seen.boxes[kept]) > 0.5).any()))
    return sum(found) / len(found)


def photo(seed: int) -> Image.Image:
    """A scene as a photo of 384 pixels."""
    pixels = (scene(seed)[0] * 255).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(pixels).resize((3 * SIDE, 3 * SIDE), Image.Resampling.NEAREST)


def scene(seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """A picture, `(3, 128, 128)` in [0, 1], with its boxes and labels."""
    random = np.random.default_rng(seed)
    shade = random.integers(60, 190, 3)
    image = Image.new("RGB", (SIDE, SIDE), tuple(map(int, shade)))
    draw = ImageDraw.Draw(image)
    for _ in range(4):  # bars, which are no objects
        x, y = random.integers(0, SIDE, 2)
        across = bool(random.integers(2))
        size = int(random.integers(20, 70))
        end = (x + size, y + 3) if across else (x + 3, y + size)
        draw.rectangle((int(x), int(y), int(end[0]), int(end[1])), fill=_color(random))
    boxes: list[tuple[int, int, int, int]] = []
    labels = []
    for _ in range(int(random.integers(1, 4))):
        for _try in range(20):
            size = int(random.integers(18, 46))
            x, y = (int(each) for each in random.integers(2, SIDE - size - 2, 2))
            box = (x, y, x + size, y + size)
            if all(box[2] + 4 < o[0] or o[2] + 4 < box[0] or box[3] + 4 < o[1] or o[3] + 4 < box[1] for o in boxes):
                break
        else:
            continue
        label = int(random.integers(3))
        color = _color(random)
        if label == 0:
            draw.rectangle(box, fill=color)
        elif label == 1:
            draw.ellipse(box, fill=color)
        else:
            draw.polygon([(x, y + size), (x + size / 2, y), (x + size, y + size)], fill=color)
        boxes.append(box)
        labels.append(label)
    pixels = np.asarray(image).astype(np.float32) + random.normal(0, 6, (SIDE, SIDE, 3)).astype(np.float32)
    picture = torch.from_numpy((pixels / 255).clip(0, 1)).permute(2, 0, 1).contiguous()
    return picture, {"boxes": torch.tensor(boxes, dtype=torch.float32), "labels": torch.tensor(labels)}


def _color(random: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(each) for each in random.integers(0, 255, 3))
    return red, green, blue
