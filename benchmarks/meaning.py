"""Whether maps mean something: grid pointing, and insertion and deletion, on a pretrained network.

    python benchmarks/meaning.py grid                    # evidence in the right quarter of 2 x 2 mosaics
    python benchmarks/meaning.py curves                  # probability while pixels come and go
    python benchmarks/meaning.py grid --network lite2    # the same question of another network

Definitions are in docs/benchmarks.md. Results go to standard output as a table and, with --out, to a JSON file.
"""

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from networks import AFTER, BEFORE, Top, folded, network, photos, probabilities
from peers import PEERS, versions
from torch import Tensor, nn

import whycam
from whycam.kit.registry import methods as registered
from whycam.methods.eigen_cam import eigen_cam
from whycam.methods.eigen_grad_cam import eigen_grad_cam
from whycam.methods.random_cam import random_cam
from whycam.network.layer_refs import find_layers
from whycam.network.recording.record import record
from whycam.targets import key, resolve

RANDOM_SEEDS = 3
#: Maps scaled to a largest magnitude of 1 that differ by less than this are one map to insertion and deletion.
SAME = 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metric", nargs="*", default=["grid", "curves"], help="grid, curves, or both")
    parser.add_argument("--images", type=Path, default=Path("photos"), help="ImageNet photos, 281_tabby.jpg")
    parser.add_argument("--network", choices=("builtin", "lite1", "lite2"), default="builtin")
    parser.add_argument("--mosaics", type=int, default=50)
    parser.add_argument("--confidence", type=float, default=0.5, help="least probability of a mosaic's photos")
    parser.add_argument("--photos", type=int, default=100, help="photos for insertion and deletion")
    parser.add_argument("--steps", type=int, default=28, help="steps of insertion and deletion")
    parser.add_argument(
        "--sides",
        choices=("chosen", "both"),
        default="chosen",
        help="sides of the last activation in insertion and deletion",
    )
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--bf16", action="store_true", help="score edited photos in bfloat16 (quicker on some CPUs)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if unknown := set(args.metric) - {"grid", "curves"}:
        parser.error(f"no metric {unknown.pop()!r}; there are grid and curves")
    if args.out and len(args.metric) > 1:
        parser.error("--out holds one metric; name it")
    for metric in args.metric:
        result = grid(args) if metric == "grid" else curves(args)
        if args.out:
            args.out.write_text(json.dumps(result, indent=1) + "\n")


# Maps ----------------------------------------------------------------------------------------------------------------


def whycam_maps(vision: Any, inputs: Tensor, targets: list[list[int]]) -> Iterator[tuple[str, str, int, Tensor]]:
    """(method, side, number of the target, maps) for every method on both sides; class-blind maps once, as target 0."""
    asked = {key(each): number for number, each in enumerate(targets)}
    made = whycam.compare(vision, inputs, list(registered()), [BEFORE, AFTER], targets)
    for (method, layer, target), each in made.items():
        yield method, _side(layer), asked.get(target, 0), each.maps
    # what else is asked of the same features: other draws, and the variants that options offer
    recorded = record(vision.module, inputs, [*find_layers(vision.module, BEFORE), *find_layers(vision.module, AFTER)],
                      [partial(resolve, each) for each in targets])  # fmt: skip
    for tap, layer in recorded.layers.items():
        for seed in range(1, RANDOM_SEEDS):
            yield f"random_cam seed={seed}", _side(str(tap)), 0, random_cam(layer.activations, seed=seed)
        for center in (True, False):
            yield f"eigen_cam center={center}", _side(str(tap)), 0, eigen_cam(layer.activations, center=center)
            for number, gradients in enumerate(layer.gradients):
                turned = eigen_grad_cam(layer.activations, gradients, center=center)
                yield f"eigen_grad_cam center={center}", _side(str(tap)), number, turned


def chosen_sides(vision: Any, inputs: Tensor) -> tuple[dict[str, str], dict[str, str]]:
    """Which side whycam takes for each method when nobody says, and what status its maps then carry."""
    made = whycam.compare(vision, inputs[:4], list(registered()))
    sides = {method: _side(layer) for method, layer, _ in made}
    return sides, {method: ", ".join(sorted({s.kind for s in each.status})) for (method, _, _), each in made.items()}


def _side(layer: str) -> str:
    return {BEFORE: "before", AFTER: "after", "input": "input"}.get(layer, "after")


def peer_maps(vision: Any, inputs: Tensor, targets: list[list[int]]) -> Iterator[tuple[str, str, int, Tensor]]:
    """(method, peer) likewise, each peer at the layer whycam takes for the method."""
    top = Top(vision.module).eval()
    features = Top.features(vision.module, inputs)
    sides, _ = chosen_sides(vision, inputs)
    for method, libraries in PEERS.items():
        side = sides[method]
        for library, make in libraries.items():
            peer = make()
            for number, classes in enumerate(targets):
                yield f"{method} ({library})", side, number, peer(top, getattr(top, side), features, classes).float()


def resized(maps: Tensor, size: int) -> Tensor:
    return F.interpolate(maps[:, None], (size, size), mode="bilinear", align_corners=False)[:, 0]


# Grid pointing -------------------------------------------------------------------------------------------------------


def grid(args: argparse.Namespace) -> dict[str, Any]:
    vision = network(args.network)
    inputs, truth = photos(args.images, vision)
    chance = probabilities(vision.module, inputs)
    p, top = chance.max(1)
    usable = ((top == truth) & (p >= args.confidence)).nonzero().flatten()
    print(f"{vision.name}: top-1 {(top == truth).float().mean():.3f} on {len(inputs)} photos; "
          f"{len(usable)} are right with probability >= {args.confidence}; {args.mosaics} mosaics")  # fmt: skip
    draw = torch.Generator().manual_seed(0)
    cells = torch.stack([usable[torch.randperm(len(usable), generator=draw)[:4]] for _ in range(args.mosaics)])
    assert all(len(set(row)) == 4 for row in truth[cells].tolist())
    size = 2 * inputs.shape[-1]
    shares: dict[tuple[str, str], dict[tuple[int, int], float]] = {}
    empty: dict[tuple[str, str], int] = {}
    for start in range(0, args.mosaics, 5):
        part = cells[start : start + 5]
        rows = [torch.cat([inputs[part[:, i]], inputs[part[:, i + 1]]], 3) for i in (0, 2)]
        mosaics = torch.cat(rows, 2)
        targets = [truth[part[:, i]].tolist() for i in range(4)]
        found = [whycam_maps(vision, mosaics, targets)]
        if not args.no_peers:
            found.append(peer_maps(vision, mosaics, targets))
        class_blind = {name for name, each in registered().items() if not each.class_specific}
        for method, side, number, maps in (each for source in found for each in source):
            positive = resized(maps, size).clamp(min=0)
            quarters = positive.unfold(1, size // 2, size // 2).unfold(2, size // 2, size // 2).sum((3, 4)).flatten(1)
            for cell in range(4) if method.split(" ")[0] in class_blind and "(" not in method else [number]:
                for i, quarter in enumerate(quarters):
                    total = float(quarter.sum())
                    value = float(quarter[cell]) / total if total > 0 else 0.0
                    shares.setdefault((method, side), {})[start + i, cell] = value
                    empty[method, side] = empty.get((method, side), 0) + (total <= 0)
    sides, statuses = chosen_sides(vision, inputs)
    rows = []
    for (method, side), values in shares.items():
        means = torch.tensor([sum(values[m, c] for c in range(4)) / 4 for m in range(args.mosaics)])
        rows.append({
            "method": method, "side": side, "share": round(means.mean().item(), 4),
            "error": round(means.std().item() / math.sqrt(len(means)), 4), "empty": empty[method, side],
            "zero-config": sides.get(method) == side,
            "status": statuses.get(method, "") if sides.get(method) == side else "",
        })  # fmt: skip
    rows += [{"method": name, "side": "-", "share": 0.25, "error": 0.0, "empty": 0, "zero-config": False, "status": ""}
             for name in ("uniform", "centered Gaussian")]  # fmt: skip
    table(rows, ("method", "side", "share", "error", "empty", "zero-config", "status"))
    return {"network": vision.name, "mosaics": args.mosaics, "photos": len(usable), "peers": versions(), "rows": rows}


# Insertion and deletion ----------------------------------------------------------------------------------------------


def curves(args: argparse.Namespace) -> dict[str, Any]:
    vision = network(args.network)
    inputs, _ = photos(args.images, vision)
    inputs = inputs[torch.randperm(len(inputs), generator=torch.Generator().manual_seed(1))[: args.photos]]
    size = inputs.shape[-1]
    dtype = torch.bfloat16 if args.bf16 else torch.float32
    scorer = folded(vision.module).to(dtype)
    classes = probabilities(vision.module, inputs).argmax(1)
    draw = torch.Generator().manual_seed(0)
    ties = torch.randperm(size * size, generator=draw)
    away = torch.arange(size) - (size - 1) / 2
    gaussian = torch.exp(-(away[:, None] ** 2 + away**2) / (2 * (size / 4) ** 2))
    areas: dict[tuple[str, str], dict[int, tuple[float, float]]] = {}
    for start in range(0, len(inputs), 10):
        part, wanted = inputs[start : start + 10], [classes[start : start + 10].tolist()]
        found = list(whycam_maps(vision, part, wanted))
        if not args.no_peers:
            found += peer_maps(vision, part, wanted)
        sides, _ = chosen_sides(vision, part)
        maps = {
            (method, side): resized(each, size)
            for method, side, _, each in found
            if args.sides == "both" or "(" in method or side == sides[method.split(" ")[0]]
        }
        maps["centered Gaussian", "-"] = gaussian.expand(len(part), -1, -1)
        maps["uniform", "-"] = torch.zeros(len(part), size, size)
        for i, photo in enumerate(part):
            score = Score(scorer, int(wanted[0][i]), args.steps, dtype)
            blurred, whole, empty = score(torch.stack([blur(photo), photo, torch.zeros_like(photo)]))
            known: list[tuple[Tensor, tuple[float, float]]] = []
            for name, each in maps.items():
                level = each[i] / each[i].abs().amax().clamp(min=1e-30)
                # maps that differ by less than any eye or edit could tell are scored once
                made = next((value for other, value in known if (level - other).abs().amax() < SAME), None)
                if made is None:
                    made = insertion_deletion(score, photo, ranked(level, ties), (blurred, whole, empty))
                    known.append((level, made))
                areas.setdefault(name, {})[start + i] = made
        print(f"{start + len(part)} of {len(inputs)} photos", flush=True)
        if args.out:
            _curve_rows(areas, vision, inputs, args, quiet=True)
    return _curve_rows(areas, vision, inputs, args)


@dataclass(frozen=True)
class Score:
    """Inputs -> the probability of one class for each."""

    module: nn.Module
    wanted: int
    steps: int
    dtype: torch.dtype

    def __call__(self, inputs: Tensor) -> list[float]:
        edited = inputs.to(self.dtype).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            return torch.cat([self.module(p).float().softmax(1)[:, self.wanted] for p in edited.split(4)]).tolist()


def insertion_deletion(score: Score, photo: Tensor, order: Tensor, ends: tuple[float, ...]) -> tuple[float, float]:
    """The normalized areas under the two curves; `ends` are the scores of the blurred, whole and empty photo."""
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    bounds = torch.linspace(0, len(order), score.steps + 1).round().long()[1:-1]
    reached = rank.reshape(photo.shape[1:]) < bounds[:, None, None]  # step, height, width: what had its turn
    blurred, whole, empty = ends
    areas = []
    for lit, dark, first, last in (
        (photo, blur(photo), blurred, whole),
        (torch.zeros_like(photo), photo, whole, empty),
    ):
        inner = score(torch.where(reached[:, None], lit, dark))
        areas.append((sum(inner) + (first + last) / 2) / score.steps)
    return areas[0], areas[1]


def ranked(map_: Tensor, ties: Tensor) -> Tensor:
    """The pixels, highest first, of a map whose largest magnitude is 1. Differences below a 10,000th are ties.

    Ties (most maps are zero in places) come in one fixed random order, not from the top left down.
    """
    levels = (map_.flatten() * 1e4).round()
    return ties[levels[ties].sort(descending=True, stable=True).indices]


def blur(photo: Tensor, kernel: int = 11, sigma: float = 5.0) -> Tensor:
    """The Gaussian blur that RISE starts insertion from."""
    away = torch.arange(kernel) - kernel // 2
    weights = torch.exp(-(away**2) / (2 * sigma**2))
    weights = (weights[:, None] * weights).div(weights.sum() ** 2)
    padded = F.pad(photo[None], [kernel // 2] * 4, mode="reflect")
    return F.conv2d(padded, weights.expand(len(photo), 1, -1, -1), groups=len(photo))[0]


def _curve_rows(
    areas: dict[tuple[str, str], dict[int, tuple[float, float]]],
    vision: Any,
    inputs: Tensor,
    args: argparse.Namespace,
    quiet: bool = False,
) -> dict[str, Any]:
    sides, statuses = chosen_sides(vision, inputs)
    rows = []
    control = torch.stack([
        torch.tensor(list(values.values())) for (method, side), values in areas.items()
        if method.startswith("random_cam") and side == sides["random_cam"]
    ]).mean(0)  # fmt: skip
    for (method, side), values in areas.items():
        both = torch.tensor(list(values.values()))
        error = both.std(0) / math.sqrt(len(both))
        beyond = both - control
        margin = beyond.mean(0) / (beyond.std(0) / math.sqrt(len(both)))
        rows.append({
            "method": method, "side": side,
            "insertion": round(both[:, 0].mean().item(), 4), "ins. error": round(error[0].item(), 4),
            "deletion": round(both[:, 1].mean().item(), 4), "del. error": round(error[1].item(), 4),
            "ins. - random, in errors": round(margin[0].item(), 1),
            "del. - random, in errors": round(margin[1].item(), 1),
            "zero-config": sides.get(method) == side,
            "status": statuses.get(method, "") if sides.get(method) == side else "",
        })  # fmt: skip
    rows.sort(key=lambda row: -row["insertion"])
    result = {"network": vision.name, "photos": len(next(iter(areas.values()))), "steps": args.steps,
              "bf16": args.bf16, "peers": versions(), "rows": rows}  # fmt: skip
    if quiet:
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    else:
        table(rows, tuple(rows[0]))
    return result


def table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    print("| " + " | ".join(columns) + " |")
    print("|" + " --- |" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(row[column]) for column in columns) + " |")


if __name__ == "__main__":
    main()
