"""Which methods find a cause that is known: scenes whose class flips when it is changed.

python benchmarks/known_causes.py                      # all kinds of scenes, 40 of each
python benchmarks/known_causes.py --kinds absence --scenes 8

Networks are trained by `causes.py`, in a quarter of a minute each. In `distant` the network is the segmenter of
`examples/toys/marker.py`: what a disc is called depends on a marker far from it. Only scenes count in which the network
is seen to go by the cause. For each method: the share of its positive part on the cause, and how often its peak lies
there; `control: box` is the thing that stands out, filled.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import causes
import torch
from torch import Tensor, nn

import whycam
from whycam.targets import Region

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "toys"))
import marker

METHODS = (
    *("grad_cam", "grad_cam_plus_plus", "layer_cam", "hires_cam", "xgrad_cam", "eigen_cam", "guided_backprop"),
    *("full_grad", "score_cam", "ablation_cam", "cp_lrp", "occlusion", "rise"),
)
#: How much of the cause a map has to hold for its method to count as finding it: half of the peaks.
FOUND = 0.5


@dataclass(frozen=True)
class Posed:
    """A network, and scenes of which it is known what it goes by.

    Attributes:
        target: for each picture. `causes`: where its cause lies, `(picture, 64, 64)`. `things`: what stands out.
        early: a layer that sees little of the picture, where maps are averaged over a path. `flips`: in how many scenes
            of how many the answer changed with the cause.
    """

    model: nn.Module
    pictures: Tensor
    target: list[Any]
    causes: Tensor
    things: Tensor
    early: str
    flips: tuple[int, int]


def posed(kind: str, scenes: int, steps: int) -> Posed:
    """The scenes of a kind."""
    if kind == "distant":
        return _distant(scenes)
    model = causes.trained(kind, steps)
    every = [causes.KINDS[kind](seed) for seed in range(scenes)]
    kept = causes.flipped(model, every)
    return Posed(
        model,
        torch.stack([scene.picture for scene in kept]),
        [scene.label for scene in kept],
        torch.stack([scene.cause for scene in kept]),
        torch.stack([_filled(scene.box) for scene in kept]),
        "5",
        (len(kept), scenes),
    )


def _distant(scenes: int) -> Posed:
    model = marker.segmenter()
    marked = [each for each in map(marker.scene, range(2 * scenes)) if each.color == "red"][:scenes]
    kept = [each for each in marked if _called(model, each) != _called(model, each.recolored("none"))]
    inside = [each.inside() for each in kept]
    return Posed(
        model,
        torch.stack([each.picture() for each in kept]),
        [Region(1, mask=each) for each in inside],
        torch.stack([each.marked() for each in kept]),
        torch.stack(inside).double(),
        "encoder.1",
        (len(kept), len(marked)),
    )


def _called(model: nn.Module, scene: marker.Scene) -> int:
    with torch.no_grad():
        return int(model(scene.picture()[None])[0].argmax(0)[scene.inside()].mode().values)


def _filled(box: tuple[int, int, int, int]) -> Tensor:
    made = torch.zeros(causes.SIDE, causes.SIDE, dtype=torch.float64)
    left, top, right, bottom = box
    made[top:bottom, left:right] = 1
    return made


def measured(asked: Posed, methods: Sequence[str] = METHODS, masks: int = 500) -> Mapping[str, tuple[float, float]]:
    """For each method and control the mean share on the cause, and how often the peak lies there."""
    usual = {"baseline": 0.5, "probability": False}
    options = {"rise": {"samples": masks, "center": True, **usual}, "occlusion": usual}
    on_path = whycam.explain(
        asked.model, asked.pictures, "hires_cam", target=asked.target, layer=asked.early, path=20
    ).heatmaps(normalize="none")
    found = whycam.evaluate(
        asked.model,
        asked.pictures,
        methods,
        metrics=["energy_pointing_game", "pointing_game"],
        targets=[asked.target],
        masks=asked.causes,
        maps={"hires_cam, path=20, early layer": on_path, "control: box": asked.things},
        options={name: values for name, values in options.items() if name in methods}
        | {"pointing_game": {"tolerance": 0}},
        sanity=0,
    )
    for reason in found.failures.items():
        print(*reason, file=sys.stderr)
    values: dict[str, dict[str, list[float]]] = {}
    for row in found.rows:
        values.setdefault(row["method"], {}).setdefault(row["metric"], []).append(row["value"])
    return {method: (_mean(by["energy_pointing_game"]), _mean(by["pointing_game"])) for method, by in values.items()}


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = (*causes.KINDS, "distant")
    parser.add_argument("--kinds", nargs="*", choices=kinds, default=kinds)
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--steps", type=int, default=150, help="of training")
    parser.add_argument("--masks", type=int, default=500, help="of RISE")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for kind in args.kinds:
        asked = posed(kind, args.scenes, args.steps)
        flips, scenes = asked.flips
        print(f"{kind}: changing the cause changes the answer in {flips} of {scenes} scenes", flush=True)
        results[kind] = {"flips": asked.flips, "maps": measured(asked, masks=args.masks)}
    print(f"\n| method | {' | '.join(results)} |\n|{' --- |' * (len(results) + 1)}")
    for method in dict.fromkeys(name for each in results.values() for name in each["maps"]):
        cells = [each["maps"].get(method) for each in results.values()]
        shown = ["-" if cell is None else f"{cell[0]:.2f} / {cell[1]:.2f}" for cell in cells]
        print(f"| {method} | {' | '.join(shown)} |")
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
