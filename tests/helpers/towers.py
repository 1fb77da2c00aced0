"""Small models with a tower for pictures and one for texts, with random weights, and a tokenizer of a few words."""

from functools import partial

import torch
import torchvision_shim
from torch import nn

torchvision_shim.register()

import open_clip  # noqa: E402
import transformers  # noqa: E402
from tokenizers import Tokenizer, models, pre_tokenizers, processors  # noqa: E402

WORDS = ["<pad>", "<bos>", "<eos>", "<unk>", "a", "red", "blue", "disc", "square", "and", "on", "black", "of"]
SIDE, LENGTH = 32, 12
TEXT = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "vocab_size": len(WORDS), "max_position_embeddings": LENGTH, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
VISION = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
          "image_size": SIDE, "patch_size": 8}  # fmt: skip
OPEN_TEXT = {"context_length": LENGTH, "vocab_size": len(WORDS), "width": 32, "heads": 2, "layers": 2}


def clip():
    return transformers.CLIPModel(transformers.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=10))


def siglip():
    text = {**TEXT, "projection_size": 24, "pad_token_id": 0}
    return transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=VISION))


def open_vit():
    vision = {"image_size": SIDE, "patch_size": 8, "layers": 3, "width": 64, "head_width": 32}
    return open_clip.CLIP(embed_dim=10, vision_cfg=vision, text_cfg=OPEN_TEXT)


def open_resnet():
    vision = {"image_size": SIDE * 2, "layers": (1, 1, 1, 1), "width": 16, "head_width": 32}
    return open_clip.CLIP(embed_dim=10, vision_cfg=vision, text_cfg=OPEN_TEXT)


def _kin(name, **more):
    text = {**TEXT, "pad_token_id": 0, **more}
    config = getattr(transformers, f"{name}Config")(text_config=text, vision_config=VISION, projection_dim=10)
    return getattr(transformers, f"{name}Model")(config)


def dual_encoder():
    both = transformers.VisionTextDualEncoderConfig.from_vision_text_configs(
        transformers.ViTConfig(**VISION), transformers.BertConfig(**TEXT, pad_token_id=0), projection_dim=10
    )
    return transformers.VisionTextDualEncoderModel(config=both)


#: Others of transformers' that answer `get_image_features` and `get_text_features`.
KIN = {
    "MetaClip2": partial(_kin, "MetaClip2"),
    "ChineseCLIP": partial(_kin, "ChineseCLIP"),
    "AltCLIP": partial(_kin, "AltCLIP", project_dim=24, max_position_embeddings=LENGTH + 8),
    "BLIP": partial(_kin, "Blip", encoder_hidden_size=24, sep_token_id=2),
    "AIMv2": partial(_kin, "Aimv2"),
    "OWL-ViT": partial(_kin, "OwlViT"),
    "VisionTextDualEncoder": dual_encoder,
}

#: Each family, and the last layer of its pictures' tower that most of the answer hangs on.
FAMILIES = {
    "CLIP": (clip, "vision_model.encoder.layers.2.layer_norm1"),
    "SigLIP": (siglip, "vision_model.post_layernorm"),
    "open_clip ViT": (open_vit, "visual.transformer.resblocks.2.ln_1"),
    "open_clip ResNet": (open_resnet, "visual.layer4"),
}


def made(build, seed=0):
    """A model in float64 and two pictures for it."""
    torch.manual_seed(seed)
    model = build().eval().double()
    if not hasattr(model, "config") or build in KIN.values():  # which begin with vectors that hardly differ
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2) if parameter.ndim > 1 else None
    side = SIDE * 2 if build is open_resnet else SIDE
    return model, torch.randn(2, 3, side, side, dtype=torch.float64)


def ids(sentence):
    """Its words' numbers, between the marks for its beginning and its end."""
    return torch.tensor([1, *(WORDS.index(word) for word in sentence.split()), 2])


def full(sentence):
    """The same filled up, as open_clip's models take it: the largest number is its end."""
    own = ids(sentence)
    own[-1] = len(WORDS) - 1
    return torch.cat([own, own.new_zeros(LENGTH - len(own))])


def tokenizer(words=WORDS):
    """transformers' own class for those words."""
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )


class Pooled(nn.Module):
    """Pooled features and words' vectors, both projected without bias."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(6, 5, bias=False)
        self.words = nn.Embedding(len(WORDS), 5)
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def get_image_features(self, pixel_values):
        return self.head(self.body(pixel_values).mean((2, 3)))

    def get_text_features(self, input_ids, attention_mask=None):
        return self.words(input_ids).mean(1)

    def forward(self, input_ids, pixel_values):
        raise AssertionError("a picture alone goes to its own tower")


class Writer(nn.Module):
    """Writes captions of one picture's pooled features and the token before."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU())
        self.head, self.words = nn.Linear(6, len(WORDS)), nn.Embedding(len(WORDS), len(WORDS))

    def forward(self, pixel_values, input_ids):
        return {"logits": self.words(input_ids) + self.head(self.body(pixel_values).mean((2, 3)))[:, None]}
