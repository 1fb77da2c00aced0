"""`whycam layers` and `whycam methods`: what there is to choose from."""

from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from whycam.cli import arguments as given
from whycam.cli import trial
from whycam.cli.output import Output, fields, grouped, table, text
from whycam.errors import WhycamError
from whycam.kit.progress import duration
from whycam.kit.words import plural

if TYPE_CHECKING:
    from whycam.checkup.cost import Estimate
    from whycam.checkup.layers import LayerInfo
    from whycam.kit.registry import Method
    from whycam.models.vision_model import VisionModel
else:
    Estimate = LayerInfo = Method = VisionModel = Any  # bring torch

#: The most thumbnails unless all are asked for.
_MOST = 24
#: What marks a layer whose positions may lie, or do lie, elsewhere than its layout says.
_DOUBTS = {"undetermined": " ?", "refuted": " !"}


def layers(
    model: trial.Named = None,
    by_option: trial.ByOption = None,
    weights: given.Weights = None,
    unsafe_pickle: given.UnsafePickle = False,
    photo: trial.OnPhoto = None,
    size: trial.OfSize = None,
    thumbnails: Annotated[
        bool,
        typer.Option("--thumbnails", "-T", help="Draw the photo's map at each layer, on one sheet (needs --photo)."),
    ] = False,
    method: Annotated[
        str | None, typer.Option("--method", "-m", metavar="NAME", help="The thumbnails' method. Without: grad_cam.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Draw every layer, not the first two dozen by depth.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE|DIR", help="The sheet (.png, .pdf, .svg, ...), or its folder."),
    ] = None,
    colormap: given.Colormap = None,
    json: given.Json = False,
    quiet: given.Quiet = False,
) -> None:
    """List where in a network maps can be made.

    In the order the layers run, with those marked that are chosen when none is named. '--layer' takes these names, and
    globs ('_blocks.1*'); 'NAME:input' is what a layer is given.

    \b
    Examples:
      whycam layers
      whycam layers timm:vit_tiny_patch16_224 --weights random
      whycam layers my_package.networks:build --size 320x320
      whycam layers --photo cat.png --thumbnails -o sheet.png
    """
    out = Output(json=json, quiet=quiet)
    with out.sentences():
        from whycam.explainer import layers as list_layers
        from whycam.pictures.colormaps import palette
        from whycam.results.values import Cost

        if not thumbnails and any(each is not None for each in (method, output, colormap, every or None)):
            raise WhycamError("-m, -o, --colormap and --all are about thumbnails; add --thumbnails to have them drawn.")
        if thumbnails and photo is None:
            raise WhycamError("--thumbnails draws maps on a photo; name one with --photo.")
        if thumbnails:
            given.need_matplotlib("the sheet that --thumbnails draws")
            palette(colormap)
        vision, inputs = trial.trial(model, by_option, weights, unsafe_pickle, photo, size)
        path = given.figure_path(output or given.DEFAULT_FOLDER, f"{inputs.name}.layers.png") if thumbnails else None
        found = list_layers(vision, inputs)
        sheet: dict[str, Any] | None = None
        if path is not None:
            sheet = _draw(path, vision, inputs, found, method or "grad_cam", every, colormap)
        drawn = {"thumbnails": sheet} if sheet is not None else {}
        out.document({"model": vision.name, "layers": [asdict(each) for each in found], **drawn})
        _show_layers(out, vision.name, found)
        if sheet is not None:
            said: dict[str, RenderableType] = {
                "thumbnails": text(path),
                "drawn": text(f"{plural(len(sheet['drawn']), 'layer')}, {Cost(**sheet['cost'])}"),
            }
            if left_out := len(sheet["left_out"]):
                said["left out"] = text(f"{left_out}{'' if every else ' (--all draws every layer that can be)'}")
            out.show("", fields(said))


def _draw(
    path: Path, vision: VisionModel, photo: Any, found: list[LayerInfo], method: str, every: bool, colormap: str | None
) -> dict[str, Any]:
    """Draw the method's map at the layers with two spatial axes; what is said of the sheet."""
    from whycam.explainer import compare
    from whycam.kit.registry import find
    from whycam.pictures.figures import save_figure

    chosen = find(method)
    if not chosen.has_layer:
        raise WhycamError(f"{chosen.title} works at the input and reads no layer, so it has one map and no thumbnails.")
    drawable = [each for each in found if len(each.grid) == 2 and each.location != "refuted"]
    if not drawable:
        raise WhycamError("no layer of this network has two spatial axes that lie as in the input, so none is drawn.")
    # the chosen ones, then stages before their blocks before what is inside
    first = sorted(drawable, key=lambda each: (not each.chosen_for, each.name.count(".")))
    names = {each.name for each in (first if every else first[:_MOST])}
    made = compare(vision, photo, [method], layers=[each.name for each in found if each.name in names])
    save_figure(made.figure(colormap=colormap), path)
    drawn = [{"layer": layer, **asdict(each.status[0])} for (_, layer, _), each in made.items()]
    failed = [{"layer": layer, "kind": "not possible", "message": why} for (_, layer, _), why in made.failures.items()]
    return {
        "file": path,
        "method": chosen.name,
        "target": next(iter(made.first.target), None),
        "drawn": drawn + failed,
        "left_out": [each.name for each in found if each.name not in names],
        "cost": asdict(made.cost),
    }


def _show_layers(out: Output, model: str, found: list[LayerInfo]) -> None:
    layouts = list(dict.fromkeys(map(_layout, found)))
    several = len(layouts) > 1
    rows = table(
        "", "Name", "Shape", "Stride", *(["Layout"] if several else []), "Kind", whole=("Name", "Shape", "Layout")
    )
    for each in found:
        rows.add_row(
            Text("*" if each.chosen_for else "", "bold green"),
            text(each.name, "bold green" if each.chosen_for else ""),
            "x".join(map(str, each.shape[1:])),
            _stride(each.stride),
            *([_layout(each)] if several else []),
            Text(each.kind, no_wrap=True, overflow="ellipsis"),
        )
    same = f", all {layouts[0]}" if not several else ""
    out.show(text(f"{model}: {plural(len(found), 'layer')}{same}", "bold"), "", rows, "")
    places = Counter(each.location for each in found)
    if places.keys() != {"by construction"}:
        listed = (f"{number} {how}{_DOUBTS.get(how, '')}" for how, number in places.most_common())
        out.show(f"Where positions lie: {', '.join(listed)}.")
    chosen = [each for each in found if each.chosen_for]
    if not chosen:
        out.show("None is chosen when no layer is named: the positions of the last ones do not lie as in the input.")
        return
    out.show("* chosen when no layer is named:")
    reasons = grouped((f"{each.name}, for {' and '.join(each.chosen_for)}", each.why) for each in chosen)
    out.show(*(fields({"": each}) for each in reasons))


def _layout(layer: LayerInfo) -> str:
    """How a layer's axes are read, shortly, with a mark for a doubt about where its positions lie."""
    return layer.layout.replace("tokens on a grid of", "tokens") + _DOUBTS.get(layer.location, "")


def methods(
    cost: Annotated[
        str | None,
        typer.Option("--cost", metavar="MODEL", help="What each would cost on this network, named as in 'explain'."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="Which can be asked of this network, and why others cannot."),
    ] = None,
    weights: given.Weights = None,
    unsafe_pickle: given.UnsafePickle = False,
    photo: trial.OnPhoto = None,
    size: trial.OfSize = None,
    layer: Annotated[
        str | None,
        typer.Option("--layer", "-l", metavar="LAYER", help="Where: a name from 'whycam layers'. Without: chosen."),
    ] = None,
    json: given.Json = False,
    quiet: given.Quiet = False,
) -> None:
    """List the methods and their options, or those of a network, or what each would cost on it.

    With '--model' or '--cost' the network runs a few dozen times, whatever the methods: each is tried with a few
    variants of the input in place of all. '--model' lists those that can be asked of it, and why the others cannot;
    '--cost' what each would run, how many forwards that is worth in operations, and about how long it takes here; the
    cheapest first.

    \b
    Examples:
      whycam methods
      whycam methods --model timm:vit_tiny_patch16_224
      whycam methods --cost timm:resnet18
      whycam methods --cost my_package.networks:build --size 320x320 --layer layer3
      whycam explain cat.png -m kpca_cam -O kernel=rbf -O gamma=0.1
    """
    out = Output(json=json, quiet=quiet)
    with out.sentences():
        from whycam.kit.registry import list_methods

        if cost is not None and model is not None:
            raise WhycamError(
                "--model and --cost both name the network; --cost says what cannot be asked of it as well."
            )
        if cost is not None or model is not None:
            vision, inputs = trial.trial(cost or model, None, weights, unsafe_pickle, photo, size)
            on = inputs.name if photo is not None else f"noise of {'x'.join(map(str, inputs.shape[1:]))}"
            (_costs if cost is not None else _possible)(out, vision, inputs, layer, on)
            return
        if unsafe_pickle or any(each is not None for each in (weights, photo, size, layer)):
            raise WhycamError(
                "--weights, --unsafe-pickle, --photo, --size and --layer are about a network; name it with --model or "
                "--cost."
            )
        found = list_methods()
        out.document({"methods": [_described(each) for each in found]})
        wide = table("Name", "Title", "Explains", "Needs", "Options", "Paper")
        narrow: dict[str, RenderableType] = {}
        for each in found:
            explains = "a class" if each.class_specific else "no class"
            needs, options = ", ".join(sorted(each.needs)), ", ".join(map(str, each.options.values()))
            wide.add_row(Text(each.name, "bold"), each.title, explains, needs, options or "-", each.paper)
            narrow[each.name] = Text.assemble(
                each.title,
                f", {each.paper}\nexplains {explains}, needs {needs}",
                f"\noptions {options}" if options else "",
                "\n",
            )
        out.show(wide if out.fits(wide) else fields(narrow, style="bold"))


def _possible(out: Output, vision: VisionModel, inputs: Any, layer: str | None, on: str) -> None:
    from whycam.explainer import estimate_cost
    from whycam.kit.quantities import OF_ATTENTION
    from whycam.kit.registry import find

    found = estimate_cost(vision, inputs, layer=layer, progress=not out.quiet)
    able = [find(each.name) for each in found if each.possible]
    kinds: dict[str, list[str]] = {"of attention": [], "at a layer": [], "at the input": []}
    for each in able:
        kind = "of attention" if each.needs & OF_ATTENTION else "at a layer" if each.has_layer else "at the input"
        kinds[kind].append(each.name)
    out.document({"model": vision.name, "possible": [_described(each) for each in able], **_not_possible(found)})
    out.show(text(f"{vision.name}, on {on}", "bold"), "", "Possible here:")
    out.show(fields({kind: text(", ".join(names)) for kind, names in kinds.items() if names}))
    _show_refused(out, found)


def _not_possible(found: list[Estimate]) -> dict[str, Any]:
    refused = [each for each in found if not each.possible]
    return {"refused": [{"name": each.name, "title": each.title, "reason": each.reason} for each in refused]}


def _show_refused(out: Output, found: list[Estimate]) -> None:
    """Why methods cannot be run, once for all of which the same is said but for their own titles."""
    own = [(each.name, each.title + " ", each.reason) for each in found if not each.possible]
    said = [(name, f"each {why[len(title) :]}" if why.startswith(title) else why) for name, title, why in own]
    if said:
        out.show("", "Not possible here:")
        out.show(*(fields({"": each}) for each in grouped(said)))


def _costs(out: Output, vision: VisionModel, inputs: Any, layer: str | None, on: str) -> None:
    from whycam.explainer import estimate_cost

    found = estimate_cost(vision, inputs, layer=layer, progress=not out.quiet)
    able = sorted((each for each in found if each.possible), key=_dearness)
    out.document(
        {
            "model": vision.name,
            "costs": [{**_known(each), "passes": _passes(each)} for each in able],
            **_not_possible(found),
        }
    )
    out.show(text(f"{vision.name}, on {on}", "bold"), "")
    worth = "Forwards'\nworth"
    rows = table("\nMethod", worth, "\nAbout", "\nRuns", whole=("\nMethod", worth, "\nAbout"), right=(worth, "\nAbout"))
    for each in able:
        rows.add_row(each.name, each.worth or "-", duration(each.seconds), text(_passes(each)))
    if able:
        out.show(rows)
    if fallbacks := grouped((each.name, each.fallback) for each in able if each.fallback):
        out.show("", "Whole forwards are run where the part above the layer cannot be:")
        out.show(*(fields({"": each}) for each in fallbacks))
    _show_refused(out, found)


def _dearness(estimate: Estimate) -> tuple[float, float]:
    """What is shown of the time, then of the operations: what differs by chance does not count."""
    return float(f"{estimate.seconds:.2g}"), estimate.total or 0.0


def _passes(estimate: Estimate) -> str:
    """What is run, in words, without what share of the network each run takes: the sum is beside it."""
    parts = tuple(replace(each, share=None) for each in estimate.parts)
    return replace(estimate, parts=parts).passes


def _known(estimate: Estimate) -> dict[str, Any]:
    return {name: value for name, value in asdict(estimate).items() if name != "reason"}


def _described(method: Method) -> dict[str, Any]:
    said = "name", "title", "paper", "summary", "class_specific", "has_layer", "assumes_non_negative", "side", "caution"
    options = {option.name: option.default for option in method.options.values()}
    return {each: getattr(method, each) for each in said} | {"needs": sorted(method.needs), "options": options}


def _stride(stride: tuple[float, ...]) -> str:
    spelled = [f"{each:.4g}" for each in stride]
    return spelled[0] if len(set(spelled)) == 1 else "x".join(spelled)
