"""What a model's answer is: detections, a class for each place, a vector. Pure functions of the answer.

A family is told by the shape of the output and by the module that made it, never by one number alone; what was taken is
said in `about`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from whycam.errors import OutputError
from whycam.kit.overlap import iou

#: Boxes of one class that overlap more than this are one, where a model leaves that to its caller.
_OVERLAP = 0.7
#: And how many of them, with which score at least, are looked at.
_MOST, _LEAST = 300, 1e-3
#: A caller's own reading of an output: output -> one `Detections` for each image.
Adapter = Callable[[Any], Sequence["Detections"]]


@dataclass(frozen=True)
class Detections:
    """The boxes that a detector found in one image, best first or as the model lists them.

    Attributes:
        boxes: `(box, 4)`, left, top, right, bottom in pixels of the input, with their graph if they have one.
        scores: `(box,)`, the model's own scores, probabilities.
        labels: `(box,)`, class indices as the model counts them (torchvision's 0 is the background).
        classes: `(box, class)`, each box's probability of every class, where the model says it.
        logit: box -> the raw logit of its class, with its graph.
        about: what the output was taken for, in words.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    classes: Tensor | None
    logit: Callable[[int], Tensor]
    about: str

    def __len__(self) -> int:
        return len(self.scores)


def detections(
    output: Any,
    size: tuple[int, int],
    module: Any = None,
    *,
    raw: Tensor | None = None,
    adapter: Adapter | None = None,
) -> list[Detections]:
    """The detections in a model's answer, one entry for each image.

    Args:
        size: the input's height and width.
        module: the network, which settles what the shape leaves open.
        raw: the logits that a torchvision detector's head returned in the same pass, `(..., row, class)`: the score
            then is the raw logit of the box's row and class, found by following the final score back to it.
        adapter: a function of the output, for a model of another family.

    Raises:
        OutputError: no family is known that answers so.
    """
    if adapter is not None:
        return list(adapter(output))
    if isinstance(output, (list, tuple)) and output and all(isinstance(e, Mapping) and "boxes" in e for e in output):
        return [_listed(each, raw) for each in output]
    logits, boxes = _part(output, "logits"), _part(output, "pred_boxes")
    if isinstance(logits, Tensor) and isinstance(boxes, Tensor):
        known = getattr(getattr(module, "config", None), "num_labels", None)
        none = known is not None and logits.shape[-1] == known + 1
        return [_queries(row, box, size, none) for row, box in zip(logits, boxes, strict=True)]
    if _is_yolo(module):
        return _yolo(output, module)
    kind = type(output).__name__
    raise OutputError(
        f"no boxes can be read from this output, a {kind}: a list of dicts with 'boxes', an object with 'logits' and "
        "'pred_boxes', or the output of an ultralytics head was expected. Pass adapter=, a function of the output "
        "that gives whycam.targets.Detections for each image."
    )


def is_detector(module: Any) -> bool:
    """Whether a network finds boxes, as far as its form tells: torchvision's, transformers' and ultralytics'."""
    if hasattr(module, "transform") and (hasattr(module, "roi_heads") or hasattr(module, "anchor_generator")):
        return True
    return "ForObjectDetection" in type(module).__name__ or _is_yolo(module)


def head_of(module: Any) -> str:
    """The dotted name of the module whose output holds a torchvision detector's raw logits; empty for others."""
    if hasattr(module, "roi_heads") and hasattr(module.roi_heads, "box_predictor"):
        return "roi_heads.box_predictor"
    return "head" if hasattr(module, "anchor_generator") and hasattr(module, "head") else ""


def raw_logits(returned: Any) -> Tensor | None:
    """The class logits among what such a head returned."""
    found = returned.get("cls_logits") if isinstance(returned, Mapping) else None
    if found is None and isinstance(returned, (list, tuple)) and returned:
        found = returned[0]
    return found if isinstance(found, Tensor) else None


def logit(probability: Tensor) -> Tensor:
    """log(p / (1 - p)), finite at 0 and 1."""
    tiny = torch.finfo(probability.dtype).eps
    return probability.clamp(tiny, 1 - tiny).logit()


def _part(output: Any, name: str) -> Any:
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


def _listed(found: Mapping[str, Any], raw: Tensor | None) -> Detections:
    """torchvision's answer for one image. Its final scores lead back to exactly one row of the head's logits."""
    scores, labels = found["scores"], found["labels"]
    read = partial(_traced, scores, labels, raw)
    return Detections(found["boxes"], scores, labels, None, read, "boxes as torchvision lists them")


def _traced(scores: Tensor, labels: Tensor, raw: Tensor | None, index: int) -> Tensor:
    """The raw logit `(..., class)` that a final score was made of, found by following it back; else `logit(score)`."""
    if raw is not None and raw.requires_grad and scores.requires_grad:
        (way,) = torch.autograd.grad(scores[index], raw, retain_graph=True, allow_unused=True)
        rows = [] if way is None else (way != 0).any(-1).nonzero().tolist()
        if len(rows) == 1:
            at: tuple[int, ...] = (*rows[0], int(labels[index]))
            return raw[at]
    return logit(scores[index])


def _queries(logits: Tensor, boxes: Tensor, size: tuple[int, int], none: bool) -> Detections:
    """One image's queries, `(query, class)`: by softmax with "no object" last where `none`, else by sigmoid."""
    classes = logits.softmax(-1)[:, :-1] if none else logits.sigmoid()
    scores, labels = classes.max(-1)
    order = scores.detach().argsort(descending=True, stable=True)
    center, extent = boxes[:, :2], boxes[:, 2:]
    height, width = size
    corners = torch.cat([center - extent / 2, center + extent / 2], 1) * boxes.new_tensor([width, height] * 2)

    def read(index: int) -> Tensor:
        query = int(order[index])
        return logits[query, int(labels[query])]

    about = f"{len(boxes)} queries, best first, {'softmax' if none else 'sigmoid'} scores"
    return Detections(corners[order], scores[order], labels[order], classes[order], read, about)


def _is_yolo(module: Any) -> bool:
    last = getattr(module, "model", None)
    head = last[-1] if isinstance(last, torch.nn.Sequential) and len(last) else None
    return all(hasattr(head, name) for name in ("stride", "nc", "reg_max"))


def _yolo(output: Any, module: Any) -> list[Detections]:
    """ultralytics' heads: `(N, 4 + classes, anchor)` for v8 and 11, `(N, box, 6)` where they end in boxes (v10, 26).

    What heads for masks, key points or angles add comes behind these.
    """
    if isinstance(output, Mapping):
        raise OutputError("in training mode this detector returns what its loss needs and no boxes; call model.eval().")
    decoded, beside = output if isinstance(output, tuple) else (output, {})
    decoded = decoded[0] if isinstance(decoded, (tuple, list)) else decoded  # masks have prototypes beside
    head = module.model[-1]
    beside = beside if isinstance(beside, Mapping) else {}
    if getattr(head, "end2end", False):
        raw = beside.get("one2one", {}).get("scores")
        return [_final(row, None if raw is None else raw[i].T) for i, row in enumerate(decoded)]
    raw = beside.get("one2many", beside).get("scores")
    return [_anchors(row[: 4 + head.nc], None if raw is None else raw[i]) for i, row in enumerate(decoded)]


def _final(rows: Tensor, raw: Tensor | None) -> Detections:
    boxes, scores, labels = rows[:, :4], rows[:, 4], rows[:, 5].detach().long()
    read = partial(_traced, scores, labels, raw)
    return Detections(boxes, scores, labels, None, read, "boxes of an end-to-end head")


def _anchors(decoded: Tensor, raw: Tensor | None) -> Detections:
    center, extent = decoded[:2].T, decoded[2:4].T
    boxes = torch.cat([center - extent / 2, center + extent / 2], 1)
    classes = decoded[4:].T
    best, labels = classes.detach().max(1)
    kept = _apart(boxes.detach(), best, labels)

    def read(index: int) -> Tensor:
        anchor, label = int(kept[index]), int(labels[kept[index]])
        return raw[label, anchor] if raw is not None else logit(classes[anchor, label])

    scores = classes[kept, labels[kept]]
    about = f"{len(kept)} of {len(best)} anchors after non-maximum suppression"
    return Detections(boxes[kept], scores, labels[kept], classes[kept], read, about)


def _apart(boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
    """Non-maximum suppression among the boxes of each class: the indices of those that stay, best first."""
    order = scores.argsort(descending=True, stable=True)[:_MOST]
    ahead = [int(each) for each in order if scores[each] >= _LEAST]
    kept: list[int] = []
    while ahead:
        first, *ahead = ahead
        kept.append(first)
        if ahead:
            rest = torch.tensor(ahead, device=boxes.device)
            clear = (iou(boxes[first], boxes[rest]) <= _OVERLAP) | (labels[rest] != labels[first])
            ahead = rest[clear].tolist()
    return torch.tensor(kept, dtype=torch.long, device=boxes.device)


@dataclass(frozen=True)
class Dense:
    """A class's score at each place.

    Attributes:
        scores: `(batch, class, *space)`, logits, or the logarithms of probabilities.
        again: another output of the model -> its scores, read in the same way: which this is, is settled once.
        about: what the output was taken for, in words.
    """

    scores: Tensor
    again: Callable[[Any], Tensor]
    about: str


def channel(scores: Tensor, index: int) -> Tensor:
    """A class's scores, `(batch, *space)`; of one channel, class 0 is its other side."""
    if scores.shape[1] == 1:
        return scores[:, 0] if index else -scores[:, 0]
    return scores[:, index]


def dense(output: Any, axes: int | None = None) -> Dense:
    """The class scores for each place in a model's answer: torchvision's, transformers', or a plain tensor's.

    Mask2Former and its kin give queries: the score of a class is the logarithm of the sum over queries of its
    probability times that of the query's mask (arXiv:2112.01527, equation 1 of their inference).

    Args:
        axes: how many axes of space the input has. A tensor of one more holds several heads, `(batch, head, class,
            *space)`, as MONAI's DynUNet does in training; the first is the full answer.

    Raises:
        OutputError: no scores with axes of space are there.
    """
    for take, name in _PLACES:
        found = take(output)
        if found is not None and axes not in (None, found.ndim - 2, found.ndim - 3):
            raise OutputError(
                f"the output has shape {tuple(found.shape)}, without the input's {axes} axes of space, so it has "
                "no place for each score; to explain a detector take whycam.targets.Box."
            )
        if found is not None:
            heads = axes is not None and found.ndim == axes + 3
            first = _first_head if heads else _same
            scale, about = _scale(first(found.detach()), name + f", the first of {found.shape[1]} heads," * heads)
            return Dense(scale(first(found)), lambda other: scale(first(take(other))), about)  # noqa: B023 - the loop ends here
    kind = f"a {type(output).__name__}" + (f" of shape {tuple(output.shape)}" if isinstance(output, Tensor) else "")
    raise OutputError(
        f"no scores with axes of space can be read from this output, {kind}; a tensor (batch, class, *space) was "
        "expected, by itself or under 'out' or 'logits'."
    )


def _mask_queries(output: Any) -> Any:
    queries, masks = _part(output, "class_queries_logits"), _part(output, "masks_queries_logits")
    if not isinstance(queries, Tensor) or not isinstance(masks, Tensor):
        return None
    return torch.einsum("nqc,nq...->nc...", queries.softmax(-1)[..., :-1], masks.sigmoid())


def _under(name: str, output: Any) -> Any:
    return next(filter(_is_dense, [_part(output, name)]), None)


def _itself(output: Any) -> Any:
    return next(filter(_is_dense, output if isinstance(output, (list, tuple)) else [output]), None)


def _is_dense(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim >= 3 and value.is_floating_point()


#: Where scores for each place are, the most telling first, and how that is said.
_PLACES: tuple[tuple[Callable[[Any], Any], str], ...] = (
    (_mask_queries, ""),
    (partial(_under, "out"), "the output's 'out'"),
    (partial(_under, "logits"), "the output's 'logits'"),
    (_itself, "the output"),
)


def _scale(seen: Tensor, name: str) -> tuple[Callable[[Tensor], Tensor], str]:
    """How these values become scores, and what they are in words."""
    if not name:
        return _log, "log of the classes' sum over mask queries"
    if bool((seen >= 0).all()) and bool((seen <= 1).all()):
        if seen.shape[1] == 1:
            return logit, f"{name} holds a probability; its logit is explained"
        if bool(((seen.sum(1) - 1).abs() < 1e-3).all()):
            return _log, f"{name} holds probabilities; their logarithms are explained"
        return logit, f"{name} holds a probability of each class by itself; its logit is explained"
    return _same, f"{name} as class scores for each place"


def _log(values: Tensor) -> Tensor:
    return values.clamp(min=torch.finfo(values.dtype).tiny).log()


def _first_head(values: Tensor) -> Tensor:
    return values[:, 0]


def _same(values: Tensor) -> Tensor:
    return values


def embedding(output: Any) -> Tensor:
    """The vector of each sample in a model's answer, `(batch, width)`.

    Raises:
        OutputError: there is none.
    """
    names = ("image_embeds", "pooler_output", "embeddings", "embedding", "image_features", "logits")
    parts = [_part(output, name) for name in names]
    parts += [output] if isinstance(output, Tensor) else list(output) if isinstance(output, (list, tuple)) else []
    for each in parts:
        if isinstance(each, Tensor) and each.ndim > 1 and each.is_floating_point() and set(each.shape[2:]) <= {1}:
            return each.flatten(1)
    raise OutputError(
        f"no vector for each sample can be read from this output, a {type(output).__name__}; a tensor (batch, width) "
        f"was expected, by itself or under {', '.join(names[:4])}."
    )
