"""One forward with its taps, and the backwards from it: what the layers returned, call by call, and its gradients."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from whycam.errors import LayerNotFound, LayerRefused, NoGradient, OutputError, TargetError, WhycamError
from whycam.kit.arrays import wide
from whycam.network.attention.folding import Folding
from whycam.network.hooks import Inputs, call, watching
from whycam.network.layer_refs import LayerRef
from whycam.network.model_tree import tree_of
from whycam.network.origin import Answer as Answer
from whycam.network.origin import settled
from whycam.network.outputs import OutputSelector, Scores, number_of_classes, read
from whycam.network.pytree import first_tensor, mapped, only_tensor, replaced, storage_of, tensors
from whycam.network.recording.detaching import Detaching
from whycam.network.recording.guided import guided_relu
from whycam.network.recording.partial_forward import Watch
from whycam.network.recording.relevance import Relevance
from whycam.network.recording.two_faced import TwoFaced
from whycam.targets import ResolvedTarget
from whycam.targets.structured import DISAGREE, resolved

#: The model's answer -> a settled target.
Resolve: TypeAlias = Callable[[Tensor], ResolvedTarget]
#: A module's name and which side of it is kept.
Where: TypeAlias = tuple[str, str]
#: One call of a module.
Call: TypeAlias = tuple[Where, int]
#: One score's gradient at each call, and at the input; `None` where it does not depend on it.
Gradients: TypeAlias = Mapping[Call, Tensor | None]
INPUT: Call = (("", "input"), 0)


@dataclass(frozen=True, eq=False)
class Pass:
    """One pass of the batch through a layer: one call, as a rule.

    Attributes:
        asked, tap: the tap that was asked for, and the same with its number.
        calls: the calls that the pass is part of; several, or one of other than as many rows as there are samples,
            where rows have to be told apart (`odd`).
        number, count: which pass of how many.
    """

    asked: LayerRef
    tap: LayerRef
    calls: tuple[Call, ...]
    number: int
    count: int
    odd: bool

    @property
    def where(self) -> Where:
        """The layer."""
        return self.calls[0][0]


@dataclass
class Attempt:
    """A forward with its backwards: graphs are alive in here, so it lives inside `record` only.

    Attributes:
        output, answer: the part of the output that is explained, and what is known of it.
        found: one for each score that was differentiated.
        repeated: forwards made on top of the one.
    """

    output: Tensor
    answer: Answer
    targets: tuple[ResolvedTarget, ...]
    scores: list[Tensor]
    passes: list[Pass]
    found: list[Gradients]
    repeated: int

    def __post_init__(self) -> None:
        found = [gradient is None for row in self.found for gradient in row.values()]
        #: Whether some score does not depend on some place, and whether none does on any.
        self.cut, self.disconnected = True in found, False not in found


class Forward:
    """The forward passes of one recording, and what its hooks kept. Lives inside `record` only.

    `off` are the layers that ran with gradients turned off although they were on at the start.
    """

    def __init__(
        self,
        model: nn.Module,
        taps: Sequence[LayerRef],
        resolvers: Sequence[Resolve],
        *,
        want_gradients: bool,
        guided: bool,
        resume: bool = False,
        folding: Folding | None = None,
        relevance: Relevance | None = None,
    ) -> None:
        self.model = model
        self.relevance = relevance
        self.folding = folding
        self.faces = TwoFaced() if folding is not None and folding.relates else None
        self.taps = taps
        #: Where hooks go, and which calls are asked for there.
        self.places: dict[Where, list[Any]] = {}
        for tap in taps:
            self.places.setdefault((tap.module, tap.side), []).append(tap.call)
        self.resolvers: Sequence[Resolve] = resolvers
        asked = [each.settling for each in resolvers if isinstance(each, OutputSelector)]
        self.settling = [each for each in asked if each is not None]
        if self.settling and len(self.settling) < len(resolvers):
            raise OutputError("targets of the whole output, such as Box, and targets of class scores do not mix.")
        self.through: bool | None = None
        if self.settling:
            self.through, *others = {each.target.goes_through() for each in self.settling}
            if others:
                raise TargetError(DISAGREE)
        self.raw: dict[str, Any] = {}  # what modules returned that such targets look at
        self.detaching: Detaching | None = None  # what the network detaches, for targets that ask
        self.nothing = False  # whether the output holds no answer, and none is needed
        self.part = next((each.part for each in resolvers if isinstance(each, OutputSelector)), None)
        self.guided = guided
        self.left: dict[str, None] = {}  # activations that are no ReLUs, where ReLUs are guided; or without a rule
        self.resume = resume and bool(taps)
        self.watch: Watch | None = None
        self.wanted = self.want_gradients = want_gradients
        self.backwards = 0
        self.off: set[Where] = set()
        self.from_start = False
        self.samples = 0
        self.stacks: tuple[int, ...] = ()  # how many pictures the input may hold for each sample
        self.kept: dict[Where, dict[int, Tensor]] = {}
        self.rows: dict[Where, list[int]] = {}

    def attempt(self, inputs: Inputs, leaf: Tensor | None, *, from_start: bool) -> Attempt:
        """Run, settle the targets and, where wanted, find each score's gradient at the layers and at the `leaf`."""
        output, name = self._run(inputs, from_start=from_start)
        repeated = 0
        if not self.want_gradients and self.samples > 1 and any(map(self.odd, self.rows)):
            self.want_gradients = True  # which row belongs to which sample is told by gradients
            output, name = self._run(inputs, from_start=from_start)
            repeated = 1
        seen = output.detach()
        answer, spent = self._settled(inputs, seen, name)
        repeated += spent
        targets = tuple(
            [
                resolve(seen, probability=answer.probability) if isinstance(resolve, OutputSelector) else resolve(seen)
                for resolve in self.resolvers
            ]
        )
        if answer.embedding and any(target.by_output for target in targets):
            raise OutputError(
                f"the model's output{name} is an embedding ({answer.embedding}), whose largest number is no class. "
                "Pass a target, such as whycam.targets.Similarity(reference), Text('a dog') or the index of "
                "one of its numbers, or the part that holds class scores as output=."
            )
        scores = [target(output) for target in targets]
        passes = self.chosen()
        points = {one: self.tensor(one) for each in passes for one in each.calls} if self.want_gradients else {}
        if leaf is not None:
            points[INPUT] = leaf
        needed = scores if self.wanted or leaf is not None else scores[:1] if points else []
        found = self.differentiate(needed, points, keep=True in [each.odd for each in passes])
        return Attempt(output, answer, targets, scores, passes, found, repeated)

    def differentiate(self, scores: Sequence[Tensor], points: Mapping[Call, Tensor], *, keep: bool) -> list[Gradients]:
        """Each score's gradient at each point; `keep` the graph for another time."""
        found: list[Gradients] = []
        starts = self.folding.starts if self.folding is not None else []
        for number, score in enumerate(scores, 1):
            self.backwards += 1
            if not score.requires_grad or not points:
                found.append(dict.fromkeys(points))
            else:
                again, ends = keep or number < len(scores), [*points.values(), *starts]
                total = score.sum()
                with self.relevance or self.faces or nullcontext():
                    gradients = torch.autograd.grad(
                        total, ends, retain_graph=again or self.faces is not None, allow_unused=True
                    )
                found.append(dict(zip(points, gradients, strict=False)))
                if self.faces is not None:
                    self.backwards += 1
                    with self.faces, self.faces.turning():
                        torch.autograd.grad(total, ends, retain_graph=again, allow_unused=True)
            if self.folding is not None:
                self.folding.target()
        return found

    def _run(self, inputs: Inputs, *, from_start: bool) -> tuple[Tensor, str]:
        self.kept, self.rows = {}, {}
        self.from_start = from_start
        self.picture = picture = first_tensor(inputs)
        self.samples = picture.shape[0]  # until the answer tells
        self.stacks = tuple(picture.shape[1:3]) if picture.ndim >= 5 else ()
        with ExitStack() as stack:
            tree = tree_of(self.model)
            if self.folding is not None:
                for number, name in self.folding.cuts.items():
                    stack.enter_context(watching(tree.module(name), "output", partial(self.folding.cut, number)))
                for number, name in self.folding.kept.items():
                    stack.enter_context(watching(tree.module(name), "output", partial(self.folding.keep, number)))
            for where in self.places:
                self.kept[where], self.rows[where] = {}, []
                stack.enter_context(watching(tree.module(where[0]), where[1], partial(self._keep, where)))
            for settling in self.settling:
                for name, module in settling.target.watched(self.model).items():
                    stack.enter_context(watching(tree.module(module), "output", partial(self._see, name)))
            if self.resume:
                self.watch = Watch(self.model, self.taps)
                stack.enter_context(self.watch.watching())
            for rules in filter(None, (self.relevance, self.faces)):
                stack.enter_context(rules)  # below the other modes, which do not look at what the rules do
            if self.folding is not None and self.faces is not None:
                first = tree.module(self.folding.places[0].block)
                stack.enter_context(watching(first, "input", self.folding.begin))
            if self.guided:
                self.left = stack.enter_context(guided_relu()).left
            if self.want_gradients and self.through is not None:
                self.detaching = stack.enter_context(Detaching(self.through))
            if self.folding is not None:
                stack.enter_context(self.folding.capture())
            torch.set_grad_enabled(from_start)  # put back by the guard around this pass
            try:
                # a model may write to what it is given
                output = call(self.model, mapped(inputs, torch.clone))
            except RuntimeError as error:
                if "Inference tensors cannot be saved" in str(error):
                    raise NoGradient(self._inference()) from error
                raise
        for tap in self.taps:
            if not self.rows[tap.module, tap.side]:
                raise LayerNotFound(self._silence(tap))
        if self.folding is not None:
            self.folding.check()
        name, tensor = self.read(output, self.samples)
        if not tensor.ndim or not tensor.is_floating_point():
            came = f"values of {tensor.dtype}, a decision" if tensor.ndim else "one number for the whole batch, a loss"
            raise OutputError(
                f"the model's output{name} is {came}; scores were expected, one or more for each sample. Say with "
                "output= where they are, or pass the model that computes them."
            )
        torch.set_grad_enabled(True)  # for the scores
        if self.relevance is not None:
            self.relevance.met(tensor)
        if self.faces is not None:
            self.left = self.faces.left
        self.samples = tensor.shape[0]
        return wide(tensor), name

    def read(self, output: Any, samples: int) -> tuple[str, Tensor]:
        """The part of the output that is explained, and where it was found.

        Where none can be told, functions of the caller's get the whole output, and who asks for no class gets nothing.
        """
        if self.settling:
            return "", self._settle(output)
        try:
            return read(output, self.part, samples, number_of_classes(self.model))
        except WhycamError:
            asked = [each for each in self.resolvers if isinstance(each, OutputSelector)]
            whole = tuple(each.whole for each in asked if each.whole is not None)
            if self.part is not None or len(asked) < len(self.resolvers):
                raise
            if all(each.optional for each in asked):
                self.nothing = True
                return "", torch.full((samples, 1), torch.nan)
            if len(whole) < len(asked):
                raise
        self.part = Scores(whole)
        self.resolvers = [self.part.of(number, each.resolve) for number, each in enumerate(asked)]
        return read(output, self.part, samples)

    def _see(self, name: str, value: Any, _: Any) -> None:
        self.raw[name] = value

    def _settle(self, output: Any) -> Tensor:
        """The scores of targets of the whole output, `(batch, score)`, in this very output."""
        torch.set_grad_enabled(True)
        cut = 0 if self.detaching is None else self.detaching.count
        made = [each.settle(output, self.model, self.picture, self.raw, cut) for each in self.settling]
        functions, targets, columns = resolved([one for several in made for one in several])
        self.part = Scores(functions)
        self.resolvers = [OutputSelector(lambda _, target=target, **__: target, self.part) for target in targets]
        self.raw = {}
        return columns(output)

    def _settled(self, inputs: Inputs, output: Tensor, name: str) -> tuple[Answer, int]:
        """What the output's numbers are, and the forwards it took to find out."""
        if self.nothing or isinstance(self.part, Scores):
            return Answer(name, self.part), 0
        labels = max([each.labels for each in self.resolvers if isinstance(each, OutputSelector)], default=0)
        return settled(self.model, inputs, output, name, self.part, labels=labels)

    def _keep(self, where: Where, result: Any, given: Any) -> Any:
        if self.from_start and not torch.is_grad_enabled():
            self.off.add(where)
        try:
            path, tensor = only_tensor(result, f"the {where[1]} of layer {where[0]!r}")
        except TypeError as error:
            raise LayerRefused(str(error)) from None
        if self.want_gradients and torch.is_inference_mode_enabled():
            raise NoGradient(self._inference())
        if self.want_gradients and tensor.is_quantized:
            raise NoGradient(
                f"layer {where[0]!r} is quantized ({tensor.dtype}), and no gradient goes through it; explain the "
                "network as it was before it was quantized, or use a method that needs no gradient, such as eigen_cam."
            )
        rows, wanted = self.rows[where], self.places[where]
        number = len(rows)
        rows.append(tensor.shape[0])
        if tensor.shape[0] == self.samples and not self.stacks:
            if wanted == ["last"]:
                if number and not self._on(where, [*self.kept[where].values(), tensor]):
                    self.kept[where].clear()
            elif all(isinstance(each, int) and 0 <= each != number for each in wanted):
                return None  # how many calls are to come is not known yet, so calls counted from the end are all kept
        if self.want_gradients:
            torch.set_grad_enabled(True)
            kept = tensor if tensor.requires_grad else tensor.detach()
        else:
            kept = tensor.detach()
        if tensor.is_quantized:
            self.kept[where][number] = kept.dequantize()
            return None
        shared = storage_of(tensor)
        if any(storage_of(other) == shared for _, other in tensors(given)):
            kept = kept.clone()  # the caller of the layer still holds this memory and may write to it
        if self.want_gradients and not kept.requires_grad:
            kept = kept.detach().requires_grad_()  # the graph starts here
        self.kept[where][number] = kept
        # an in-place operation next in the network must reach the clone, not the recording; a graph that others began
        # inside of a block goes on
        return replaced(result, path, (kept if self.want_gradients else tensor).clone())

    def _inference(self) -> str:
        if any(parameter.is_inference() for parameter in self.model.parameters()):
            return (
                "the model's parameters were created inside torch.inference_mode(), which forbids gradients for good; "
                "build or load the model outside of it."
            )
        return (
            "the model runs itself, or a part of itself, under torch.inference_mode(), which forbids gradients for "
            "good; use torch.no_grad() there, or pass the module inside."
        )

    def _silence(self, tap: LayerRef) -> str:
        start = f"layer {str(tap)!r} did not run in this forward pass"
        for name, module in self.model.named_modules():
            if isinstance(module, nn.DataParallel) and len(module.device_ids) > 1:
                return (
                    f"{start}: {name!r} is a DataParallel over {len(module.device_ids)} devices, whose copies run in "
                    f"other threads; put the module inside it, {name}.module, in its place."
                )
        return f"{start}; choose one that does (`whycam layers`)."

    def scales(self, where: Where) -> bool:
        """Whether a layer ran once for each of several scales, as the shared heads of detectors do."""
        rows = self.rows[where]
        if len(rows) < 2:
            return False
        kept = [*self.kept[where].values()]
        return len(kept) == len(rows) and {*rows} == {self.samples} and self._on(where, kept)

    def _on(self, where: Where, several: Sequence[Tensor]) -> bool:
        """Whether a layer with weights returned the same channels on several grids."""
        shapes = [tuple(each.shape) for each in several]
        if not len({shape[2:] for shape in shapes}) == len(shapes) > 1 == len({shape[:2] for shape in shapes}):
            return False
        return any(True for _ in tree_of(self.model).module(where[0]).parameters())

    def odd(self, where: Where) -> bool:
        """Whether the layer's first axis is not the model's batch: parts of the batch, or several views of a sample."""
        rows, samples = self.rows[where], self.samples or 1
        if rows == [samples] or self.scales(where):
            return False
        if len(self.kept[where]) < len(rows) or sum(rows) % samples:
            return False
        if all(each == samples for each in rows):  # as many rows as samples, but of which?
            return len(rows) > 1 and samples > 1 and len(rows) in self.stacks
        return samples not in rows

    def chosen(self) -> list[Pass]:
        """The passes that were asked for."""
        made = []
        for tap in self.taps:
            where = (tap.module, tap.side)
            rows, odd = self.rows[where], self.odd(where)
            count = sum(rows) // self.samples if odd else len(rows)
            every = tap.call == "all" or (tap.call == "last" and count > 1 and self.scales(where))
            if every:
                numbers = list(range(count))
            else:
                number = tap.call if isinstance(tap.call, int) else count - 1
                number += count if number < 0 else 0
                if not 0 <= number < count:
                    raise LayerNotFound(
                        f"layer {tap.module!r} ran {count} time{'s' if count > 1 else ''}, so it has no call "
                        f"{tap.call}; its calls are #0 to #{count - 1}."
                    )
                numbers = [number]
            for number in numbers:
                calls = tuple((where, k) for k in (range(len(rows)) if odd else [number]))
                one = tap.at(number) if count > 1 or tap.call == "all" else tap.at("last")
                asked = tap.at(number) if every else tap
                made.append(Pass(asked, one, calls, number, count, odd))
        return made

    def tensor(self, call: Call) -> Tensor:
        """What that call returned (or was given)."""
        return self.kept[call[0]][call[1]]

    def depends(self, each: Pass, row: Gradients) -> bool:
        """Whether a score depends on a pass."""
        return False in [row[one] is None for one in each.calls]

    def joined(self, each: Pass, values: Gradients) -> Tensor:
        """The values at a pass's calls, one behind the other; zero where there are none."""
        made = [torch.zeros_like(self.tensor(one)) if (value := values[one]) is None else value for one in each.calls]
        return made[0] if len(made) == 1 else torch.cat(made)
