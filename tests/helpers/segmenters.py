"""Small segmenters of every family, random weights: how each is built, its scores by hand, and its layers by reading.

`FAMILIES` are name -> (build, shape of an input, output -> class scores, the bottleneck, the deepest stage behind it or
""). The layers were read off the architectures: where the grid is coarsest, and what grows from there.
"""

from functools import cache

import torch
import torchvision_shim

torchvision_shim.register()


def torchvision(name, **options):
    from torchvision.models import segmentation

    return getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=4, **options).eval()


def segformer():
    import transformers

    config = transformers.SegformerConfig(
        hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 2], num_attention_heads=[1, 2, 3, 4], decoder_hidden_size=32,
        num_labels=4,
    )  # fmt: skip
    return transformers.SegformerForSemanticSegmentation(config).eval()


def mask2former():
    import transformers

    stages = [f"stage{i}" for i in range(1, 5)]
    body = transformers.SwinConfig(
        image_size=64, embed_dim=20, depths=[1] * 4, num_heads=[1, 2, 2, 4], window_size=4, out_features=stages
    )
    config = transformers.Mask2FormerConfig(
        backbone_config=body, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=32,
        encoder_layers=2, decoder_layers=4, num_attention_heads=4, dim_feedforward=32, num_queries=6, num_labels=4,
    )  # fmt: skip
    return transformers.Mask2FormerForUniversalSegmentation(config).eval()


def upernet():
    import transformers

    stages = [f"stage{i}" for i in range(1, 5)]
    body = transformers.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1] * 4, out_features=stages)
    config = transformers.UperNetConfig(
        backbone_config=body, hidden_size=16, pool_scales=[1, 2, 3, 6], auxiliary_in_channels=24,
        auxiliary_channels=16, num_labels=4,
    )  # fmt: skip
    return transformers.UperNetForSemanticSegmentation(config).eval()


def smp(name, **options):
    import segmentation_models_pytorch

    return getattr(segmentation_models_pytorch, name)(
        "resnet18", encoder_weights=None, **{"classes": 4, **options}
    ).eval()


def monai(name, *sizes, **options):
    from monai.networks import nets

    return getattr(nets, name)(*sizes, **options)


def dynunet(axes, **options):
    channels = 3 if axes == 2 else 1
    return monai("DynUNet", axes, channels, 4, [3] * 4, [1, 2, 2, 2], [2] * 3, filters=[4, 8, 16, 32], **options)


def queries(output):
    """Mask2Former's own post-processing, before its argmax."""
    classes, masks = output.class_queries_logits.softmax(-1)[..., :-1], output.masks_queries_logits.sigmoid()
    return (classes[..., None, None] * masks[:, :, None]).sum(1).log()


def itself(output):
    return output


FLAT, DEEP = (1, 3, 96, 160), (1, 1, 32, 32, 16)
FAMILIES = {
    "deeplabv3": (lambda: torchvision("deeplabv3_mobilenet_v3_large", aux_loss=True), (1, 3, 96, 128),
                  lambda output: output["out"], "backbone.16", ""),
    "fcn": (lambda: torchvision("fcn_resnet50"), (1, 3, 64, 96), lambda output: output["out"], "backbone.layer4.1", ""),
    "lraspp": (lambda: torchvision("lraspp_mobilenet_v3_large"), (1, 3, 96, 128), lambda output: output["out"],
               "backbone.16", ""),
    "segformer": (segformer, FLAT, lambda output: output.logits, "segformer.stages.3.blocks.0", ""),
    "mask2former": (mask2former, FLAT, queries, "model.pixel_level_module.decoder.input_projections.0",
                    "model.transformer_module.input_projections.1"),
    "upernet": (upernet, (1, 3, 128, 160), lambda output: output.logits, "decode_head.bottleneck",
                "decode_head.fpn_convs.2"),
    "smp unet": (lambda: smp("Unet"), FLAT, itself, "encoder.layer4", "decoder.blocks.0"),
    "smp unet, aux": (lambda: smp("Unet", aux_params={"classes": 5, "pooling": "avg"}), FLAT,
                      lambda output: output[0], "encoder.layer4", "decoder.blocks.0"),
    "smp unet, softmax": (lambda: smp("Unet", activation="softmax2d"), FLAT, torch.log, "encoder.layer4",
                          "decoder.blocks.0"),
    "smp unet, sigmoid": (lambda: smp("Unet", activation="sigmoid", classes=3), FLAT, torch.logit, "encoder.layer4",
                          "decoder.blocks.0"),
    "smp fpn": (lambda: smp("FPN"), FLAT, itself, "encoder.layer4", "decoder.p4"),
    "smp deeplab": (lambda: smp("DeepLabV3Plus"), FLAT, itself, "encoder.layer4", ""),
    "smp segformer": (lambda: smp("Segformer"), FLAT, itself, "encoder.layer4.0", ""),
    "monai unet": (lambda: monai("UNet", 2, 3, 4, (4, 8, 16, 32), (2, 2, 2)), (1, 3, 64, 48), itself,
                   "model.1.submodule.1.submodule.1", "model.1.submodule.1"),
    "monai unet, 3-D": (lambda: monai("UNet", 3, 1, 4, (4, 8, 16, 32), (2, 2, 2), num_res_units=1), DEEP, itself,
                        "model.1.submodule.1.submodule.1", "model.1.submodule.1"),
    "segresnet": (lambda: monai("SegResNet", 2, 8, 3, 4, blocks_down=(1, 1, 1), blocks_up=(1, 1)), (1, 3, 64, 48),
                  itself, "up_samples.0.0", "up_samples.1.0"),
    "segresnet, 3-D": (lambda: monai("SegResNet", 3, 8, 1, 4, blocks_down=(1, 1, 1), blocks_up=(1, 1)), DEEP, itself,
                       "up_samples.0.0", "up_samples.1.0"),
    "dynunet": (lambda: dynunet(2), (1, 3, 64, 48), itself, "bottleneck", "upsamples.0"),
    "dynunet, in training": (lambda: dynunet(2, deep_supervision=True, deep_supr_num=2).train(), (2, 3, 64, 48),
                             lambda output: output[:, 0], "bottleneck", "upsamples.0"),
    "dynunet, 3-D": (lambda: dynunet(3), DEEP, itself, "bottleneck", "upsamples.0"),
}  # fmt: skip


@cache
def built(name):
    """The network, inputs, its scores by hand, and the names of its layers."""
    build, shape, *known = FAMILIES[name]
    torch.manual_seed(0)
    model = build()
    model.train(name.endswith("training"))
    return model, torch.rand(shape), *known
