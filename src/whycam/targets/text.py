"""Why a picture matches a sentence: targets for CLIP, SigLIP and their kin."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from torch import Tensor

from whycam.errors import TargetError
from whycam.targets.structured import Asking, OutputContext, OutputTarget, Settled
from whycam.targets.vectors import check_norm, direction


@dataclass(frozen=True)
class Text(OutputTarget):
    """How well a picture matches a sentence: the cosine of their vectors, by the model's own two towers.

    The sentence becomes a vector once; the picture alone is run. The score is the cosine itself, which compares between
    models, and not the model's logit, the same times its logit scale (and, in SigLIP, plus a constant). `norm` is as
    for `Similarity`.

    With `against` it is the sentence's log-odds among all these prompts: its logit minus the log-sum-exp of the
    others'. So it is in logits, the cosine times the model's logit scale, since odds depend on that.

    Args:
        sentence: words; or token ids, whole numbers `(token,)`; or the vector, decimals `(width,)`.
        against: other prompts, each written so, or one alone.
        norm: `"fixed"` takes the length of the picture's vector for a constant, `"live"` does not.
        tokenizer: words -> token ids: transformers' own, or a function such as `open_clip.get_tokenizer(NAME)`. A model
            that was loaded by name, or by transformers from files that are still here, brings it along.
        scale: the logit scale, for a model that has none of its own.

    Examples:
        >>> whycam.targets.Text.from_text("a dog/a cat").against
        ('a cat',)
    """

    sentence: Any
    against: Any = ()
    norm: Literal["fixed", "live"] = "fixed"
    tokenizer: Any = field(default=None, compare=False, repr=False)
    scale: float | None = None
    _vectors: Any = field(default=None, compare=False, repr=False)
    _asked: "Text | None" = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        check_norm(self.norm)
        alone = isinstance(self.against, (str, Tensor))
        object.__setattr__(self, "against", (self.against,) if alone else self.against)
        object.__setattr__(self, "sentence", plain_text(self.sentence))
        object.__setattr__(self, "against", tuple(map(plain_text, self.against)))

    @classmethod
    def from_text(cls, text: str) -> "Text":
        """The sentence and, behind slashes, those that it is held against."""
        sentence, *others = (each.strip() for each in text.split("/"))
        return cls(sentence, others)

    def prepared(self, asking: Asking) -> "OutputTarget":
        """The same with the sentences' vectors and the model's scale."""
        texts = (self.sentence, *self.against)
        words = any(isinstance(each, str) for each in texts)
        tokenizer = asking.tokenizer() if self.tokenizer is None and words else self.tokenizer
        scale = asking.logit_scale if self.scale is None else self.scale
        if self.against and scale is None:
            raise TargetError("the model has no logit_scale, which against= compares in; pass scale=, such as 100.")
        return replace(self, _vectors=asking.embed_texts(texts, tokenizer), scale=scale, _asked=self)

    def settle(self, output: Any, context: OutputContext) -> list[Settled]:
        """The similarity, or the log-odds, in each sample."""
        live, scale = self.norm == "live", self.scale or 1.0
        made = direction(output, live=live)
        if made.shape[1] != self._vectors.shape[1]:
            raise TargetError(
                f"the text's vector has {self._vectors.shape[1]} numbers and the pictures' have {made.shape[1]}; "
                "the vector that the model's own tower for texts makes was expected."
            )
        units = (self._vectors / self._vectors.norm(dim=1, keepdim=True)).to(made)

        def read(other: Any) -> Tensor:
            cosines: Tensor = direction(other, live=live) @ units.T
            if cosines.shape[1] == 1:
                return cosines[:, 0]
            odds: Tensor = scale * cosines[:, 0] - (scale * cosines[:, 1:]).logsumexp(1)
            return odds

        scores = read(output)
        words = [each if isinstance(each, str) else "the text" for each in (self.sentence, *self.against)]
        rivals = " or ".join(map(repr, words[1:]))
        note = "what speaks against the sentence is below zero, where the map is signed"
        if self.against:
            note += f"; in logits, cosines times {scale:.4g}"
            texts = [f"{words[0]!r} rather than {rivals}, log-odds {float(each):+.2f}" for each in scores.detach()]
        else:
            texts = [f"{words[0]!r}, similarity {float(each):.2f}" for each in scores.detach()]
        search = (lambda other: read(other).sigmoid()) if self.against else None  # the probability among the prompts

        def like(number: int, other: Any) -> Tensor:
            cosine: Tensor = direction(other, live=live) @ units[number]
            return cosine

        prompts = tuple(partial(like, number) for number in range(len(units))) if self.against else ()
        return [Settled(scores, read, tuple(texts), search, key=self._asked, note=note, prompts=prompts)]


def plain_text(text: Any) -> str | tuple[float, ...]:
    """A sentence, or numbers, which unlike a tensor can be looked up by."""
    if isinstance(text, str) and text.strip():
        return text
    numbers: Any = text.flatten().tolist() if isinstance(text, Tensor) else text
    if isinstance(numbers, (list, tuple)) and numbers and all(isinstance(each, (int, float)) for each in numbers):
        return tuple(numbers)
    raise TargetError(f"a sentence, token ids (token,) or a vector (width,) was expected, not {text!r}.")
