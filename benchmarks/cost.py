"""What explanations cost: counts first, which do not flicker, then times as ratios to a plain prediction.

    python benchmarks/cost.py counts        # FLOPs in forwards, bytes kept for backward
    python benchmarks/cost.py imports       # seconds of `import whycam` beyond `import torch`
    python benchmarks/cost.py times         # beside plain forwards, interleaved in one process
    python benchmarks/cost.py batched       # one batched backward against a loop of backwards
    python benchmarks/cost.py agreement     # whether the peers' maps are ours
    python benchmarks/cost.py profile       # where the time goes

Definitions are in docs/benchmarks.md.
"""

import argparse
import cProfile
import json
import pstats
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from networks import Top, network, photos
from peers import PEERS, captum_grad_cam, load_torchvision, pytorch_grad_cam, torchcam, versions
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

import whycam

#: Network -> its last layer with spatial axes.
LAYERS = {"resnet50": "layer4", "mobilenet_v2": "features.18"}
EIGHT = ["grad_cam", "grad_cam_plus_plus", "xgrad_cam", "hires_cam", "layer_cam", "grad_cam_elementwise",
         "eigen_cam", "eigen_grad_cam"]  # fmt: skip
FIVE = [3, 141, 59, 265, 358]
BATCH = 8
WHAT = ("counts", "imports", "times", "batched", "agreement", "profile")

RunStats = Callable[[], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=[each for each in WHAT if each != "profile"], help=", ".join(WHAT))
    parser.add_argument("--networks", nargs="+", default=list(LAYERS), choices=list(LAYERS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--many-rounds", type=int, default=3, help="rounds of eight methods x five targets with peers")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=Path, default=Path("photos"), help="ImageNet photos, 281_tabby.jpg")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if unknown := set(args.what) - set(WHAT):
        parser.error(f"nothing called {unknown.pop()!r}; there are {', '.join(WHAT)}")
    results = {what: globals()[what](args) for what in args.what}
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n")


def built(name: str) -> tuple[nn.Module, str, Tensor]:
    load_torchvision()
    import torchvision

    torch.manual_seed(0)
    return getattr(torchvision.models, name)(weights=None).eval(), LAYERS[name], torch.randn(BATCH, 3, 224, 224)


def plain(model: nn.Module, inputs: Tensor) -> RunStats:
    def work() -> Tensor:
        with torch.inference_mode():
            return model(inputs)

    return work


def single(model: nn.Module, layer: str, inputs: Tensor) -> dict[str, RunStats]:
    """Grad-CAM of one class at one layer, by each library."""
    classes = [FIVE[i % 5] for i in range(len(inputs))]
    module = model.get_submodule(layer)
    peers = {
        "pytorch-grad-cam": pytorch_grad_cam("GradCAM"),
        "torchcam": torchcam("GradCAM"),
        "captum": captum_grad_cam,
    }
    works: dict[str, RunStats] = {"whycam": lambda: whycam.explain(model, inputs, layer=layer, target=classes)}
    return works | {name: (lambda peer=peer: peer(model, module, inputs, classes)) for name, peer in peers.items()}


def many(model: nn.Module, layer: str, inputs: Tensor) -> dict[str, RunStats]:
    """Eight methods x five classes at one layer; each peer does those of the eight that it has."""
    module = model.get_submodule(layer)
    works: dict[str, RunStats] = {"whycam": lambda: whycam.compare(model, inputs, EIGHT, [layer], FIVE)}
    for library in ("pytorch-grad-cam", "torchcam", "captum"):
        made = {method: PEERS[method][library]() for method in EIGHT if library in PEERS[method]}

        def work(made: dict[str, Any] = made) -> None:
            for method, peer in made.items():
                for wanted in FIVE[:1] if method == "eigen_cam" else FIVE:
                    peer(model, module, inputs, [wanted] * len(inputs))

        works[f"{library} ({len(made)} of the 8)"] = work
    return works


# Counts --------------------------------------------------------------------------------------------------------------


def counts(args: argparse.Namespace) -> Any:
    rows = []
    for name in args.networks:
        model, layer, inputs = built(name)
        small = inputs[:2]
        forward = flops(plain(model, small))
        for task, works in (("1 method, 1 target", single), ("8 methods, 5 targets", many)):
            for library, work in works(model, layer, small).items():
                rows.append({
                    "network": name, "task": task, "library": library,
                    "FLOPs / a forward's": round(flops(work) / forward, 2),
                    "MB kept for backward, per image": round(saved(model, work) / 2e6, 2),
                })  # fmt: skip
    cost = whycam.compare(*_three(built(args.networks[0])), EIGHT, None, FIVE).cost
    print(f"passes that whycam reports for the eight methods x five targets, layer chosen: {cost}")
    table(rows)
    return rows


def _three(made: tuple[nn.Module, str, Tensor]) -> tuple[nn.Module, Tensor]:
    return made[0], made[2][:2]


def flops(work: RunStats) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def saved(model: nn.Module, work: RunStats) -> int:
    """Bytes of the distinct tensors that autograd kept at any time of the work's dearest pass, parameters left out."""
    own = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    passes: list[dict[int, int]] = [{}]

    def pack(tensor: Tensor) -> Tensor:
        where = tensor.untyped_storage().data_ptr()
        if where not in own:
            passes[-1][where] = tensor.untyped_storage().nbytes()
        return tensor

    handle = next(m for m in model.modules() if isinstance(m, nn.Conv2d)).register_forward_pre_hook(
        lambda *_: passes.append({})
    )
    try:
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            work()
    finally:
        handle.remove()
    return max(sum(each.values()) for each in passes)


def imports(args: argparse.Namespace) -> Any:
    code = (
        "import time, torch; t = time.perf_counter(); c = time.process_time(); {}; "
        "print(time.perf_counter() - t, time.process_time() - c)"
    )
    lines = {"whycam": "import whycam", "whycam, explain()": "import whycam; whycam.explain; whycam.compare"}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in lines}
    for _ in range(args.rounds):
        for name, line in lines.items():
            answer = subprocess.run(
                [sys.executable, "-c", code.format(line)], capture_output=True, text=True, check=True
            )
            taken[name].append(tuple(map(float, answer.stdout.split())))
    rows = [
        {
            "import, beyond torch": name,
            "seconds, median": round(statistics.median(wall for wall, _ in each), 4),
            "CPU seconds, median": round(statistics.median(cpu for _, cpu in each), 4),
            "runs": len(each),
        }
        for name, each in taken.items()
    ]
    table(rows)
    return rows


# Times ---------------------------------------------------------------------------------------------------------------


Taken = dict[str, list[tuple[float, float]]]


def interleaved(works: dict[str, RunStats], rounds: int) -> Taken:
    """Seconds (clock, processor) of each, taken in turn in a new order every round: noise falls on all alike."""
    for work in works.values():
        work()
    taken: Taken = {name: [] for name in works}
    draw = random.Random(0)
    for _ in range(rounds):
        for name in draw.sample(list(works), len(works)):
            wall, cpu = time.perf_counter(), time.process_time()
            works[name]()
            taken[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return taken


def ratios(taken: Taken) -> dict[str, dict[str, Any]]:
    """Each work's median seconds over the plain forward's, and the middle half of the rounds' own ratios."""
    rows: dict[str, dict[str, Any]] = {}
    for name in taken:
        row = {}
        for clock, column in (("clock", 0), ("processor", 1)):
            mine, base = ([each[column] for each in taken[which]] for which in (name, "plain"))
            pairs = sorted(a / b for a, b in zip(mine, base, strict=True))
            quarter = len(pairs) // 4
            row[clock] = round(statistics.median(mine) / statistics.median(base), 3)
            row[f"{clock}, middle half"] = f"{pairs[quarter]:.2f}-{pairs[-quarter - 1]:.2f}"
        rows[name] = row
    return rows


def times(args: argparse.Namespace) -> Any:
    rows = []
    for name in args.networks:
        model, layer, inputs = built(name)
        base = {"plain": plain(model, inputs), "plain, again": plain(model, inputs)}
        one = interleaved(base | single(model, layer, inputs), args.rounds)
        ours = interleaved(base | {"whycam": many(model, layer, inputs)["whycam"]}, args.rounds)
        all_ = interleaved(base | many(model, layer, inputs), args.many_rounds) if args.many_rounds else {}
        for task, taken in (
            ("1 method, 1 target", one),
            ("8 methods, 5 targets", ours),
            ("8 methods, 5 targets, with peers", all_),
        ):
            if taken:
                rows += [
                    {"network": name, "task": task, "what": what, **row, "rounds": len(taken["plain"])}
                    for what, row in ratios(taken).items()
                    if what != "plain"
                ]
        table([row for row in rows if row["network"] == name])
    print(versions())
    return rows


def batched(args: argparse.Namespace) -> Any:
    """Five targets' gradients at one layer: `is_grads_batched=True` against a loop."""
    rows = []
    for name in args.networks:
        model, last, inputs = built(name)
        for layer in (last, "layer2" if name == "resnet50" else "features.7"):
            kept: list[Tensor] = []

            def start(module: nn.Module, given: Any, output: Tensor, kept: list[Tensor] = kept) -> Tensor:
                torch.set_grad_enabled(True)
                kept[:] = [output.detach().requires_grad_()]
                return kept[0].clone()

            handle = model.get_submodule(layer).register_forward_hook(start)
            with torch.no_grad():
                output = model(inputs)
            handle.remove()
            one_hot = torch.zeros(5, *output.shape)
            for k, wanted in enumerate(FIVE):
                one_hot[k, :, wanted] = 1

            def loop(output: Tensor = output, kept: list[Tensor] = kept, rows: Tensor = one_hot) -> list[Tensor]:
                return [torch.autograd.grad(output, kept, row, retain_graph=True)[0] for row in rows]

            def at_once(output: Tensor = output, kept: list[Tensor] = kept, rows: Tensor = one_hot) -> Tensor:
                return torch.autograd.grad(output, kept, rows, retain_graph=True, is_grads_batched=True)[0]

            wrong = max(float((a - b).abs().max()) for a, b in zip(loop(), at_once(), strict=True))
            with torch.enable_grad():
                taken = interleaved({"plain": plain(model, inputs), "loop": loop, "batched": at_once}, args.rounds)
            found = ratios(taken)
            rows.append({
                "network": name, "layer": layer, "loop / plain forward": found["loop"]["processor"],
                "batched / plain forward": found["batched"]["processor"], "largest difference": f"{wrong:.1e}",
            })  # fmt: skip
    table(rows)
    return rows


def agreement(args: argparse.Namespace) -> Any:
    """Largest difference of the peers' maps from ours, both scaled to [0, 1] by minimum and maximum, on 20 photos."""
    vision = network("builtin")
    inputs, _ = photos(args.images, vision)
    inputs = inputs[::10]
    top = Top(vision.module).eval()
    features = Top.features(vision.module, inputs)
    classes = vision.module(inputs).argmax(1).tolist()
    rows = []
    for side in ("before", "after"):
        for method, libraries in PEERS.items():
            if method == "cam" and side == "before":
                continue
            target = {} if method in ("eigen_cam", "kpca_cam", "fem") else {"target": classes}
            ours = whycam.explain(top, features.detach(), method, layer=side, **target)
            for library, make in libraries.items():
                theirs = make()(top, getattr(top, side), features, classes).float()
                apart = (scaled(ours.maps.relu()) - scaled(theirs.relu())).abs().flatten(1).amax(1)
                rows.append({
                    "method": method, "side": side, "peer": library, "median": f"{apart.median():.1e}",
                    "largest": f"{apart.max():.1e}",
                })  # fmt: skip
    table(rows)
    return rows


def scaled(maps: Tensor) -> Tensor:
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return ((maps - low) / (high - low)).where(high > low, torch.zeros(()))


# Profile -------------------------------------------------------------------------------------------------------------


def profile(args: argparse.Namespace) -> Any:
    for name in args.networks:
        model, layer, inputs = built(name)
        for works in (single, many):
            work = works(model, layer, inputs)["whycam"]
            work()
            python = cProfile.Profile()
            python.enable()
            for _ in range(3):
                work()
            python.disable()
            print(f"{name}, {works.__name__}, three times")
            pstats.Stats(python).sort_stats("cumulative").print_stats("whycam|linalg|backward|_call_impl", 25)
            with torch.profiler.profile() as kernels:
                work()
            print(kernels.key_averages().table(sort_by="self_cpu_time_total", row_limit=15, max_name_column_width=48))
    return None


def table(rows: list[dict[str, Any]]) -> None:
    columns = list(rows[0])
    print("| " + " | ".join(columns) + " |")
    print("|" + " --- |" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(row[column]) for column in columns) + " |", flush=True)


if __name__ == "__main__":
    main()
