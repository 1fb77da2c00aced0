"""`whycam explain`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType

from whycam.cli import arguments as given
from whycam.cli.inputs import Failure, find, own_note
from whycam.cli.options import parse_options
from whycam.cli.output import INTERRUPTED, SOME_FAILED, Output, fields, status_text, text
from whycam.cli.targets import HELP as TARGET_HELP
from whycam.cli.targets import parse_target
from whycam.errors import PhotoError, WhycamError
from whycam.kit.files import Names
from whycam.kit.words import plural

if TYPE_CHECKING:
    from whycam.models.vision_model import VisionModel
    from whycam.results.explanation import Explanation
    from whycam.results.values import Cost
else:
    Cost = Explanation = VisionModel = Any  # bring torch


def explain(
    photos: Annotated[list[str], typer.Argument(metavar="PHOTO", help="Photos, folders of photos, and globs.")],
    method: Annotated[
        str | None,
        typer.Option(
            "--method", "-m", metavar="METHOD", help="How the map is made; see 'whycam methods'. Usually grad_cam."
        ),
    ] = None,
    model: given.Model = "builtin",
    weights: given.Weights = None,
    unsafe_pickle: given.UnsafePickle = False,
    preprocess: given.Preprocess = None,
    labels: given.Labels = None,
    target: Annotated[str | None, typer.Option("--target", "-t", metavar="TARGET", help=TARGET_HELP)] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer", "-l", metavar="LAYER", help="Where: a name or glob from 'whycam layers'. Several fuse."
        ),
    ] = None,
    fusion: given.Fusion = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-O", metavar="NAME=VALUE", help="An option of the method; see 'whycam methods'."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="The folder to write to.")
    ] = given.DEFAULT_FOLDER,
    colormap: given.Colormap = None,
    opacity: Annotated[
        float, typer.Option(min=0, max=1, metavar="SHARE", help="Of the heat map over the photo, 0 to 1.")
    ] = 0.5,
    signed: given.Signed = False,
    figure: Annotated[
        bool, typer.Option("--figure", help="Also draw photo, raw map, resized map and overlay side by side.")
    ] = False,
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
    """Explain what a network sees in photos.

    For each photo, three files are written: NAME.METHOD.overlay.png, the map over the photo; NAME.METHOD.map.npy, its
    raw values; NAME.METHOD.json, how it came about. A photo that cannot be read is listed at the end, and the others
    are explained all the same.

    \b
    Examples:
      whycam explain dog.jpg
      whycam explain photos/ 'more/*.png' -o maps
      whycam explain cat.png -t 'tabby cat' -m layer_cam --colormap jet
      whycam explain cat.png -t contrast:281/282    what makes it class 281 and not 282
      whycam explain cat.png -t my_scores:fur       a function of yours, output -> scores
      whycam explain cat.png -m fem -O k=1.5        with an option of the method
      whycam explain cat.png -l '_blocks.1[0-5]'    several layers, fused
      whycam explain cat.png -m rise --precision bfloat16    many runs, by a fast copy
    """
    out = Output(json=json, quiet=quiet)
    with out.sentences():
        from whycam.kit.registry import find as find_method
        from whycam.pictures.colormaps import palette

        what = parse_target(target) if target is not None else None
        chosen = find_method(method if method is not None else getattr(what, "usual_method", "grad_cam"))
        asked = {
            **parse_options(option or [], [chosen])[chosen.name],
            "target": what,
            "layer": layer if layer is None or len(layer) > 1 else layer[0],
            "fusion": fusion,
            **given.engine_options(
                precision=precision, compile=compile, budget=budget, smoothing=smoothing, answer=answer, layout=layout,
                views=views, quiet=quiet,
            ),
        }  # fmt: skip
        palette(colormap, signed)  # a name that does not exist is said before any work is done
        if figure:
            given.need_matplotlib("--figure")
        found = find(photos)
        vision = given.load_model(model, weights, unsafe_pickle, preprocess=preprocess, labels=labels)
        given.make_folder(output)
        if found.own:
            out.remark(own_note(found))
        look = {"colormap": colormap, "signed": signed}
        run = _Run(out, vision, chosen.name, asked, output, look, opacity, figure, failures=found.failures)
        run(found.photos)
        raise typer.Exit(run.finish())


@dataclass
class _Run:
    """Photos one by one: what was finished stays finished, whatever becomes of the others."""

    out: Output
    vision: VisionModel
    method: str
    asked: dict[str, Any]
    folder: Path
    look: dict[str, Any]
    opacity: float
    figure: bool
    failures: list[Failure]
    done: list[dict[str, Any]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    cost: list[Cost] = field(default_factory=list)
    interrupted: bool = False
    shown: set[str] = field(default_factory=set)
    photos: int = 0

    def __call__(self, photos: Sequence[Path]) -> None:
        self.photos = len(photos)
        names = Names()
        try:
            with self.out.progress("Explaining", len(photos)) as advance:
                for path in photos:
                    self._one(path, names)
                    advance()
        except KeyboardInterrupt:
            self.interrupted = True
        if not self.done and not self.interrupted and len(set(self.refused)) == 1:
            raise WhycamError(self.refused[0])

    def _one(self, path: Path, names: Names) -> None:
        from whycam.explainer import explain
        from whycam.pictures.photos import read_photo
        from whycam.results.saving import record

        try:
            photo = read_photo(path)
            photo = replace(photo, name=names(photo.name))
            one = explain(self.vision, photo, self.method, **self.asked)
            files = self._write(one, photo.name)
        except PhotoError as error:
            self.failures.append(Failure.of(path, error))
            return
        except WhycamError as error:
            self.failures.append(Failure.of(path, error))
            self.refused.append(str(error))
            if not self.done and self.refused == [str(error)] * 2:  # so the reason is no photo's, and the command's
                raise
            return
        self.cost.append(one.cost)
        status = one.status[0]
        if status.kind == "non-finite":  # not a map, though its files show what there is
            self.failures.append(Failure(str(path), status.message, tuple(files)))
        else:
            self.done.append({**record(one, 0), "files": files})
        if self.out.quiet and not status.ok:
            self.out.problem(f"{path}: {status}")
        self.out.show(*self._lines(path, one, photo.notes, files))

    def _write(self, one: Explanation, name: str) -> list[Path]:
        """Write the files of one photo."""
        from whycam.pictures.figures import save_figure

        try:
            files = one.save(self.folder, opacity=self.opacity, **self.look)
            if self.figure:
                path = self.folder / f"{name}.{one.method}.panels.png"
                files.append(save_figure(one.figure(**self.look), path))
        except OSError as error:
            raise WhycamError(f"its files cannot be written: {error.strerror or error}") from error
        return files

    def _lines(
        self, path: Path, one: Explanation, photo_notes: Sequence[str], files: Sequence[Path]
    ) -> list[RenderableType]:
        """One photo for people; what holds for all of them is said the first time."""
        rows: dict[str, RenderableType] = {}
        if one.predictions:
            rows["prediction"] = text(one.predictions[0])
        if one.target:
            rows["explained"] = text(f"{one.target[0]}, score {float(one.scores[0]):.4g}")
        else:
            rows["explained"] = text(f"no class: {one.title} reads no score")
        rows["status"] = status_text(one.status[0].kind, one.status[0].message)
        if photo_notes:
            rows["photo"] = text("; ".join(photo_notes))
        rows["files"] = _listed(files)
        heads = {
            "model": one.model,
            "method": one.title,
            "layer": str(one.layer),
            "why": one.layer.why,
            "note": "\n".join(one.notes),
        }
        new = {name: text(said) for name, said in heads.items() if said and said not in self.shown}
        self.shown.update(heads.values())
        head: list[RenderableType] = [fields(new), ""] if new else []
        return [*head, text(path, "bold"), fields(rows, "  "), ""]

    def finish(self) -> int:
        """Say how it went; the exit status."""
        from whycam.results.values import Cost

        cost = sum(self.cost, Cost(0, 0, 0.0))
        self.out.document(
            {
                "explained": self.done,
                "failed": [asdict(each) for each in self.failures],
                "interrupted": self.interrupted,
                "cost": asdict(cost),
            }
        )
        if self.done:
            self.out.show(text(f"{plural(len(self.done), 'photo')} explained with {cost}"))
        self.out.listed("not explained", [f"{each.photo}: {each.reason}" for each in self.failures])
        if self.interrupted:
            kept = f"; what was written stays in {self.folder}" if self.done else ""
            self.out.problem(f"interrupted: {len(self.done)} of {plural(self.photos, 'photo')} explained{kept}.")
            return INTERRUPTED
        return SOME_FAILED if self.failures else 0


def _listed(files: Sequence[Path]) -> RenderableType:
    """`out/cat.grad_cam.overlay.png, .map.npy, .json`: the picture whole, to open; of the others what differs."""
    if not files:
        return ""
    first = files[0]
    stem = ".".join(first.name.split(".")[:-2])
    others = [each.name.removeprefix(stem) if stem and each.name.startswith(stem) else str(each) for each in files[1:]]
    return text(", ".join([str(first), *others]))
