"""What the methods that run a network many times were meant to reach, and what they reach.

`python benchmarks/bench.py --only aims` measures all of it. Each function gives rows of one table.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peers
import torch
import torch.nn.functional as F
from agreement import compared, correlation
from measuring import flops, forward, shortest, timed
from reasons import reason
from subjects import Subject, subject
from tasks import Task
from torch import Tensor, nn

import whycam
from whycam.kit.quantities import Result
from whycam.methods.score_cam import score_cam
from whycam.network.memory import peak_bytes

Row = dict[str, Any]

#: Rounds, since one takes minutes.
ROUNDS = {"ablation": 3, "score": 2}
#: Of the check of memory: the side of the input, the bytes allowed, and how many of the 1,280 channels are scored.
SIDE, BUDGET, CHANNELS = 512, 128 * 2**20, 32
MIB = 2**20


def ablation(rounds: int, size: int) -> Iterator[Row]:
    """Ablation-CAM and Recipro-CAM on ResNet-18's last layer."""
    asked = subject("resnet18")
    inputs = asked.at(size)
    network, peer, plain = asked.network, asked.of_its_own(), forward(asked.of_its_own(), inputs)
    task = Task(
        "ablation_cam",
        "ablation_cam",
        {"pytorch-grad-cam": peers.pytorch_ablation_cam},
        inputs,
        (asked.layer,),
        asked.target,
        asked.target,
    )
    methods = ("ablation_cam", "recipro_cam")
    works: dict[str, Callable[[], Any]] = {name: (lambda name=name: task.explain(network, name)) for name in methods}
    forwards, _ = flops(plain)
    spent = {}
    for name, work in works.items():
        work()  # looks at the layer, once
        spent[name] = flops(work)[0] / forwards
    kept: list[Tensor] = []
    answer = task.answer("pytorch-grad-cam", peer, None)
    works["pytorch-grad-cam"] = lambda: kept.append(answer())
    found = timed(works, plain, min(rounds, ROUNDS["ablation"]))
    times = found.times("pytorch-grad-cam", "ablation_cam")
    where = "Ablation-CAM on ResNet-18 `layer4`"
    yield _row("ablation", f"{where}: times less time than pytorch-grad-cam", ">= 300", times, "x")
    for name, title in zip(methods, (where, "Recipro-CAM there"), strict=True):
        yield _row("ablation", f"{title}: FLOPs in plain forwards", "<= 1.5", [spent[name]])
        yield _row("ablation", f"{title}: time in plain forwards", "", found.ratios[name])
    ours = task.explain(network).maps
    whole = ablated_by_whole_forwards(network, inputs, asked.layer, asked.target)
    apart = compared(ours, whole, "positive").largest
    yield _row("ablation", f"{where}: apart from ablation by whole forwards, over [0, 1]", "<= 1e-5", [apart])
    raw = float((ours - whole).abs().amax() / whole.abs().amax())
    yield _row("ablation", f"{where}: the same, raw maps, in parts of the largest value", "", [raw])
    yield _row(
        "ablation",
        f"{where}: pytorch-grad-cam's map apart from whycam's, over [0, 1]",
        "",
        [compared(ours, kept[0], "positive").largest],
    )


def ablated_by_whole_forwards(network: nn.Module, inputs: Tensor, layer: str, target: int) -> Tensor:
    """Ablation-CAM the slow way: a forward of the whole network for every channel."""
    module = network.get_submodule(layer)
    with torch.no_grad():
        kept: list[Tensor] = []
        handle = module.register_forward_hook(lambda *call: kept.append(call[-1].clone()))
        score = network(inputs)[:, target]
        handle.remove()
        weights = []
        for channel in range(kept[0].shape[1]):

            def without(module: nn.Module, given: Any, output: Tensor, channel: int = channel) -> Tensor:
                output = output.clone()
                output[:, channel] = 0
                return output

            handle = module.register_forward_hook(without)
            weights.append((score - network(inputs)[:, target]) / score.abs())
            handle.remove()
    return torch.einsum("kb,bkhw->bhw", torch.stack(weights), kept[0]).relu()


def score(rounds: int, size: int) -> Iterator[Row]:
    """Score-CAM on MobileNetV2's 1,280 channels."""
    asked = subject("mobilenet_v2")
    inputs = asked.at(size)
    task = Task(
        "score_cam",
        "score_cam",
        {"pytorch-grad-cam": peers.by_pytorch("ScoreCAM"), "torchcam": peers.by_torchcam("ScoreCAM")},
        inputs,
        (asked.layer,),
        asked.target,
        asked.target,
    )
    forms: dict[str, Row] = {
        "as it is": {},
        'precision="float32"': {"precision": "float32"},
        'precision="bfloat16"': {"precision": "bfloat16"},
    }
    kept: dict[str, Any] = {}
    works: dict[str, Callable[[], Any]] = {}
    for name, form in forms.items():
        works[name] = lambda name=name, form=form: kept.update({name: task.explain(asked.network, **form)})
    for library in task.peers:
        answer = task.answer(library, asked.of_its_own(), None)
        works[library] = lambda library=library, answer=answer: kept.update({library: answer()})
    task.explain(asked.network, "grad_cam")
    found = timed(works, forward(asked.of_its_own(), inputs), min(rounds, ROUNDS["score"]), cap=1e9)
    reference = scored_one_by_one(asked, inputs)
    title = "Score-CAM on MobileNetV2 `features.18`"
    for name in forms:
        wanted = 4 if "bfloat16" in name else 2
        for library in task.peers:
            times = found.times(library, name)
            yield _row("score", f"{title}, {name}: times less time than {library}", f">= {wanted}", times, "x")
        yield _row("score", f"{title}, {name}: time in plain forwards", "", found.ratios[name])
    for name in forms:
        ours = kept[name].maps
        apart = compared(ours, reference, "positive")
        limit = "" if "bfloat16" in name else "<= 1e-4"
        yield _row("score", f"{title}, {name}: apart from one run after the other, over [0, 1]", limit, [apart.largest])
        rank = correlation(ours.flatten().double(), reference.flatten().double())
        yield _row("score", f"{title}, {name}: rank correlation with it", ">= 0.99", [rank])
        yield {"aim": "score", "what": f"{title}, {name}: as whycam says", "wanted": "", "found": _said(kept[name])}
    for library in task.peers:
        apart = compared(reference, kept[library], "positive")
        why = reason(task, library)
        assert why is not None
        what = f"{title}: {library}'s map apart from it ({why.where})"
        yield _row("score", what, "", [apart.largest])


def scored_one_by_one(asked: Subject, inputs: Tensor) -> Tensor:
    """Score-CAM as it is written down, a channel and a forward at a time, in float32."""
    kept: list[Tensor] = []
    handle = asked.network.get_submodule(asked.layer).register_forward_hook(lambda *call: kept.append(call[-1].clone()))
    with torch.no_grad():
        asked.network(inputs)
        handle.remove()
        (activations,) = kept
        scores = []
        for channel in range(activations.shape[1]):
            mask = F.interpolate(
                activations[:, channel : channel + 1], inputs.shape[2:], mode="bilinear", align_corners=False
            )
            low, high = mask.amin(), mask.amax()
            if low == high:  # it masks nothing
                scores.append(torch.tensor(-torch.inf))
                continue
            scores.append(asked.network(inputs * (mask - low) / (high - low))[0, asked.target])
    weights = torch.stack(scores).softmax(0)
    return torch.einsum("k,bkhw->bhw", weights, activations).relu()


def _said(made: whycam.Explanation) -> str:
    return f"{made.cost.forwards:,} forwards; " + ("; ".join(made.notes) or "no notes")


def memory(rounds: int, size: int) -> Iterator[Row]:
    """The peak of Score-CAM at 512 x 512, each form in a process of its own."""
    side = SIDE * size // 224
    for precision in ("", "float32", "bfloat16"):
        command = [sys.executable, str(Path(__file__)), "--precision", precision, "--side", str(side)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        form = f'precision="{precision}"' if precision else "as it is"
        title = (
            f"Score-CAM on MobileNetV2 at {side} x {side} with budget={BUDGET // MIB} MiB, {form}, "
            f"first {CHANNELS} channels"
        )
        yield _row("memory", f"{title}: MiB of tensors at most", f"<= {BUDGET // MIB}", [found["tensors"] / MIB])
        yield _row("memory", f"{title}: MiB that the process grew by", f"<= {BUDGET // MIB}", [found["grown"] / MIB])


def _measure_memory(precision: str | None, side: int) -> Row:
    asked = subject("mobilenet_v2")
    inputs = F.interpolate(asked.inputs, (side, side), mode="bilinear")

    def some(activations: Tensor, inputs: Tensor, score: Any) -> Result:
        return score_cam(activations[:, :CHANNELS], inputs, score)

    def work() -> None:
        given = {"precision": precision, "budget": BUDGET, "layer": asked.layer, "target": asked.target}
        whycam.explain(asked.network, inputs, some, progress=False, **given)

    whycam.explain(asked.network, inputs, layer=asked.layer, target=asked.target)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    work()
    grown = _status("VmHWM") - before
    with peak_bytes() as counter:
        work()
    return {"tensors": counter.peak, "grown": grown}


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _row(aim: str, what: str, wanted: str, values: list[float], unit: str = "") -> Row:
    median = statistics.median(values)
    said = f"{median:.1e}" if 0 < median < 0.005 else shortest(values) if unit or len(values) > 1 else f"{median:.4g}"
    row: Row = {"aim": aim, "what": what, "wanted": wanted, "found": said + unit, "values": values}
    if wanted:
        sign, limit = wanted.split()
        row["met"] = median >= float(limit) if sign == ">=" else median <= float(limit)
    return row


AIMS: dict[str, Callable[[int, int], Iterator[Row]]] = {"ablation": ablation, "score": score, "memory": memory}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The memory that Score-CAM takes, in bytes, as JSON.")
    parser.add_argument("--precision", default="")
    parser.add_argument("--side", type=int, default=SIDE)
    asked_for = parser.parse_args()
    torch.set_num_threads(2)
    print(json.dumps(_measure_memory(asked_for.precision or None, asked_for.side)))
