"""`doctor`: a dry run that lists what a user of a network would stumble over, and what each method would cost."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from whycam.checkup import findings
from whycam.checkup.cost import Rehearsal, refusal
from whycam.checkup.findings import Finding, Severity
from whycam.engine.inputs import prepared_by
from whycam.engine.maps import predictions
from whycam.engine.request import Request
from whycam.engine.session import Session
from whycam.errors import Misplaced, WhycamError
from whycam.kit.progress import Progress
from whycam.kit.quantities import FUNCTIONS
from whycam.kit.registry import Method, methods
from whycam.models.conversion import NoPhotos
from whycam.models.vision_model import VisionModel
from whycam.network.diagnosis.condition import condition
from whycam.network.diagnosis.flops import counted
from whycam.network.diagnosis.non_finite import first_non_finite
from whycam.network.diagnosis.survey import Survey, is_ours, survey
from whycam.network.hooks import Inputs, watching
from whycam.network.layer_refs import find_layers
from whycam.network.layers.features import Feature, features
from whycam.network.origin import settled
from whycam.network.outputs import OutputPath, number_of_classes, read
from whycam.network.pytree import first_sample, first_tensor
from whycam.network.recording.graph_breaks import Cut, follow
from whycam.network.unwrap import unwrapped
from whycam.network.variants.scoring import RunConfig
from whycam.pictures.preprocess import Preprocess
from whycam.results.explanation import Comparison, Cost, Layer, Prediction
from whycam.targets import ClassReading


@dataclass(frozen=True)
class MethodCheck:
    """What one method costs and gives on this network and input.

    Attributes:
        name, title: the method's. `layer`: where its map is made; empty where there is none.
        status: the kind of its map's status (`"ok"`, `"zero gradient"`, ...), or `"not possible"`; `message` says why.
            `"not run"` for methods that run the network many times: what they would cost is found by a dry run
            (`whycam.estimate_cost`), and what their maps are like is not.
        forwards, backwards, parts: passes for one target, and runs of the part above the layer. `flops`: floating-point
            operations, as a multiple of one prediction's. `None` where the method is not possible.
    """

    name: str
    title: str
    layer: str
    status: str
    message: str = ""
    forwards: int | None = None
    backwards: int | None = None
    flops: float | None = None
    parts: int | None = None


@dataclass(frozen=True)
class Answer:
    """What a network returned.

    Attributes:
        part: where in its output the scores are, as code would write it: `.logits`, empty for the output itself.
        shape: their shape, for one sample. `classes`: how many; `None` where no class can be read.
        prediction: what it says of the input, where it holds classes.
    """

    part: str
    shape: tuple[int, ...]
    classes: int | None
    prediction: Prediction | None


@dataclass(frozen=True)
class Checkup:
    """What a dry run of a network showed.

    Attributes:
        findings: problems first, then what is worth knowing, then the checks that found nothing.
        layer: where Grad-CAM's map is made when no layer is named, and why; `None` if none can be.
        methods: every method, with its status and cost; empty if the network could not be run.
        output: what the network returned; `None` if it could not be run.
        cost: what this dry run took.
        model, inputs: what was run: the model's name, and the shapes of its first sample.
        flops: floating-point operations of one prediction.
        prepares: forwards that the first explanation of a network takes besides, to choose its layer and the like.
    """

    findings: tuple[Finding, ...]
    layer: Layer | None
    methods: tuple[MethodCheck, ...]
    output: Answer | None
    cost: Cost
    model: str = ""
    inputs: tuple[int, ...] = ()
    flops: int = 0
    prepares: int = 0

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings without which there is no map, or not the map one thinks."""
        return self.of("problem")

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(each for each in self.findings if each.severity == severity)

    @property
    def verdict(self) -> str:
        """The headline: how many findings of what severity."""
        known = len(self.of("worth knowing"))
        aside = f", {known} {'thing' if known == 1 else 'things'} worth knowing" if known else ""
        count = len(self.problems)
        return (f"{count} problem{'' if count == 1 else 's'}" if count else "no problem") + aside

    def __str__(self) -> str:
        lines = [f"{self.model}: {self.verdict}"]
        if self.layer is not None:
            lines.append(f"layer {self.layer}: {self.layer.why}")
        told = (*self.problems, *self.of("worth knowing"))
        lines += [f"{each.severity}: {each.kind}: {each.text} {each.advice}" for each in told]
        if found := self.of("fine"):
            lines.append(f"fine: {', '.join(each.kind for each in found)}")
        reasons: dict[str, list[str]] = {}
        for each in self.methods:
            reasons.setdefault(_outcome(each), []).append(each.name)
        lines += [f"{', '.join(names)}: {outcome}" for outcome, names in reasons.items()]
        return "\n".join([*lines, f"this took {self.cost}"])


def _outcome(method: MethodCheck) -> str:
    if method.forwards is None or method.backwards is None:
        return f"{method.status}: {method.message}"
    passes = str(Cost(method.forwards, method.backwards, 0.0, parts=method.parts or 0)).rpartition(",")[0]
    flops = f", {method.flops:.1f} times the operations of a prediction" if method.flops is not None else ""
    return f"{method.status}{f' at {method.layer}' if method.layer else ''}, {passes}{flops}"


def doctor(session: Session, inputs: Any = None, *, output: OutputPath | None = None) -> Checkup:
    """What `Explainer.doctor` returns."""
    started = time.perf_counter()
    made = _Examination(session, inputs if inputs is not None else trial_input(session.vision), output)
    with _no_mode_warning(), made.counting():
        made.run()
    return made.checkup(time.perf_counter() - started)


def trial_input(model: VisionModel, shape: Sequence[int] | None = None) -> Tensor:
    """One input of noise, for want of a photo: of that shape `(channel, *spatial)`, or of the size the model says.

    Noise and not zeros: without biases zeros stay zeros, and every unit looks dead.

    Raises:
        WhycamError: the model does not say what size its input has.
    """
    if shape is None:
        if isinstance(model.preprocess, Preprocess):
            shape = (3, *model.preprocess.size)
        elif model.input_shape is not None:
            shape = model.input_shape
        elif model.preprocess is not None and not isinstance(model.preprocess, NoPhotos):
            shape = prepared_by(model)(Image.new("RGB", (320, 240))).shape
        else:
            raise WhycamError(
                "this model does not say what size its input has; pass --size, as 224x224 (in Python inputs=, as "
                "torch.randn(1, 3, 224, 224))."
            )
    dtype = next((each.dtype for each in model.module.parameters() if each.is_floating_point()), torch.float32)
    return torch.randn(1, *shape, generator=torch.Generator("cpu").manual_seed(0), device="cpu").to(dtype)


#: What is said of methods that are not tried.
_NOT_RUN = "it runs the network many times, so what it would cost was found without running it."
#: Modules that take channels first and nothing else, so that their axes leave no doubt.
_CHANNELS_FIRST = (_ConvNd, _NormBase, nn.GroupNorm)


class _Examination:
    """One dry run, step by step; a step after which nothing more can be said ends it."""

    def __init__(self, session: Session, given: Any, part: OutputPath | None) -> None:
        vision = session.vision
        self.session, self.vision, self.given, self.part = session, vision, given, part
        self.inputs: Inputs | None = None
        self.module = unwrapped(vision.module)
        #: asked by number, so that labels that do not fit stop nothing
        self.bare = Session(replace(vision, preprocess=None, labels=None))
        self.findings: list[Finding] = []
        self.checked: set[str] = set()
        self.layer: Layer | None = None
        self.methods: list[MethodCheck] = []
        #: quantities that cannot be had, with the reason
        self.barred: dict[str, str] = {}
        self.output: Answer | None = None
        self.chosen: list[str] = []
        self.target: Callable[[Tensor], Tensor] | None = None
        #: methods that were asked first, which pay for choosing the layer, and what they paid
        self.asked: list[str] = []
        self.forwards = self.backwards = self.prepares = self.first = 0
        self.seen: Survey | None = None
        self.rehearsal: Rehearsal | None = None

    def run(self) -> None:
        """Every step, until one says that nothing more can be found."""
        if not self._look_over():
            return
        self.inputs = first_sample(self.session.batch(self.given).inputs)
        seen = self.seen = survey(self.module, self.inputs)
        self._note("forward", *findings.of_survey(seen))
        if seen.error is not None:
            return
        self.checked |= {"repeated", "unused"}
        if self._read_output(seen, self.inputs):
            cut = self._look_for_cuts(self.inputs)
            self._choose_layer(seen, self.inputs)
            self.methods = [self._try_method(each, seen, self.inputs) for each in methods().values()]
            again = [each.forwards for each in self.methods if each.name in self.asked and each.forwards is not None]
            self.prepares += self.first - min(again) if again else 0
            self._note("cut gradient", *findings.of_cuts(cut, self.barred.get("gradients")))
        self._note("dead layer", *findings.of_zero([name for name in seen.zero if name not in self.chosen]))

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the forwards, those that end in an error as well."""
        if isinstance(self.module, torch.jit.ScriptModule):  # which takes no hook, and is not run
            yield
            return
        with watching(self.module, "input", self._count):
            yield

    def _count(self, *_: Any) -> None:
        self.forwards += 1

    def checkup(self, seconds: float) -> Checkup:
        """What was found."""
        order = {severity: rank for rank, severity in enumerate(("problem", "worth knowing", "fine"))}
        every = [*self.findings, *findings.fine(self.checked, self.findings)]
        return Checkup(
            tuple(sorted(dict.fromkeys(every), key=lambda each: order[each.severity])),
            self.layer,
            tuple(self.methods),
            self.output,
            Cost(self.forwards, self.backwards, seconds),
            self.vision.name,
            tuple(first_tensor(self.inputs).shape) if self.inputs is not None else (),
            self.seen.flops if self.seen is not None else 0,
            self.prepares,
        )

    def _has(self, kind: str) -> bool:
        return any(each.kind == kind for each in self.findings)

    def _note(self, check: str, *found: Finding) -> None:
        self.checked.add(check)
        self.findings += found

    def _look_over(self) -> bool:
        """Whether the network can be run and watched at all."""
        state = condition(self.vision.module)
        self.findings += [*findings.of_condition(state), *findings.of_vision(self.vision)]
        self.checked |= {
            "weights", "training mode", "mixed modes", "precision", "devices", "compiled", "scripted", "parallel",
            "checkpointing", "preprocessing",
        }  # fmt: skip
        return not state.absent and not state.refused

    def _read_output(self, seen: Survey, inputs: Inputs) -> bool:
        """Whether there is an answer that can be explained."""
        samples = len(first_tensor(inputs))
        try:
            part, values = self._answer(seen.output, inputs)
        except WhycamError as error:
            self._note("answer", findings.refused("answer", error))
            return False
        values = values.detach().float()
        known, _ = settled(self.module, inputs, values, part, self.part, labels=len(self.vision.labels or ()))
        why, reading = known.embedding, ClassReading(known.probability)
        readable = known.classes and len(values) == samples
        found = findings.of_answer(
            seen.output, part, values, samples=samples, probability=known.probability, embedding=why
        )
        self._note("answer", *found)
        self.checked |= {"probability", "one unit", "constant answer"}
        prediction = None
        if readable:
            classes = reading.logits(values).shape[1]
            self._note("labels", *findings.of_labels(self.vision.labels, classes))
            fits = self.vision.labels is not None and len(self.vision.labels) == classes
            (prediction,) = predictions(values[:1], self.vision.labels if fits else None, reading)
        else:
            classes = None
            self.target = _largest
        self.output = Answer(part, tuple(values.shape), classes, prediction)
        self.checked.add("non-finite")
        if bool(values.isfinite().all()):
            return len(values) == samples
        cause = first_non_finite(self.module, inputs)[0] or "the output"
        self._note("non-finite", findings.of_non_finite(cause))
        return False

    def _answer(self, raw: Any, inputs: Inputs) -> tuple[str, Tensor]:
        """The part of what the network returned that is explained, and where it is."""
        return read(raw, self.part, len(first_tensor(inputs)), number_of_classes(self.module))

    def _look_for_cuts(self, inputs: Inputs) -> list[Cut]:
        """What ends the gradient's way from the answer to the input."""
        try:
            trail = follow(self.module, inputs, read=lambda raw: self._answer(raw, inputs)[1])
        except Exception as error:  # a model that raises once gradients are on: the methods to come will say so
            if is_ours(error):
                raise
            return []
        return [] if trail.arrives else list(trail.cuts)

    def _choose_layer(self, seen: Survey, inputs: Inputs) -> None:
        """Look at the layers that are chosen when none is named.

        The choice is kept by the network's layers for the methods to come, so that their cost is their own.
        """
        try:
            found, self.prepares = features(self.module, inputs)
        except WhycamError as error:
            self._note("layer", findings.refused("layer", error))
            self.barred["activations"] = str(error)
            return
        sides = {each.side: each.name for each in methods().values() if each.needs == {"activations", "gradients"}}
        self.asked = [sides["before"], sides["after"]]
        made = self._compare(inputs, self.asked)
        if isinstance(made, Misplaced):
            self._note("location", findings.refused("location", made))
            self.barred["activations"] = str(made)
            return
        if isinstance(made, WhycamError):
            self.barred["gradients"] = str(made)
            return
        self.first = made.cost.forwards
        self.checked |= {"layer", "layout", "location", "in-place", "zero gradient"}
        for reason in dict.fromkeys(made.failures.values()):
            self._note("layer", findings.refused("layer", WhycamError(reason)))
        told: set[str] = set()
        for layer in {each.layer.name: each.layer for each in made.values()}.values():
            self.layer = self.layer or layer
            about = [each for each in self._about(layer, found, seen) if each.kind not in told]
            told |= {each.kind for each in about}
            self._note("layer", *about)

    def _about(self, layer: Layer, found: Sequence[Feature], seen: Survey) -> Iterator[Finding]:
        (tap,) = find_layers(self.module, layer.name)
        readings = next((each.readings for each in found if each.tap.module == tap.module), ())
        if isinstance(self.module.get_submodule(tap.module), _CHANNELS_FIRST):
            readings = readings[:1]
        last = seen.calls[tap.module] - 1
        number = min(tap.call, last) if isinstance(tap.call, int) else last  # a view of one call has a number too
        self.chosen.append(tap.module)
        return findings.of_layer(
            layer, readings, seen.overwritten.get((tap.module, number)), dead=tap.module in seen.zero
        )

    def _try_method(self, method: Method, seen: Survey, inputs: Inputs) -> MethodCheck:
        if reasons := [self.barred[need] for need in sorted(method.needs) if need in self.barred]:
            return MethodCheck(method.name, method.title, "", "not possible", reasons[0])
        if method.needs & FUNCTIONS:
            return self._estimate(method, inputs)
        with counted() as counter:
            made = self._compare(inputs, [method.name])
        if isinstance(made, WhycamError):
            return MethodCheck(method.name, method.title, "", "not possible", str(made))
        (one,) = made.values()
        if self.layer is None and method.has_layer:
            self.layer = one.layer
        status = one.status[0]
        if status.kind == "zero gradient" and not self._has("zero gradient"):  # one method says it for all
            advice = "Try a photo and trained weights, name another layer, or use eigen_cam, which needs no gradient."
            self._note(
                "zero gradient",
                findings.problem("zero gradient", one.layer.name, findings.sentence(status.message), advice),
            )
        return MethodCheck(
            method.name,
            method.title,
            one.layer.name if method.has_layer else "",
            status.kind,
            status.message,
            made.cost.forwards,
            made.cost.backwards,
            counter.get_total_flops() / seen.flops if seen.flops else None,
            made.cost.parts,
        )

    def _estimate(self, method: Method, inputs: Inputs) -> MethodCheck:
        """What a method would cost that runs the network many times: trying all of those would take hours."""
        if self.rehearsal is None:
            quiet = RunConfig(progress=Progress(False))
            request = Request.several([method.name], None, [self.target], None, None, output=self.part, run=quiet)
            self.rehearsal = Rehearsal(self.bare, self.bare.batch(inputs), request)
        before = self.rehearsal.backwards
        found = self.rehearsal.of(method)
        self.backwards += self.rehearsal.backwards - before
        if not found.possible:
            return MethodCheck(method.name, method.title, "", "not possible", found.reason)
        parts = sum(each.number for each in found.parts)
        counts = found.forwards, found.backwards, found.total, parts
        return MethodCheck(method.name, method.title, found.layer, "not run", _NOT_RUN, *counts)

    def _compare(self, inputs: Inputs, names: Sequence[str]) -> Comparison | WhycamError:
        """The explanations, or why there are none."""
        try:
            request = Request.several(names, None, [self.target], None, None, output=self.part)
            made = self.bare.run(self.bare.batch(inputs), request)
        except Exception as error:  # a model that runs for a prediction may raise once gradients are on
            return refusal(error)
        self.backwards += made.cost.backwards
        return made


def _largest(output: Tensor) -> Tensor:
    """A score for outputs from which no class can be read."""
    return output.flatten(1).amax(1)


@contextmanager
def _no_mode_warning() -> Iterator[None]:
    """What the guard warns of once is among the findings."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the model is in training mode")
        yield
