"""`whycam serve`."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from whycam.cli import arguments as given
from whycam.cli.inputs import find
from whycam.cli.output import Output, text
from whycam.errors import OptionError, missing

#: Photos that scikit-image brings, for those who have none at hand.
_SAMPLES = ("chelsea.png", "astronaut.png", "camera.png", "coffee.png", "rocket.jpg")


def serve(
    photos: Annotated[
        list[str] | None, typer.Argument(metavar="PHOTO", help="Photos, folders and globs to have at hand on the page.")
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model", metavar="SPEC", help=f"A network: 'builtin', {given.FORMS}. Several stand side by side."
        ),
    ] = None,
    weights: given.Weights = None,
    unsafe_pickle: given.UnsafePickle = False,
    preprocess: given.Preprocess = None,
    labels: given.Labels = None,
    device: given.Device = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, metavar="N", help="Without: 8347, or one that is free.")
    ] = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Other than this machine's own: the page asks for a token.")
    ] = "127.0.0.1",
    token: Annotated[
        bool, typer.Option("--token", help="Ask for a token here too, as behind a proxy with a name of its own.")
    ] = False,
    root_path: Annotated[
        str, typer.Option("--root-path", metavar="PATH", help="The path under which a proxy hands the page out.")
    ] = "",
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    quiet: given.Quiet = False,
) -> None:
    """Play with a network on a page in the browser, on this machine and without internet.

    Drop photos, see what the network says of them, click classes, choose methods and layers, move opacity and
    threshold, draw a box. The page and all that it is given stay on this machine and in memory; Ctrl-C ends it.

    \b
    Examples:
      whycam serve
      whycam serve photos/ --model timm:resnet50 --model timm:vit_tiny_patch16_224
      whycam serve --host 0.0.0.0                for others, who need the token that is printed
      whycam serve --token --root-path /whycam   behind a proxy that has a name of its own
    """
    out = Output(quiet=quiet)
    with out.sentences():
        for package in ("starlette", "uvicorn"):
            if find_spec(package) is None:
                raise missing(package, "serve", "the local page")
        specs = list(dict.fromkeys(models or ["builtin"]))
        if len(specs) > 1 and (weights is not None or labels is not None or preprocess is not None):
            raise OptionError("--weights, --labels and --preprocess are of one network; name one --model with them.")
        if root_path and not root_path.startswith("/"):
            raise OptionError(f"--root-path is a path such as /whycam, not {root_path!r}.")
        found = find(photos) if photos else None
        from whycam.page.serving import bind, serve
        from whycam.results.reproduce import Loading

        networks = [
            (spec, given.load_model(
                spec, weights, unsafe_pickle, preprocess=preprocess, labels=labels, device=device))
            for spec in specs
        ]  # fmt: skip
        texts = given.read_labels(labels) if labels is not None else ()
        loading = Loading(
            str(weights) if weights is not None else None,
            unsafe_pickle,
            preprocess,
            str(labels) if labels is not None else None,
            device,
            "mapping" if isinstance(texts, dict) else "list" if isinstance(texts, list) else "lines",
        )
        bound, said = bind(host, port)
        if said:
            out.remark(said)
        out.listed("not read", [f"{each.photo}: {each.reason}" for each in found.failures] if found else [])
        serve(
            networks,
            {str(path): path for path in found.photos} if found else _samples(),
            bound,
            tell=lambda address: out.problem(f"the page is at {address} (Ctrl-C ends it)")
            if quiet else out.show(text(f"{address}\nCtrl-C ends it.")),
            browser=browser,
            token=token,
            prefix=root_path,
            loading=loading,
        )  # fmt: skip


def _samples() -> dict[str, Path]:
    """Photos that are on this machine with scikit-image, if it is."""
    package = find_spec("skimage")
    folder = Path(package.origin).parent / "data" if package is not None and package.origin is not None else Path()
    return {each: folder / each for each in _SAMPLES if (folder / each).is_file()}
