"""Why a model wrote these words of its caption: their log-probability, the finished caption fed once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from whycam.errors import OutputError, TargetError
from whycam.kit.arrays import wide
from whycam.targets.structured import Asking, OutputContext, OutputTarget, Settled
from whycam.targets.text import plain_text


@dataclass(frozen=True)
class Tokens(OutputTarget):
    """The sum of the log-probabilities of some tokens of a caption, each given the picture and the tokens before it.

    The caption is among the inputs, as the model takes it when it learns: `decoder_input_ids`, `labels` or `input_ids`
    beside `pixel_values`. So write it first (`model.generate`), then ask about its words: one map for each is
    `targets=[Tokens("red"), Tokens("car")]`. The layer is the last of the pictures' tower that the score depends on.

    Args:
        words: words of the caption, or their token ids, which stand side by side in it. Where they come several times
            the first is meant, which the notes say.
        tokenizer: token ids -> words, such as `processor.tokenizer`; not needed for ids, nor where the model brings it.

    Examples:
        >>> whycam.targets.Tokens([7, 9]).words
        (7, 9)
    """

    words: Any
    tokenizer: Any = field(default=None, compare=False, repr=False)
    _captions: Mapping[str, Tensor] = field(default_factory=dict, compare=False, repr=False)
    _asked: "Tokens | None" = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", plain_text(self.words))

    def prepared(self, asking: Asking) -> "OutputTarget":
        """The same with the caption and the model's own tokenizer."""
        given = asking.inputs if isinstance(asking.inputs, Mapping) else {}
        captions = {name: given[name] for name in ("decoder_input_ids", "labels", "input_ids") if name in given}
        reads = isinstance(self.words, str) and self.tokenizer is None
        tokenizer = asking.tokenizer() if reads else self.tokenizer
        return replace(self, tokenizer=tokenizer, _captions=captions, _asked=self)

    def within(self, module: Any) -> str:
        """The pictures' tower: the first part that takes pixels, and no text in any part of its own."""
        for name, part in module.named_modules():
            takes = {getattr(each, "main_input_name", None) for each in part.modules()}
            if name and "pixel_values" in takes and "input_ids" not in takes:
                return str(name)
        return ""

    def settle(self, output: Any, context: OutputContext) -> list[Settled]:
        """The sum in each sample."""
        logits = _logits(output)
        captions, shift = self._caption(context.module)
        captions = captions[: len(logits)]
        found = [self._place(row.tolist()) for row in captions]
        spans = [range(start, start + length) for start, length, _ in found]
        if any(span.start < shift for span in spans):
            raise TargetError("the first token of a caption is given, not written; ask about one behind it.")
        length, same = captions.shape[1], bool((captions == captions[:1]).all())

        def read(other: Any) -> Tensor:
            seen = _logits(other)[:, -length:].log_softmax(-1)  # before the text some models answer for the picture too
            if not same and len(seen) != len(captions):
                raise TargetError("the captions differ, so this method has to explain them one by one.")
            own = [0 if same else number for number in range(len(seen))]
            each = [
                torch.stack([row[at - shift, captions[number, at]] for at in spans[number]])
                for number, row in zip(own, seen, strict=True)
            ]
            return torch.stack([found.sum() for found in each])

        scores = read(output)
        words = repr(self.words) if isinstance(self.words, str) else f"tokens {list(self.words)}"
        texts = tuple(f"{words}, log-probability {float(each):.2f}" for each in scores.detach())
        several = max(times for *_, times in found)
        note = f"{words} comes {several} times in the caption, and the first is meant" if several > 1 else ""
        return [Settled(scores, read, texts, lambda other: read(other).exp(), key=self._asked, note=note)]

    def _caption(self, module: Any) -> tuple[Tensor, int]:
        """The caption's ids, `(batch, token)`, and how many places before a token its logits stand."""
        known = self._captions
        if "decoder_input_ids" in known:
            return known["decoder_input_ids"], 1
        if "labels" in known and getattr(getattr(module, "config", None), "is_encoder_decoder", False):
            return known["labels"], 0
        if "input_ids" in known:
            return known["input_ids"], 1
        raise TargetError(
            "the caption is not among the inputs. Pass the finished one beside the picture, as a dict: "
            "dict(pixel_values=..., input_ids=ids), or decoder_input_ids=ids where the model has an encoder and a "
            "decoder; model.generate(...) gives the ids."
        )

    def _place(self, ids: Sequence[int]) -> tuple[int, int, int]:
        """Where the words stand in a caption, the first of the tokens and how many, and how often they come."""
        if not isinstance(self.words, str):
            wanted, count = list(self.words), len(self.words)
            found = [(at, count) for at in range(len(ids) - count + 1) if list(ids[at : at + count]) == wanted]
            said = f"tokens {list(ids)}"
        else:
            made = getattr(self.tokenizer, "tokenizer", self.tokenizer)
            if made is None:
                raise TargetError(f"{self.words!r} is found in the caption by its tokenizer: pass tokenizer=, or ids.")
            found = _spans(self.words, ids, made.decode)
            said = repr(made.decode([each for each in ids if each >= 0]))
        if not found:
            raise TargetError(f"{self.words!r} is not in the caption, {said}.")
        return (*found[0], len(found))


def _spans(words: str, ids: Sequence[int], decode: Any) -> list[tuple[int, int]]:
    """The shortest runs of tokens that read as these words, whatever the case and the space around them."""
    wanted, found, at = words.strip().lower(), [], 0
    while at < len(ids):
        for stop in range(at + 1, len(ids) + 1):
            if ids[stop - 1] < 0:  # labels that are left out
                break
            made = decode(list(ids[at:stop])).strip().lower()
            if made == wanted:
                found.append((at, stop - at))
                at = stop - 1
            if not wanted.startswith(made):
                break
        at += 1
    return found


def _logits(output: Any) -> Tensor:
    """The scores of every word at each place of the text, `(batch, token, word)`."""
    found = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if not isinstance(found, Tensor) or found.ndim != 3:
        raise OutputError(
            f"no logits (batch, token, word) are in this output, a {type(output).__name__}; a model that writes "
            "captions was expected."
        )
    return wide(found)
