"""`whycam doctor`."""

from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from whycam.cli import arguments as given
from whycam.cli import trial
from whycam.cli.output import SOME_FAILED, Output, fields, grouped, status_text, table, text

if TYPE_CHECKING:
    from whycam.checkup.doctor import Checkup, MethodCheck
    from whycam.checkup.findings import Finding
else:
    Checkup = MethodCheck = Finding = Any  # bring torch

_STYLES = {"problem": "bold red", "worth knowing": "bold yellow", "fine": "green"}


def doctor(
    model: trial.Named = None,
    by_option: trial.ByOption = None,
    weights: given.Weights = None,
    unsafe_pickle: given.UnsafePickle = False,
    photo: trial.OnPhoto = None,
    size: trial.OfSize = None,
    json: given.Json = False,
    quiet: given.Quiet = False,
) -> None:
    """Say what you would stumble over with a network.

    A dry run on one photo, or on noise: what cuts gradients, which layers are doubtful, what is in training mode or
    half precision, what the output is, and what each method gives and costs. Exit status: 0 if there is no problem, 1
    if there is one.

    \b
    Examples:
      whycam doctor
      whycam doctor timm:vit_tiny_patch16_224 --weights random
      whycam doctor my_package.networks:build --size 320x320
      whycam doctor my_package.networks:build --photo cat.png --json
    """
    out = Output(json=json, quiet=quiet)
    with out.sentences():
        from whycam.explainer import doctor as examine

        vision, inputs = trial.trial(model, by_option, weights, unsafe_pickle, photo, size)
        found = examine(vision, inputs)
        out.document({**asdict(found), "ok": found.ok, "verdict": found.verdict})
        _report(out, found, "noise, since no --photo came" if photo is None else str(photo))
        raise typer.Exit(0 if found.ok else SOME_FAILED)


def _report(out: Output, found: Checkup, shown: str) -> None:
    if out.quiet:
        for each in found.problems:
            out.problem(f"{each.kind}: {each.text} {each.advice}")
        return
    worst = "problem" if found.problems else "fine"
    out.show(Text.assemble(text(f"{found.model}: ", "bold"), text(found.verdict, _STYLES[worst])), "")
    facts: dict[str, RenderableType] = {}
    if found.inputs:
        facts["input"] = text(f"{'x'.join(map(str, found.inputs))}, {shown}")
    if found.output is not None:
        facts["answer"] = text(_answer(found))
    if found.layer is not None:
        facts["layer"] = text(f"{found.layer}: {found.layer.why}")
    out.show(fields(facts))
    for severity in ("problem", "worth knowing"):
        several = [each for each in found.findings if each.severity == severity]
        if several:
            out.show("", Text(severity.capitalize(), _STYLES[severity]))
            out.show(fields({each.kind: _told(each) for each in several}, indent="  ", style=""))
    passed = [each.kind for each in found.findings if each.severity == "fine"]
    if passed:
        out.show("", Text.assemble(("Fine: ", _STYLES["fine"]), ", ".join(passed)))
    if found.methods:
        _show_methods(out, found)
    out.show("", text(f"This took {found.cost}.", "dim"))


def _told(finding: Finding) -> Text:
    return Text.assemble(text(finding.text), "\n", text(finding.advice, "dim"))


def _answer(found: Checkup) -> str:
    assert found.output is not None  # asked for where there is one
    made = found.output
    what = f"{made.classes} classes" if made.classes is not None else f"shape {'x'.join(map(str, made.shape))}"
    where = f"output{made.part}, " if made.part else ""
    return f"{where}{what}" + (f", says {made.prediction}" if made.prediction is not None else "")


def _show_methods(out: Output, found: Checkup) -> None:
    """One row for the methods that share everything but their names."""

    def row(each: MethodCheck) -> tuple[str, ...]:
        passes = f"{each.forwards:,} + {each.backwards:,}" if each.forwards is not None else "-"
        passes += f" + {each.parts:,}" if each.parts else ""
        flops = f"{each.flops:,.1f}" if each.flops is not None else "-"
        return passes, flops, each.layer or "-", each.status

    rows = table("Passes", "FLOPs", "Layer", "Status", "Methods", whole=("Passes", "FLOPs", "Status"), right=("FLOPs",))
    order = sorted(found.methods, key=lambda each: (each.forwards is None, row(each)))
    for (passes, flops, layer, status), several in groupby(order, row):
        names = ", ".join(each.name for each in several)
        rows.add_row(passes, flops, text(layer), status_text(status), text(names))
    out.show("", rows)
    first = f" The first map of all takes {found.prepares} more, to choose the layer." if found.prepares else ""
    parts = " + runs of the part above the layer" if any(each.parts for each in found.methods) else ""
    out.show(text(f"Passes: forwards + backwards{parts}. FLOPs: in predictions of one sample.{first}", "dim"))
    # "pixel detail" says something of the method and not of this network; the same of each method but for its title
    told = [each for each in found.methods if each.status not in ("ok", "pixel detail")]
    reasons = grouped((e.name, f"{e.status}: {e.message.replace(e.title, 'the method')}") for e in told)
    if reasons:
        out.show("", *reasons)
