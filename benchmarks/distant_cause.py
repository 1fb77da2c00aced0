"""Where maps lie for a segmenter whose cause is known: a disc is called after a marker far from it.

python benchmarks/distant_cause.py

The network is the toy of `examples/toys/marker.py`. Scenes are those in which erasing the marker changes what the disc
is called. For each map: the share of its positive part on the marker, and how often its peak lies there.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from cost import table
from torch import Tensor

import whycam
from whycam.targets import Region

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "toys"))
import marker

LAYERS = ("encoder.0", "encoder.1", "encoder.2", "encoder.3", "bottleneck", "decoder.0", "decoder.1", "decoder.3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--masks", type=int, default=1000, help="of RISE")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = marker.segmenter()
    scenes = [marker.scene(seed) for seed in range(args.scenes)]
    flipped = [each for each in scenes if called(model, each) != called(model, each.recolored("none"))]
    marked = [each for each in scenes if each.color != "none"]
    other = {"red": "green", "green": "red"}
    turned = sum(called(model, each) != called(model, each.recolored(other[each.color])) for each in marked)
    print(f"recoloring the marker changes the answer in {turned} of {len(marked)} scenes, erasing it in {len(flipped)}")
    explainer = whycam.Explainer(model)

    def maps(method: str, **asked: object) -> Callable[[marker.Scene], Tensor]:
        return lambda scene: explainer.explain(
            scene.picture()[None], method, target=Region(int(scene.truth().max()), mask=scene.inside()), **asked
        ).heatmaps()[0]

    rows = []
    for layer in LAYERS:
        row: dict[str, object] = {"layer": f"`{layer}`"}
        for method in ("grad_cam", "layer_cam", "hires_cam"):
            row[method] = scored(maps(method, layer=layer), flipped)
            if method != "grad_cam":
                row[f"{method}, path=20"] = scored(maps(method, layer=layer, path=20), flipped)
        rows.append(row)
    table(rows)
    beside: dict[str, Callable[[marker.Scene], Tensor]] = {
        "occlusion": maps("occlusion", probability=False, baseline=0.5),
        "rise": maps("rise", probability=False, samples=args.masks, center=True, baseline=0.5),
        "eigen_cam at `encoder.1`, which knows no target": lambda scene: explainer.explain(
            scene.picture()[None], "eigen_cam", layer="encoder.1"
        ).heatmaps()[0],
        "how colorful each pixel is, which knows no network": lambda scene: scene.picture().std(0),
        "everywhere alike": lambda scene: torch.ones(marker.SIDE, marker.SIDE),
    }
    table([{"beside": name, "on the marker, peak": scored(made, flipped)} for name, made in beside.items()])
    idle = [each for each in marked if each.color == "green"]
    names = [(method, layer) for method in ("layer_cam", "hires_cam") for layer in LAYERS[:2]]
    table(
        [
            {
                "idle marker": f"{method} at `{layer}`, path=20",
                "on it, peak": scored(maps(method, layer=layer, path=20), idle),
            }
            for method, layer in names
        ]
    )


def called(model: torch.nn.Module, scene: marker.Scene) -> int:
    """What most of the disc is called."""
    with torch.no_grad():
        return int(model(scene.picture()[None])[0].argmax(0)[scene.inside()].mode().values)


def scored(made: Callable[[marker.Scene], Tensor], scenes: list[marker.Scene]) -> str:
    """The mean share of a map on the marker, and how often its peak lies there."""
    rows = torch.tensor([*_each(made, scenes)])
    return " / ".join(f"{value:.2f}" for value in rows.mean(0).tolist())


def _each(made: Callable[[marker.Scene], Tensor], scenes: list[marker.Scene]) -> Iterator[tuple[float, float]]:
    for scene in scenes:
        heat, where = made(scene).clamp(min=0), scene.marked()
        share = float(heat[where].sum() / heat.sum()) if bool(heat.any()) else 0.0
        peak = float(where.flatten()[heat.argmax()]) if bool(heat.max() > heat.min()) else 0.0
        yield share, peak


if __name__ == "__main__":
    main()
