"""How many variants a network should be given at once, and what a fast copy of it is worth, on this machine.

    python benchmarks/batches.py --networks resnet18 vit_tiny     # seconds for a variant, by batch and kind of copy
    python benchmarks/batches.py --compile                        # compiled copies too
    python benchmarks/batches.py --layouts                        # what each change to the copy is worth by itself

Seconds for a variant are ratios to those of the plain network in batches of 16, medians over interleaved rounds. Beside
them: the bytes of results that are alive at most for one sample (`network.memory`), from which the batch is chosen.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import torch
from cost import interleaved, table
from networks import network
from peers import load_torchvision
from torch import Tensor, nn

from whycam.network.memory import peak_bytes
from whycam.network.variants import fast_copy as fast

BATCHES = [1, 2, 4, 8, 16, 32, 64]
#: Parts above a layer: (network, modules, what the layer gives).
PARTS = {
    "resnet18 above layer4": ("resnet18", ("avgpool", "fc"), (512, 7, 7)),
    "resnet18 above layer3": ("resnet18", ("layer4", "avgpool", "fc"), (256, 14, 14)),
    "mobilenet_v2 above features.18": ("mobilenet_v2", ("classifier",), (1280, 7, 7)),
}
NETWORKS = ("mobilenet_v2", "resnet18", "resnet50", "builtin", "vit_tiny", "convnext_atto")
BASE = 16


def built(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A network, or a part of one, and the shape of what it takes."""
    load_torchvision()
    import timm
    import torchvision

    torch.manual_seed(0)
    if name in PARTS:
        whole, modules, shape = PARTS[name]
        layers = [getattr(built(whole)[0], each) for each in modules]
        pool = [] if "avgpool" in modules else [nn.AdaptiveAvgPool2d(1)]
        return nn.Sequential(*pool, *layers[:-1], nn.Flatten(), layers[-1]), shape
    if name == "builtin":
        return network("builtin").module, (3, 224, 224)
    timms = {"vit_tiny": "vit_tiny_patch16_224", "convnext_atto": "convnext_atto"}
    model = timm.create_model(timms[name]) if name in timms else getattr(torchvision.models, name)()
    return model.eval(), (3, 224, 224)


def copies(model: nn.Module, inputs: Tensor, args: argparse.Namespace) -> dict[str, tuple[nn.Module, torch.dtype]]:
    """Kind of copy -> the copy and what it takes."""
    found = {"plain": (model, torch.float32)}
    if args.layouts:
        for dtype in ("float32", "bfloat16"):
            for folded in (False, True):
                for last in (False, True):
                    keep = [] if folded else [name for name, _ in model.named_modules()]
                    with patch.object(fast, "_pays", return_value=last):
                        made = fast.prepare(model, inputs, precision=dtype, keep=keep)
                    name = " ".join([dtype, *["folded"] * folded, *["channels last"] * last])
                    found[name] = made.module, made.precision
        return found
    for dtype in ("float32", "bfloat16"):
        for compiled in (False, True) if args.compile else (False,):
            made = fast.prepare(model, inputs, precision=dtype, compile=compiled)
            found[made.said] = made.at(BASE) if compiled else made.module, made.precision
    return found


def work(module: nn.Module, inputs: Tensor) -> Callable[[], None]:
    def run() -> None:
        with torch.inference_mode():
            module(inputs)
        if inputs.is_cuda:
            torch.cuda.synchronize()

    return run


def measured(name: str, args: argparse.Namespace) -> list[dict[str, object]]:
    """One row for each kind of copy."""
    model, shape = built(name)
    model = model.to(args.device)
    inputs = torch.randn(max(args.batches), *shape, device=args.device)
    forms = copies(model, inputs[:1], args)
    works, peaks = {}, {}
    for kind, (module, dtype) in forms.items():
        with torch.inference_mode(), peak_bytes() as counter:
            module(inputs[:2].to(dtype))
        peaks[kind] = counter.peak / 2
        for batch in args.batches:
            works[f"{kind}, {batch}"] = work(module, inputs[:batch].to(dtype))
    works["plain"] = work(model, inputs[:BASE])
    column = int(args.clock == "processor")
    taken = {each: [row[column] for row in rounds] for each, rounds in interleaved(works, args.rounds).items()}
    rows = []
    for kind in forms:
        row: dict[str, object] = {"network": name, "copy": kind, "MiB a sample": f"{peaks[kind] / 2**20:.3f}"}
        for batch in args.batches:
            pairs = zip(taken[f"{kind}, {batch}"], taken["plain"], strict=True)
            row[str(batch)] = f"{statistics.median(mine / batch / base * BASE for mine, base in pairs):.2f}"
        rows.append(row | {"ms at 16, plain": f"{1000 * statistics.median(taken['plain']) / BASE:.3f}"})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=[*NETWORKS, *PARTS], choices=[*NETWORKS, *PARTS])
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", default="wall", choices=["wall", "processor"], help="processor: beside other work")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--layouts", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = [row for name in args.networks for row in measured(name, args)]
    table(rows)
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
