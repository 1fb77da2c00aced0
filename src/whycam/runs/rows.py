"""What is kept of each map: a row of a table, and the explanation that it holds."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from whycam.errors import WhycamError
from whycam.evaluation.columns import Measured
from whycam.kit.files import Names, for_json, with_tuples
from whycam.kit.registry import methods
from whycam.kit.status import Status
from whycam.pictures.geometry import Geometry
from whycam.pictures.input_context import InputContext
from whycam.pictures.photos import Photo
from whycam.pictures.preprocess import Preprocess
from whycam.results.explanation import Cost, Explanation, Layer, Prediction
from whycam.results.saving import plain_option
from whycam.runs.decoding import Decoded
from whycam.runs.keeping import Kept
from whycam.runs.sources import Item
from whycam.runs.store import packed, unpacked
from whycam.targets.resolved import Shown


def rows_of(several: Sequence[Decoded], made: Measured, kept: Kept, folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of a batch, all of one image after each other: one for each method, layer and target."""
    for number, each in enumerate(several):
        names = Names()
        for key, explanation in made.explanations.items():
            metrics = {f"metric.{name}": values[number] for name, values in made.values.get(key, {}).items()}
            drawn = {}
            if kept.pictures:
                drawn = kept.draw(explanation[number], folder, each.item.id, names(explanation.method))
            yield {
                **_of_item(each.item),
                **_of_photo(each),
                **_of_place(explanation, number),
                **_of_map(explanation, number, kept.maps),
                **{name: value for name, value in metrics.items() if math.isfinite(value)},
                **drawn,
                "error": "; ".join(made.unmeasured.get(key, [])) or None,
            }
        for (method, layer, _), why in made.failures.items():
            yield {**_of_item(each.item), **_of_photo(each), "method": method, "layer": layer, "error": why}


def failed_row(each: Decoded, error: str) -> dict[str, Any]:
    """The row of an image that has no map, with the reason."""
    return {**_of_item(each.item), **_of_photo(each), "error": error}


def _of_item(item: Item) -> dict[str, Any]:
    return {"source": item.id, "label": item.label}


def _of_photo(each: Decoded) -> dict[str, Any]:
    if each.size is None:
        return {}
    return {"content": each.content, "height": each.size[0], "width": each.size[1]}


def _of_place(explanation: Explanation, number: int) -> dict[str, Any]:
    """Where the input lies on the photo, where that is known."""
    if explanation.context is None or explanation.context.geometries is None:
        return {}
    return {"geometry": json.dumps(asdict(explanation.context.geometries[number]))}


def _of_map(explanation: Explanation, number: int, map_type: str) -> dict[str, Any]:
    status = explanation.status[number]
    score = float(explanation.scores[number])
    return {
        **_of_prediction(explanation.predictions[number] if explanation.predictions else None),
        "target": explanation.target[number] if explanation.target else None,
        "score": score if math.isfinite(score) else None,
        "method": explanation.method,
        "layer": explanation.layer.name,
        "options": json.dumps(for_json({name: plain_option(value) for name, value in explanation.options.items()})),
        "status": status.kind,
        "message": status.message,
        **packed(explanation.maps[number].detach().float().cpu().numpy(), map_type),
    }


def _of_prediction(prediction: Prediction | None) -> dict[str, Any]:
    if prediction is None:
        return {}
    probability = prediction.probability if math.isfinite(prediction.probability) else None
    return {"prediction": prediction.name, "prediction_index": prediction.index, "probability": probability}


def explanation_of(
    row: Mapping[str, Any], asked: Mapping[str, Any], photo: Photo | None, preprocess: Preprocess | None
) -> Explanation:
    """A row's explanation, of one sample; it draws itself over its photo, and as the network saw it with `preprocess`.

    Raises:
        WhycamError: the photo is another one.
    """
    context = None
    if row["geometry"] is not None:
        geometry = Geometry(**with_tuples(json.loads(row["geometry"])))
        if photo is not None and photo.size != geometry.photo_size:
            was, now = (" x ".join(map(str, size)) for size in (geometry.photo_size, photo.size))
            raise WhycamError(f"{row['source']} was {was} pixels, and this photo is {now}: it is another one.")
        inputs, photos = torch.zeros(1, 3, *geometry.input_size), None if photo is None else (photo,)
        if photo is not None and preprocess is not None:
            inputs = preprocess(photo)[0][None]
        context = InputContext(inputs, photos, (geometry,), preprocess if photo is not None else None)
    made, score = torch.from_numpy(unpacked(row))[None], math.nan if row["score"] is None else row["score"]
    return Explanation(
        maps=made,
        scores=torch.tensor([score]),
        predictions=_predictions(row),
        target=() if row["target"] is None else (row["target"],),
        method=row["method"],
        title=known[row["method"]].title if row["method"] in (known := methods()) else row["method"],
        options=json.loads(row["options"]),
        layer=Layer(row["layer"], tuple(made.shape), tuple(made.shape[1:]), (), "", "as the run says"),
        status=(Status(row["status"], row["message"]),),
        cost=Cost(0, 0, 0.0),
        outputs=torch.tensor([[score]]),
        shown=(Shown(),),
        model=str(asked.get("model", "")),
        context=context,
    )


def _predictions(row: Mapping[str, Any]) -> tuple[Prediction, ...]:
    if row["prediction_index"] is None:
        return ()
    probability = math.nan if row["probability"] is None else row["probability"]
    return (Prediction(row["prediction_index"], row["prediction"], probability),)
