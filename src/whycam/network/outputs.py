"""The tensor that holds the answer, whatever a model wraps it in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from whycam.errors import OutputError
from whycam.kit.arrays import is_half
from whycam.network.model_tree import tree_of
from whycam.network.pytree import Path, spell, tensors
from whycam.targets import ResolvedTarget
from whycam.targets.structured import Settling

#: Names under which model families keep their answer, most telling first.
NAMES = ("logits", "out", "output", "scores", "prediction", "logits_per_image")
#: And those under which they keep features that belong to no class.
EMBEDDINGS = (
    "pooler_output", "last_hidden_state", "hidden_states", "image_embeds", "text_embeds", "embeds", "embeddings",
    "embedding", "features", "feature", "projection",
)  # fmt: skip
#: Rows of fewer numbers may have length one by chance.
_WIDE = 16

#: Which part of an output to explain: a path as `spell` writes it, the position in a tuple, or a function.
OutputPath: TypeAlias = str | int | Callable[[Any], Tensor]


@dataclass(frozen=True)
class OutputSelector:
    """What is asked of a model's output: which part of it (`None`: found by `answer`), and how that becomes a score.

    Attributes:
        labels: how many texts for classes there are, so that there are as many classes.
        whole: the caller's own function, which gets the whole output where no part of it is an answer.
        optional: whether nothing is asked about classes, so that an output without any is as good.
        settling: a target of the whole output, in place of `resolve`.
    """

    resolve: Callable[..., ResolvedTarget]
    part: OutputPath | None = None
    labels: int = 0
    whole: Callable[[Any], Tensor] | None = None
    optional: bool = False
    settling: Settling | None = None

    @property
    def dense(self) -> bool:
        """Whether it is asked of an output with a place for each score."""
        return self.settling is not None and self.settling.dense

    def __call__(self, output: Tensor, *, probability: bool = False) -> ResolvedTarget:
        """The target, settled on that part; `probability`: it is known to hold probabilities."""
        return self.resolve(output, probability=True) if probability else self.resolve(output)


@dataclass(frozen=True)
class Scores:
    """What functions of the whole output give, `(batch, function)`: the answer of a model that has none by itself."""

    functions: tuple[Callable[[Any], Tensor], ...]
    __name__ = "the target"

    def __call__(self, output: Any) -> Tensor:
        """Each function's scores."""
        made = [function(output) for function in self.functions]
        for each in made:
            if not isinstance(each, Tensor) or each.ndim != 1:
                came = f"shape {tuple(each.shape)}" if isinstance(each, Tensor) else f"a {type(each).__name__}"
                raise OutputError(f"the target returned {came}; it must return one score per sample, shape (batch,).")
        return torch.stack(made, 1)

    def of(self, number: int, resolve: Callable[..., ResolvedTarget]) -> "OutputSelector":
        """The question that the function of that number answers."""
        return OutputSelector(lambda found, **_: replace(resolve(found), score=lambda scores: scores[:, number]), self)


def read(
    output: Any, part: OutputPath | None, samples: int | None = None, classes: int | None = None
) -> tuple[str, Tensor]:
    """The part that was asked for, else the answer, with where it was found.

    Where there is one sample and a model has squeezed its axis away, the axis is put back.
    """
    name, tensor = answer(output, samples, classes) if part is None else _part(output, part)
    squeezed = samples == 1 and (not tensor.ndim or (tensor.ndim == 1 and len(tensor) != 1))
    return name, tensor[None] if squeezed else tensor


def answer(output: Any, samples: int | None = None, classes: int | None = None) -> tuple[str, Tensor]:
    """The tensor to explain and where it was found, as code would write it (`""` for the output itself).

    A tensor is its own answer. Of a mapping, dataclass or tuple, at any depth: the tensor under a usual name, the
    outermost first and auxiliary ones last; else the first of shape (batch, class), where the number of samples or of
    classes is known one that has it, and an embedding only if there is nothing else; else the only one. Where these are
    probabilities and the scores that they were made of are there too, the scores.

    Raises:
        WhycamError: none of these, with what the output holds.
    """
    if isinstance(output, Tensor):
        return "", output
    if _is_per_sample(output, samples):
        raise OutputError(
            f"the model's output is a list of {len(output)}, one entry for each sample, as detectors give it, so no "
            "part of it is an answer for the batch. Pass whycam.targets.Box(0), or a function of the whole output, "
            "such as lambda output: torch.stack([each['scores'].sum() for each in output])."
        )
    path, tensor = _answer(output, samples, classes)
    behind = (each for each in _found(output) if each[1].shape == tensor.shape and _is_made_of(tensor, each[1]))
    path, tensor = next(behind, (path, tensor))
    return spell(path), tensor


def _answer(output: Any, samples: int | None, classes: int | None) -> tuple[Path, Tensor]:
    found = _found(output)
    named = [(depth, _auxiliary(path), NAMES.index(name), path, tensor)
             for path, tensor in found for depth, name in [_name(path)] if name in NAMES]  # fmt: skip
    if named:
        *_, path, tensor = min(named, key=lambda each: each[:3])
        return path, tensor
    matrices = [(path, tensor) for path, tensor in found if tensor.ndim == 2]
    # min takes the first of equals
    for candidates in (matrices, found if len(found) == 1 else []):
        if candidates:
            return min(
                candidates,
                key=lambda each: (
                    samples is not None and len(each[1]) != samples,
                    _auxiliary(each[0]) or _name(each[0])[1] in EMBEDDINGS,
                    classes is not None and each[1].shape[-1] != classes,
                ),
            )
    kind = type(output).__name__ if not isinstance(output, Mapping) else f"mapping ({type(output).__name__})"
    raise OutputError(
        f"cannot tell which part of the model's output to explain: a {kind} with {_listed(found)}. Say which with "
        "output=, a path such as 'aux.logits' or '[1]', or a function of the output."
    )


def _is_per_sample(output: Any, samples: int | None) -> bool:
    """Whether an output is a list with an entry for each sample, of whatever sizes these are."""
    if not isinstance(output, (list, tuple)) or hasattr(output, "_fields") or not output:
        return False
    if all(isinstance(each, Mapping) for each in output):
        return len({frozenset(each) for each in output}) == 1 and samples in (None, len(output))
    tables = isinstance(output, list) and all(isinstance(each, Tensor) and each.ndim for each in output)
    return tables and len(output) == samples and any(len(each) != samples for each in output)


def _is_made_of(probabilities: Tensor, scores: Tensor) -> bool:
    """Whether a tensor is the softmax or the sigmoid of another."""
    if scores is probabilities or scores.ndim < 2 or bool((probabilities < 0).any() or (probabilities > 1).any()):
        return False
    near = 1e-2 if is_half(probabilities) else 1e-5
    made = (scores.detach().softmax(1), scores.detach().sigmoid())
    return any(torch.allclose(each.to(probabilities), probabilities.detach(), 0, near) for each in made)


def embedding(name: str, tensor: Tensor, model: nn.Module, made: str = "") -> str:
    """Why a tensor is known to be an embedding and no class scores; empty where that is not known.

    Args:
        made: what is known of how it was made; see `origin.Origin`.
    """
    last = name.rpartition(".")[2].partition("[")[0]
    if tensor.ndim == 2 and tensor.shape[1] == number_of_classes(model):
        return ""  # whatever it is called: transformers' PP-LCNet returns its class scores as the last hidden state
    if last in EMBEDDINGS:
        return f"it is called {last!r}"
    if not name and getattr(model, "num_classes", None) == 0:
        return "the model has no classifier, num_classes is 0"
    if tensor.ndim == 2 and tensor.shape[1] >= _WIDE:
        off = float((torch.linalg.vector_norm(tensor.detach().double(), dim=1) - 1).abs().amax())
        if (off < 1e-5 or (off < 3e-3 and is_half(tensor))) and bool((tensor < 0).any()):
            return "each row has length 1"
    return made if tensor.ndim == 2 and tensor.shape[1] > 1 else ""


def number_of_classes(model: nn.Module) -> int | None:
    """How many classes a model says it has, as timm's and transformers' do."""
    return tree_of(model).classes


def _part(output: Any, part: OutputPath) -> tuple[str, Tensor]:
    if not isinstance(part, (str, int)):
        made = part(output)
        if not isinstance(made, Tensor) or not made.is_floating_point() or not made.ndim:
            came = f"a {made.dtype} tensor of shape {tuple(made.shape)}" if isinstance(made, Tensor) else type(made)
            raise OutputError(f"output= must return a floating-point tensor (batch, ...); it returned {came}.")
        return f" through {getattr(part, '__name__', type(part).__name__)}", made
    found = [("", output)] if isinstance(output, Tensor) else [(spell(path), each) for path, each in _found(output)]
    for path, tensor in found:
        if plain(path) == plain(str(part)):
            return path, tensor
    listed = _listed(_found(output)) if not isinstance(output, Tensor) else "nothing but itself, a tensor"
    raise OutputError(f"the model's output has no part {part!r}; there is {listed}.")


def plain(path: str) -> str:
    """A path in one spelling, `aux.0` for `.aux[0]`."""
    return path.replace("[", ".").replace("]", "").strip(".")


def _found(output: Any) -> list[tuple[Path, Tensor]]:
    return [(path, tensor) for path, tensor in tensors(output) if tensor.is_floating_point() and tensor.ndim]


def _name(path: Path) -> tuple[int, str]:
    """The last name on a path, behind which there are only positions, and how deep it lies."""
    return next(((depth, key) for depth, key in reversed(list(enumerate(path))) if isinstance(key, str)), (0, ""))


def _auxiliary(path: Path) -> bool:
    return any("aux" in key for key in path if isinstance(key, str))


def _listed(found: Sequence[tuple[Path, Tensor]]) -> str:
    return ", ".join(f"{spell(path)} {tuple(tensor.shape)}" for path, tensor in found) or "no floating-point tensor"
