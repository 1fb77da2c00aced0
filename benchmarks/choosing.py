"""What naming no layer costs: FLOPs of the first call and the next, and time beside the same call with its layer named.

python benchmarks/choosing.py --rounds 15
"""

import argparse

import torch
from cost import BATCH, flops, interleaved, plain, ratios, table
from peers import load_torchvision
from torch import Tensor, nn

import whycam


def resnet50() -> tuple[nn.Module, str]:
    """The network and the layer that is chosen for Grad-CAM."""
    load_torchvision()
    import torchvision

    return torchvision.models.resnet50(weights=None).eval(), "layer4"


def vit_tiny() -> tuple[nn.Module, str]:
    """The same of a network read through its class token; its head, which starts at zero, made random."""
    load_torchvision()
    import timm

    model = timm.create_model("vit_tiny_patch16_224").eval()
    nn.init.normal_(model.head.weight)
    return model, "blocks.11.norm1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for build in (resnet50, vit_tiny):
        torch.manual_seed(0)
        model, layer = build()
        rows.append({"network": build.__name__, "batch": BATCH, **measured(model, layer, args.rounds)})
    table(rows)


def measured(model: nn.Module, layer: str, rounds: int) -> dict[str, object]:
    """One row: FLOPs in forwards of the batch, and times in those of a plain forward."""
    inputs: Tensor = torch.randn(BATCH, 3, 224, 224)
    forward = flops(plain(model, inputs))
    found = whycam.explain(model, inputs[:1])
    assert found.layer.name == layer, found.layer
    model, _ = (resnet50 if layer == "layer4" else vit_tiny)()  # nothing remembered
    first = flops(lambda: whycam.explain(model, inputs))
    again = flops(lambda: whycam.explain(model, inputs))
    named = flops(lambda: whycam.explain(model, inputs, layer=layer))
    taken = interleaved(
        {
            "plain": plain(model, inputs),
            "chosen": lambda: whycam.explain(model, inputs),
            "named": lambda: whycam.explain(model, inputs, layer=layer),
        },
        rounds,
    )
    times = ratios(taken)
    return {
        "first call, FLOPs / a forward's": round(first / forward, 2),
        "next": round(again / forward, 2),
        "layer named": round(named / forward, 2),
        "next, time / a forward's": f"{times['chosen']['clock']} ({times['chosen']['clock, middle half']})",
        "named, time": f"{times['named']['clock']} ({times['named']['clock, middle half']})",
    }


if __name__ == "__main__":
    main()
