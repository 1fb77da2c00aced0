"""What a method may ask for, by parameter name, and the types of those quantities that are functions.

Quantities are plain detached tensors, or functions that run the network (or the part of it above the layer) on what the
method hands them. A method never sees the network itself.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from whycam.kit.status import Status

#: By parameter name: (what it is, what measuring it costs). Only what is asked is measured.
QUANTITIES: Mapping[str, tuple[str, str]] = {
    "activations": ("output of the layer, (batch, channel, *spatial)", "the forward"),
    "gradients": ("d score / d activations, same shape", "one backward from the score to the layer, per target"),
    "curvature": (
        "the Hessian of the score at the layer times the activations, same shape",
        "one run and two backwards of the part above the layer, per target",
    ),
    "head_weights": (
        "the linear head's row for the target, (batch, channel), where the network pools and then has one linear layer",
        "nothing more",
    ),
    "scores": ("the target's score, (batch,)", "nothing more"),
    "inputs": ("what the model was given, (batch, channel, *space)", "nothing"),
    "input_gradients": ("d score / d inputs, same shape as the inputs", "one full backward per target"),
    "guided_gradients": (
        "d score / d inputs where every ReLU passes back positive gradients only, same shape as the inputs",
        "one more forward and a full backward per target",
    ),
    "bias_gradients": (
        "of every convolution, normalization and linear layer: its biases, and d score / d its output",
        "one more forward and a full backward per target",
    ),
    "attention": (
        "attention of the layer's block, (batch, head, query, key): what multiplies the values",
        "the forward, and one matrix",
    ),
    "attention_gradients": ("d score / d attention, same shape", "one backward to the first block, per target"),
    "layer_attention_gradients": (
        "d of another score / d attention, same shape: what the network would answer if the mean of this block's "
        "tokens were all that its last block returns",
        "a run of the part above the last block for each block, and half a backward, per target",
    ),
    "attention_relevance": (
        "what of the score the attention hands back by Chefer's rules of relevance, same shape as the attention",
        "two backwards to the first block, per target",
    ),
    "queries": ("queries of the layer's block, (batch, head, token, width)", "the forward"),
    "keys": ("keys of the layer's block, (batch, head, token, width)", "the forward"),
    "values": ("values of the layer's block, (batch, head, token, width)", "the forward"),
    "head_outputs": ("attention times values, (batch, head, token, width)", "the forward"),
    "head_output_gradients": ("d score / d head outputs, same shape", "one backward to the first block, per target"),
    "output_projection": (
        "function: rows of all heads, (batch, head, token, width) -> (batch, token, channel), as behind the attention",
        "nothing more",
    ),
    "folds": (
        "what the method's `fold` made of each block up to the layer's, the first block first",
        "one attention matrix at a time, in the forward or in one backward per target",
    ),
    "reading": (
        "how the score reads the tokens that the last block returns, (batch, query): 1 at a class token, equal shares "
        "where several are averaged",
        "nothing more; without gradients one pass of one sample, once for a network",
    ),
    "token_grid": ("function: a number for each token, (batch, token) -> (batch, *spatial)", "nothing"),
    "score": (
        "function: variants of the inputs -> the target's scores, (variant, batch)",
        "a forward per variant, per target",
    ),
    "score_from": (
        "function: variants of the activations -> the target's scores, (variant, batch)",
        "a run of the part above the layer per variant, per target",
    ),
    "score_dimmed": (
        "function: factors of the layer's locations, each (batch, *spatial) -> the target's scores, (variant, batch), "
        "where the layer and what norms make of it are multiplied by them",
        "a run of the part above the layer per variant, per target",
    ),
    "score_tokens": (
        "function: which of the tokens stay, each (batch, *spatial) of 0 and 1 -> the target's scores, (variant, "
        "batch), where the others are hidden in every attention",
        "a forward per variant, per target",
    ),
    "block_outputs": (
        "what each block of a transformer returned, (batch, channel, *spatial) each, up to the layer's",
        "nothing more",
    ),
    "output_projections": ("the output projection of each block up to the layer's", "nothing more"),
    "prompts": (
        "what the answer is held against: its sentences' similarities, (batch, prompt), the explained one first, and a "
        "function for each: what the layer's block might return, (batch, token, channel) -> (variant, batch)",
        "a run of the part above the layer per variant, for all prompts and targets together",
    ),
    "trace": (
        "function: variants of the inputs -> activations, gradients, scores and output of each, one by one",
        "a forward, and a backward to the layer, per variant and target",
    ),
    "differentiate": (
        "function: inputs -> scores and d scores / d inputs",
        "a forward and a full backward per call, per target",
    ),
    "relevance": (
        "function: the rules of LRP -> the relevance of each input value, same shape as the inputs",
        "a forward and a full backward per call, per target",
    ),
}

#: What an attention itself takes and gives, and what only a backward brings; a fold may ask for these.
BLOCK_SLOPES = frozenset(
    {"attention_gradients", "head_output_gradients", "layer_attention_gradients", "attention_relevance"}
)
BLOCK_QUANTITIES = BLOCK_SLOPES | {"attention", "queries", "keys", "values", "head_outputs"}

#: Quantities that are functions: what they cost depends on what the method does with them.
FUNCTIONS = frozenset(
    {"score", "score_from", "score_dimmed", "score_tokens", "prompts", "trace", "differentiate", "relevance"}
)

#: Quantities of a block with attention among its tokens.
OF_ATTENTION = BLOCK_QUANTITIES | {
    *("output_projection", "folds", "reading", "token_grid", "score_dimmed", "score_tokens", "block_outputs"),
    *("output_projections", "prompts"),
}

#: Quantities that do not change with what is asked of the model; a method that needs only these explains no class.
CLASS_INDEPENDENT = frozenset({"activations", "inputs"}) | (OF_ATTENTION - BLOCK_SLOPES - FUNCTIONS)

#: Quantities that belong to a layer. A method that needs none of them has no layer.
LAYER_QUANTITIES = OF_ATTENTION | {"activations", "gradients", "curvature", "head_weights", "score_from", "trace"}

#: Rules of relevance, by the methods they are those of.
Rules: TypeAlias = Literal["attn_lrp", "cp_lrp"]

#: Quantities for which the network, or a part of it, runs again.
AGAIN = FUNCTIONS | {"guided_gradients", "bias_gradients", "curvature"}


@runtime_checkable
class Score(Protocol):
    """Scores of edited inputs (`score`), edited activations (`score_from`) or dimmed locations (`score_dimmed`)."""

    def __call__(self, variants: Iterable[Tensor], *, probability: bool = False) -> Float[Tensor, "variant batch"]:
        """The scores of each variant.

        Args:
            variants: each of the shape of the inputs, of the activations, or of a map. They are drawn one by one and
                packed into batches, so a lazy iterable is never held whole. Where its length is known
                (`arrays.lazily`), so is how long the work will take.
            probability: the class's probability in place of the target's own score.

        Raises:
            WhycamError: a probability was asked for, and the target is no single class.
        """


class Prompts(NamedTuple):
    """What a target is held against, itself first; a target that is held against nothing is the only one.

    Attributes:
        similarities: in the model's answer, `(batch, prompt)`.
        scores: for each prompt, what the answer would be if the layer's block returned something else.
    """

    similarities: Float[Tensor, "batch prompt"]
    scores: Sequence[Score]


class Traced(NamedTuple):
    """What the network did on one variant of the inputs.

    Attributes:
        activations, gradients: at the layer, `(batch, channel, *spatial)`.
        scores: the target's, `(batch,)`.
        output: what the model answered, `(batch, ...)`.
    """

    activations: Float[Tensor, "batch channel *spatial"]
    gradients: Float[Tensor, "batch channel *spatial"]
    scores: Float[Tensor, " batch"]
    output: Float[Tensor, "batch *answer"]


@runtime_checkable
class Trace(Protocol):
    """The network run forwards and backwards on variants of its inputs."""

    def __call__(self, variants: Iterable[Tensor]) -> Iterator[Traced]:
        """What the network did on each variant, `(batch, channel, *space)`; spatial sizes may differ."""


@runtime_checkable
class Differentiate(Protocol):
    """The score's gradient at other inputs than the caller's."""

    def __call__(self, inputs: Tensor, *, probability: bool = False) -> tuple[Tensor, Tensor]:
        """The scores, `(batch,)`, and their gradients, of the inputs' shape; of the probability where asked."""


@runtime_checkable
class Relevance(Protocol):
    """Layer-wise relevance propagation from the score to the inputs."""

    def __call__(
        self, *, rules: Rules = "cp_lrp", linear_gamma: float = 0.0, conv_gamma: float = 0.0
    ) -> Float[Tensor, "batch color *space"]:
        """The relevance of each input value, signed, in units of the score.

        Args:
            rules: those of AttnLRP, or of CP-LRP.
            linear_gamma, conv_gamma: of linear layers and of convolutions: how much more the parts of a sum count that
                agree with it in sign; 0 is the epsilon rule.
        """


@runtime_checkable
class TokenGrid(Protocol):
    """Where the layer's tokens lie."""

    def __call__(self, tokens: Tensor, /) -> Float[Tensor, "batch *spatial"]:
        """A number for each token, `(batch, token)`, as maps; class, register and other tokens are left out."""


@runtime_checkable
class Projection(Protocol):
    """The linear layer behind a block's attention."""

    def __call__(self, heads: Tensor, /) -> Float[Tensor, "batch token channel"]:
        """Rows of all heads, `(batch, head, token, width)`, put side by side and projected, bias included."""


class BiasGradient(NamedTuple):
    """One module that adds a bias, and the score's gradient at what it returns.

    Attributes:
        name: the module's.
        bias: what it adds to each channel, `(channel,)`; of a normalization that is `beta - mean * gamma / deviation`.
        gradients: `(batch, channel, *spatial)`; of a linear layer on vectors `(batch, channel)`.
    """

    name: str
    bias: Float[Tensor, " channel"]
    gradients: Float[Tensor, "batch channel *spatial"]


@dataclass(frozen=True)
class Result:
    """What a method returns that has more to say than its maps.

    Attributes:
        maps: `(batch, *spatial)`.
        parts: several maps of each sample, `(batch, part, *spatial)`, such as the concepts of a factorization; drawn
            with one color each, over each other.
        apart: what a part is called (`"Head"`), where each is rather drawn by itself, beside the others.
        values: numbers about each sample, `(batch,)`, by name, such as a completeness gap.
        status: what is to be said of each sample's map, one each or none at all; `Status()` says nothing.

    Examples:
        >>> def counted(activations):
        ...     return whycam.Result(activations.sum(1), values={"channels": activations.new_tensor([4.0, 4.0])})
        >>> whycam.explain(net, batch, counted, layer="1").values["channels"].tolist()
        [4.0, 4.0]
    """

    maps: Float[Tensor, "batch *spatial"]
    parts: Float[Tensor, "batch part *spatial"] | None = None
    apart: str = ""
    values: Mapping[str, Float[Tensor, " batch"]] = field(default_factory=dict)
    status: Sequence[Status] = ()
