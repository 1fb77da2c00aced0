"""Small models that write captions, with random weights, and what each is given with a finished caption."""

import torch
import towers
import transformers
from towers import VISION, WORDS

COUNT = len(WORDS)
IMAGE = COUNT  # what stands for a patch in the text of LLaVA
TEXT = {"vocab_size": COUNT, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 16, "bos_token_id": 1, "eos_token_id": 2,
        "pad_token_id": 0}  # fmt: skip


def encoder_decoder():
    decoder = transformers.GPT2Config(
        vocab_size=COUNT, n_embd=24, n_layer=2, n_head=2, n_positions=16, bos_token_id=1, eos_token_id=2,
        add_cross_attention=True, is_decoder=True,
    )  # fmt: skip
    both = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        transformers.ViTConfig(**VISION), decoder
    )
    both.decoder_start_token_id, both.pad_token_id = 1, 0
    return transformers.VisionEncoderDecoderModel(config=both)


def blip():
    text = {**TEXT, "encoder_hidden_size": 24, "sep_token_id": 2, "is_decoder": True}
    return transformers.BlipForConditionalGeneration(
        transformers.BlipConfig(vision_config=VISION, text_config=text, projection_dim=10)
    )


def git():
    return transformers.GitForCausalLM(transformers.GitConfig(vision_config=VISION, **TEXT))


def llava():
    text = transformers.LlamaConfig(
        vocab_size=COUNT + 1, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    vision = transformers.CLIPVisionConfig(**VISION)
    return transformers.LlavaForConditionalGeneration(
        transformers.LlavaConfig(
            vision_config=vision, text_config=text, image_token_index=IMAGE, vision_feature_layer=-1
        )
    )


#: Each, and the last layer of its pictures' tower.
FAMILIES = {
    "VisionEncoderDecoder": (encoder_decoder, "encoder.layernorm"),
    "BLIP": (blip, "vision_model.post_layernorm"),
    "GIT": (git, "git.image_encoder.vision_model.post_layernorm"),
    "LLaVA": (llava, "model.vision_tower.encoder.layers.2"),
}


def made(build, seed=0):
    """A model in float64, whose words are not all alike, and two pictures."""
    torch.manual_seed(seed)
    model = build().eval().double()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model, torch.randn(2, 3, towers.SIDE, towers.SIDE, dtype=torch.float64)


def given(build, pictures, sentences):
    """The inputs with finished captions of equal length."""
    captions = torch.stack([towers.ids(each) for each in sentences])
    if build is encoder_decoder:
        return {"pixel_values": pictures, "decoder_input_ids": captions}
    if build is llava:
        captions = torch.cat([torch.full((len(captions), 16), IMAGE), captions], 1)
    return {"pixel_values": pictures, "input_ids": captions}
