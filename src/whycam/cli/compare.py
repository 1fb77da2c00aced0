"""`whycam compare`."""

import math
from collections.abc import Hashable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
from rich.console import RenderableType
from rich.table import Table

from whycam.cli import arguments as given
from whycam.cli.inputs import Failure, find
from whycam.cli.output import SOME_FAILED, Output, fields, status_text, table, text
from whycam.engine.target_words import parse_target
from whycam.errors import PhotoError, WhycamError
from whycam.kit.option_words import parse_options
from whycam.kit.words import plural

if TYPE_CHECKING:
    from whycam.results.evaluation import Evaluation
    from whycam.results.explanation import Comparison, Explanation
else:
    Comparison = Evaluation = Explanation = Any  # bring torch

#: By an explanation's key what each metric says of it.
Values: TypeAlias = Mapping[Any, Mapping[str, float]]

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
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metrics", "-M", metavar="A,B,...", help="Measure each map: metrics from 'whycam metrics', or 'all'."
        ),
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
    blend: given.Blend = "map",
    enlarge: given.Enlarge = "cubic",
    contour: given.Contour = None,
    answer: given.Answer = None,
    layout: given.Layout = None,
    views: given.Views = None,
    smoothing: given.Smoothing = None,
    device: given.Device = None,
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
      whycam compare cat.png -m grad_cam,rise -M insertion,deletion    with their figures; see 'whycam evaluate'
    """
    out = Output(json=json, quiet=quiet)
    with out.sentences():
        from whycam.engine.request import chosen_methods
        from whycam.evaluation.evaluate import chosen_metrics
        from whycam.explainer import compare as compare_all
        from whycam.explainer import evaluate as evaluate_all
        from whycam.pictures.colormaps import palette
        from whycam.pictures.figures import save_figure
        from whycam.pictures.photos import read_photo
        from whycam.targets import key

        listed = given.split_list(methods or [_METHODS])
        auto = listed == ["auto"]
        chosen = chosen_methods("all" if listed == ["all"] else ["grad_cam"] if auto else listed)
        asked_for = given.metric_names(metrics, placed=False)
        measured = [each for each, _ in chosen_metrics(asked_for, {}, placed=False)[0]] if asked_for else []
        options = parse_options(option or [], [*chosen, *measured], "methods and metrics" if measured else "methods")
        if measured and smoothing is not None:
            raise WhycamError("--metrics measures the maps as the methods make them; leave --smoothing out.")
        aims = given.wanted(None, box=box, boxes=boxes, region=region, point=point, similar=similar, sentence=sentence)
        listed = [*given.split_list(targets or ([] if aims else ["top"])), *aims]
        asked = {key(parse_target(each)): each for each in listed}
        places = given.split_layers(layers)
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
        vision = given.load_model(model, weights, unsafe_pickle, preprocess=preprocess, labels=labels, device=device)
        how = given.engine_options(
            precision=precision, compile=compile, budget=budget, smoothing=smoothing, answer=answer, layout=layout,
            views=views, quiet=quiet,
        )  # fmt: skip
        made = compare_all(
            vision,
            picture,
            "auto" if auto else [each.name for each in chosen],
            places if layers else None,
            list(asked),
            fusion=fusion,
            options={each.name: options[each.name] for each in chosen},
            **how,
        )
        values: Values = {}
        unmeasured: list[str] = []
        if measured:
            names = {each.name for each in measured}
            found_out = evaluate_all(
                vision, picture, list(dict.fromkeys(method for method, _, _ in made)), places if layers else None,
                measured, list(asked), fusion=fusion, options={name: each for name, each in options.items() if each},
                controls=False, sanity=0, **given.of_evaluate(how),
            )  # fmt: skip
            values = _by_key(made, found_out)
            unmeasured = [
                f"{name}: {why}" for name, why in found_out.failures.items() if name.partition(" ")[0] in names
            ]
        aim = _measured_by(made)
        by = {key: f"\n(of {aim})" if aim and not each.target else "" for key, each in made.items()}
        said = {key: _said(own, "\n") + by[key] for key, own in values.items()}
        drawn = made.figure(
            colormap=colormap, signed=signed, blend=blend, enlarge=enlarge, contour=contour, said=said
        )  # fmt: skip
        save_figure(drawn, path)
        _report(out, made, path, asked, found.photos[0], values)
        out.listed("not measured", unmeasured)
        non_finite = any(status.kind == "non-finite" for each in made.values() for status in each.status)
        raise typer.Exit(SOME_FAILED if made.failures or unmeasured or non_finite else 0)


def _by_key(made: Comparison, found: Evaluation) -> Values:
    """What was measured of each map; a map of no class is measured by the first target."""
    rows: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in found.rows:
        if row["metric"] in found.metrics:
            rows.setdefault((row["method"], row["layer"], row["target"]), {})[row["metric"]] = row["value"]
    named = {key: "top" if key[2] is None else str(key[2]) for key in made}
    first = found.targets[0] if found.targets else ""
    return {
        key: rows.get((*key[:2], named[key] if each.target else first), {}) for key, each in made.items()
    }  # fmt: skip


def _spelled(own: Mapping[str, float], name: str) -> str:
    from whycam.kit.metric import find_metric
    from whycam.results.standing import spelled

    return spelled(find_metric(name), own.get(name, math.nan))


def _said(own: Mapping[str, float], between: str) -> str:
    return between.join(f"{name} {_spelled(own, name)}" for name in own)


def _measured_by(made: Comparison) -> str:
    """By which target maps of no class are measured, where there are several to choose from."""
    aims = list(dict.fromkeys(each.target[0] for each in made.values() if each.target))
    return aims[0] if len(aims) > 1 and not all(each.target for each in made.values()) else ""


def _target(one: Explanation) -> str:
    return str(one.target[0]) if one.target else "(no class)"


def _table(made: Comparison, values: Values, figures: list[str]) -> Table:
    """A line for each map, with these figures of it."""
    right = ("Score", *figures)
    rows = table("Method", "Layer", "Target", "Score", *figures, "Status", whole=("Method", *right), right=right)
    for key, each in made.items():
        score = f"{float(each.scores[0]):.3f}" if each.target else ""
        own = [_spelled(values[key], name) for name in figures]
        kind = each.status[0].kind
        rows.add_row(each.title, text(each.layer.name), text(_target(each)), score, *own, status_text(kind))
    return rows


def _report(out: Output, made: Comparison, path: Path, asked: dict[Hashable, str], photo: Path, values: Values) -> None:
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
            "explained": [
                record(each, 0) | ({"metrics": values[key]} if key in values else {}) for key, each in made.items()
            ],
            "failed": failures,
            "cost": asdict(made.cost),
        }
    )
    figures = list(dict.fromkeys(name for own in values.values() for name in own))
    rows = _table(made, values, figures)
    measured: dict[str, RenderableType] = {}
    if not out.fits(rows):
        rows = _table(made, values, [])
        measured = {f"{made[key].title} at {made[key].layer.short}, {_target(made[key])}": text(_said(own, ", "))
                    for key, own in values.items()}  # fmt: skip
    remarks: dict[str, RenderableType] = {}
    for each in made.values():
        status = each.status[0]
        if not status.ok:
            remarks.setdefault(str(status), status_text(status.kind, status.message))  # many maps share a reason
        if out.quiet and not status.ok:
            out.problem(f"{each.title} at {each.layer.name}, {_target(each)}: {status}")
    said = {"prediction": text(one.predictions[0])} if one.predictions else {}
    out.show(text(photo, "bold"), fields({"model": text(one.model), **said, "figure": text(path)}), "", rows, "")
    if measured:
        out.show(fields(measured), "")
    if values and (aim := _measured_by(made)):
        out.show(text(f"Maps of no class are measured by the first target, {aim}."), "")
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
