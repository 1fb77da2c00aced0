"""`whycam compare`."""

from collections.abc import Hashable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType

from whycam.cli import arguments as given
from whycam.cli.inputs import Failure, find
from whycam.cli.options import parse_options
from whycam.cli.output import SOME_FAILED, Output, fields, status_text, table, text
from whycam.cli.targets import parse_target
from whycam.errors import PhotoError, WhycamError
from whycam.kit.words import plural

if TYPE_CHECKING:
    from whycam.results.explanation import Comparison, Explanation
else:
    Comparison = Explanation = Any  # bring torch

#: Three that weigh evidence for the class in different ways.
_METHODS = "grad_cam,grad_cam_plus_plus,layer_cam"


def compare(
    photo: Annotated[str, typer.Argument(metavar="PHOTO", help="One photo.")],
    methods: Annotated[
        list[str] | None,
        typer.Option("--methods", "-m", metavar="A,B,...", help=f"Methods, 'all' or 'auto'. Without: {_METHODS}."),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option("--layers", "-l", metavar="X,Y,...", help="Layers from 'whycam layers'; 'X+Y' fuses two."),
    ] = None,
    targets: Annotated[
        list[str] | None,
        typer.Option("--targets", "-t", metavar="T,U,...", help="Targets as for 'explain', '\"a, b\"' with a comma."),
    ] = None,
    box: given.Box = None,
    boxes: given.Boxes = None,
    region: given.Region = None,
    point: given.Point = None,
    similar: given.Similar = None,
    sentence: given.Text = None,
    model: given.Model = "builtin",
    weights: given.Weights = None,
    unsafe_pickle: given.UnsafePickle = False,
    preprocess: given.Preprocess = None,
    labels: given.Labels = None,
    fusion: given.Fusion = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-O", metavar="METHOD.NAME=VALUE", help="An option of one of the methods."),
    ] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE|DIR", help="The figure (.png, .pdf, .svg, ...), or its folder."),
    ] = given.DEFAULT_FOLDER,
    colormap: given.Colormap = None,
    signed: given.Signed = False,
    answer: given.Answer = None,
    layout: given.Layout = None,
    views: given.Views = None,
    smoothing: given.Smoothing = None,
    precision: given.Precision = None,
    compile: given.Compile = False,
    budget: given.Budget = None,
    json: given.Json = False,
    quiet: given.Quiet = False,
) -> None:
    """Compare methods, layers and targets.

    In one shared pass over one photo. Draws every combination side by side (needs 'whycam[plot]') and lists their
    scores. Combinations that cannot be are listed with their reasons.

    \b
    Examples:
      whycam compare cat.png
      whycam compare cat.png -m all -o methods.png
      whycam compare cat.png -m grad_cam,layer_cam -l '_blocks.10,_blocks.15'
      whycam compare cat.png -t '281,282,finer'
      whycam compare cat.png -m fem,grad_cam -O fem.k=1.5
    """
    out = Output(json=json, quiet=quiet)
    with out.sentences():
        from whycam.engine.request import chosen_methods
        from whycam.explainer import compare as compare_all
        from whycam.pictures.colormaps import palette
        from whycam.pictures.figures import save_figure
        from whycam.pictures.photos import read_photo
        from whycam.targets import key

        listed = given.split_list(methods or [_METHODS])
        auto = listed == ["auto"]
        chosen = chosen_methods("all" if listed == ["all"] else ["grad_cam"] if auto else listed)
        options = parse_options(option or [], chosen)
        aims = given.wanted(None, box=box, boxes=boxes, region=region, point=point, similar=similar, sentence=sentence)
        listed = [*given.split_list(targets or ([] if aims else ["top"])), *aims]
        asked = {key(parse_target(each)): each for each in listed}
        places = [each.split("+") if "+" in each else each for each in given.split_list(layers or [])]
        palette(colormap, signed)  # a name that does not exist is said before any work is done
        given.need_matplotlib("the figure that 'whycam compare' draws")
        found = find([photo])
        if len(found.photos) > 1:
            raise WhycamError(f"compare takes one photo; {photo!r} names {len(found.photos)}.")
        try:
            picture = read_photo(found.photos[0])
        except PhotoError as error:
            out.problem(str(error))
            out.document({"failed": [asdict(Failure.of(found.photos[0], error))]})
            raise typer.Exit(SOME_FAILED) from None
        path = given.figure_path(output, f"{picture.name}.compare.png")
        vision = given.load_model(model, weights, unsafe_pickle, preprocess=preprocess, labels=labels)
        made = compare_all(
            vision,
            picture,
            "auto" if auto else [each.name for each in chosen],
            places if layers else None,
            list(asked),
            fusion=fusion,
            options=options,
            **given.engine_options(
                precision=precision, compile=compile, budget=budget, smoothing=smoothing, answer=answer, layout=layout,
                views=views, quiet=quiet,
            ),
        )  # fmt: skip
        save_figure(made.figure(colormap=colormap, signed=signed), path)
        _report(out, made, path, asked, found.photos[0])
        non_finite = any(status.kind == "non-finite" for each in made.values() for status in each.status)
        raise typer.Exit(SOME_FAILED if made.failures or non_finite else 0)


def _report(out: Output, made: Comparison, path: Path, asked: dict[Hashable, str], photo: Path) -> None:
    from whycam.results.saving import record

    failures = [
        {"method": method, "layer": layer, "target": asked.get(target, "top"), "reason": reason}
        for (method, layer, target), reason in made.failures.items()
    ]
    one = made.first
    out.document(
        {
            "photo": photo,
            "figure": path,
            "explained": [record(each, 0) for each in made.values()],
            "failed": failures,
            "cost": asdict(made.cost),
        }
    )
    rows = table("Method", "Layer", "Target", "Score", "Status", whole=("Method", "Score"), right=("Score",))
    remarks: dict[str, RenderableType] = {}
    for each in made.values():
        target = each.target[0] if each.target else "(no class)"
        score = f"{float(each.scores[0]):.3f}" if each.target else ""
        status = each.status[0]
        rows.add_row(each.title, text(each.layer.name), text(target), score, status_text(status.kind))
        if not status.ok:
            remarks.setdefault(str(status), status_text(status.kind, status.message))  # many maps share a reason
        if out.quiet and not status.ok:
            out.problem(f"{each.title} at {each.layer.name}, {target}: {status}")
    said = {"prediction": text(one.predictions[0])} if one.predictions else {}
    out.show(text(photo, "bold"), fields({"model": text(one.model), **said, "figure": text(path)}), "", rows, "")
    if remarks:
        out.show(*remarks.values(), "")
    every = {each.title for each in made.values()}
    notes: dict[str, set[str]] = {}
    for each in made.values():
        for note in each.notes:
            notes.setdefault(note, set()).add(each.title)
    for note, titles in notes.items():
        said_of = "" if titles == every else f"{', '.join(sorted(titles))}: "
        out.show(fields({"note": text(f"{said_of}{note}")}))
    if notes:
        out.show("")
    chosen = {each.layer.name for each in made.values() if each.layer.why != "as asked" and each.layer.name != "input"}
    if len(chosen) > 1:
        out.show(
            "Nobody named a layer, so each method has the one that suits it; name one with --layers to compare methods "
            "at the same place.",
            "",
        )
    out.show(text(f"{plural(len(made), 'map')} with {made.cost}"))
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for failure in failures:
        same = failure["method"], failure["layer"], failure["reason"]
        reasons.setdefault(same, []).append(failure["target"])
    out.listed("not possible", [f"{m} at {la}, {', '.join(aims)}: {why}" for (m, la, why), aims in reasons.items()])
