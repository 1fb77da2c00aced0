"""A toy CLIP and its scenes: two colored shapes on gray, and the sentence that names them."""

from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image, ImageDraw
from torch import Tensor, nn

import whycam

#: The trained weights, in half precision.
WEIGHTS = Path(__file__).with_name("clip.pt")
COLORS = {"red": (210, 40, 40), "green": (40, 170, 60), "blue": (50, 80, 220), "yellow": (225, 205, 50)}
SHAPES = ("disc", "square", "triangle")
WORDS = ("<pad>", "<bos>", "a", "and", *COLORS, *SHAPES, "<end>")
SIDE, LENGTH = 64, 10
PREPARE = whycam.Preprocess((SIDE, SIDE), "stretch", mean=(0.5,) * 3, std=(0.5,) * 3)


def clip(weights: Path | None = WEIGHTS) -> nn.Module:
    """transformers' CLIP with 8 x 8 patches of 8 pixels: three blocks for pictures, two for sentences."""
    text = {"vocab_size": len(WORDS), "max_position_embeddings": LENGTH, "num_hidden_layers": 2}
    text |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": len(WORDS) - 1}
    vision = {"image_size": SIDE, "patch_size": 8, "num_hidden_layers": 3}
    width = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    config = transformers.CLIPConfig(text_config=text | width, vision_config=vision | width, projection_dim=32)
    model = transformers.CLIPModel(config)
    if weights is not None:
        model.load_state_dict({name: value.float() for name, value in torch.load(weights, weights_only=True).items()})
    return model.eval()


def tokenizer(sentences: list[str]) -> Tensor:
    """The words' numbers, `(sentence, 10)`; the end has the largest, as in CLIP's own vocabulary."""
    rows = torch.zeros(len(sentences), LENGTH, dtype=torch.long)
    for row, sentence in zip(rows, sentences, strict=True):
        ids = [1, *(WORDS.index(word) for word in sentence.split()), len(WORDS) - 1]
        row[: len(ids)] = torch.tensor(ids)
    return rows


def photo(seed: int) -> Image.Image:
    """A scene as a photo of 384 pixels."""
    pixels = ((scene(seed)[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(pixels).resize((6 * SIDE, 6 * SIDE), Image.Resampling.NEAREST)


def scene(seed: int) -> tuple[Tensor, list[tuple[str, tuple[int, int, int, int]]]]:
    """A picture, `(3, 64, 64)` in [-1, 1], and what is on it: "a red disc" and its box, twice."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", (SIDE, SIDE), (int(random.integers(90, 165)),) * 3)
    draw = ImageDraw.Draw(image)
    things: list[tuple[str, tuple[int, int, int, int]]] = []
    colors = random.permutation(list(COLORS))
    left_first = random.permutation(2)
    for number in range(2):
        shape, size = SHAPES[int(random.integers(3))], int(random.integers(16, 25))
        x = int(random.integers(1, 31 - size)) + 32 * int(left_first[number])
        y = int(random.integers(1, SIDE - size - 1))
        box = (x, y, x + size, y + size)
        color = COLORS[str(colors[number])]
        if shape == "square":
            draw.rectangle(box, fill=color)
        elif shape == "disc":
            draw.ellipse(box, fill=color)
        else:
            draw.polygon([(x, y + size), (x + size / 2, y), (x + size, y + size)], fill=color)
        things.append((f"a {colors[number]} {shape}", box))
    pixels = np.asarray(image).astype(np.float32) + random.normal(0, 5, (SIDE, SIDE, 3)).astype(np.float32)
    return torch.from_numpy(pixels / 127.5 - 1).clamp(-1, 1).permute(2, 0, 1).contiguous(), things
