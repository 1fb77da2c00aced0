"""Every image classifier architecture of transformers that reads a picture, small and with random weights."""

from typing import Any

from torch import nn

from compatibility.entry import Entry, Size, by_stride

_VIT = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64, "patch_size": 8,
    "initializer_range": 0.15,
}  # fmt: skip
_PATCHES: tuple[Size, ...] = ((64, 64), (48, 80))
_STAGES: tuple[Size, ...] = ((128, 128), (96, 160))
_CLIP = {"vision_config": _VIT, "text_config": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}}
_WINDOWS = {"embed_dim": 16, "depths": [2, 2, 2], "num_heads": [1, 2, 4], "window_size": 4, "initializer_range": 0.1}

#: Architecture -> the configuration of a small one, the stride of its last feature, and the sizes to show it.
#: `IMAGE` stands for the size that it is built for.
IMAGE = object()
SMALL: dict[str, tuple[dict[str, Any], float, tuple[Size, ...]]] = {
    "beit": ({**_VIT, "image_size": IMAGE, "use_relative_position_bias": True, "use_mean_pooling": True}, 8, _PATCHES),
    "bit": ({"hidden_sizes": [32, 64, 96, 128], "depths": [1, 1, 1, 1], "embedding_size": 16, "num_groups": 4},
            32, _STAGES),
    "clip": ({**_CLIP, "vision_config": {**_VIT, "image_size": 64}}, 8, _PATCHES[:1]),
    "convnext": ({"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 2, 1]}, 32, _STAGES),
    "convnextv2": ({"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 2, 1]}, 32, _STAGES),
    "cvt": ({"embed_dim": [16, 32, 48], "num_heads": [1, 2, 3], "depth": [1, 2, 3]}, 16, _STAGES),
    "data2vec-vision": (
        {**_VIT, "image_size": IMAGE, "use_relative_position_bias": True, "use_mean_pooling": True}, 8, _PATCHES,
    ),
    "deit": ({**_VIT, "image_size": IMAGE}, 8, _PATCHES),
    "dinov2": ({**_VIT, "image_size": 64}, 8, _PATCHES),
    "dinov2_with_registers": ({**_VIT, "image_size": 64, "num_register_tokens": 4}, 8, _PATCHES),
    "donut-swin": ({**_WINDOWS, "image_size": IMAGE}, 16, _STAGES),
    "efficientnet": ({"width_coefficient": 0.25, "depth_coefficient": 0.5, "hidden_dim": 320}, 32, _STAGES),
    "focalnet": ({"embed_dim": 16, "hidden_sizes": [32, 64, 64], "depths": [1, 1, 1], "focal_levels": [2, 2, 2],
                  "focal_windows": [3, 3, 3], "image_size": IMAGE}, 16, _STAGES),
    "hgnet_v2": ({}, 32, _STAGES),
    "hiera": ({"embed_dim": 16, "depths": [1, 2, 2, 1], "num_heads": [1, 1, 2, 4], "image_size": IMAGE}, 32, _STAGES),
    "ijepa": ({**_VIT, "image_size": IMAGE}, 8, _PATCHES),
    "levit": ({"hidden_sizes": [32, 48, 64], "num_attention_heads": [2, 3, 4], "depths": [1, 1, 2],
               "key_dim": [8, 8, 8], "image_size": 224}, 64, ((224, 224),)),
    "metaclip_2": ({**_CLIP, "vision_config": {**_VIT, "image_size": 64}}, 8, _PATCHES[:1]),
    "mobilenet_v1": ({"depth_multiplier": 0.25}, 32, _STAGES),
    "mobilenet_v2": ({"depth_multiplier": 0.35}, 32, _STAGES),
    "mobilevit": ({"hidden_sizes": [32, 48, 64], "neck_hidden_sizes": [8, 16, 16, 24, 32, 40, 64]}, 32, _STAGES),
    "mobilevitv2": ({"width_multiplier": 0.5, "base_attn_unit_dims": [32, 48, 64], "n_attn_blocks": [1, 1, 1]},
                    32, _STAGES),
    "poolformer": ({"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1]}, 32, _STAGES),
    "pp_lcnet": ({"scale": 0.5}, 32, _STAGES),
    "pvt": ({"hidden_sizes": [16, 32, 48, 64], "num_attention_heads": [1, 2, 3, 4], "depths": [1, 1, 1, 1],
             "image_size": 128}, 32, _STAGES[:1]),
    "pvt_v2": ({"hidden_sizes": [16, 32, 48, 64], "num_attention_heads": [1, 2, 3, 4], "depths": [1, 1, 1, 1]},
               32, _STAGES),
    "regnet": ({"hidden_sizes": [32, 48, 64, 80], "depths": [1, 1, 2, 1], "groups_width": 16}, 32, _STAGES),
    "resnet": ({"hidden_sizes": [32, 64, 96, 128], "depths": [1, 1, 1, 1], "embedding_size": 16}, 32, _STAGES),
    "segformer": ({"hidden_sizes": [16, 32, 48, 64], "num_attention_heads": [1, 2, 3, 4], "depths": [1, 1, 1, 1]},
                  32, _STAGES),
    "siglip": ({**_CLIP, "vision_config": {**_VIT, "image_size": 64}}, 8, _PATCHES[:1]),
    "swiftformer": ({"embed_dims": [16, 24, 32, 48], "depths": [1, 1, 1, 1]}, 32, _STAGES),
    "swin": ({**_WINDOWS, "image_size": IMAGE}, 16, _STAGES),
    "swinv2": ({**_WINDOWS, "image_size": IMAGE}, 16, _STAGES),
    "textnet": ({"stem_out_channels": 16, "hidden_sizes": [16, 16, 24, 32, 48]}, 32, _STAGES),
    "timm_wrapper": ({"architecture": "resnet18", "model_args": {}}, 32, _STAGES),
    "vit": ({**_VIT, "image_size": IMAGE}, 8, _PATCHES),
    "vit_msn": ({**_VIT, "image_size": IMAGE}, 8, _PATCHES),
}  # fmt: skip

#: Classifiers that this suite leaves out, and why.
LEFT_OUT = {
    "dinat": "needs natten, a compiled extra",
    "imagegpt": "reads color clusters, a sequence of integers, and no picture",
    "perceiver": "its latents have no place in the picture",
    "shieldgemma2": "answers with a language model",
    "siglip2": "takes flattened patches with their mask, prepared by its processor",
}
#: A second class of the same architecture, with another head.
_TEACHERS = {"deit": "DeiTForImageClassificationWithTeacher", "levit": "LevitForImageClassificationWithTeacher"}


def entries() -> list[Entry]:
    """An entry for each architecture, and for each further head of it."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as NAMES

    found = []
    for family, (_, stride, sizes) in SMALL.items():
        names = NAMES.get(family)
        if names is None:
            continue
        first = names if isinstance(names, str) else names[0]
        for name in dict.fromkeys((first, _TEACHERS.get(family, first))):
            remark = "" if len(sizes) > 1 else "its class takes square inputs of one size"
            found.append(Entry("transformers", family, name, _builder(family, name), sizes, by_stride(stride), remark))
    return found


def _builder(family: str, name: str):  # type: ignore[no-untyped-def]
    def build(size: Size) -> nn.Module:
        import transformers

        values = {key: list(size) if value is IMAGE else value for key, value in SMALL[family][0].items()}
        config = transformers.CONFIG_MAPPING[family](**values, num_labels=10)
        model: nn.Module = getattr(transformers, name)(config)
        return model

    return build
