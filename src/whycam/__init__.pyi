"""Made by docs/stub.py from the code; `python docs/generate.py` renews it."""

from typing import Any, Literal, TypeAlias

from collections.abc import Callable as Callable
from collections.abc import Mapping as Mapping
from collections.abc import Sequence as Sequence
from pathlib import Path as Path
from whycam import adapters as adapters
from whycam import metrics as metrics
from whycam import targets as targets
from whycam import training as training
from whycam.checkup.cost import Estimate as Estimate
from whycam.checkup.doctor import Checkup as Checkup
from whycam.checkup.findings import Finding as Finding
from whycam.checkup.layers import LayerInfo as LayerInfo
from whycam.engine.inputs import ViewLike as ViewLike
from whycam.engine.request import LayerLike as LayerLike
from whycam.engine.request import MethodLike as MethodLike
from whycam.engine.smoothing import Augmentation as Augmentation
from whycam.engine.smoothing import SmoothingLike as SmoothingLike
from whycam.engine.tiling import Tiles as Tiles
from whycam.errors import InputError as InputError
from whycam.errors import LayerNotFound as LayerNotFound
from whycam.errors import LayerRefused as LayerRefused
from whycam.errors import MethodNotFound as MethodNotFound
from whycam.errors import MetricNotFound as MetricNotFound
from whycam.errors import MissingExtraError as MissingExtraError
from whycam.errors import ModelError as ModelError
from whycam.errors import NoGradient as NoGradient
from whycam.errors import OptionError as OptionError
from whycam.errors import OutputError as OutputError
from whycam.errors import PhotoError as PhotoError
from whycam.errors import TargetError as TargetError
from whycam.errors import WhycamError as WhycamError
from whycam.evaluation.choosing import Choice as Choice
from whycam.evaluation.choosing import MOST as MOST
from whycam.evaluation.choosing import STEPS as STEPS
from whycam.explainer import Explainer as Explainer
from whycam.kit import fusions as fusions
from whycam.kit.metric import Measurement as Measurement
from whycam.kit.metric import Metric as Metric
from whycam.kit.metric import find_metric as find_metric
from whycam.kit.metric import list_metrics as list_metrics
from whycam.kit.metric import metric as metric
from whycam.kit.quantities import Result as Result
from whycam.kit.quantities import Score as Score
from whycam.kit.quantities import Trace as Trace
from whycam.kit.registry import list_methods as list_methods
from whycam.kit.registry import method as method
from whycam.kit.status import Status as Status
from whycam.models.adopt import Labels as Labels
from whycam.models.adopt import ModelLike as ModelLike
from whycam.models.load import load as load
from whycam.models.vision_model import PreprocessLike as PreprocessLike
from whycam.models.vision_model import VisionModel as VisionModel
from whycam.network import layouts as layouts
from whycam.network.layouts import Layout as Layout
from whycam.network.outputs import OutputPath as OutputPath
from whycam.network.variants.fast_copy import Precision as Precision
from whycam.network.variants.scoring import RunConfig as RunConfig
from whycam.pictures.blends import Blend as Blend
from whycam.pictures.blends import OPACITY as OPACITY
from whycam.pictures.media import Clip as Clip
from whycam.pictures.media import Signal as Signal
from whycam.pictures.media import Spectrogram as Spectrogram
from whycam.pictures.media import Volume as Volume
from whycam.pictures.nifti import read_volume as read_volume
from whycam.pictures.photos import read_photo as read_photo
from whycam.pictures.preprocess import Preprocess as Preprocess
from whycam.results.evaluation import Evaluation as Evaluation
from whycam.results.explanation import Comparison as Comparison
from whycam.results.explanation import Explanation as Explanation
from whycam.results.look import Look as Look
from whycam.results.values import Cost as Cost
from whycam.results.values import Layer as Layer
from whycam.results.values import Prediction as Prediction
from whycam.results.values import Sample as Sample
from whycam.runs.keeping import Kept as Kept
from whycam.runs.parts import merge_shards as merge_shards
from whycam.runs.run import Run as Run
from whycam.runs.run import open_run as open_run
from whycam.runs.sources import open_source as open_source
from whycam.targets import TargetSpec as TargetSpec
from whycam.targets.structured import OutputTarget as OutputTarget

__version__: str

_MethodName: TypeAlias = Literal[
    "ablation_cam",
    "attention_rollout",
    "attn_lrp",
    "bag_cam",
    "cam",
    "cameras",
    "clip_surgery",
    "cp_lrp",
    "d_rise",
    "deep_feature_factorization",
    "eigen_cam",
    "eigen_grad_cam",
    "faster_score_cam",
    "fem",
    "full_grad",
    "generic_attention",
    "grad_cam",
    "grad_cam_elementwise",
    "grad_cam_plus_plus",
    "grad_eclip",
    "grad_rollout",
    "group_cam",
    "gscore_cam",
    "guided_backprop",
    "guided_grad_cam",
    "hires_cam",
    "integrated_grad_cam",
    "is_cam",
    "kpca_cam",
    "layer_cam",
    "legrad",
    "occlusion",
    "odam",
    "opti_cam",
    "poly_cam",
    "random_cam",
    "raw_attention",
    "recipro_cam",
    "rise",
    "score_cam",
    "seg_eigen_cam",
    "seg_xres_cam",
    "sess",
    "shap_cam",
    "shapley_cam",
    "simple_full_grad",
    "smooth_grad_cam_plus_plus",
    "ss_cam",
    "tis",
    "transformer_attribution",
    "vit_cx",
    "vit_recipro_cam",
    "xgrad_cam",
]

def explain(
    model: ModelLike,
    inputs: Any,
    method: _MethodName | MethodLike | None = None,
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
    preprocess: PreprocessLike | None = None,
    labels: Labels | None = None,
    **options: Any,
) -> Explanation: ...
def choose(
    model: ModelLike,
    inputs: Any,
    methods: Sequence[_MethodName | MethodLike] | None = None,
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
    preprocess: PreprocessLike | None = None,
    labels: Labels | None = None,
) -> Choice: ...
def compare(
    model: ModelLike,
    inputs: Any,
    methods: Sequence[_MethodName | MethodLike] | Literal["all"] | None = None,
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
    preprocess: PreprocessLike | None = None,
    labels: Labels | None = None,
) -> Comparison: ...
def layers(
    model: ModelLike, inputs: Any, *, preprocess: PreprocessLike | None = None, labels: Labels | None = None
) -> list[LayerInfo]: ...
def doctor(
    model: ModelLike,
    inputs: Any = None,
    *,
    output: OutputPath | None = None,
    preprocess: PreprocessLike | None = None,
    labels: Labels | None = None,
) -> Checkup: ...
def estimate_cost(
    model: ModelLike,
    inputs: Any,
    methods: Sequence[_MethodName | MethodLike] | Literal["all"] = "all",
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
    preprocess: PreprocessLike | None = None,
    labels: Labels | None = None,
) -> list[Estimate]: ...
def evaluate(
    model: ModelLike,
    inputs: Any,
    methods: Sequence[_MethodName | MethodLike] | Literal["all"] | None = None,
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
    preprocess: PreprocessLike | None = None,
    labels: Labels | None = None,
) -> Evaluation: ...
def run(
    model: ModelLike,
    source: Any,
    out: str | Path,
    *,
    method: _MethodName | MethodLike | None = None,
    target: TargetSpec = None,
    layer: LayerLike = None,
    methods: Sequence[_MethodName | MethodLike] | Literal["all"] | None = None,
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
    preprocess: PreprocessLike | None = None,
    labels: Labels | None = None,
) -> Run: ...
