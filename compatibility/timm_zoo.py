"""One small member of every family of timm, and the variants that read out differently from it."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from compatibility.entry import Entry, Size, by_stride

_SIZES: tuple[Size, ...] = ((128, 128), (96, 160))
_PATCH14: tuple[Size, ...] = ((112, 112), (84, 140))

#: Family (a module of `timm.models`) -> its member with the fewest parameters, with timm 1.0.31. A family that is not
#: here is represented by the member that is smallest when built on the meta device.
SMALLEST: dict[str, str] = {
    "beit": "beit_base_patch16_224",
    "byoanet": "halonet_h1",
    "byobnet": "test_byobnet",
    "cait": "cait_xxs24_224",
    "coat": "coat_tiny",
    "convit": "convit_tiny",
    "convmixer": "convmixer_768_32",
    "convnext": "test_convnext",
    "cpubone": "cpubone_nano",
    "crossvit": "crossvit_tiny_240",
    "csatv2": "csatv2",
    "cspnet": "cs3darknet_focus_s",
    "cspnext": "cspnext_tiny",
    "davit": "davit_tiny",
    "deepseek_vit": "deepseek_vit_412m",
    "deit": "deit_tiny_patch16_224",
    "densenet": "densenet121",
    "dla": "dla46x_c",
    "dpn": "dpn48b",
    "edgenext": "edgenext_xx_small",
    "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0",
    "efficientnet": "test_efficientnet",
    "efficientvim": "efficientvim_m1",
    "efficientvit_mit": "efficientvit_b0",
    "efficientvit_msra": "efficientvit_m0",
    "eva": "vit_tiny_patch16_dinov3_qkvb",
    "fasternet": "fasternet_t0",
    "fastvit": "fastvit_t8",
    "focalnet": "focalnet_tiny_srf",
    "gcvit": "gcvit_xxtiny",
    "gemma4_vit": "gemma4_vit_167m",
    "ghostnet": "ghostnet_050",
    "hardcorenas": "hardcorenas_b",
    "hgnet": "hgnetv2_b0",
    "hiera": "hiera_tiny_224",
    "hieradet_sam2": "sam2_hiera_tiny",
    "hrnet": "hrnet_w18_small",
    "iformer": "iformer_t",
    "inception_next": "inception_next_atto",
    "inception_resnet_v2": "inception_resnet_v2",
    "inception_v3": "inception_v3",
    "inception_v4": "inception_v4",
    "lcnetv2": "lcnetv2_small",
    "levit": "levit_128s",
    "lowformer": "lowformer_b0",
    "mambaout": "test_mambaout",
    "maxxvit": "test_coatnet",
    "metaformer": "poolformerv2_s12",
    "mlp_mixer": "gmlp_ti16_224",
    "mobilenetv3": "mobilenetv3_small_050",
    "mobilenetv5": "mobilenetv5_base",
    "mobilevit": "mobilevit_xxs",
    "mvitv2": "mvitv2_tiny",
    "naflexvit": "naflexvit_base_patch16_parfac_gap",
    "nasnet": "nasnetalarge",
    "nest": "nest_tiny",
    "nextvit": "nextvit_small",
    "nfnet": "test_nfnet",
    "pit": "pit_ti_224",
    "pnasnet": "pnasnet5large",
    "pvt_v2": "pvt_v2_b0",
    "qwen3_vit": "qwen3_vit_88m",
    "rdnet": "rdnet_tiny",
    "regnet": "regnetx_002",
    "repghost": "repghostnet_050",
    "repvit": "repvit_m1",
    "res2net": "res2next50",
    "resnest": "resnest14d",
    "resnet": "test_resnet",
    "resnetv2": "resnetv2_18",
    "rexnet": "rexnet_100",
    "selecsls": "selecsls42",
    "senet": "legacy_seresnet18",
    "sequencer": "sequencer2d_s",
    "shvit": "shvit_s1",
    "sknet": "skresnet18",
    "starnet": "starnet_s050",
    "swiftformer": "swiftformer_xs",
    "swin_transformer": "swin_tiny_patch4_window7_224",
    "swin_transformer_v2": "swinv2_tiny_window16_256",
    "swin_transformer_v2_cr": "swinv2_cr_tiny_224",
    "tiny_vit": "tiny_vit_5m_224",
    "tnt": "tnt_s_legacy_patch16_224",
    "tresnet": "tresnet_m",
    "twins": "twins_svt_small",
    "vgg": "vgg11",
    "visformer": "visformer_tiny",
    "vision_transformer": "test_vit",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224",
    "vision_transformer_relpos": "test_vit_relpos",
    "vision_transformer_sam": "samvit_base_patch16_224",
    "vitamin": "vitamin_small_224",
    "volo": "volo_d1_224",
    "vovnet": "ese_vovnet19b_slim_dw",
    "xception": "legacy_xception",
    "xception_aligned": "xception41p",
    "xcit": "xcit_nano_12_p8_224",
}
#: Arguments that keep a large member quick; they change its depth and nothing else.
_SHALLOW: dict[str, dict[str, Any]] = {
    "deepseek_vit_412m": {"depth": 2},
    "gemma4_vit_167m": {"depth": 2},
    "qwen3_vit_88m": {"depth": 3},
    "beit_base_patch16_224": {"depth": 4},
    "naflexvit_base_patch16_parfac_gap": {"depth": 4},
    "samvit_base_patch16_224": {"depth": 4, "global_attn_indexes": (1, 3)},
}
#: Families whose members take `img_size` and do better without it: they resize, or build for squares.
_ANY_SIZE = {"crossvit", "mvitv2"}
#: Twice the usual, for strides of 64 and for convolutions without padding.
_LARGE: tuple[Size, ...] = ((256, 256), (192, 320))
#: Members that take other sizes than most, and what a reader should know of it.
_OWN_SIZES: dict[str, tuple[tuple[Size, ...], str]] = {
    "convit_tiny": (((128, 128),), "its position bias is square"),
    "convmixer_768_32": (_LARGE, ""),
    "csatv2": (_LARGE, ""),
    "cspnext_tiny": (_LARGE, ""),
    "deepseek_vit_412m": (_PATCH14, ""),
    "efficientformer_l1": (((224, 224),), "its position bias fits 7 x 7 positions"),
    "efficientvim_m1": (_LARGE, ""),
    "efficientvit_m0": (_LARGE, ""),
    "halonet_h1": (((256, 256),), "its blocks of 8 fit sizes of 256 and their multiples"),
    "inception_resnet_v2": (_LARGE, ""),
    "inception_v3": (_LARGE, ""),
    "inception_v4": (_LARGE, ""),
    "levit_128s": (_LARGE, ""),
    "nest_tiny": (((128, 128),), "takes square inputs"),
    "selecsls42": (_LARGE, ""),
    "shvit_s1": (_LARGE, ""),
}
#: More readings of a family's features: another pooling, more tokens before the patches, another order.
VARIANTS: dict[str, tuple[str, tuple[Size, ...], dict[str, Any]]] = {
    "vit_tiny_patch16_224": ("vision_transformer", _SIZES, {}),
    "deit_tiny_distilled_patch16_224": ("deit", _SIZES, {}),
    "vit_small_patch14_reg4_dinov2": ("vision_transformer", _PATCH14, {"depth": 4}),
    "vit_tiny_patch16_dinov3_qkvb": ("eva", _SIZES, {}),
    "vit_base_patch16_siglip_224": ("vision_transformer", _SIZES, {"depth": 3}),
    "vit_base_patch16_clip_224": ("vision_transformer", _SIZES, {"depth": 3}),
    "eva02_tiny_patch14_224": ("eva", _PATCH14, {}),
    "maxvit_pico_rw_256": ("maxxvit", _SIZES, {}),
    "resnet18": ("resnet", _SIZES, {}),
    "mobilenetv3_small_100": ("mobilenetv3", _SIZES, {}),
    "efficientnet_lite0": ("efficientnet", _SIZES, {}),
    "resmlp_12_224": ("mlp_mixer", _SIZES, {}),
    "mixer_s16_224": ("mlp_mixer", _SIZES, {}),
    "levit_conv_128s": ("levit", _LARGE, {}),
    "mvitv2_small_cls": ("mvitv2", _SIZES, {}),
    "cs3darknet_s": ("cspnet", _SIZES, {}),
    "resnet50_clip": ("byobnet", _SIZES, {}),
}


def entries() -> list[Entry]:
    """An entry for each family of the timm that is installed, then one for each variant."""
    import timm

    found = []
    for family in timm.list_modules():
        name = SMALLEST.get(family) or _smallest(family)
        sizes, remark = _OWN_SIZES.get(name, (_SIZES, ""))
        found.append(_entry(family, name, sizes, _SHALLOW.get(name, {}), remark))
    for name, (family, sizes, options) in VARIANTS.items():
        if timm.is_model(name) and name != SMALLEST.get(family):
            found.append(_entry(family, name, sizes, options))
    return found


def _entry(family: str, name: str, sizes: tuple[Size, ...], options: dict[str, Any], remark: str = "") -> Entry:
    def construct(size: Size) -> nn.Module:
        import timm

        try:
            sized = {} if family in _ANY_SIZE else {"img_size": size}
            model = timm.create_model(name, **sized, **options)
        except TypeError:  # it is built for no size in particular
            model = timm.create_model(name, **options)
        if not getattr(model, "num_classes", 1):  # a backbone that comes without a head
            model.reset_classifier(10)
        return cast(nn.Module, model)

    return Entry("timm", family, name, construct, sizes, told_by_timm, remark)


def told_by_timm(model: nn.Module, inputs: Tensor) -> set[Size]:
    """The grid of the last feature by timm's own account: its intermediate features, else the reduction it lists."""
    family = type(model).__module__.rpartition(".")[2]
    if family == "crossvit":  # two branches, each with an input size and a patch of its own
        return {
            tuple(side // patch for side, patch in zip(each.img_size, each.patch_size, strict=True))
            for each in cast(Any, model.patch_embed)
        }
    if family == "mobilenetv5":  # stages fused at a size of their own, whatever the input's
        return {tuple(cast(Any, model.msfa).output_resolution)}
    if family == "vgg":  # the last convolutions, or the pooling behind them that timm lists
        return by_stride(16)(model, inputs) | by_stride(32)(model, inputs)
    intermediates = getattr(model, "forward_intermediates", None)
    if intermediates is not None:
        with torch.no_grad():
            maps = intermediates(inputs, indices=1, output_fmt="NCHW", intermediates_only=True)
        return {tuple(maps[-1].shape[2:])}
    listed = list(model.feature_info)  # type: ignore[arg-type]
    return by_stride(float(listed[-1]["reduction"]))(model, inputs)


def _smallest(family: str) -> str:
    """The member of a family with the fewest parameters."""
    import timm

    def parameters(name: str) -> int:
        with torch.device("meta"):
            return sum(each.numel() for each in timm.create_model(name).parameters())

    return min(timm.list_models(module=family), key=parameters)
