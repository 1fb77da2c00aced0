"""Our metrics beside Quantus' on the same maps, in one process: where values differ and why, and what a table costs.

    python benchmarks/metrics.py values --images FOLDER --photos 4 > benchmarks/meaning/quantus.md  # for evaluation.md
    python benchmarks/metrics.py cost --images FOLDER --photos 8    # eight methods, three metrics, and Quantus' own

Quantus has to be installed (`pip install quantus`); without it `cost` measures ours alone. Times are of the process, on
one thread.
"""

import argparse
import contextlib
import functools
import importlib
import importlib.util
import io
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import measuring
import numpy as np
import torch
from networks import network, photos, probabilities
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

import whycam
from whycam.models.vision_model import VisionModel

METHODS = (
    *("grad_cam", "grad_cam_plus_plus", "hires_cam", "layer_cam"),
    *("xgrad_cam", "eigen_cam", "kpca_cam", "cam"),
)
#: Quantus' steps have to divide the pixels of one color: 21 of them are 7168 values of 3 x 224 x 224.
STEPS, VALUES = 21, 7168
QUIET = {"display_progressbar": False, "disable_warnings": True}
ZERO = {"normalise": False, "perturb_baseline": 0.0, **QUIET}


class Row(NamedTuple):
    """One measure of the same maps by both, and why they differ."""

    metric: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    why: str


def loaded() -> Any:
    """Quantus, which asks numpy for a name that newer ones have no more."""
    if not hasattr(np, "trapz"):
        np.trapz = np.trapezoid  # type: ignore[attr-defined]
    return importlib.import_module("quantus")


def asker(vision: VisionModel, inputs: torch.Tensor) -> Callable[..., Any]:
    """Calls a metric of Quantus on maps `(batch, height, width)`, of each image's top class."""
    classes = probabilities(vision.module, inputs).argmax(1).numpy()

    def ask(metric: Any, maps: torch.Tensor, batch: int = 8, *, softmax: bool = True, **more: Any) -> Any:
        given = {"x_batch": inputs.numpy().copy(), "a_batch": maps[:, None].float().clone().numpy(), "y_batch": classes}
        return metric(
            model=vision.module, softmax=softmax, batch_size=batch, device="cpu", channel_first=True, **given, **more
        )

    return ask


def rows(vision: VisionModel, inputs: torch.Tensor) -> list[Row]:
    """All that is compared."""
    quantus, ask = loaded(), asker(vision, inputs)
    explanation, again = whycam.explain(vision, inputs, "grad_cam"), whycam.adapters.explain_func("grad_cam")
    maps = torch.as_tensor(explanation.heatmaps(normalize="none"))
    signed = maps - maps.mean((1, 2), keepdim=True)
    square, halves = torch.zeros(maps.shape, dtype=torch.bool), torch.zeros_like(maps)
    square[:, 50:150, 50:150] = True
    halves[:, :52] = 1  # its highest pixels lie outside of the square, but for some
    outside = torch.zeros_like(maps)
    outside[1:, :10] = 1  # the first one is empty
    nowhere = torch.zeros_like(square)

    @functools.cache  # which does not depend on the batches
    def own(name: str, **options: Any) -> Any:
        return getattr(whycam.metrics, name)(maps, vision, inputs, **options)

    def pointed(given: torch.Tensor, masks: torch.Tensor) -> tuple[Callable[[], Any], Callable[[], Any]]:
        return (
            lambda: [
                whycam.metrics.pointing_game(given, masks=masks, tolerance=0, seed=k).tolist() for k in range(100)
            ],
            lambda: ask(quantus.PointingGame(normalise=False, **QUIET), given, s_batch=masks[:, None].numpy()),
        )

    def changed() -> float:
        given = signed[:, None].float().numpy().copy()
        before = given.copy()
        classes = np.zeros(len(given), dtype=int)
        quantus.Complexity(normalise=False, abs=False, **QUIET)(
            model=None, x_batch=inputs.numpy(), y_batch=classes, a_batch=given, channel_first=True
        )
        return float(np.abs(given - before).max())

    flipping = quantus.PixelFlipping(features_in_step=VALUES, return_auc_per_sample=True, **ZERO)
    sensitivity = quantus.SensitivityN(features_in_step=VALUES, n_max_percentage=0.8, **ZERO)
    moved = quantus.MaxSensitivity(nr_samples=10, lower_bound=0.2, **QUIET)
    mass = quantus.RelevanceMassAccuracy(normalise=False, abs=False, **QUIET)
    return [
        Row("deletion, 21 steps", lambda: own("deletion", steps=STEPS), lambda: ask(flipping, maps),
            "theirs is a sum over unit steps, which grows with their number, without the point of the whole picture"),
        Row("deletion, 21 steps, per step", lambda: own("deletion", steps=STEPS),
            lambda: np.array(ask(flipping, maps)) / (STEPS - 1), "the missing point; colors are ranked apart"),
        Row("road", lambda: own("road", fractions=(0.1, 0.5, 0.9)),
            lambda: ask(quantus.ROAD(percentages=[10, 50, 90], **QUIET), maps), "theirs fails on pictures in color"),
        Row("infidelity, squares", lambda: own("infidelity", perturbation="square"),
            lambda: ask(quantus.Infidelity(perturb_patch_sizes=[56], n_perturb_samples=3, **ZERO), maps, softmax=False),
            "theirs puts each square on top of those before, and multiplies the map by what changed"),
        Row("max_sensitivity, radius 0.2, 10 samples",
            lambda: whycam.metrics.max_sensitivity(explanation, vision, inputs, radius=0.2, samples=10),
            lambda: ask(moved, maps, explain_func=again), "the same but for what is drawn, where settings are equal"),
        Row("faithfulness_correlation", lambda: own("faithfulness_correlation", share=224 / 50176),
            lambda: ask(quantus.FaithfulnessCorrelation(return_aggregate=False, **ZERO), maps, softmax=False),
            "theirs removes 224 values of single colors, drawn without a seed, ours 224 pixels"),
        Row("sensitivity_n, one batch", lambda: own("sensitivity_n"),
            lambda: ask(sensitivity, maps, 64, softmax=False), "theirs is another metric: it correlates across images"),
        Row("sensitivity_n, batches of 2", lambda: own("sensitivity_n"),
            lambda: ask(sensitivity, maps, 2, softmax=False), "and of its first batch alone"),
        Row("irof", lambda: own("irof"), lambda: ask(quantus.IROF(return_aggregate=False, **QUIET), maps),
            "theirs fails on pictures in color; else it leaves out the first point and does not divide"),
        Row("pointing_game of ties, 100 seeds", *pointed(halves, square),
            "theirs is a hit where any of the highest pixels is inside"),
        Row("pointing_game, one empty map and others outside", *pointed(outside, square), "likewise"),
        Row("pointing_game of an empty mask", *pointed(maps, nowhere), "NaN becomes a hit in an array of bools"),
        Row("energy_pointing_game of signed maps", lambda: whycam.metrics.energy_pointing_game(signed, masks=square),
            lambda: ask(mass, signed, s_batch=square[:, None].numpy()), "theirs lets negative values cancel positive"),
        Row("entropy of signed maps", lambda: whycam.metrics.entropy(signed),
            lambda: ask(quantus.Complexity(normalise=False, abs=False, **QUIET), signed),
            "theirs takes logarithms of signed shares, unless it is asked for magnitudes"),
        Row("how far entropy changes the caller's maps", lambda: 0.0, changed, "theirs divides the array in place"),
        Row("sparseness of signed maps", lambda: whycam.metrics.sparseness(signed),
            lambda: ask(quantus.Sparseness(normalise=False, abs=True, **QUIET), signed), "the same"),
        Row("model_randomization of two layers", *randomized(quantus),
            "theirs averages the network in before anything is randomized, whose correlation is 1"),
    ]  # fmt: skip


def randomized(quantus: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The cascade over a network of two layers, by both."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
        ).eval()
        inputs = torch.randn(64, 3, 16, 16)
    target = [0] * len(inputs)
    found = whycam.explain(module, inputs, "grad_cam", layer="1", target=target)
    maps = np.asarray(found.heatmaps(normalize="none"))[:, None]
    again = whycam.adapters.explain_func("grad_cam", layer="1")

    def theirs() -> Any:
        return quantus.MPRT(return_average_correlation=True, abs=False, normalise=False, **QUIET)(
            model=module, x_batch=inputs.numpy(), y_batch=np.array(target), a_batch=maps, explain_func=again,
            channel_first=True, device="cpu",
        )  # fmt: skip

    return lambda: whycam.metrics.model_randomization(found, module, inputs, target), theirs


def shown(work: Callable[[], Any]) -> str:
    """A mean over the images, or what came instead."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # what Quantus advises
            found = np.asarray(work(), dtype=float)
    except Exception as error:  # whatever a peer raises is what it says
        return f"{type(error).__name__}: {str(error)[:60]}"
    return f"{np.nanmean(found):.4g}" if not np.isnan(found).all() else "none defined"


def values(vision: VisionModel, inputs: torch.Tensor) -> None:
    """A table of both."""
    print("| metric | whycam | Quantus | why |\n|---|---:|---:|---|")
    for row in rows(vision, inputs):
        print(f"| {row.metric} | {shown(row.ours)} | {shown(row.theirs)} | {row.why} |", flush=True)


def cost(vision: VisionModel, inputs: torch.Tensor, rounds: int) -> None:
    """Eight methods by three metrics, beside the plain forwards that they contain; and what Quantus has of these.

    Two photos at a time, by turns with plain forwards, since the machine may be busy.
    """
    steps = {"insertion": {"steps": STEPS}, "deletion": {"steps": STEPS}}
    works: dict[str, Callable[[torch.Tensor], Callable[[], None]]] = {
        "whycam: average drop, insertion, deletion": lambda pair: whole_table(vision, pair, steps),
        "whycam: deletion": lambda pair: whole_table(vision, pair, {"deletion": steps["deletion"]}),
    }
    if importlib.util.find_spec("quantus") is not None:
        works["Quantus: pixel flipping, without its maps"] = lambda pair: quantus_flipping(vision, pair)
    batch = quickest(vision, inputs)
    for _ in range(rounds):
        for title, make in works.items():
            taken, ran, unit = 0.0, 0, 0.0
            for pair in inputs.split(2):
                work = make(pair)
                before = plain(vision, batch)
                spent, often = counted(vision, work)
                taken, ran, unit = taken + spent, ran + often, unit + often * (before + plain(vision, batch)) / 2
            print(
                f"{title}: {taken:.1f} s, {ran:,} forwards; by themselves {unit:.1f} s, so {taken / unit:.2f} times "
                "as long",
                flush=True,
            )


def whole_table(vision: VisionModel, inputs: torch.Tensor, options: dict[str, Any]) -> Callable[[], None]:
    """Eight methods explained and measured; average drop too where several metrics are asked."""
    metrics = [*options, "average_drop"] if len(options) > 1 else [*options]

    def work() -> None:
        found = whycam.evaluate(
            vision, inputs, METHODS, metrics=metrics, options=options, controls=False, sanity=0, progress=False
        )
        assert not found.failures, found.failures

    return work


def quantus_flipping(vision: VisionModel, inputs: torch.Tensor) -> Callable[[], None]:
    """Deletion as Quantus has it, of maps that are made already."""
    ask = asker(vision, inputs)
    made = [torch.as_tensor(whycam.explain(vision, inputs, each).heatmaps(normalize="none")) for each in METHODS]
    flipping = loaded().PixelFlipping(features_in_step=VALUES, return_auc_per_sample=True, **ZERO)

    def work() -> None:
        for maps in made:
            ask(flipping, maps)

    return work


def counted(vision: VisionModel, work: Callable[[], None]) -> tuple[float, int]:
    """Seconds, and the rows that went through the network or a copy of it."""
    rows_seen = 0

    def see(module: nn.Module, given: tuple[Any, ...]) -> None:
        nonlocal rows_seen
        if type(module) is type(vision.module):
            rows_seen += len(given[0])

    handle = register_module_forward_pre_hook(see)
    try:
        return seconds(work), rows_seen
    finally:
        handle.remove()


def quickest(vision: VisionModel, inputs: torch.Tensor) -> torch.Tensor:
    """The batch, and the order of memory, in which plain forwards are quickest."""
    orders = (torch.contiguous_format, torch.channels_last)
    batches = [inputs[:size].contiguous(memory_format=order) for size in (1, 2, 4, 8) for order in orders]
    return min(batches, key=lambda batch: plain(vision, batch))


def plain(vision: VisionModel, batch: torch.Tensor) -> float:
    """Seconds per image of plain forwards."""
    run = measuring.forward(vision.module, batch)
    return statistics.median([seconds(run) / len(batch) for _ in range(8)])


def seconds(work: Callable[[], Any]) -> float:
    """Of the process."""
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("values", "cost"))
    parser.add_argument("--images", type=Path, default=Path(os.environ.get("PHOTOS", "images")))
    parser.add_argument("--photos", type=int, default=4, help="how many, at even distances")
    parser.add_argument("--rounds", type=int, default=2, help="of cost")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    vision = network("builtin")
    inputs, _ = photos(asked.images, vision)
    chosen = inputs[[k * len(inputs) // asked.photos for k in range(asked.photos)]]
    if asked.what == "values":
        values(vision, chosen)
    else:
        cost(vision, chosen, asked.rounds)


if __name__ == "__main__":
    main()
