"""Which method shows what a transformer decided by, where that is known: badges that are called by their two colors.

python benchmarks/vision_transformers.py [--network token|avg] [--cases 60] [METHOD ...]

The networks are the toys of `examples/toys/patches.py`. A case is a badge that is seen (its logit above 0) and, erased,
is not (below). For each method, where no layer is named: the share of the map's positive part in the badge's box and in
the other badges'; how often the peak lies in its own; how often a pixel of its own box is above one outside of all
boxes' and one of another's; and what the logit loses when the highest tenth of the pixels becomes gray, in parts of
what it loses when the badge is erased.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from cost import table
from torch import Tensor, nn

import whycam
from whycam.kit.registry import Method

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "toys"))
import patches

#: Options where the usual ones are for other networks or for longer runs.
OPTIONS: dict[str, dict[str, Any]] = {
    "rise": {"samples": 1000, "center": True},
    "ss_cam": {"samples": 5, "deviation": 0.15},
    "shap_cam": {"samples": 4},
}
#: Those whose every map takes minutes or that are made of others.
LEFT_OUT = {"sess", "cameras", "d_rise", "odam"}


@dataclass(frozen=True)
class Case:
    """A badge of a scene."""

    scene: patches.Scene
    badge: patches.Badge

    def box(self, badge: patches.Badge) -> Tensor:
        """Where a badge is, `(48, 48)`."""
        left, top, right, bottom = badge.box
        found = torch.zeros(patches.SIDE, patches.SIDE, dtype=torch.bool)
        found[top : bottom + 1, left : right + 1] = True
        return found

    def others(self) -> Tensor:
        """Where the other badges are, `(48, 48)`."""
        boxes = [self.box(badge) for badge in self.scene.badges if badge is not self.badge]
        return torch.stack(boxes).any(0)


def logit(model: nn.Module, picture: Tensor, label: int) -> float:
    with torch.no_grad():
        return float(model(picture[None])[0, label])


def cases(model: nn.Module, count: int) -> tuple[list[Case], str]:
    """So many badges whose class comes and goes with them, and how many of how many that is."""
    found: list[Case] = []
    seen = seed = 0
    while len(found) < count:
        scene = patches.scene(seed)
        for badge in scene.badges:
            if len(scene.badges) > 1 and logit(model, scene.picture(), badge.label) > 0:
                seen += 1
                if logit(model, scene.picture(without=badge), badge.label) < 0:
                    found.append(Case(scene, badge))
        seed += 1
    return found[:count], f"erasing a badge takes its class away in {len(found)} of {seen}"


def scored(model: nn.Module, case: Case, heat: Tensor) -> list[float]:
    own, others = case.box(case.badge), case.others()
    positive = heat.clamp(min=0)
    total = float(positive.sum()) or 1.0
    flat = float(heat.max()) == float(heat.min())
    outside = heat[~own & ~others]
    above = [_above(heat[own], each) for each in (outside, heat[others])]
    picture, label = case.scene.picture(), case.badge.label
    highest = (
        (heat + 1e-9 * torch.rand(heat.shape, generator=torch.Generator().manual_seed(0))).flatten().topk(230).indices
    )
    grayed = picture.clone().flatten(1)
    grayed[:, highest] = case.scene.gray / 64 - 2
    whole, without = logit(model, picture, label), logit(model, case.scene.picture(without=case.badge), label)
    lost = (whole - logit(model, grayed.reshape_as(picture), label)) / (whole - without)
    peak = 0.0 if flat else float(own.flatten()[heat.argmax()])
    return [float(positive[own].sum()) / total, float(positive[others].sum()) / total, peak, *above, lost]


def _above(inside: Tensor, outside: Tensor) -> float:
    """The share of pairs in which the first is above, ties as halves."""
    differences = inside[:, None] - outside[None]
    return float((differences > 0).float().mean() + (differences == 0).float().mean() / 2)


def rows(model: nn.Module, made: Callable[[Case], Tensor], found: list[Case]) -> dict[str, object]:
    started = time.process_time()
    heats = [made(case) for case in found]
    spent = (time.process_time() - started) / len(found)
    means = torch.tensor([scored(model, case, heat) for case, heat in zip(found, heats, strict=True)]).mean(0).tolist()
    names = ("in its box", "in others'", "peak", "above ground", "above others", "lost")
    return {name: f"{value:.2f}" for name, value in zip(names, means, strict=True)} | {"seconds": f"{spent:.2f}"}


def controls(found: list[Case]) -> dict[str, Callable[[Case], Tensor]]:
    """Maps that know no network."""
    at = (torch.arange(patches.SIDE) - (patches.SIDE - 1) / 2) / patches.SIDE
    gaussian = torch.exp(-8 * (at[:, None] ** 2 + at[None] ** 2))

    def noise(case: Case) -> Tensor:
        drawn = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(case.scene.seed))
        return nn.functional.interpolate(drawn, (patches.SIDE,) * 2, mode="bilinear")[0, 0]

    return {
        "the badge's box itself": lambda case: case.box(case.badge).float(),
        "how colorful each pixel is": lambda case: case.scene.picture().std(0),
        "noise of 12 x 12": noise,
        "a Gaussian in the middle": lambda _: gaussian,
    }


def options(method: Method) -> dict[str, Any]:
    """Its options here: scores are logits, of which several may be high."""
    return OPTIONS.get(method.name, {}) | ({"probability": False} if "probability" in method.options else {})


def maps(explainer: whycam.Explainer, method: Method) -> Callable[[Case], Tensor]:
    def made(case: Case) -> Tensor:
        target = {"target": case.badge.label} if method.class_specific else {}
        found = explainer.explain(case.scene.picture()[None], method.name, **target, **options(method))
        return found.heatmaps()[0].float()

    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*")
    parser.add_argument("--network", choices=tuple(patches.WEIGHTS), default="token")
    parser.add_argument("--cases", type=int, default=60)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = patches.vit(args.network)
    found, said = cases(model, args.cases)
    print(f"{args.network}: {said}", flush=True)
    explainer = whycam.Explainer(model)
    made = [{"method": name} | rows(model, each, found) for name, each in controls(found).items()]
    for method in whycam.list_methods():
        if method.name in LEFT_OUT or (args.methods and method.name not in args.methods):
            continue
        try:
            once = explainer.explain(found[0].scene.picture()[None], method.name, **options(method))
            beside = {"method": f"`{method.name}`", "layer": f"`{once.layer.name}`"}
            made.append(beside | rows(model, maps(explainer, method), found))
        except whycam.WhycamError as error:
            print(f"{method.name}: {error}", flush=True)
            continue
        print(made[-1], flush=True)
    table([{"method": "", "layer": ""} | row for row in made])


if __name__ == "__main__":
    main()
