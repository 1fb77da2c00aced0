"""The command line. Torch and the engine are imported by the commands that need them, so that `--help` is quick."""

import sys
from typing import Annotated

import typer

import whycam
from whycam.cli.compare import compare
from whycam.cli.doctor import doctor
from whycam.cli.evaluate import evaluate
from whycam.cli.explain import explain
from whycam.cli.layers_and_methods import layers, methods
from whycam.cli.metrics import metrics
from whycam.cli.report import report
from whycam.cli.run import run
from whycam.cli.runs import runs
from whycam.cli.serve import serve

app = typer.Typer(
    name="whycam",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help and plain errors: they read the same in a log as on a screen
    pretty_exceptions_enable=False,  # a bug shows an ordinary traceback
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(asked: bool) -> bool:
    if asked:
        typer.echo(f"whycam {whycam.__version__}")
        raise typer.Exit
    return asked


@app.callback()
def _whycam(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """See why a vision model decided as it did: class activation maps of photos.

    \b
    Examples:
      whycam explain dog.jpg                   the network's top class, by Grad-CAM
      whycam explain photos/ -o maps           a whole folder
      whycam compare dog.jpg -m all            every method side by side, in one pass
      whycam evaluate photos/                  which method's maps can be trusted
      whycam run photos/ -o maps               ten thousand photos, into one table
      whycam runs maps                         what that table says, and whether it is whole
      whycam serve                             a page in the browser to play with a network
      whycam report maps                       one HTML file to send to somebody
      whycam layers                            where in the network a map can be made
      whycam doctor my_file:build              what you would stumble over with a network
      whycam methods                           what there is to choose from, and to measure: whycam metrics

    'whycam COMMAND --help' explains a command. Exit status: 0 if every photo was explained, 1 if some were not, 2 for a
    mistake in the command.
    """


for command in (explain, compare, evaluate, run, runs, report, serve, layers, doctor, methods, metrics):
    app.command()(command)


def main() -> None:
    """The `whycam` command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what a terminal cannot show, such as a file name of stray bytes, is "?"
            stream.reconfigure(errors="replace")
    app(prog_name="whycam")
