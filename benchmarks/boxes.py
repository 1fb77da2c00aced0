"""Whether a box's map lies in the box: objects that the toy detectors of the examples find among others.

python benchmarks/boxes.py

For each object of scenes of several that is found: of the map's positive part in any object's box, the share in its own
and in another's; their chance, which is the boxes' share of the area; and how often the peak lies in its own. The YOLO
needs `pip install ultralytics`, and is trained when it is first asked for.
"""

import os
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import torch
from cost import table
from peers import load_torchvision

import whycam
from whycam.targets import Box

load_torchvision()
ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / "tests" / "helpers"), str(ROOT / "examples" / "toys")]
import torchvision_shim  # noqa: E402 - which lets detectors run beside a torch without torchvision's operators

torchvision_shim.detectors()
os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())
import shapes  # noqa: E402

METHODS = {
    "LayerCAM, the usual method": ("layer_cam", {}, None),
    "HiResCAM": ("hires_cam", {}, None),
    "ODAM": ("odam", {}, None),
    "Grad-CAM": ("grad_cam", {}, None),
    "LayerCAM, the maximum of scales": ("layer_cam", {}, "maximum"),
    "D-RISE, 300 masks": ("d_rise", {"samples": 300, "grid": 5, "keep": 0.8, "until": None}, None),
}
SCENES = range(16)


def overlap(one: torch.Tensor, other: torch.Tensor) -> float:
    low, high = torch.maximum(one[:2], other[:2]), torch.minimum(one[2:], other[2:])
    inside = (high - low).clamp(min=0).prod()
    return float(inside / ((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - inside))


def found(explainer: whycam.Explainer, picture: torch.Tensor, truth: torch.Tensor) -> dict[int, int]:
    """For each object the detection that is of it."""
    first = explainer.explain(picture[None], "layer_cam", target=Box(0)).shown[0]
    listed = [first.box, *first.others] if first.box is not None else []
    pairs = {}
    for number, box in enumerate(truth):
        best = max(range(len(listed)), key=lambda k: overlap(box, torch.tensor(listed[k])), default=None)
        if best is not None and overlap(box, torch.tensor(listed[best])) > 0.5:
            pairs[number] = best
    return pairs


def rows_of(detector: torch.nn.Module, method: str, options: dict[str, object], fusion: str | None) -> torch.Tensor:
    explainer = whycam.Explainer(detector)
    rows = []
    for seed in SCENES:
        picture, objects = shapes.scene(seed)
        truth = objects["boxes"]
        pairs = found(explainer, picture, truth)
        if len(pairs) < 2:
            continue
        areas = (truth[:, 2:] - truth[:, :2]).prod(1)
        chance = (areas / areas.sum()).tolist()
        targets = [Box(index) for index in pairs.values()]
        every = explainer.compare(picture[None], [method], targets=targets, fusion=fusion, options={method: options})
        for number, e in zip(pairs, every.values(), strict=True):
            heat = e.heatmaps()[0].clamp(min=0)
            energy = [float(heat[t:b, x:r].sum()) for x, t, r, b in truth.round().int().tolist()]
            shares = [each / max(sum(energy), 1e-12) for each in energy]
            other = next(k for k in pairs if k != number)
            row, column = divmod(int(heat.argmax()), heat.shape[1])
            left, top, right, bottom = truth[number].tolist()
            inside = left - 1 <= column <= right + 1 and top - 1 <= row <= bottom + 1
            rows.append((shares[number], chance[number], shares[other], chance[other], float(inside)))
    return torch.tensor(rows)


def main() -> None:
    torch.set_num_threads(1)
    detectors = {"FCOS": shapes.detector()}
    if find_spec("ultralytics") is not None:
        import train_yolo

        detectors["YOLO11"] = train_yolo.trained()
    for name, detector in detectors.items():
        made: list[dict[str, object]] = []
        for title, (method, options, fusion) in METHODS.items():
            rows = rows_of(detector, method, dict(options), fusion)
            own, chance, other, other_chance, peak = rows.mean(0).tolist()
            shares = {"in its own box": f"{own:.2f}", "in another's": f"{other:.2f}", "peak": f"{peak:.2f}"}
            made.append({"method": title, "boxes": len(rows), **shares})
        print(f"\n{name}; by chance {chance:.2f} and {other_chance:.2f}\n")
        table(made)


if __name__ == "__main__":
    main()
