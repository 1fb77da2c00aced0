"""`whycam report`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whycam.cli import arguments as given
from whycam.cli.output import Output
from whycam.errors import WhycamError

if TYPE_CHECKING:
    from whycam.reports.values import Part
else:
    Part = object  # a report is made where it is asked for


def report(
    what: Annotated[
        list[Path],
        typer.Argument(
            metavar="WHAT",
            help="Folders that 'whycam explain', 'whycam run' or 'whycam evaluate' wrote to, and evaluations saved as "
            "JSON.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The HTML file.")] = Path(
        "report.html"
    ),
    title: Annotated[str, typer.Option("--title", metavar="TEXT", help="What stands above it.")] = "",
    photos: Annotated[
        str | None,
        typer.Option("--photos", metavar="SOURCE", help="Where a run's photos are, as 'whycam run' had them."),
    ] = None,
    number: Annotated[
        int, typer.Option("--number", "-n", min=1, metavar="N", help="How many images of a run are shown, at most.")
    ] = 500,
    json: given.Json = False,
    quiet: given.Quiet = False,
) -> None:
    """Write one HTML file to send to somebody: what was asked, and every image with its maps.

    It fetches nothing when it is opened, and can be printed. Of each photo some 50 kB are kept.

    \b
    Examples:
      whycam report out/                                   what 'whycam explain photos/ -o out' wrote
      whycam report maps/ --photos photos/ -o maps.html    a run, over its photos
      whycam report maps/ trust/evaluation.json            with what was measured
    """
    out = Output(json=json, quiet=quiet)
    with out.sentences():
        from whycam.kit.words import plural
        from whycam.reports.page import write

        parts = [_part(each, photos, number) for each in what]
        written = write(parts, output, title)
        images, failures = (sum(len(getattr(part, name)) for part in parts) for name in ("images", "failures"))
        out.document({"file": written, "images": images, "failures": failures, "bytes": written.stat().st_size})
        out.show(f"{written}: {plural(images, 'image')}, {written.stat().st_size / 1e6:.1f} MB")


def _part(path: Path, photos: str | None, number: int) -> Part:
    """What the report shows of a folder or a file, by what it holds."""
    if not path.exists():
        raise WhycamError(f"{path}: there is no such folder or file; pass what whycam wrote to.")
    name = path.absolute().name
    saved = path / "evaluation.json" if path.is_dir() else path
    if path.is_dir() and (path / "run.json").exists():
        from whycam.runs.reporting import part_of_run
        from whycam.runs.run import open_run

        return part_of_run(open_run(path), name, photos, number)
    if saved.is_file():
        from whycam.results.evaluation import Evaluation
        from whycam.results.evaluation_report import part_of_evaluation

        found = Evaluation.load(saved)
        return part_of_evaluation(found, found.recommendation, name)
    from whycam.results.reporting import part_of_folder

    return part_of_folder(path, name)
