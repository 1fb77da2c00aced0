"""`doctor`: a dry run that lists what a user of a network would stumble over, and what each method would cost."""

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from whycam.checkup import findings
from whycam.checkup.cost import Rehearsal, refusal
from whycam.checkup.findings import CHECKS, Finding, Severity, notable, problem, sentence
from whycam.engine.inputs import prepared_by
from whycam.engine.maps import predictions
from whycam.engine.request import Request
from whycam.engine.session import Session
from whycam.errors import LayerRefused, Misplaced, WhycamError
from whycam.kit.progress import Progress
from whycam.kit.quantities import FUNCTIONS, OF_ATTENTION
from whycam.kit.registry import Method, methods
from whycam.kit.words import plural
from whycam.models.conversion import NoPhotos
from whycam.models.vision_model import VisionModel
from whycam.network.diagnosis.flops import counted
from whycam.network.diagnosis.non_finite import first_non_finite
from whycam.network.diagnosis.survey import Survey, survey
from whycam.network.hooks import Inputs, watching
from whycam.network.layer_refs import find_layers
from whycam.network.layers.attention_block import choose_block
from whycam.network.layers.features import features
from whycam.network.origin import settled
from whycam.network.outputs import OutputPath, number_of_classes, read
from whycam.network.pytree import first_sample, first_tensor
from whycam.network.recording.graph_breaks import follow
from whycam.network.unwrap import unwrapped
from whycam.network.variants.scoring import RunConfig
from whycam.pictures.preprocess import Preprocess
from whycam.results.explanation import Comparison
from whycam.results.values import Cost, Layer, Prediction
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
        aside = f", {plural(known, 'thing')} worth knowing" if known else ""
        return (plural(len(self.problems), "problem") if self.problems else "no problem") + aside

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
    # a scripted network takes no hook, and is not run
    scripted = isinstance(made.module, torch.jit.ScriptModule)
    with warnings.catch_warnings(), nullcontext() if scripted else watching(made.module, "input", made.count):
        warnings.filterwarnings("ignore", "the model is in training mode")  # which is among the findings
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
    """One dry run, step by step; a step after which nothing more can be said ends it.

    Attributes:
        bare: the network without labels and preprocessing, so that those that do not fit stop nothing.
        barred: quantities that cannot be had, with the reason.
        target: what is explained where no class can be read.
        forwards, backwards: passes so far, those that end in an error as well.
    """

    def __init__(self, session: Session, given: Any, part: OutputPath | None) -> None:
        self.session, self.vision, self.given, self.part = session, session.vision, given, part
        self.module = unwrapped(self.vision.module)
        self.bare = Session(replace(self.vision, preprocess=None, labels=None))
        self.inputs: Inputs | None = None
        self.seen: Survey | None = None
        self.findings: list[Finding] = []
        self.checked: set[str] = set()
        self.layer: Layer | None = None
        self.methods: list[MethodCheck] = []
        self.output: Answer | None = None
        self.barred: dict[str, WhycamError] = {}
        self.target: Callable[[Tensor], Tensor] | None = None
        self.forwards = self.backwards = self.prepares = 0

    def run(self) -> None:
        """Every step, until one says that nothing more can be found."""
        self._note(findings.of_network(self.module), "weights", "training mode", "precision", "scripted")
        self._note(findings.of_vision(self.vision), "checkpointing", "preprocessing")
        if any(each.kind == "scripted" and each.severity == "problem" for each in self.findings):
            return
        if any(each.device.type == "meta" for each in self.module.parameters()):
            return
        self.inputs = first_sample(self.session.batch(self.given).inputs)
        seen = self.seen = survey(self.module, self.inputs)
        self._note(findings.of_survey(seen), "forward")
        if seen.error is not None:
            return
        self._note((), "repeated", "unused", "dead layer")
        explained: list[str] = []
        if self._read_output(seen, self.inputs):
            explained = self._choose_layer(seen, self.inputs)
            rehearsal = self._rehearsal(self.inputs)
            self.methods = [self._try_method(each, seen, self.inputs, rehearsal) for each in methods().values()]
            self._note(self._cuts(self.inputs), "cut gradient")
        self._note(findings.of_zero([name for name in seen.zero if name not in explained]))

    def count(self, *_: Any) -> None:
        """One forward began."""
        self.forwards += 1

    def checkup(self, seconds: float) -> Checkup:
        """What was found."""
        found = {each.kind for each in self.findings}
        fine = [
            Finding("fine", kind, "", text)
            for kind, text in CHECKS.items()
            if kind in self.checked and kind not in found
        ]
        order = ("problem", "worth knowing", "fine")
        return Checkup(
            tuple(sorted(dict.fromkeys([*self.findings, *fine]), key=lambda each: order.index(each.severity))),
            self.layer,
            tuple(self.methods),
            self.output,
            Cost(self.forwards, self.backwards, seconds),
            self.vision.name,
            tuple(first_tensor(self.inputs).shape) if self.inputs is not None else (),
            self.seen.flops if self.seen is not None else 0,
            self.prepares,
        )

    def _note(self, found: Iterable[Finding], *checks: str) -> None:
        self.checked.update(checks)
        self.findings += found

    def _read_output(self, seen: Survey, inputs: Inputs) -> bool:
        """Whether there is an answer that can be explained."""
        samples = len(first_tensor(inputs))
        try:
            part, values = read(seen.output, self.part, samples, number_of_classes(self.module))
        except WhycamError as error:
            self._note([findings.refused("answer", error)])
            return False
        values = values.detach().float()
        known, _ = settled(self.module, inputs, values, part, self.part, labels=len(self.vision.labels or ()))
        found = findings.of_answer(
            seen.output, part, values, samples=samples, probability=known.probability, embedding=known.embedding
        )
        self._note(found, "answer", "probability", "one unit", "constant answer", "non-finite")
        classes = prediction = None
        if known.classes and len(values) == samples:
            reading, labels = ClassReading(known.probability), self.vision.labels
            classes = reading.logits(values).shape[1]
            self._note(findings.of_labels(labels, classes), "labels")
            fits = labels is not None and len(labels) == classes
            (prediction,) = predictions(values[:1], labels if fits else None, reading)
        else:
            self.target = _largest
        self.output = Answer(part, tuple(values.shape), classes, prediction)
        if bool(values.isfinite().all()):
            return len(values) == samples
        where = first_non_finite(self.module, inputs)[0] or "the output"
        text = f"The output is not finite: NaN or infinity first appears in {where}."
        advice = "Check the input and the weights there; half precision overflows above 65,504."
        self._note([problem("non-finite", text, advice)])
        return False

    def _choose_layer(self, seen: Survey, inputs: Inputs) -> list[str]:
        """Look at the layers that are chosen when none is named; their modules' names.

        The choice is kept by the network's layers for the methods to come, so that their cost is their own.
        """
        sides = {each.side: each.name for each in methods().values() if each.needs == {"activations", "gradients"}}
        tried = 0
        try:
            found, spent = features(self.module, inputs)
            try:
                block, tried = choose_block(self.module, inputs)
            except LayerRefused as error:
                block = str(error)
            if isinstance(block, str):
                self.barred |= dict.fromkeys(OF_ATTENTION, LayerRefused(block))
            made = self._compare(inputs, [sides["before"], sides["after"]])
        except LayerRefused as error:
            kind = "location" if isinstance(error, Misplaced) else "layer"
            self._note([findings.refused(kind, error)])
            self.barred["activations"] = error
            return []
        except WhycamError as error:
            self.barred["gradients"] = error
            return []
        self.prepares = spent + made.cost.choosing + tried
        self._note((), "layer", "layout", "location", "zero gradient")
        explained: list[str] = []
        about: dict[str, Finding] = {}
        for layer in {each.layer.name: each.layer for each in made.values()}.values():
            self.layer = self.layer or layer
            (tap,) = find_layers(self.module, layer.name)
            explained.append(tap.module)
            readings = next((each.readings for each in found if each.tap.module == tap.module), ())
            if isinstance(self.module.get_submodule(tap.module), _CHANNELS_FIRST):
                readings = readings[:1]
            for each in findings.of_layer(layer, readings, dead=tap.module in seen.zero):
                about.setdefault(each.kind, each)
        self._note(about.values())
        return explained

    def _cuts(self, inputs: Inputs) -> Iterable[Finding]:
        """What ends the gradient's way from the answer to the layer, or to the input."""
        advice = "Let gradients through there, or use a method that needs none, such as eigen_cam."
        if "gradients" in self.barred:
            text = f"No map can be made from gradients: {self.barred['gradients']}"
            yield problem("cut gradient", sentence(text), advice)
            return
        samples, classes = len(first_tensor(inputs)), number_of_classes(self.module)
        try:
            trail = follow(self.module, inputs, read=lambda raw: read(raw, self.part, samples, classes)[1])
        except Exception as error:  # a model that raises once gradients are on: the methods have said so
            refusal(error)
            return
        if trail.cuts and not trail.arrives:
            text = f"On its way to the input the gradient ends at {trail.cuts[0]}."
            advice = "Nothing to do for layers behind that; those before it, and guided_backprop, have no gradient."
            yield notable("cut gradient", text, advice, trail.cuts[0].module)

    def _rehearsal(self, inputs: Inputs) -> Rehearsal:
        """Estimates for methods that run the network many times: trying all of those would take hours."""
        quiet = RunConfig(progress=Progress(False))
        request = Request.several(["rise"], None, [self.target], None, None, output=self.part, run=quiet)
        return Rehearsal(self.bare, self.bare.batch(inputs), request)

    def _try_method(self, method: Method, seen: Survey, inputs: Inputs, rehearsal: Rehearsal) -> MethodCheck:
        not_possible = partial(MethodCheck, method.name, method.title, "", "not possible")
        refusals = [self.barred[need] for need in sorted(method.needs) if need in self.barred]
        if refusals:
            return not_possible(str(refusals[0]))
        if method.needs & FUNCTIONS:
            before = rehearsal.backwards
            cost = rehearsal.of(method)
            self.backwards += rehearsal.backwards - before
            if not cost.possible:
                return not_possible(cost.reason)
            runs = sum(each.number for each in cost.parts)
            return MethodCheck(
                method.name, method.title, cost.layer, "not run", _NOT_RUN, cost.forwards, cost.backwards, cost.total,
                runs,
            )  # fmt: skip
        try:
            with counted() as counter:
                made = self._compare(inputs, [method.name])
        except WhycamError as error:
            return not_possible(str(error))
        (one,) = made.values()
        if self.layer is None and method.has_layer:
            self.layer = one.layer
        status = one.status[0]
        if status.kind == "zero gradient" and all(each.kind != "zero gradient" for each in self.findings):
            advice = "Try a photo and trained weights, name another layer, or use eigen_cam, which needs no gradient."
            self._note([problem("zero gradient", sentence(status.message), advice, one.layer.name)])
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

    def _compare(self, inputs: Inputs, names: Sequence[str]) -> Comparison:
        """The explanations by some methods. What the network itself raises is a refusal too."""
        request = Request.several(names, None, [self.target], None, None, output=self.part)
        try:
            made = self.bare.run(self.bare.batch(inputs), request)
        except Exception as error:  # a model that runs for a prediction may raise once gradients are on
            raise refusal(error) from error
        self.backwards += made.cost.backwards
        return made


def _largest(output: Tensor) -> Tensor:
    """A score for outputs from which no class can be read."""
    return output.flatten(1).amax(1)
