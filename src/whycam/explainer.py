"""The session object, `Explainer`, and the public functions over it: `explain`, `compare`, `layers`, `doctor`, ..."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from whycam.checkup import cost as costs
from whycam.checkup import doctor as examination
from whycam.checkup import layers as listing
from whycam.checkup.cost import Estimate
from whycam.checkup.doctor import Checkup
from whycam.checkup.layers import LayerInfo
from whycam.engine.inputs import ViewLike
from whycam.engine.request import LayerLike, MethodLike, Request
from whycam.engine.session import Session
from whycam.engine.smoothing import SmoothingLike
from whycam.engine.tiling import Tiles
from whycam.errors import OptionError, WhycamError
from whycam.evaluation import choosing
from whycam.evaluation import evaluate as evaluation
from whycam.evaluation.choosing import MOST, STEPS, Choice
from whycam.evaluation.evaluate import METHODS, chosen_metrics
from whycam.evaluation.questions import Questions
from whycam.kit import fusions
from whycam.kit.metric import Metric, find_metric
from whycam.kit.progress import Progress
from whycam.kit.registry import find
from whycam.models.adopt import Labels, ModelLike, as_vision_model
from whycam.models.vision_model import PreprocessLike, VisionModel
from whycam.network.layouts import Layout
from whycam.network.outputs import OutputPath
from whycam.network.variants.fast_copy import Precision
from whycam.network.variants.scoring import RunConfig
from whycam.pictures.blends import OPACITY, Blend
from whycam.results.evaluation import Evaluation
from whycam.results.explanation import Comparison, Explanation
from whycam.results.look import Look
from whycam.runs import running
from whycam.runs.keeping import Kept
from whycam.runs.run import Run
from whycam.runs.sources import open_source
from whycam.targets import TargetSpec
from whycam.targets.structured import OutputTarget

F = TypeVar("F", bound=Callable[..., Any])


class Explainer:
    """Everything that is known about one network, for many questions about it.

    The functions of the package (`whycam.explain`, ...) are the same methods on an `Explainer` of their own; keep one
    where a network is asked more than once, since it walks the network's modules once and not in every call. A network
    whose modules, modes, parameters or hooks changed between calls is noticed; see `refresh` for what is not. Several
    threads may share an `Explainer`.

    Args:
        model: a module, a Keras model, a `VisionModel`, or a spec such as `"builtin"`, `"timm:resnet50"` or
            `"package.module:callable"` (see `whycam.load`). It is left exactly as it is, training mode and gradients
            included.
        preprocess: photo -> input, for a module that is asked about photos: a `Preprocess`, an image processor of
            transformers', or any function from a PIL image to a tensor `(C, H, W)`, such as a transform of
            torchvision's. Where the input lies on the photo is measured, and the notes say where that is not known.
        labels: the classes' texts by index, as a sequence or a mapping such as `id2label`.

    Attributes:
        model: the network with its preprocessing and labels.

    Raises:
        WhycamError: no model that can be explained.

    Examples:
        >>> import torch, whycam
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> explainer = whycam.Explainer(net.eval())
        >>> explainer.explain(torch.randn(2, 3, 16, 16), target=1).maps.shape
        torch.Size([2, 14, 14])
    """

    def __init__(
        self, model: ModelLike, *, preprocess: PreprocessLike | None = None, labels: Labels | None = None
    ) -> None:
        self._session = Session(as_vision_model(model, preprocess, labels))
        self._for_photos = False

    @property
    def model(self) -> VisionModel:
        """The network with its preprocessing and labels."""
        return self._session.vision

    def refresh(self) -> None:
        """Forget what is known about the network: its walk, its features, the layers that were chosen.

        Only for a change that no module, mode, parameter, buffer or hook shows, such as a plain attribute that the
        network's own code reads (`model.upside_down = True`), or code that was put in the place of a method.
        """
        self._session.refresh()

    def __repr__(self) -> str:
        return f"Explainer({self.model.name})"

    def explain(
        self,
        inputs: Any,
        method: MethodLike | None = None,
        *,
        target: TargetSpec = None,
        layer: LayerLike = None,
        fusion: str | fusions.Fusion | None = None,
        layout: Layout | None = None,
        output: OutputPath | None = None,
        views: Sequence[ViewLike] | None = None,
        picture: int | str | None = None,
        smoothing: SmoothingLike | Sequence[SmoothingLike] | None = None,
        path: int | None = None,
        tiles: Tiles | int | None = None,
        signed: bool = False,
        per_channel: bool = False,
        precision: Precision | None = None,
        compile: bool = False,
        budget: int | None = None,
        progress: bool | None = None,
        **options: Any,
    ) -> Explanation:
        """Say which locations of the inputs made the model answer as it did.

        Args:
            inputs: a ready batch `(N, C, *spatial)`, a tuple or dict of tensors, or photos: paths, PIL images, uint8
                arrays, one or a list.
            method: a name (`whycam.list_methods()`), or any function whose parameters before `*` are quantities;
                `"auto"`: what `choose` found best for this network (made now, if 8 images or more came), else the same
                as left out: Grad-CAM, and LayerCAM for boxes, since weights that are pooled light up every object
                alike; for classes of a transformer whose tokens attend to each other in every block, where nothing else
                about layers is asked, Chefer's generic attention explainability, which the notes say (evidence in
                docs/benchmarks.md).
            target: `None` for each sample's top class; a class index, label text, target object (`whycam.targets`) or
                function `output -> (N,)` for the whole batch; or a sequence with one for each sample.
            layer: `None` to have it chosen (the result says which, and why); a dotted name, a module, or a glob
                (`"layer4"`, `"relu#0"` for its first call, `"avgpool:input"`); a list or a glob for several is fused.
            fusion: how several layers' maps become one: the name of one of `whycam.fusions`, or a function; `"mean"`
                unless said, and `"sum"` for the scales of a detector.
            layout: how to read the layer's output where that should not be inferred (`whycam.layouts`).
            output: which part of the model's output holds the answer, where the result's notes name the wrong one: a
                path such as `"aux.logits"` or `"[1]"`, or a function output -> `(N, ...)`. What it gives is what
                `target` reads.
            views: for a network that looks at several pictures, the one that each call of the layer belongs to, in the
                order of the calls: positions or names of inputs (`[1, 0]`, `["left", "right"]`), or tensors `(N, C,
                *spatial)` such as `inputs.unbind(1)`. Left out it is measured, and the result says which it is.
            picture: which of several inputs methods at the input explain (guided backprop, occlusion, ...), by position
                or name; the first picture unless said. The others stay as they are.
            smoothing: `"augmentations"` averages the maps of the inputs mirrored or not, at 0.9, 1 and 1.1 times their
                strength, each asked about the same target (six times the cost); `"component"` projects a method's
                weighted channels on their first principal component in place of summing them (pytorch-grad-cam's
                `aug_smooth` and `eigen_smooth`); a `whycam.Augmentation` of your own is averaged over too; a list of
                these does all of them.
            path: average the maps of so many inputs on the straight path from a blank one, of the input's own mean
                color, to the input, each asked about the same thing. A gradient says what would change, and where a
                network is sure, nothing would: a cause far from what it decides may show on the way alone, and at an
                early layer, such as the second stage. Costs a forward and a backward for each point.
            tiles: for a picture larger than the network takes or memory holds: a tile's pixels, or `Tiles`.
            signed: leave out the last step of the methods that keep the positive part, so that what speaks against the
                target stays in the map, below zero.
            per_channel: keep what each channel of the layer adds to the map, in `Explanation.channels`.
            precision: for methods that run the network many times: let a private copy of it score the variants, made
                fast (normalizations folded, channels last) and in that precision: `"float32"`, `"bfloat16"` or
                `"float16"`. The result's notes say what was used and how far its scores are from the network's own.
                Left out, the network itself runs as it is.
            compile: also compile that copy (`torch.compile`), which takes from seconds to a minute and pays for
                thousands of variants.
            budget: bytes that the variants under way may take; half of the free memory by default.
            progress: say how long work takes, on standard error; by default on terminals and in notebooks.
            options: the method's own.

        Returns:
            The explanation: raw float32 maps at the layer's size and a status for each sample.

        Raises:
            WhycamError: something that the caller can put right, with what was expected, what came, and what to do.
            PhotoError: a photo that cannot be read.

        Examples:
            >>> e = whycam.Explainer(net).explain(batch, "layer_cam", target=1, layer="0")
            >>> e.maps.shape, e.target
            (torch.Size([2, 14, 14]), ('class 1', 'class 1'))
            >>> e.heatmaps().shape                                # at the input's size, in [0, 1]
            torch.Size([2, 16, 16])
        """
        said = ""
        if method == "auto":
            method, layer, said = self.auto(inputs, target, layer)
        named = method
        request = Request.one(
            named if named is not None else self._session.usual_method(target),
            target,
            layer,
            fusion,
            options,
            layout=layout,
            output=output,
            views=views,
            picture=picture,
            smoothing=smoothing,
            path=path,
            tiles=Tiles(tiles) if isinstance(tiles, int) else tiles,
            signed=signed,
            per_channel=per_channel,
            run=RunConfig(precision, compile, budget, Progress(progress)),
            usual=named is None,
            said=said,
        )
        return self._run(inputs, request).first

    def compare(
        self,
        inputs: Any,
        methods: Sequence[MethodLike] | str | None = None,
        layers: Sequence[LayerLike] | None = None,
        targets: Sequence[TargetSpec] | None = None,
        *,
        fusion: str | fusions.Fusion | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        layout: Layout | None = None,
        output: OutputPath | None = None,
        views: Sequence[ViewLike] | None = None,
        picture: int | str | None = None,
        smoothing: SmoothingLike | Sequence[SmoothingLike] | None = None,
        path: int | None = None,
        tiles: Tiles | int | None = None,
        signed: bool = False,
        per_channel: bool = False,
        precision: Precision | None = None,
        compile: bool = False,
        budget: int | None = None,
        progress: bool | None = None,
    ) -> Comparison:
        """Explain with several methods, at several layers, for several targets, in one shared pass.

        However many there are, the network runs once forwards, and once backwards for each target down to the earliest
        layer. (Guided backprop needs one more forward and a backward of its own for each target.)

        Args:
            methods: names or functions; `"all"` for every method there is. `None` or `"auto"` is the usual one of the
                first target: as for `explain` for classes, LayerCAM for boxes, HiResCAM for regions.
            layers: each a layer as for `explain`; a glob is taken apart into its layers, a list is fused with
                `fusion`. `None` chooses, for each method.
            targets: each a target as for `explain`. `None` is each sample's top class.
            options: for each method by name, its options.
            inputs, layout, output, views, picture, smoothing, path, tiles, signed, per_channel: as for `explain`, as
                are precision, compile, budget, progress.

        Returns:
            A mapping keyed (method, layer, target). Combinations that cannot be are in its `failures`, with the reason.

        Raises:
            WhycamError: a name that does not exist, or nothing at all could be explained.
            PhotoError: a photo that cannot be read.

        Examples:
            >>> c = whycam.Explainer(net).compare(batch, ["grad_cam", "cam"], layers=["1"], targets=[0, 1])
            >>> len(c), c.cost.forwards, c.cost.backwards
            (4, 1, 2)
            >>> c["cam", "1", 0].title
            'CAM'
        """
        first = targets[0] if isinstance(targets, (list, tuple)) and targets else None
        named, said = methods, ""
        if methods == "auto":
            method, layer, said = self.auto(inputs, first, None)
            named = None if method is None else [method]
            layers = [layer] if layers is None and method is not None else layers
        request = Request.several(
            named if named is not None else [self._session.usual_method(first)],
            layers,
            targets,
            fusion,
            options,
            layout=layout,
            output=output,
            views=views,
            picture=picture,
            smoothing=smoothing,
            path=path,
            tiles=Tiles(tiles) if isinstance(tiles, int) else tiles,
            signed=signed,
            per_channel=per_channel,
            run=RunConfig(precision, compile, budget, Progress(progress)),
            usual=named is None,
            said=said,
        )
        return self._run(inputs, request)

    def _run(self, inputs: Any, request: Request) -> Comparison:
        with self._session.tree():
            batch = self._session.batch(inputs, request)
            if self._for_photos and batch.context.photos is None:
                raise WhycamError(
                    "preprocess= is for photos, and a ready batch came; leave it out, or pass the photos."
                )
            return self._session.run(batch, request)

    def layers(self, inputs: Any) -> list[LayerInfo]:
        """The layers that have spatial axes for these inputs, in running order, with the chosen ones marked.

        Runs the network on these inputs, since a choice is checked by the gradient at it; what is found is kept.

        Raises:
            WhycamError: inputs that the model does not take, or a model without spatial features.

        Examples:
            >>> [(each.name, each.grid) for each in whycam.Explainer(net).layers(batch)]
            [('0', (14, 14)), ('1', (14, 14))]
        """
        with self._session.tree():
            return listing.layers(self._session, inputs)

    def cost(
        self,
        inputs: Any,
        methods: Sequence[MethodLike] | str = "all",
        *,
        target: TargetSpec = None,
        layer: LayerLike = None,
        fusion: str | fusions.Fusion | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        layout: Layout | None = None,
        output: OutputPath | None = None,
        views: Sequence[ViewLike] | None = None,
        precision: Precision | None = None,
        budget: int | None = None,
        progress: bool | None = None,
    ) -> list[Estimate]:
        """Say what methods would cost on a network and inputs, without running them.

        Runs the network a few times for each method: its first variants are scored and the others counted. What a
        forward, a run forwards and backwards, and the part above the layer take is measured once for all of them.

        Args:
            methods: names or functions; `"all"` for every method there is.
            layer: where maps would be made, as for `explain`; methods without a layer are estimated all the same.
            options: for each method by name, its options.
            inputs, target, fusion, layout, output, views, precision, budget, progress: as for `explain`.

        Returns:
            An estimate for each method, in the order asked; those that cannot be run say why.

        Raises:
            WhycamError: a name that does not exist, or inputs that the model does not take.
            PhotoError: a photo that cannot be read.

        Examples:
            >>> (found,) = whycam.Explainer(net).cost(batch, ["grad_cam"], progress=False)
            >>> found.forwards, found.backwards
            (1, 1)
        """
        request = Request.several(
            methods,
            None if layer is None else [layer],
            [target],
            fusion,
            options,
            layout=layout,
            output=output,
            views=views,
            run=RunConfig(precision, False, budget, Progress(False)),
        )
        with self._session.tree():
            return costs.estimates(self._session, inputs, request, Progress(progress))

    def doctor(self, inputs: Any = None, *, output: OutputPath | None = None) -> Checkup:
        """Run a network for a try, and say what a user would stumble over and what each method would cost.

        Args:
            inputs: as for `explain`; the first sample is used. `None` makes noise of the size that the model's
                preprocessing makes. Statuses are those of this input: a photo tells more than noise.
            output: as for `explain`.

        Returns:
            The findings, the layer, and for each method its status and cost. What the model itself raises is a finding.

        Raises:
            WhycamError: a model that cannot be had, or inputs of a kind that no model takes.
            PhotoError: a photo that cannot be read.

        Examples:
            >>> checkup = whycam.Explainer(net).doctor(batch)
            >>> checkup.layer.name, len(checkup.methods) == len(whycam.list_methods())
            ('0', True)
        """
        with self._session.tree():
            return examination.doctor(self._session, inputs, output=output)

    def evaluate(
        self,
        inputs: Any,
        methods: Sequence[MethodLike] | str | None = None,
        layers: Sequence[LayerLike] | None = None,
        metrics: Sequence[str | Metric] | None = None,
        targets: Sequence[TargetSpec] | None = None,
        *,
        masks: Any = None,
        boxes: Any = None,
        maps: Mapping[str, Any] | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        controls: bool = True,
        sanity: int = 8,
        seed: int = 0,
        batch: int = 8,
        folder: str | Path | None = None,
        fusion: str | fusions.Fusion | None = None,
        layout: Layout | None = None,
        output: OutputPath | None = None,
        views: Sequence[ViewLike] | None = None,
        precision: Precision | None = None,
        budget: int | None = None,
        progress: bool | None = None,
    ) -> Evaluation:
        """Say how far maps of a network can be trusted: metrics of methods at layers over images, beside controls.

        Args:
            inputs: photos, or a batch or several inputs as for `explain`. A photo that cannot be read is a failure.
            methods, layers, targets: as for `compare`; a target that is a list or tensor holds one for each image, and
                as many targets as images come in a tuple. Some quick methods, each at its usual layer, for each
                image's top class unless said.
            metrics: names (`whycam.list_metrics()`), or metrics; without: average drop, insertion and deletion, and
                with masks or boxes both pointing games too.
            masks: where the targets are, `(image, *space)` of the input. `boxes`: for each image `(box, 4)`: left, top,
                right, bottom in pixels of the input.
            maps: maps of other libraries as methods of their own: by name, `(image, *spatial)`, or a function of
                (module, inputs, classes) that makes a batch's.
            options: for methods and metrics by name, their options.
            controls: measure maps that know nothing of the network too: random cells, a Gaussian in the middle, edges,
                and the predicted box where there is one.
            sanity: on how many images to see whether maps change when the network is randomized and when another class
                is asked about; 0 for none.
            batch: how many images are explained at once; the result does not depend on it.
            folder: where what is done is kept, so that the same call goes on where it was stopped.
            fusion, layout, output, views, precision, budget, progress: as for `compare`.

        Returns:
            The evaluation: rows, a summary with intervals, the curves, and a recommendation.

        Raises:
            WhycamError: a name that does not exist, or something that a metric needs is missing.

        Examples:
            >>> found = whycam.Explainer(net).evaluate(torch.rand(4, 3, 16, 16), ["grad_cam", "hires_cam"], sanity=0)
            >>> sorted({row["method"] for row in found.rows})[:2]
            ['control: centre', 'control: edges']
        """
        placed = masks is not None or boxes is not None
        measured, of_methods = chosen_metrics(metrics, options or {}, placed=placed)
        request = Request.several(
            methods if methods is not None else METHODS,
            layers,
            targets,
            fusion,
            of_methods,
            layout=layout,
            output=output,
            views=views,
        )
        run = RunConfig(precision, False, budget, Progress(False))
        questions = Questions(
            request, measured, maps or {}, masks, boxes, controls, sanity, seed, run, crossed=isinstance(targets, tuple)
        )
        where = Path(folder) if folder is not None else None
        return evaluation.evaluate(
            self._session, inputs, questions, batch=batch, folder=where, progress=Progress(progress)
        )

    def run(
        self,
        source: Any,
        out: str | Path,
        *,
        method: MethodLike | None = None,
        target: TargetSpec = None,
        layer: LayerLike = None,
        methods: Sequence[MethodLike] | str | None = None,
        targets: Sequence[TargetSpec] | None = None,
        layers: Sequence[LayerLike] | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        fusion: str | fusions.Fusion | None = None,
        layout: Layout | None = None,
        output: OutputPath | None = None,
        precision: Precision | None = None,
        budget: int | None = None,
        batch: int | None = None,
        workers: int | None = None,
        maps: Literal["float16", "float32"] = "float16",
        metrics: Sequence[str | Metric] | None = None,
        overlays: str | None = None,
        heatmaps: str | None = None,
        colormap: str | None = None,
        opacity: float = OPACITY,
        signed: bool = False,
        blend: Blend = "map",
        contour: float | None = None,
        columns: Mapping[str, str] | None = None,
        label_from: str | None = None,
        retry: bool = False,
        new: bool = False,
        engine: str = "local",
        num_gpus: float | None = None,
        concurrency: int | None = None,
        shard: tuple[int, int] | None = None,
        progress: bool | None = None,
    ) -> Run:
        """Explain a whole set of images, each exactly once, into a folder; the same call goes on where it was stopped.

        Photos are read and prepared in processes beside the network, so many at once, in constant memory. The folder
        holds one table in shards (Parquet): for each image, method, layer and target a row with the prediction, the
        score, the status and the raw map; for an image that cannot be read or explained a row with the reason.

        Args:
            source: a folder (with all below it), a glob, a list of paths in a text or CSV file, tar shards, Parquet
                files with images, or any iterable of (id, photo). A target that the source gives is asked in place of
                `target` and `targets`.
            out: the folder that is written. One that holds a run of something else is refused, and what differs said.
            method, target, layer: as for `explain`: one row for each image. `"auto"` is the choice that `choose` kept.
            methods, targets, layers, options: as for `compare`, in their place: a row for each combination.
            fusion, layout, output, precision, budget, progress: as for `explain`.
            batch: how many images are explained at once: 4 on a CPU and 16 elsewhere, unless said.
            workers: processes that read photos, 1 unless said, 0 for none; on Ray tasks, as many as it has room for.
            engine: `"ray"` for the machines of a Ray cluster (`whycam[ray]`), with the same rows. There `concurrency`
                actors hold the network, each on `num_gpus` GPUs (0.5: two share one), or else on a CPU.
            shard: `(k, n)` for one of n jobs that share the source; it writes `out/shard-k-of-n`, and `merge_shards`
                makes one run of them.
            maps: how the maps' values are kept.
            metrics: of `list_metrics`, those that need no mask or box: a column `metric.NAME` each; their options stand
                in `options` as well. Of a map that explains no class they ask about the first target.
            overlays, heatmaps: `"jpg"`, `"webp"` or `"png"`: also draw each map over its photo, or alone, into a folder
                beside the table, which has a column of their names. colormap, opacity, signed, blend,
                contour: how; see `overlay`.
            columns: of a table or Parquet files, which column holds the `photo`, `target`, `label` or `id`, where it
                has another name. label_from: `"folder"` for an image-folder data set: a folder's name is the label.
            retry: ask again about images that failed before. `new`: begin anew in a folder beside `out`.

        Returns:
            The run, as `open_run` gives it.

        Raises:
            WhycamError: a source that cannot be read, a folder of another run, or nothing can be explained.

        Examples:
            >>> explainer = whycam.Explainer(net, preprocess=whycam.Preprocess.imagenet(16, 16))
            >>> photos = ((f"{number}", np.full((20, 24, 3), number, dtype=np.uint8)) for number in range(3))
            >>> run = explainer.run(photos, "maps", method="layer_cam", target=1, layer="0", workers=0)
            >>> run.summary()["images"], run[2].maps.shape
            (3, torch.Size([1, 14, 14]))
        """
        if getattr(target, "several", False) and targets is None:
            methods = [method] if method is not None else methods
            layers = [layer] if layer is not None else layers
            method, target, layer, targets = None, None, None, [target]
        if several := methods is not None or targets is not None or layers is not None:
            if method is not None or target is not None or layer is not None:
                raise OptionError("pass method, target and layer, or methods, targets and layers; both came.")
            first = targets[0] if targets else None
            names = methods if methods is not None else [self._session.usual_method(first)]
        shown = Progress(progress)
        if method == "auto":
            method, layer, said = self.auto(None, target, layer)
            shown.say(f"auto: {said}")
        usual = method if method is not None else self._session.usual_method(target)
        measured, options = chosen_metrics(metrics, options or {}, placed=False) if metrics else ((), options or {})
        look = Look(colormap, opacity, signed, blend=blend, contour=contour)
        kept = Kept(maps, measured, overlays, heatmaps, look)
        common: dict[str, Any] = {
            "layout": layout,
            "output": output,
            "run": RunConfig(precision, False, budget, Progress(False)),
            "usual": method is None and methods is None,
        }
        request = (
            Request.several(names, layers, targets, fusion, options, **common)
            if several
            else Request.one(usual, target, layer, fusion, options.get(find(usual).name, {}), **common)
        )
        return running.run(
            self._session, open_source(source, columns=columns, label_from=label_from), Path(out), request, kept,
            batch=batch, workers=workers, retry=retry, new=new, engine=engine,
            flags={"num_gpus": num_gpus, "concurrency": concurrency}, shard=shard, progress=shown,
        )  # fmt: skip

    def choose(
        self,
        inputs: Any,
        methods: Sequence[MethodLike] | None = None,
        layers: Sequence[LayerLike] | None = None,
        metric: str | Metric = "insertion",
        targets: Sequence[TargetSpec] | None = None,
        *,
        steps: int = STEPS,
        most: int = MOST,
        seed: int = 0,
        batch: int = 8,
        precision: Precision | None = None,
        progress: bool | None = None,
    ) -> Choice:
        """Choose method and layer for this network by a metric on your own images, and keep the choice in a file.

        `explain(..., method="auto")` then takes it. The choice is made on every other image, and holds only if it is no
        worse than Grad-CAM at its usual layer on those between; else it is Grad-CAM.

        Args:
            inputs: photos or a batch, 8 or more; `most` of them are looked at.
            methods: what to choose from; methods of one pass unless said. Grad-CAM is always among them.
            layers: what to choose from: each method's usual one, and the ends of the two stages before, unless said.
            metric: by which. `steps`: of insertion and deletion.
            targets, seed, batch, precision, progress: as for `evaluate`.

        Raises:
            WhycamError: fewer than 8 images, or none that can be measured.
        """
        measured = find_metric(metric)
        some, targets = choosing.some_of(inputs, targets, most)
        options = {measured.name: {"steps": steps}} if "steps" in measured.options else {}
        listed = layers if layers is not None else choosing.places(self._session, some)
        usual_first = [None, *(each for each in listed if each is not None)]
        asked = dict.fromkeys([choosing.USUAL, *(methods if methods is not None else choosing.CANDIDATES)])
        found = self.evaluate(
            some, list(asked), usual_first, [measured], targets, options=options,
            sanity=0, seed=seed, batch=batch, precision=precision, progress=progress,
        )  # fmt: skip
        usual = next((place.layer for place in found.places if place.method == choosing.USUAL), "")
        return choosing.keep(self._session, choosing.decide(found, measured, usual))

    def auto(
        self, inputs: Any, target: TargetSpec = None, layer: LayerLike = None
    ) -> tuple[str | None, LayerLike, str]:
        """What `method="auto"` stands for here: the method (`None`: the usual one), the layer, and why, in words.

        The choice that is kept for this network; else one that is made now, where 8 images or more came (`None`: none
        did); boxes, regions and other places have their usual method, since choices are made for classes.

        Examples:
            >>> method, layer, why = whycam.Explainer(net).auto(batch)
        """
        if isinstance(target, OutputTarget):
            return None, layer, ""
        try:
            choice = choosing.recalled(self._session)
            if choice is None and (inputs is None or not choosing.enough(inputs)):
                return None, layer, choosing.UNKNOWN if inputs is None else choosing.TOO_FEW
            choice = choice if choice is not None else self.choose(inputs)
        except WhycamError as error:
            return None, layer, f"no choice could be made, so 'auto' is the usual method: {error}"
        kept = f" (kept in {choice.path})" if choice.path is not None else ""
        return choice.method, choice.layer if layer is None else layer, f"{choice.text}{kept}"


def _over(method: Callable[..., Any]) -> Callable[[F], F]:
    """Give a function of `model, ..., preprocess, labels` the parameters of the `Explainer` method that it calls."""

    def decorate(function: F) -> F:
        own = inspect.signature(function).parameters
        asked = [*inspect.signature(method).parameters.values()][1:]
        last = [each for each in asked if each.kind is each.VAR_KEYWORD]
        parameters = [own["model"], *(each for each in asked if each not in last)]
        parameters += [own["preprocess"], own["labels"], *last]
        function.__signature__ = inspect.signature(function).replace(parameters=parameters)  # type: ignore[attr-defined]
        function.__doc__ = (
            f"{(inspect.getdoc(method) or '').partition(chr(10))[0]}\n\nThe same as "
            f"`Explainer(model, preprocess=preprocess, labels=labels).{method.__name__}(...)`: see there."
        )
        return function

    return decorate


@_over(Explainer.explain)
def explain(
    model: ModelLike,
    inputs: Any,
    method: MethodLike | None = None,
    *,
    preprocess: PreprocessLike | None = None,
    labels: Labels | None = None,
    **request: Any,
) -> Explanation:
    return _once(model, preprocess, labels).explain(inputs, method, **request)


@_over(Explainer.compare)
def compare(
    model: ModelLike,
    inputs: Any,
    *request: Any,
    preprocess: PreprocessLike | None = None,
    labels: Labels | None = None,
    **more: Any,
) -> Comparison:
    return _once(model, preprocess, labels).compare(inputs, *request, **more)


@_over(Explainer.layers)
def layers(
    model: ModelLike, inputs: Any, *, preprocess: PreprocessLike | None = None, labels: Labels | None = None
) -> list[LayerInfo]:
    return Explainer(model, preprocess=preprocess, labels=labels).layers(inputs)


@_over(Explainer.cost)
def estimate_cost(
    model: ModelLike,
    inputs: Any,
    methods: Sequence[MethodLike] | str = "all",
    *,
    preprocess: PreprocessLike | None = None,
    labels: Labels | None = None,
    **request: Any,
) -> list[Estimate]:
    return Explainer(model, preprocess=preprocess, labels=labels).cost(inputs, methods, **request)


@_over(Explainer.evaluate)
def evaluate(
    model: ModelLike,
    inputs: Any,
    *request: Any,
    preprocess: PreprocessLike | None = None,
    labels: Labels | None = None,
    **more: Any,
) -> Evaluation:
    return _once(model, preprocess, labels).evaluate(inputs, *request, **more)


@_over(Explainer.run)
def run(
    model: ModelLike,
    source: Any,
    out: str | Path,
    *,
    preprocess: PreprocessLike | None = None,
    labels: Labels | None = None,
    **more: Any,
) -> Run:
    return _once(model, preprocess, labels).run(source, out, **more)


@_over(Explainer.choose)
def choose(
    model: ModelLike,
    inputs: Any,
    *request: Any,
    preprocess: PreprocessLike | None = None,
    labels: Labels | None = None,
    **more: Any,
) -> Choice:
    return _once(model, preprocess, labels).choose(inputs, *request, **more)


@_over(Explainer.doctor)
def doctor(
    model: ModelLike,
    inputs: Any = None,
    *,
    preprocess: PreprocessLike | None = None,
    labels: Labels | None = None,
    output: OutputPath | None = None,
) -> Checkup:
    return Explainer(model, preprocess=preprocess, labels=labels).doctor(inputs, output=output)


def _once(model: ModelLike, preprocess: PreprocessLike | None, labels: Labels | None) -> Explainer:
    """An `Explainer` for one call, which is told about photos only if photos come."""
    made = Explainer(model, preprocess=preprocess, labels=labels)
    made._for_photos = preprocess is not None
    return made
