"""The tensor that holds the answer, whatever a model wraps it in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor, nn

from whycam.errors import WhycamError
from whycam.kit.arrays import is_half
from whycam.network.model_tree import tree_of
from whycam.network.pytree import Path, spell, tensors
from whycam.targets import ResolvedTarget

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
    """What is asked of a model's output: which part of it (`None`: found by `answer`), and how that becomes a score."""

    resolve: Callable[[Tensor], ResolvedTarget]
    part: OutputPath | None = None

    def __call__(self, output: Tensor) -> ResolvedTarget:
        """The target, settled on that part."""
        return self.resolve(output)


def read(
    output: Any, part: OutputPath | None, samples: int | None = None, classes: int | None = None
) -> tuple[str, Tensor]:
    """The part that was asked for, else the answer, with where it was found."""
    return answer(output, samples, classes) if part is None else _part(output, part)


def answer(output: Any, samples: int | None = None, classes: int | None = None) -> tuple[str, Tensor]:
    """The tensor to explain and where it was found, as code would write it (`""` for the output itself).

    A tensor is its own answer. Of a mapping, dataclass or tuple, at any depth: the tensor under a usual name, the
    outermost first and auxiliary ones last; else the first of shape (batch, class), where the number of samples or of
    classes is known one that has it, and an embedding only if there is nothing else; else the only one.

    Raises:
        WhycamError: none of these, with what the output holds.
    """
    if isinstance(output, Tensor):
        return "", output
    found = _found(output)
    named = [(depth, _auxiliary(path), NAMES.index(name), path, tensor)
             for path, tensor in found for depth, name in [_name(path)] if name in NAMES]  # fmt: skip
    if named:
        *_, path, tensor = min(named, key=lambda each: each[:3])
        return spell(path), tensor
    matrices = [(path, tensor) for path, tensor in found if tensor.ndim == 2]
    # min takes the first of equals
    for candidates in (matrices, found if len(found) == 1 else []):
        if candidates:
            path, tensor = min(
                candidates,
                key=lambda each: (
                    samples is not None and len(each[1]) != samples,
                    _auxiliary(each[0]) or _name(each[0])[1] in EMBEDDINGS,
                    classes is not None and each[1].shape[-1] != classes,
                ),
            )
            return spell(path), tensor
    kind = type(output).__name__ if not isinstance(output, Mapping) else f"mapping ({type(output).__name__})"
    raise WhycamError(
        f"cannot tell which part of the model's output to explain: a {kind} with {_listed(found)}. Say which with "
        "output=, a path such as 'aux.logits' or '[1]', or a function of the output."
    )


def embedding(name: str, tensor: Tensor, model: nn.Module) -> str:
    """Why a tensor is known to be an embedding and no class scores; empty where that is not known."""
    last = name.rpartition(".")[2].partition("[")[0]
    if tensor.ndim == 2 and tensor.shape[1] == number_of_classes(model):
        return ""  # whatever it is called: transformers' PP-LCNet returns its class scores as the last hidden state
    if last in EMBEDDINGS:
        return f"it is called {last!r}"
    if not name and getattr(model, "num_classes", None) == 0:
        return "the model has no classifier, num_classes is 0"
    if tensor.ndim == 2 and tensor.shape[1] >= _WIDE:
        off = float((tensor.detach().double().norm(dim=1) - 1).abs().amax())
        if (off < 1e-5 or (off < 3e-3 and is_half(tensor))) and bool((tensor < 0).any()):
            return "each row has length 1"
    return ""


def number_of_classes(model: nn.Module) -> int | None:
    """How many classes a model says it has, as timm's and transformers' do."""
    return tree_of(model).classes


def _part(output: Any, part: OutputPath) -> tuple[str, Tensor]:
    if not isinstance(part, (str, int)):
        made = part(output)
        if not isinstance(made, Tensor) or not made.is_floating_point() or not made.ndim:
            came = f"a {made.dtype} tensor of shape {tuple(made.shape)}" if isinstance(made, Tensor) else type(made)
            raise WhycamError(f"output= must return a floating-point tensor (batch, ...); it returned {came}.")
        return f" through {getattr(part, '__name__', type(part).__name__)}", made
    found = [("", output)] if isinstance(output, Tensor) else [(spell(path), each) for path, each in _found(output)]
    for path, tensor in found:
        if _plain(path) == _plain(str(part)):
            return path, tensor
    listed = _listed(_found(output)) if not isinstance(output, Tensor) else "nothing but itself, a tensor"
    raise WhycamError(f"the model's output has no part {part!r}; there is {listed}.")


def _plain(path: str) -> str:
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
