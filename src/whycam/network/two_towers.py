"""Models with a tower for pictures and one for texts, as CLIP and SigLIP: each tower by itself.

transformers' families name the towers' vectors `get_image_features` and `get_text_features`; open_clip and OpenAI's own
package, `encode_image` and `encode_text`. Their forward wants both kinds of input, or divides the vectors by their
length, so a picture alone goes to its tower: what comes out is the vector before it is divided.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from whycam.errors import TargetError

_TEXTS = {"input_ids", "text", "inputs_embeds"}


def has_towers(model: Any) -> bool:
    """Whether a model has one tower for pictures and one for texts."""
    return _transformers(model) or _open_clip(model)


def picture_alone(model: Any, inputs: Any) -> Callable[[], Any] | None:
    """What runs the picture's tower, where a model has two and no text is among the inputs; `None` for any other."""
    if not (hasattr(type(model), "get_image_features") or hasattr(type(model), "encode_image")):
        return None  # what nearly every model is
    named = inputs if isinstance(inputs, Mapping) else None
    if isinstance(inputs, tuple) or (named is not None and not _TEXTS.isdisjoint(named)):
        return None
    if _transformers(model):
        return partial(model.get_image_features, **(named if named is not None else {"pixel_values": inputs}))
    if not _open_clip(model):
        return None
    picture = inputs if named is None else named.get("image")

    def run() -> dict[str, Tensor]:
        plain = {"normalize": False} if "normalize" in inspect.signature(model.encode_image).parameters else {}
        return {"image_embeds": model.encode_image(picture, **plain)}

    return run if picture is not None else None


def text_vectors(model: Any, texts: Sequence[Any], tokenizer: Any) -> Tensor:
    """The vectors of texts, `(text, width)` in float64 on the CPU, by the model's own tower.

    Args:
        texts: sentences, token ids, whole numbers, or vectors, decimals, which are taken as they are.
        tokenizer: transformers', a processor that holds one, or any function from sentences to ids `(text, token)`.

    Raises:
        TargetError: a model without a tower for texts, or sentences without a tokenizer.
    """
    return torch.cat([_vector(model, text, tokenizer) for text in texts])


def logit_scale(model: Any) -> float | None:
    """By what a model multiplies the cosine of a picture and a text to get its logit; `None` where it does not say."""
    scale = getattr(model, "logit_scale", None)
    return float(scale.detach().exp().mean()) if isinstance(scale, Tensor) else None


def _vector(model: Any, text: Any, tokenizer: Any) -> Tensor:
    numbers = None if isinstance(text, str) else torch.tensor([text])
    if numbers is not None and numbers.is_floating_point():
        return torch.tensor([text], dtype=torch.float64)
    if not has_towers(model):
        raise TargetError(
            f"{type(model).__name__} has no tower for texts (get_text_features or encode_text); pass the text's "
            "vector, decimals (width,), in place of its words."
        )
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    tokens = {"input_ids": numbers} if numbers is not None else tokens_of(model, text, tokenizer)
    given = {name: tensor.to(device) for name, tensor in tokens.items()}
    with torch.no_grad():
        made = model.get_text_features(**given) if _transformers(model) else model.encode_text(given["input_ids"])
    vector = made if isinstance(made, Tensor) else made.pooler_output
    return vector.detach().double().cpu()


def tokens_of(model: Any, text: str, tokenizer: Any) -> dict[str, Tensor]:
    """A sentence as the model's tower takes it.

    SigLIP was trained on sentences filled up to its full length, and has no mask: shorter ones have other vectors.
    """
    if tokenizer is None:
        raise TargetError(
            f"{text!r} cannot become numbers without the model's tokenizer. Pass tokenizer=, such as transformers."
            "AutoTokenizer.from_pretrained(NAME) or open_clip.get_tokenizer(NAME); or token ids, whole numbers "
            "(token,), or the text's vector, decimals (width,), in place of the words."
        )
    made = getattr(tokenizer, "tokenizer", tokenizer)
    if "PreTrainedTokenizerBase" in {each.__name__ for each in type(made).__mro__}:
        config: Any = getattr(getattr(model, "config", None), "text_config", None)
        full = "siglip" in str(getattr(config, "model_type", ""))
        if not full:
            return dict(made([text], return_tensors="pt"))
        length = config.max_position_embeddings
        return {"input_ids": made([text], return_tensors="pt", padding="max_length", max_length=length)["input_ids"]}
    found = made([text])
    return {"input_ids": found} if isinstance(found, Tensor) else dict(found)


def _transformers(model: Any) -> bool:
    return hasattr(model, "get_image_features") and hasattr(model, "get_text_features")


def _open_clip(model: Any) -> bool:
    return hasattr(model, "encode_image") and hasattr(model, "encode_text")
