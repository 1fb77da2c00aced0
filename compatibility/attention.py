"""Every attention of the zoo, captured, beside what autograd's graph holds of it.

`python -m compatibility.attention --write` makes the section on attention of docs/compatibility.md.
"""

import argparse
import gc
import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from compatibility.entry import Entry

#: How far numbers may be from those of the graph, gradients in parts of the largest, in single and double precision.
NEAR = {torch.float32: 1e-5, torch.float64: 1e-10}
#: Of torchvision, whose families have members of every size, the smallest with attention.
_SMALLEST = {"maxvit_t", "swin_t", "swin_v2_t", "vit_b_16", "mvit_v1_b", "mvit_v2_s", "swin3d_t"}
#: Names of modules that say that they attend to something.
_ATTENDS = re.compile("attention|attn", re.IGNORECASE)

INTRODUCTION = """## Attention

Attention is captured as it runs, by what a network does and not by the names of its modules
([how](architecture.md#how-attention-is-captured)). Of {models} networks with attention, those of transformers once
for each kernel, {captured} have all of it captured, {attentions} attentions. Captured weights, and the gradients with
respect to them, are compared with an oracle that shares no code with whycam: the network runs with fused kernels
turned off, and autograd's graph is searched for softmaxes and the products that they lead to. `weights` and
`gradients` are the largest differences, of gradients in parts of the largest, in double precision (single where a
network is written for that alone). The answer is the network's to the bit.

`queries` and `projection` say for how many attentions queries and keys, and the linear layer behind the heads, were
seen. `among` is what whycam measures that each attends to: *tokens* are all tokens of a sample, which methods such as
`attention_rollout` need; a *pool* has queries of its own; with *pooled keys* a key stands for several positions;
*windows* hold each token once; *other* are channels, overlapping or padded windows, another input. Inputs have the
first size of the tables above, at which a window may hold all tokens or be padded. Models of transformers run with the
kernels that `attn_implementation` names.
"""


@dataclass(frozen=True)
class Row:
    """What was captured of one network, and what its graph holds; `aside` are those that its answer does not need."""

    library: str
    name: str
    captured: int
    products: int
    weights: float = 0.0
    gradients: float = 0.0
    queries: int = 0
    projections: int = 0
    kinds: str = ""
    aside: int = 0
    why: str = ""

    @property
    def ok(self) -> bool:
        """Whether all that there is was captured, and nothing else."""
        return not self.why

    @property
    def verdict(self) -> str:
        """All captured; or why not."""
        aside = f", {self.aside} of them on no way to the answer" if self.aside else ""
        return f"all {self.captured} captured{aside}" if self.ok else self.why


def check(entry: Entry) -> Iterator[Row]:
    """A row for each kind of kernel that the network may be built with; none where nothing is said of attention."""
    if entry.library in ("torchvision", "video") and entry.name not in _SMALLEST:
        return
    for kernel in ("sdpa", "eager") if entry.library == "transformers" else ("",):
        model = entry.build(entry.sizes[0])
        if kernel:
            if kernel == "sdpa" and not cast(Any, model)._supports_sdpa:
                continue
            cast(Any, model).set_attn_implementation(kernel)
            kernel = f", {kernel}"
        inputs = entry.inputs(entry.sizes[0])
        try:
            found = _row(entry.library, entry.name + kernel, model.double(), inputs.double())
        except RuntimeError:  # single precision is written into its code
            found = _row(entry.library, entry.name + kernel, entry.build(entry.sizes[0]), inputs)
        if found is not None:
            yield found


def _row(library: str, name: str, model: nn.Module, inputs: Tensor) -> Row | None:
    from attention_by_graph import read, score

    from whycam.network.attention.capture import Capture
    from whycam.network.attention.places import places

    def run() -> Tensor:
        output = model(inputs)
        output = getattr(output, "logits", output)
        return cast(Tensor, output if isinstance(output, Tensor) else output[0])

    torch.backends.mha.set_fastpath_enabled(False)  # an active mode turns it off, as gradients do
    with torch.no_grad():
        plain = run()
        with Capture() as quiet:
            same = torch.equal(run(), plain)
    torch.backends.mha.set_fastpath_enabled(True)
    if not quiet.found and not any(_ATTENDS.search(type(each).__name__) for each in model.modules()):
        return None
    graph = read(run)
    slopes: dict[int, Tensor] = {}
    with torch.no_grad(), Capture(arrived=lambda each, found: slopes.update({each.number: found})) as capture:
        value = score(run())
    found = capture.found
    if not found:
        return Row(library, name, 0, len(graph.products), why=_why_none(graph))
    torch.autograd.grad(value, capture.starts)
    queries = sum(each.query is not None for each in found)
    projections = sum(each.projection is not None for each in found)
    weights, gradients, faults = 0.0, 0.0, [] if same else ["the answer is another"]
    needed = [each for each in found if each.number in slopes]
    if len(needed) != len(graph.products):
        faults.append(f"{len(needed)} captured, {len(graph.products)} in the graph")
    else:
        for each, product in zip(needed, graph.products, strict=True):
            mine = each.weights().reshape(product.weights.shape)
            weights = max(weights, float((mine - product.weights).abs().max()))
            slope = (slopes[each.number] @ each.value.detach().mT).reshape(mine.shape)
            off = (slope - product.gradients).abs().max()
            gradients = max(gradients, float(off / product.gradients.abs().max().clamp(min=1e-30)))
        if max(weights, gradients) > NEAR[plain.dtype]:
            faults.append(f"apart by {max(weights, gradients):.0e}")
    del value, capture, slopes
    kinds = Counter(each.kind for each in places(model, inputs)[0])
    among = ", ".join(f"{kind} {count}" for kind, count in kinds.items())
    return Row(
        library, name, len(found), len(graph.products), weights, gradients, queries, projections, among,
        len(found) - len(needed), "; ".join(faults),
    )  # fmt: skip


def _why_none(graph: Any) -> str:
    if graph.products:
        return f"none of {len(graph.products)} captured"
    if graph.others or graph.alone:
        return (
            f"no attention matrix: {graph.others + graph.alone} softmaxes run, and none of them weighs values by a "
            "product over its own axis (gates, or factorized attention)"
        )
    return "no attention matrix: no softmax runs (gates, or linear attention)"


def section(rows: Sequence[Row]) -> str:
    """The section of the page."""
    attending = [row for row in rows if row.captured or row.products]
    lines = [
        "| library | model | verdict | weights | gradients | queries | projection | among |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        apart = [f"{each:.0e}" if each else "0" for each in (row.weights, row.gradients)] if row.captured else ["", ""]
        seen = (str(row.queries), str(row.projections)) if row.captured else ("", "")
        lines.append("| " + " | ".join((row.library, f"`{row.name}`", row.verdict, *apart, *seen, row.kinds)) + " |")
    head = INTRODUCTION.format(
        captured=sum(row.ok for row in attending),
        models=len(attending),
        attentions=sum(row.captured for row in attending),
    )
    return f"{head}\n" + "\n".join(lines) + "\n"


def apart(page: str) -> tuple[str, str]:
    """A page without the section on attention, and the section; empty where it has none."""
    before, mark, after = page.partition("\n## Attention\n")
    return before.rstrip("\n") + "\n", (mark + after)[1:]


def main() -> int:
    """A line for each network; returns 1 if any attention is missed."""
    from compatibility.__main__ import PAGE, prepare

    parser = argparse.ArgumentParser(prog="python -m compatibility.attention", description=__doc__)
    parser.add_argument("--library", choices=["timm", "torchvision", "video", "transformers"])
    parser.add_argument("--match", default="", metavar="TEXT", help="only models whose family or name contains this")
    parser.add_argument("--write", action="store_true", help="write the section on attention of docs/compatibility.md")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the rows there, and go on from there")
    asked = parser.parse_args()
    if asked.write and (asked.library or asked.match):
        parser.error("--write is for a full run; leave out what narrows it")
    prepare()
    from compatibility.zoo import zoo

    known: dict[str, list[dict[str, Any]]] = {}  # by model; none where nothing is said of attention
    if asked.json and asked.json.exists():
        known = json.loads(asked.json.read_text())
    rows: list[Row] = []
    for entry in zoo(asked.library, asked.match):
        started = time.perf_counter()
        key = f"{entry.library}:{entry.name}"
        new = [Row(**each) for each in known[key]] if key in known else list(check(entry))
        for row in new:
            print(f"{row.library}:{row.name}: {row.verdict} ({time.perf_counter() - started:.0f} s)", flush=True)
        known[key] = [asdict(row) for row in new]
        rows += new
        if asked.json:
            asked.json.write_text(json.dumps(known, indent=1) + "\n")
        gc.collect()
    if asked.write:
        PAGE.write_text(apart(PAGE.read_text())[0] + "\n" + section(rows))
        if asked.json:
            asked.json.unlink()
    return int(any((row.captured or row.products) and not row.ok for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
