"""`whycam evaluate`."""

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whycam.cli import arguments as given
from whycam.cli.inputs import find, own_note
from whycam.cli.output import INTERRUPTED, SOME_FAILED, Output, fields, text
from whycam.cli.truth import read_boxes, read_masks
from whycam.engine.target_words import parse_target
from whycam.kit.option_words import parse_options
from whycam.kit.words import plural

if TYPE_CHECKING:
    from whycam.results.evaluation import Evaluation
else:
    Evaluation = Any  # brings torch


def evaluate(
    photos: Annotated[list[str], typer.Argument(metavar="PHOTO", help="Photos, folders of photos, and globs.")],
    methods: Annotated[
        list[str] | None,
        typer.Option("--methods", "-m", metavar="A,B,...", help="Methods, or 'all'. Without: some quick ones."),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option("--layers", "-l", metavar="X,Y,...", help="Layers from 'whycam layers'; 'X+Y' fuses two."),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metrics",
            "-M",
            metavar="A,B,...",
            help="Metrics from 'whycam metrics'. Without: average_drop, insertion and deletion.",
        ),
    ] = None,
    targets: Annotated[
        list[str] | None,
        typer.Option("--targets", "-t", metavar="T,U,...", help="Targets as for 'explain'. Without: the top class."),
    ] = None,
    model: given.Model = "builtin",
    weights: given.Weights = None,
    unsafe_pickle: given.UnsafePickle = False,
    preprocess: given.Preprocess = None,
    labels: given.Labels = None,
    fusion: given.Fusion = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-O", metavar="NAME.OPTION=VALUE", help="An option of a method or a metric."),
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            "--boxes",
            metavar="FILE",
            help="Where the targets are: JSON, for each photo's name [left, top, right, bottom] in its pixels.",
        ),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            "--masks", metavar="DIR", help="Or a folder of pictures named as the photos are, black where they are not."
        ),
    ] = None,
    sanity: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="On how many photos to see whether maps change with the network and the class."
        ),
    ] = 8,
    no_controls: Annotated[
        bool, typer.Option("--no-controls", help="Do not measure maps that know nothing of the network beside.")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="How many photos are explained at once.")] = 8,
    seed: Annotated[int, typer.Option(metavar="N", help="Of random controls and of intervals.")] = 0,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="The folder to write to, and to go on from.")
    ] = given.DEFAULT_FOLDER,
    again: Annotated[
        bool, typer.Option("--again", help="Begin anew, whatever the folder holds of an evaluation.")
    ] = False,
    answer: given.Answer = None,
    layout: given.Layout = None,
    views: given.Views = None,
    device: given.Device = None,
    precision: given.Precision = None,
    budget: given.Budget = None,
    json: given.Json = False,
    quiet: given.Quiet = False,
) -> None:
    """Say which method's maps can be trusted on these photos.

    Measures every method at every layer by every metric, beside controls: maps that know nothing of the network, which
    a good method has to beat. Prints a table with 95% intervals, and which method to use, how surely, and what not to
    believe. Writes evaluation.csv, .samples.csv, .json and .md, with whycam[evaluate] .parquet, with whycam[plot] the
    curves. What is done is kept in the folder: after Ctrl-C, or with more photos, the same command goes on.

    \b
    Examples:
      whycam evaluate photos/
      whycam evaluate photos/ -m grad_cam,layer_cam,rise -l '_blocks.10,_blocks.15'
      whycam evaluate photos/ -M insertion,deletion,road --sanity 0 -o road
      whycam evaluate photos/ -M insertion -O insertion.steps=50 -O rise.samples=500 -m rise,grad_cam
      whycam evaluate photos/ -M pointing_game --boxes boxes.json
    """
    out = Output(json=json, quiet=quiet)
    with out.sentences():
        from whycam.engine.request import chosen_methods
        from whycam.evaluation.evaluate import METHODS, Interrupted, chosen_metrics
        from whycam.evaluation.journal import NAME
        from whycam.explainer import evaluate as evaluate_all
        from whycam.results.evaluation_files import document

        placed = boxes is not None or masks is not None
        listed = given.split_list(methods or METHODS)
        chosen = chosen_methods("all" if listed == ["all"] else listed)
        measured = [each for each, _ in chosen_metrics(given.metric_names(metrics, placed), {}, placed=placed)[0]]
        options = parse_options(option or [], [*chosen, *measured], "methods and metrics")
        aims = tuple(parse_target(each) for each in given.split_list(targets or ["top"]))
        places = given.split_layers(layers)
        asked = given.engine_options(
            precision=precision, compile=False, budget=budget, smoothing=None, answer=answer, layout=layout,
            views=views, quiet=quiet,
        )  # fmt: skip
        found = find(photos)
        vision = given.load_model(model, weights, unsafe_pickle, preprocess=preprocess, labels=labels, device=device)
        truth: dict[str, Any] = {
            "boxes": read_boxes(boxes, found.photos, vision) if boxes is not None else None,
            "masks": read_masks(masks, found.photos, vision) if masks is not None else None,
        }
        given.make_folder(output)
        if again:
            (output / NAME).unlink(missing_ok=True)
        if found.own:
            out.remark(own_note(found))
        stopped = False
        try:
            made = evaluate_all(
                vision, found.photos, [each.name for each in chosen], places if layers else None, measured, aims,
                options={name: each for name, each in options.items() if each}, controls=not no_controls,
                sanity=sanity, seed=seed, batch=batch, folder=output, fusion=fusion, **truth,
                **given.of_evaluate(asked),
            )  # fmt: skip
        except Interrupted as stop:
            made, stopped = stop.evaluation, True
        made = replace(made, asked={**made.asked, "command": given.command()})
        files, unwritten = list[Path](), ""
        try:
            files = _written(made, output) if made.rows else []
        except OSError as error:
            unwritten = f"the files in {output} cannot be written: {error.strerror or error}."
        # names of photos hold no spaces, and those of places do
        of_photos = {name: why for name, why in made.failures.items() if " " not in name and name not in made.metrics}
        refused = [f"{name}: {why}" for name, why in made.failures.items() if name not in of_photos]
        unread = [*(f"{each.photo}: {each.reason}" for each in found.failures), *of_photos.values()]
        out.document(
            {
                **document(made, made.recommendation, samples=False),
                "files": files,
                "failed": unread,
                "interrupted": stopped,
            }
        )
        _show(out, made, files)
        out.listed("photos not evaluated", unread)
        out.listed("not possible", refused)
        if unwritten:
            out.problem(unwritten)
        if stopped:
            done = f"{made.images} of {plural(len(found.photos), 'photo')} evaluated"
            out.problem(f"interrupted: {done}; the same command goes on, from {output / NAME}.")
            raise typer.Exit(INTERRUPTED)
        raise typer.Exit(
            SOME_FAILED if unread or unwritten or (refused and (methods or metrics)) or not made.rows else 0
        )


def _written(made: Evaluation, folder: Path) -> list[Path]:
    """Write all files that can be written here."""
    from whycam.pictures.figures import save_figure

    stem = folder / "evaluation"
    files = [
        made.to_csv(stem.with_suffix(".csv")),
        made.to_csv(stem.with_suffix(".samples.csv"), samples=True),
        made.to_json(stem.with_suffix(".json")),
    ]
    made.to_markdown(stem.with_suffix(".md"))
    files.append(stem.with_suffix(".md"))
    if find_spec("pyarrow") is not None:
        files.append(made.to_parquet(stem.with_suffix(".parquet")))
    if find_spec("matplotlib") is not None and any(made.at.values()):
        files.append(save_figure(made.figure(), stem.with_suffix(".curves.png")))
    return files


def _show(out: Output, made: Evaluation, files: Sequence[Path]) -> None:
    """The table, what is recommended, and where it is written."""
    if not made.rows:
        return
    for line in made.table(out.results.width).splitlines():
        shown = text(line)
        shown.highlight_regex(r"\S+ ±\S+(?=\*)", "bold")
        shown.highlight_regex(r"(?<=[\d*~])!", "bold red")
        out.show(shown)
    advice = made.recommendation
    for each in (advice, *advice.others):
        head = f"Target {each.target}: " if advice.others else ""
        out.show("", text(f"{head}{each.text}", "bold"))
        out.show(*(fields({"-": text(warning)}) for warning in each.warnings))
    out.show("", fields({"notes": text("\n".join(made.notes))} if made.notes else {}))
    listed = ", ".join([*map(str, files[:1]), *(each.name.removeprefix("evaluation") for each in files[1:])])
    out.show(fields({"files": text(listed)} if files else {}))
