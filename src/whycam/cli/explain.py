"""`whycam explain`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
from rich.console import RenderableType

from whycam.cli import arguments as given
from whycam.cli.inputs import Failure, find, own_note
from whycam.cli.output import INTERRUPTED, SOME_FAILED, Output, fields, status_text, text
from whycam.cli.wanted import Wanted, in_words, read_region
from whycam.engine.target_words import HELP as TARGET_HELP
from whycam.engine.target_words import parse_target
from whycam.errors import PhotoError, WhycamError
from whycam.kit.files import Names
from whycam.kit.option_words import parse_options
from whycam.kit.progress import Progress
from whycam.kit.words import plural
from whycam.pictures.blends import OPACITY

if TYPE_CHECKING:
    from whycam.engine.request import Request
    from whycam.engine.session import Session
    from whycam.results.explanation import Explanation
    from whycam.results.values import Cost
    from whycam.runs.explaining import Made
else:
    Cost = Explanation = Made = Request = Session = Any  # bring torch

#: The photo, its maps with their files and what was measured, and why it has none or not all of them.
Written: TypeAlias = tuple[Any, list[tuple[Explanation, list[Path], dict[str, Any]]], WhycamError | None]


def explain(
    photos: Annotated[list[str], typer.Argument(metavar="PHOTO", help="Photos, folders of photos, and globs.")],
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            "-m",
            metavar="METHOD",
            help="How the map is made; see 'whycam methods'. Usually grad_cam, or what suits the network.",
        ),
    ] = None,
    model: given.Model = "builtin",
    weights: given.Weights = None,
    unsafe_pickle: given.UnsafePickle = False,
    preprocess: given.Preprocess = None,
    labels: given.Labels = None,
    target: Annotated[str | None, typer.Option("--target", "-t", metavar="TARGET", help=TARGET_HELP)] = None,
    box: given.Box = None,
    boxes: given.Boxes = None,
    region: given.Region = None,
    point: given.Point = None,
    similar: given.Similar = None,
    sentence: given.Text = None,
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
    opacity: given.Opacity = OPACITY,
    signed: given.Signed = False,
    blend: given.Blend = "map",
    enlarge: given.Enlarge = "cubic",
    contour: given.Contour = None,
    legend: Annotated[bool, typer.Option("--legend", help="The colors below, with raw values at their ends.")] = False,
    caption: Annotated[
        bool, typer.Option("--caption", help="Below: what the network says, what is explained, how and where.")
    ] = False,
    heat: Annotated[bool, typer.Option("--heat", help="Also the colors alone, as a transparent PNG.")] = False,
    figure: Annotated[
        bool, typer.Option("--figure", help="Also draw photo, raw map, resized map and overlay side by side.")
    ] = False,
    figure_format: Annotated[
        str, typer.Option("--figure-format", metavar="KIND", help="What --figure writes: png, svg, pdf, ...")
    ] = "png",
    mask: Annotated[
        float | None,
        typer.Option(
            "--mask",
            min=0,
            max=1,
            metavar="LEVEL",
            help="Also what is above this share of the map's maximum, as a mask and in boxes.",
        ),
    ] = None,
    share: Annotated[
        list[str] | None,
        typer.Option(
            "--share", metavar="L,T,R,B", help="How much of the evidence lies in a box of the photo, or in a mask file."
        ),
    ] = None,
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
    """Explain what a network sees in photos.

    For each photo, three files are written: NAME.METHOD.overlay.png, the map over the photo; NAME.METHOD.map.npy, its
    raw values; NAME.METHOD.json, how it came about. A photo that cannot be read is listed at the end and in
    not-explained.json, and the others are explained all the same.

    \b
    Examples:
      whycam explain dog.jpg
      whycam explain photos/ 'more/*.png' -o maps
      whycam explain cat.png -t 'tabby cat' -m layer_cam --colormap jet
      whycam explain cat.png -t contrast:281/282    what makes it class 281 and not 282
      whycam explain cat.png -t my_scores:fur       a function of yours, output -> scores
      whycam explain street.jpg --box 0 --model torchvision:fcos_resnet50_fpn    why is the first box there
      whycam explain street.jpg --region road --point 120,80 --model torchvision:deeplabv3_resnet50
      whycam explain dog.jpg --text 'a dog/a cat' --model hf:openai/clip-vit-base-patch32
      whycam explain cat.png --mask 0.5 --share 40,20,200,180    where it is bright, and how much lies there
      whycam explain cat.png --contour 0.5 --legend --caption    a picture to print
      whycam explain cat.png -m fem -O k=1.5        with an option of the method
      whycam explain cat.png -l '_blocks.1[0-5]'    several layers, fused
      whycam explain cat.png -m rise --precision bfloat16    many runs, by a fast copy
    """
    out = Output(json=json, quiet=quiet)
    with out.sentences():
        from whycam.engine.session import Session
        from whycam.kit.registry import find as find_method
        from whycam.pictures.colormaps import palette
        from whycam.pictures.figures import kind_of

        aims = given.wanted(
            target, box=box, boxes=boxes, region=region, point=point, similar=similar, sentence=sentence
        )
        if len(aims) > 1:
            raise WhycamError(f"explain has one target, and {len(aims)} came: {', '.join(aims)}; see whycam compare.")
        what = parse_target(aims[0]) if aims else None
        auto, method = method == "auto", None if method == "auto" else method
        usual = getattr(what, "usual_method", None)
        chosen = find_method(method or usual or "grad_cam")
        options = parse_options(option or [], [chosen])[chosen.name]
        place = layer if layer is None or len(layer) > 1 else layer[0]
        asked = given.engine_options(
            precision=precision, compile=compile, budget=budget, smoothing=smoothing, answer=answer, layout=layout,
            views=views, quiet=quiet,
        )  # fmt: skip
        palette(colormap, signed)  # a name that does not exist is said before any work is done
        if figure:
            given.need_matplotlib("--figure")
            kind_of(Path(f"figure.{figure_format}"))
        regions = {each: read_region(each) for each in share or []}
        found = find(photos)
        vision = given.load_model(model, weights, unsafe_pickle, preprocess=preprocess, labels=labels, device=device)
        given.make_folder(output)
        if found.own:
            out.remark(own_note(found))
        look: dict[str, Any] = {
            "colormap": colormap, "signed": signed, "blend": blend, "enlarge": enlarge, "contour": contour
        }  # fmt: skip
        wanted = Wanted(
            look,
            {"opacity": opacity, "legend": legend, "caption": caption or "status"},
            heat=heat,
            figure=figure_format if figure else None,
            mask=mask,
            shares=regions,
        )
        name = chosen.name if method or usual else None  # what the network is asked by else, it knows itself
        if auto and not usual:
            from whycam.explainer import Explainer

            name, place, why = Explainer(vision).auto([*found.photos], what, place)
            out.remark(f"auto: {why}")
        session = Session(vision)
        request = _request(session, name, what, place, fusion, options, asked)
        run = _Run(out, session, request, output, wanted, failures=found.failures)
        run(found.photos)
        raise typer.Exit(run.finish())


def _request(
    session: Session,
    method: str | None,
    target: Any,
    layer: Any,
    fusion: str | None,
    options: dict[str, Any],
    asked: dict[str, Any],
) -> Request:
    """What is asked of each photo: one map, or one of each thing that the target stands for."""
    from whycam.engine.request import Request
    from whycam.network.variants.scoring import RunConfig

    named = method if method is not None else session.usual_method(target)
    how = RunConfig(asked["precision"], asked["compile"], asked["budget"], Progress(asked["progress"]))
    common = {name: asked[name] for name in ("smoothing", "output", "layout", "views")} | {"run": how}
    if getattr(target, "several", False):
        layers = None if layer is None else [layer]
        return Request.several([named], layers, [target], fusion, {named: options}, **common)
    return Request.one(named, target, layer, fusion, options, usual=method is None, **common)


@dataclass
class _Run:
    """A batch of photos after the other: what was finished stays finished, whatever becomes of the others."""

    out: Output
    session: Session
    request: Request
    folder: Path
    wanted: Wanted
    failures: list[Failure]
    done: list[dict[str, Any]] = field(default_factory=list)
    explained: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    cost: list[Cost] = field(default_factory=list)
    interrupted: bool = False
    shown: set[str] = field(default_factory=set)
    photos: int = 0

    @cached_property
    def provenance(self) -> dict[str, str]:
        """What a record says of the weights and the command."""
        from whycam.network.fingerprint import fingerprint

        return {"weights": fingerprint(self.session.module), "command": given.command()}

    def __call__(self, photos: Sequence[Path]) -> None:
        from whycam.kit.behind import behind
        from whycam.runs.explaining import Worker, usual_batch
        from whycam.runs.keeping import Kept
        from whycam.runs.local import made_of
        from whycam.runs.sources import Item

        self.photos = len(photos)
        # a map that takes many runs is shown when it is there
        batch = 1 if self.request.varied else usual_batch(self.session)
        worker = Worker(self.session, self.request, Kept(), self.folder)
        items = (Item(str(path), path) for path in photos)
        made = made_of(items, worker, batch=batch, workers=len(photos) > batch, drawn=True)
        try:
            with self.out.progress("Explaining", len(photos)) as advance:
                for path, written, error in behind(self._to_write(made), 1):
                    if error is not None:
                        self.failures.append(Failure.of(path, error))
                        self.refused += [] if isinstance(error, PhotoError) else [str(error)]
                    self.explained |= {str(path)} if written else set()
                    for one, files, measured in written:
                        self._finished(path, one, files, measured)
                    advance()
        except KeyboardInterrupt:
            self.interrupted = True
        if not self.done and not self.interrupted and len(set(self.refused)) == 1:
            raise WhycamError(self.refused[0])

    def _to_write(self, made: Iterable[Made]) -> Iterator[Callable[[], Written]]:
        """What writes the files of each photo, which goes on beside the next ones' maps."""
        names = Names()
        for each in made:
            for number, photo in enumerate(each.several):
                if each.maps is None:
                    yield partial(_refused, photo.item.photo, each.error)
                    continue
                ones = [one[number] for one in each.maps.explanations.values()]
                if not number:
                    self.cost.append(ones[0].cost)
                said = [replace(one, provenance=self.provenance) for one in ones]
                yield partial(self._write, photo.item.photo, [*_named(said, names)])

    def _write(self, path: Any, ones: Sequence[Explanation]) -> Written:
        """Write the files of one photo."""
        written = []
        try:
            for one in ones:
                files = self.wanted.write(one, self.folder)
                written.append((one, files, self.wanted.measured(one)))
        except (OSError, WhycamError) as error:
            said = (
                f"its files cannot be written: {error.strerror or error}" if isinstance(error, OSError) else str(error)
            )
            return path, written, WhycamError(said)
        return path, written, None

    def _finished(self, path: Path, one: Explanation, files: Sequence[Path], measured: dict[str, Any]) -> None:
        """Keep and show what became of one map."""
        from whycam.results.saving import record

        status = one.status[0]
        if status.kind == "non-finite":  # not a map, though its files show what there is
            self.failures.append(Failure(str(path), status.message, tuple(files)))
        else:
            self.done.append({**record(one, 0), **measured, "files": files})
        if self.out.quiet and not status.ok:
            self.out.problem(f"{path}: {status}")
        self.out.show(*self._lines(path, one, files, measured))

    def _lines(
        self, path: Path, one: Explanation, files: Sequence[Path], measured: dict[str, Any]
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
        rows |= {name: text(said) for name, said in in_words(measured).items()}
        if one.context is not None and one.context.photos and (notes := one.context.photos[0].notes):
            rows["photo"] = text("; ".join(notes))
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
        """Say how it went, also to who opens the folder later; the exit status."""
        from whycam.results.left_out import keep_left_out
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
        mapless = {each.photo: each.reason for each in self.failures if not each.files}
        keep_left_out(self.folder, self.explained, mapless)
        if self.interrupted:
            kept = f"; what was written stays in {self.folder}" if self.done else ""
            self.out.problem(f"interrupted: {len(self.done)} of {plural(self.photos, 'photo')} explained{kept}.")
            return INTERRUPTED
        return SOME_FAILED if self.failures else 0


def _refused(path: Any, error: WhycamError | None) -> Written:
    return path, [], error


def _named(ones: Sequence[Explanation], names: Names) -> Iterator[Explanation]:
    """The maps of one photo, their files under a name that no other photo has; several are numbered."""
    contexts = [one.context for one in ones if one.context is not None and one.context.photos]
    name = names(contexts[0].name(0))
    for number, (one, context) in enumerate(zip(ones, contexts, strict=True)):
        assert context.photos is not None
        photo = replace(context.photos[0], name=f"{name}.{number}" if len(ones) > 1 else name)
        yield replace(one, context=replace(context, photos=(photo,)))


def _listed(files: Sequence[Path]) -> RenderableType:
    """`out/cat.grad_cam.overlay.png, .map.npy, .json`: the picture whole, to open; of the others what differs."""
    if not files:
        return ""
    first = files[0]
    stem = ".".join(first.name.split(".")[:-2])
    others = [each.name.removeprefix(stem) if stem and each.name.startswith(stem) else str(each) for each in files[1:]]
    return text(", ".join([str(first), *others]))
