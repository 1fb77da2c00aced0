"""`whycam runs`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from whycam.cli import arguments as given
from whycam.cli.output import SOME_FAILED, Output, fields, table, text
from whycam.errors import WhycamError
from whycam.kit.words import plural

if TYPE_CHECKING:
    from whycam.runs.run import Run
else:
    Run = Any  # brings torch

#: Classes, reasons and groups that are named; `--json` holds all.
_NAMED = 5

#: What each export takes beside where it is to.
_TAKES = {"coco": "level", "pictures": "photos", "fiftyone": "photos"}


def runs(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of a run: what 'whycam run' had as -o.")],
    best: Annotated[
        str | None,
        typer.Option("--best", metavar="COLUMN", help="Its best rows by score, probability or a metric that it holds."),
    ] = None,
    worst: Annotated[str | None, typer.Option("--worst", metavar="COLUMN", help="The worst, likewise.")] = None,
    number: Annotated[
        int, typer.Option("--number", "-n", min=1, metavar="N", help="How many rows, or classes, are shown.")
    ] = 10,
    border: Annotated[bool, typer.Option("--border", help="List the maps that stick to the border.")] = False,
    duplicates: Annotated[bool, typer.Option("--duplicates", help="List the images that hold the same.")] = False,
    means: Annotated[
        Path | None,
        typer.Option(
            "--means", metavar="FILE", help="Draw the mean maps of the most frequent classes: .png, .pdf, .svg."
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where", metavar="COLUMN=VALUE", help="Of the rows with this value: prediction=tabby, status=ok."
        ),
    ] = None,
    export: Annotated[
        Literal["coco", "pictures", "fiftyone"] | None,
        typer.Option(
            "--export",
            metavar="KIND",
            help="coco: boxes and masks of the bright regions, as JSON. pictures: each map over its photo, in a folder "
            "for each class. fiftyone: a data set with heat maps.",
        ),
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="PATH", help="The file or folder of the export; fiftyone: a name.")
    ] = None,
    photos: Annotated[
        str | None, typer.Option("--photos", metavar="SOURCE", help="Where the photos are, as 'whycam run' had them.")
    ] = None,
    level: Annotated[
        float | None,
        typer.Option("--level", metavar="SHARE", help="coco: bright is above this share of a map's maximum (0.2)."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every shard whole, and name those that are not what was written.")
    ] = False,
    drop_damaged: Annotated[
        bool, typer.Option("--drop-damaged", help="Delete these, so that the same 'whycam run' computes them again.")
    ] = False,
    json: given.Json = False,
    quiet: given.Quiet = False,
) -> None:
    """Look at a run: counts, the best and the worst, what sticks to the border, damage.

    \b
    Examples:
      whycam runs maps
      whycam runs maps --worst probability --where prediction=tabby -n 5
      whycam runs maps --border --duplicates --means means.png
      whycam runs maps --verify
      whycam runs maps --export coco --to maps.json
      whycam runs maps --export pictures --to drawn --photos photos/
    """
    out = Output(json=json, quiet=quiet)
    with out.sentences():
        if verify or drop_damaged:
            _check(out, folder, drop=drop_damaged)
            return
        from whycam.runs.run import open_run

        run = open_run(folder)
        options = {name: each for name, each in (("level", level), ("photos", photos)) if each is not None}
        if export is not None or to is not None or options:
            _export(out, run, export, to, options)
            return
        only = _conditions(where or [])
        found = run.summary()
        rows = {name: getattr(run, name)(_column(run, given), number, **only).to_pylist()
                for name, given in (("best", best), ("worst", worst)) if given is not None}  # fmt: skip
        if border:
            rows["border"] = run.at_border(**only).to_pylist()
        if means is not None:
            given.need_matplotlib("--means")
            from whycam.pictures.figures import save_figure

            save_figure(run.mean_figure(number, **only), means)
            out.remark(f"drew the mean maps into {means}")
        same = run.duplicates() if duplicates else None
        out.document({**found, "folder": folder, **rows, **({} if same is None else {"duplicates": same})})
        show_summary(out, folder, found)
        for what, listed in rows.items():
            _show_rows(out, what, listed, number)
        if same is not None:
            out.show(text(f"\n{plural(len(same), 'group')} of images that hold the same"))
            out.show(*[text(f"  {', '.join(group)}") for group in same])


def show_summary(out: Output, folder: Path, found: dict[str, Any]) -> None:
    """How many there are of what in a run."""
    rows = {
        "images": f"{found['images']:,}, {plural(found['rows'], 'row')}",
        "status": _listed(found["status"], "statuses"),
        "predicted": _listed(found["prediction"], "classes"),
        "failed": _listed(found["error"], "reasons"),
        "kept in": str(folder),
    }
    out.show(fields({name: text(said) for name, said in rows.items() if said}))


def _listed(counts: dict[str, int], things: str) -> str:
    listed = ", ".join(f"{name} {count:,}" for name, count in [*counts.items()][:_NAMED])
    others = len(counts) - _NAMED
    return listed + (f" and {others:,} other {things}" if others > 0 else "")


def _show_rows(out: Output, what: str, rows: list[dict[str, Any]], number: int) -> None:
    out.show(text(f"\n{what}: {plural(len(rows), 'row')}"))
    if rows:
        columns = [name for name in rows[0] if any(row[name] is not None for row in rows)]
        right = tuple(name for name in columns if isinstance(rows[0][name], int | float))
        shown = table(*columns, whole=("source",), right=right)
        for row in rows[:number]:
            values = (row[name] for name in columns)
            shown.add_row(*[text(f"{each:.4g}" if isinstance(each, float) else each) for each in values])
        out.show(shown)
    if rows[number:]:
        out.show(text(f"and {len(rows) - number:,} more; --number says how many are shown, --json shows all"))


def _column(run: Run, given: str) -> str:
    """A metric's column is called after it."""
    return f"metric.{given}" if given in (run.asked.get("metrics") or ()) else given


def _conditions(where: list[str]) -> dict[str, Any]:
    """By column the values that are wanted, each of which is enough."""
    made: dict[str, Any] = {}
    for each in where:
        name, equals, value = each.partition("=")
        if not equals:
            raise WhycamError(f"--where is written COLUMN=VALUE, such as prediction=tabby; not {each!r}.")
        made.setdefault(name.strip(), []).append(value.strip())
    return made


def _check(out: Output, folder: Path, *, drop: bool) -> None:
    """Name the damaged shards, or delete them; they leave the exit status at 0 only if they are gone."""
    from whycam.runs.manifest import read_manifest
    from whycam.runs.store import damaged_shards
    from whycam.runs.store import drop_damaged as drop_from

    read_manifest(folder)
    found = drop_from(folder) if drop else damaged_shards(folder)
    out.document({"folder": folder, "damaged": found, "dropped": drop})
    if not found:
        out.show(text(f"every shard in {folder} is what was written"))
    elif drop:
        out.show(text(f"deleted {', '.join(found)}: the same 'whycam run' computes their images again"))
    else:
        out.listed(f"damaged shards in {folder}; --drop-damaged deletes them", found)
        raise typer.Exit(SOME_FAILED)


def _export(out: Output, run: Run, kind: str | None, to: str | None, options: dict[str, Any]) -> None:
    """Write a run for another program; what is left out is said, and leaves the exit status at 1."""
    if kind is None or to is None:
        raise WhycamError(f"an export takes --export ({', '.join(_TAKES)}) and --to.")
    if others := [name for name in options if name != _TAKES[kind]]:
        raise WhycamError(f"--{others[0]} is not for --export {kind}; leave it out.")
    if _TAKES[kind] == "photos" and not options:
        raise WhycamError(f"--export {kind} shows the photos; say where they are: --photos SOURCE.")
    made = getattr(run, f"to_{kind}")(to, **options)
    out.document(
        {
            "to": made.to,
            "count": made.count,
            "left_out": [{"image": name, "reason": why} for name, why in made.left_out],
        }
    )
    out.show(text(f"{plural(made.count, 'map')} in {made.to}"))
    out.listed("maps left out", [f"{name}: {why}" for name, why in made.left_out], _NAMED)
    if made.left_out:
        raise typer.Exit(SOME_FAILED)
