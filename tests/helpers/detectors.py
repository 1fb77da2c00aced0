"""Small detectors with random weights and no threshold, one for each family."""

import importlib.util
import os
import tempfile
from functools import partial

import torch
import torchvision_shim
import transformers
from torch import nn

torchvision_shim.register()
torchvision_shim.detectors()

from torchvision.models import detection  # noqa: E402
from torchvision.models.detection.anchor_utils import AnchorGenerator  # noqa: E402
from torchvision.models.detection.backbone_utils import BackboneWithFPN  # noqa: E402
from torchvision.models.detection.ssdlite import ssdlite320_mobilenet_v3_large  # noqa: E402
from torchvision.ops import MultiScaleRoIAlign  # noqa: E402
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7  # noqa: E402

SIZES = {"min_size": 64, "max_size": 96}


def _body(extra):
    body = nn.Sequential()
    for number, (before, after) in enumerate([(3, 8), (8, 12), (12, 16)]):
        body.add_module(
            f"stage{number}", nn.Sequential(nn.Conv2d(before, after, 3, 4 if number == 0 else 2, 1), nn.ReLU())
        )
    return BackboneWithFPN(body, {f"stage{i}": str(i) for i in range(3)}, [8, 12, 16], 32, extra)


def retinanet():
    return detection.RetinaNet(
        _body(LastLevelP6P7(32, 32)), 4, score_thresh=0.0, detections_per_img=5, topk_candidates=20, **SIZES
    )


def fcos():
    return detection.FCOS(
        _body(LastLevelP6P7(32, 32)), 4, score_thresh=0.0, detections_per_img=5, topk_candidates=20, **SIZES
    )


def faster_rcnn():
    return detection.FasterRCNN(
        _body(LastLevelMaxPool()),
        4,
        box_score_thresh=0.0,
        box_detections_per_img=5,
        rpn_post_nms_top_n_test=8,
        rpn_pre_nms_top_n_test=16,
        rpn_anchor_generator=AnchorGenerator(((16,), (32,), (48,), (64,)), ((1.0,),) * 4),
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], 3, 2),
        **SIZES,
    )


def ssd():
    return ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=4, score_thresh=0.0, detections_per_img=5, topk_candidates=20
    )


_STAGES = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "layer_type": "basic"}
_DECODER = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "num_queries": 7,
    "num_labels": 5,
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
    "backbone": None,
}


def _resnet(*stages):
    return transformers.ResNetConfig(**_STAGES, out_features=list(stages))


def detr():
    return transformers.DetrForObjectDetection(transformers.DetrConfig(backbone_config=_resnet("stage4"), **_DECODER))


def conditional_detr():
    return transformers.ConditionalDetrForObjectDetection(
        transformers.ConditionalDetrConfig(backbone_config=_resnet("stage4"), **_DECODER)
    )


def deformable_detr():
    several = _resnet("stage2", "stage3", "stage4")
    config = transformers.DeformableDetrConfig(
        backbone_config=several, num_feature_levels=3, with_box_refine=True, **_DECODER
    )
    return transformers.DeformableDetrForObjectDetection(config)


def two_stage_deformable_detr():
    several = _resnet("stage2", "stage3", "stage4")
    config = transformers.DeformableDetrConfig(
        backbone_config=several,
        num_feature_levels=3,
        with_box_refine=True,
        two_stage=True,
        two_stage_num_proposals=7,
        **_DECODER,
    )
    return transformers.DeformableDetrForObjectDetection(config)


def rt_detr():
    body = transformers.RTDetrResNetConfig(**_STAGES, out_features=["stage2", "stage3", "stage4"])
    config = transformers.RTDetrConfig(
        backbone_config=body,
        encoder_hidden_dim=16,
        encoder_in_channels=[16, 24, 32],
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        d_model=16,
        num_queries=7,
        decoder_in_channels=[16, 16, 16],
        decoder_ffn_dim=16,
        decoder_layers=1,
        decoder_attention_heads=2,
        num_labels=5,
        num_denoising=0,
    )
    return transformers.RTDetrForObjectDetection(config)


def yolos():
    config = transformers.YolosConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=[64, 96],
        patch_size=16,
        num_detection_tokens=7,
        num_labels=5,
    )
    return transformers.YolosForObjectDetection(config)


def yolo(name, end_to_end):
    os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())  # where the package keeps settings of its own
    from ultralytics.nn import tasks

    config = tasks.yaml_model_load(f"{name}.yaml") | {"nc": 4}
    config["scales"] = {size: [0.33, 0.0625, 64] for size in config["scales"]}
    model = tasks.DetectionModel(config, ch=3, verbose=False)
    model.model[-1].end2end = end_to_end
    for parameter in model.parameters():  # so that what a picture does is not lost on the way down
        if parameter.ndim == 4:
            parameter.data.mul_(2.2)
    return model


#: Its package is AGPL and no part of what the tests install for certain.
ULTRALYTICS = {
    name: partial(yolo, name, end)
    for name, end in (("yolov8n", False), ("yolo11n", False), ("yolov10n", True), ("yolo26n", True))
    if importlib.util.find_spec("ultralytics") is not None
}
TORCHVISION = {"RetinaNet": retinanet, "FCOS": fcos, "Faster R-CNN": faster_rcnn, "SSDlite": ssd}
TRANSFORMERS = {
    "DETR": detr,
    "Conditional DETR": conditional_detr,
    "Deformable DETR": deformable_detr,
    "two-stage Deformable DETR": two_stage_deformable_detr,
    "RT-DETR": rt_detr,
    "YOLOS": yolos,
}


def made(build, seed=0):
    """A network in evaluation mode, and a picture that it takes."""
    torch.manual_seed(seed)
    model = build().eval()
    for parameter in model.parameters():  # heads start so near to one value that every box has the same score
        if parameter.ndim == 1 and float(parameter.detach().std(correction=0)) == 0:
            nn.init.normal_(parameter, std=0.3)
    return model, torch.rand(1, 3, 64, 96)
