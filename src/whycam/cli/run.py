"""`whycam run`."""

import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whycam.cli import arguments as given
from whycam.cli.output import INTERRUPTED, SOME_FAILED, Output
from whycam.cli.runs import show_summary
from whycam.engine.target_words import HELP as TARGET_HELP
from whycam.engine.target_words import parse_target
from whycam.errors import OptionError, WhycamError
from whycam.kit.option_words import parse_options
from whycam.pictures.blends import OPACITY

if TYPE_CHECKING:
    from whycam.runs.run import Run
else:
    Run = Any  # brings torch

#: What a run takes of the options that commands share.
_TAKEN = ("output", "layout", "precision", "budget", "progress")
#: Failed images that are named; the table holds all.
_NAMED = 5


def run(
    source: Annotated[
        str | None,
        typer.Argument(metavar="SOURCE", help="A folder, a glob, a list (.txt, .csv), .tar shards, or Parquet files."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="The folder to keep the run in.")
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--methods", "-m", metavar="A,B,...", help="Methods; see 'whycam methods'. Or auto, as in explain."
        ),
    ] = None,
    layers: Annotated[
        list[str] | None, typer.Option("--layers", "-l", metavar="X,Y,...", help="Layers; 'X+Y' fuses two.")
    ] = None,
    targets: Annotated[list[str] | None, typer.Option("--targets", "-t", metavar="T,U,...", help=TARGET_HELP)] = None,
    model: given.Model = "builtin",
    weights: given.Weights = None,
    unsafe_pickle: given.UnsafePickle = False,
    preprocess: given.Preprocess = None,
    labels: given.Labels = None,
    fusion: given.Fusion = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-O", metavar="NAME=VALUE", help="An option of a method; see 'whycam methods'."),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="How many images are explained at once: 4 on a CPU, 16 elsewhere."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Processes that read photos: 1; on Ray as it has room for.")
    ] = None,
    maps: Annotated[str, typer.Option(metavar="TYPE", help="How maps are kept: float16 or float32.")] = "float16",
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metrics", "-M", metavar="A,B,...", help="Columns of metrics; see 'whycam metrics'."),
    ] = None,
    overlays: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="Also draw each map over its photo, as jpg, webp or png.")
    ] = None,
    heatmaps: Annotated[str | None, typer.Option(metavar="FORMAT", help="Also draw each map alone.")] = None,
    colormap: given.Colormap = None,
    opacity: given.Opacity = OPACITY,
    signed: given.Signed = False,
    blend: given.Blend = "map",
    contour: given.Contour = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--columns", metavar="WHAT=NAME", help="Which column of a list holds the photo, target, label or id."
        ),
    ] = None,
    label_from: Annotated[
        str | None, typer.Option(metavar="folder", help="Folders are named after what their photos show.")
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Ask again about images that failed before.")] = False,
    new: Annotated[bool, typer.Option("--new", help="Begin anew, in a folder beside the one that is named.")] = False,
    engine: Annotated[
        str, typer.Option(metavar="NAME", help="local, or ray: the machines of a Ray cluster.")
    ] = "local",
    num_gpus: Annotated[
        float | None, typer.Option(min=0, metavar="N", help="With ray: GPUs for each actor; 0.5: two share one.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="With ray: how many actors hold the network.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="K/N", help="Be job K of N that share the source, as an array of SLURM's.")
    ] = None,
    merge: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Make one run of what jobs with --shard wrote to DIR; no SOURCE.")
    ] = None,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="With --merge: also if a part is missing or unfinished.")
    ] = False,
    answer: given.Answer = None,
    layout: given.Layout = None,
    device: given.Device = None,
    precision: given.Precision = None,
    budget: given.Budget = None,
    json: given.Json = False,
    quiet: given.Quiet = False,
) -> None:
    """Explain a whole set of images, each exactly once, into one table.

    Photos are read beside the network. The table has a row for each image, method, layer and target: prediction, score,
    status, and the raw map; an image that cannot be read is a row with the reason. After Ctrl-C, or a crash, the same
    command goes on. Read it with whycam.open_run(DIR), pandas, polars or DuckDB (DIR/shards/*.parquet).

    \b
    Examples:
      whycam run photos/ -o maps
      whycam run list.csv -o maps -m grad_cam,layer_cam      a column of paths, and one of targets
      whycam run photos/ -o maps -M insertion --overlays jpg a column of a metric, and pictures
      whycam run 'shards-{000..012}.tar' -o maps --batch 64 --workers 4
      whycam run photos/ -o maps --engine ray --num-gpus 1 --concurrency 8
      whycam run photos/ -o maps --shard 3/16                then: whycam run --merge maps
    """
    out = Output(json=json, quiet=quiet)
    with out.sentences():
        if merge is not None:
            if source is not None or output is not None:
                raise OptionError("--merge takes the folder of the parts, and neither SOURCE nor --output.")
            from whycam.runs.parts import merge_shards

            _tell(out, merge_shards(merge, unfinished=unfinished))
        if source is None or output is None:
            raise OptionError("a run needs SOURCE and --output (-o) DIR.")
        if unfinished:
            raise OptionError("--unfinished is for --merge.")
        part = None if shard is None else _part(shard)
        from whycam.engine.request import chosen_methods
        from whycam.explainer import run as run_all
        from whycam.kit.metric import find_metric
        from whycam.kit.registry import find as find_method
        from whycam.runs.manifest import keep_said

        listed = given.split_list(methods or [])
        auto = listed == ["auto"]
        chosen = chosen_methods("all" if listed == ["all"] else listed) if listed and not auto else []
        named = given.metric_names(metrics, placed=False)
        measured = [find_metric(each) for each in named or []]
        options = parse_options(
            option or [], [*(chosen or [find_method("grad_cam")]), *measured], "methods and metrics"
        )
        aims = [parse_target(each) for each in given.split_list(targets or [])]
        places = given.split_layers(layers)
        asked = given.engine_options(
            precision=precision, compile=False, budget=budget, smoothing=None, answer=answer, layout=layout, views=None,
            quiet=quiet,
        )  # fmt: skip
        vision = given.load_model(model, weights, unsafe_pickle, preprocess=preprocess, labels=labels, device=device)
        one = len(chosen) < 2 and len(places) < 2 and len(aims) < 2
        if auto and not one:
            raise OptionError(
                "auto is one method at one layer for one target; name the methods, or ask for one of each."
            )
        what: dict[str, Any] = (
            {
                "method": "auto" if auto else chosen[0].name if chosen else None,
                "target": aims[0] if aims else None,
                "layer": places[0] if places else None,
            }
            if one
            else {"methods": [each.name for each in chosen] or None, "targets": aims or None, "layers": places or None}
        )
        before = signal.signal(signal.SIGTERM, _as_interrupt)
        try:
            made = run_all(
                vision, source, output, **what, options=options, fusion=fusion, batch=batch, workers=workers, maps=maps,
                metrics=named, overlays=overlays, heatmaps=heatmaps, colormap=colormap, opacity=opacity, signed=signed,
                blend=blend, contour=contour, columns=_columns(columns), label_from=label_from, retry=retry, new=new,
                engine=engine, num_gpus=num_gpus, concurrency=concurrency, shard=part,
                **{name: value for name, value in asked.items() if name in _TAKEN},
            )  # fmt: skip
        except KeyboardInterrupt:
            again = f"in the newest folder beside {output}; name that, without --new, to go on" if new else None
            out.problem(f"interrupted: what was explained is {again or f'in {output}; the same command goes on'}.")
            raise typer.Exit(INTERRUPTED) from None
        finally:
            signal.signal(signal.SIGTERM, before)
        keep_said(made.folder, command=given.command())
        _tell(out, made)


def _part(text: str) -> tuple[int, int]:
    """`3/16`."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None:
        raise OptionError(f"--shard is K/N, such as 3/16; what came is {text!r}.")
    return int(found[1]), int(found[2])


def _tell(out: Output, made: Run) -> None:
    """What there is now, and the exit status."""
    found = made.summary()
    out.document({**found, "folder": made.folder})
    _show(out, made, found)
    raise typer.Exit(SOME_FAILED if found["failed"] or found["status"].get("non-finite") else 0)


def _columns(given: list[str] | None) -> dict[str, str] | None:
    """`photo=where` and the like."""
    pairs = [each.partition("=") for each in given or []]
    if wrong := [left + equals + name for left, equals, name in pairs if not (equals and left and name)]:
        raise WhycamError(f"--columns is written WHAT=NAME, such as photo=file, not {wrong[0]!r}.")
    return {left: name for left, _, name in pairs} or None


def _as_interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def _show(out: Output, made: Run, found: dict[str, Any]) -> None:
    """How many there are of what, and the first that failed."""
    show_summary(out, made.folder, found)
    out.listed("not explained", [f"{name}: {why}" for name, why in made.failures], _NAMED)
