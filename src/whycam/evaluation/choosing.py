"""Method and layer by evidence on the user's own images: chosen on half of them, held to it on the other half."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from whycam.engine.identity import is_of_each
from whycam.engine.session import Session
from whycam.errors import WhycamError
from whycam.evaluation.images import Images, of_images
from whycam.kit.files import write_whole
from whycam.kit.metric import Metric
from whycam.network.fingerprint import fingerprint
from whycam.network.layers.default_layer import stages
from whycam.results.evaluation import Evaluation

#: Of the file; raised when a reader of the old form would misread the new one.
SCHEMA = 1
#: Methods of one pass that explain a class; where the network does not allow one, the others are left.
CANDIDATES = (
    *("grad_cam", "grad_cam_plus_plus", "layer_cam", "hires_cam", "xgrad_cam"),
    *("generic_attention", "legrad", "grad_eclip"),
)
#: What a choice is held against.
USUAL = "grad_cam"
#: The fewest images from which a choice is made, and the most that are looked at unless said.
FEWEST, MOST = 8, 32
#: Of insertion and deletion, where a choice is made: half of the usual, since many maps are measured.
STEPS = 14
#: What is said where no choice was made yet.
UNKNOWN = (
    "nothing is known yet of what suits this network, so 'auto' is the usual method: `whycam.choose(model, photos)` "
    "finds it out"
)
TOO_FEW = f"{UNKNOWN}, as does 'auto' asked about {FEWEST} images or more"


@dataclass(frozen=True)
class Choice:
    """Which method and layer suit a network, and on what evidence.

    Attributes:
        method, layer: what was chosen; the layer is its name.
        metric: by which, and `better` which way. `value`, `usual`: its value and Grad-CAM's on the held-out images.
        images, held_out: how many were looked at, and on how many of them the choice was not made.
        against: what else there was, each with its value on the images on which the choice was made.
        model, weights: of which network; the choice is for these weights alone.
        text: all of this in words. `path`: the file in which it is kept.

    Examples:
        >>> whycam.choose(net, torch.rand(8, 3, 16, 16), ["hires_cam"], steps=2).method in ("grad_cam", "hires_cam")
        True
    """

    method: str
    layer: str
    metric: str
    better: str
    value: float
    usual: float
    images: int
    held_out: int
    against: Mapping[str, float]
    model: str
    weights: str
    text: str
    path: Path | None = None


def file_of(session: Session) -> Path:
    """Where the choice for a network is kept: `choices/NAME-FINGERPRINT.json` in `$WHYCAM_CACHE`, or in the user's
    cache folder.
    """
    folder = os.environ.get("WHYCAM_CACHE")
    home = Path(folder) if folder else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "whycam"
    name = re.sub(r"[^\w.-]+", "_", session.vision.name).strip("._")[:60] or "model"
    return home / "choices" / f"{name}-{fingerprint(session.module)}.json"


def recalled(session: Session) -> Choice | None:
    """The choice that was made for this network with these weights, if one was."""
    path = file_of(session)
    try:
        found = json.loads(path.read_text())
        if found.pop("schema", None) == SCHEMA:
            return Choice(**found, path=path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:  # no JSON, or of another form
        raise WhycamError(f"{path} cannot be read as a choice: {error}. Delete it, and choose again.") from None
    raise WhycamError(f"{path} was written by another version. Delete it, and choose again.")


def keep(session: Session, choice: Choice) -> Choice:
    """Write it down, where that can be; else the text says that it was not."""
    path = file_of(session)
    content = {"schema": SCHEMA, **{name: value for name, value in asdict(choice).items() if name != "path"}}
    try:
        write_whole(path, json.dumps(content, indent=1).encode() + b"\n")
    except OSError as error:
        return Choice(**{**vars(choice), "text": f"{choice.text}; it could not be kept: {error}"})
    return Choice(**{**vars(choice), "path": path})


def places(session: Session, inputs: Any) -> list[str | None]:
    """The layers to choose from: each method's usual one, and the ends of the two stages before the last."""
    images = Images(inputs)
    given, _ = images.some(range(min(2, len(images))))
    with session.tree():
        taps, _ = stages(session.module, session.batch(given).inputs, 3, or_fewer=True)
    return [None, *(str(tap) for tap in taps[:-1])]


def decide(found: Evaluation, metric: Metric, usual: str) -> Choice:
    """The best on every other image, if it is no worse than Grad-CAM on those between; else Grad-CAM.

    Raises:
        WhycamError: Grad-CAM, or any image, has no value.
    """
    sign = 1 if metric.better == "higher" else -1
    accounts = {place: each for (place, name), each in found.accumulators().items() if name == metric.name}
    accounts = {place: each for place, each in accounts.items() if each.count}
    shared = set.intersection(*(set(each.named) for each in accounts.values())) if accounts else set()
    first, held = (sorted(shared.intersection(found.samples[start::2])) for start in (0, 1))
    own = [place for place in accounts if not place.is_control]
    usual_place = next((place for place in own if place[:2] == (USUAL, usual)), None)
    if usual_place is None or not first or not held:
        raise WhycamError(
            f"no choice can be made: {metric.title} of Grad-CAM is not known on enough images. "
            + "; ".join(f"{name}: {why}" for name, why in list(found.failures.items())[:3])
        )
    here = {place: each.compute(first) for place, each in accounts.items()}
    there = {place: each.compute(held) for place, each in accounts.items()}
    everywhere = {place: sign * each.compute(sorted(shared)) for place, each in accounts.items()}
    best = max(own, key=lambda place: (sign * here[place], place == usual_place))
    held_up = sign * (there[best] - there[usual_place]) >= 0
    chosen = best if held_up else usual_place
    beaten_by = [place.method for place in accounts if place.is_control and everywhere[place] > everywhere[chosen]]
    said = f"{chosen}, chosen by {metric.title.lower()} ({metric.better} is better) among {len(own)}"
    said += f" on {len(first)} images; on {len(held)} others it has "
    said += f"{there[chosen]:.3f}, and Grad-CAM at {usual} {there[usual_place]:.3f}"
    if not held_up:
        said += f". {best} was better where it was chosen, and not on the others ({there[best]:.3f})"
    if beaten_by:
        said += (
            f". A map that knows nothing of the network is better: {', '.join(beaten_by)}; trust no map by this metric"
        )
    return Choice(
        chosen.method, chosen.layer, metric.name, metric.better, there[chosen], there[usual_place],
        len(shared), len(held), {str(place): value for place, value in here.items()},
        found.asked["model"], found.asked["weights"], said,
    )  # fmt: skip


def enough(inputs: Any) -> bool:
    """Whether a choice can be made of these images."""
    return len(Images(inputs)) >= FEWEST


def some_of(inputs: Any, targets: Any, most: int) -> tuple[Any, Any]:
    """At most so many of the images, at even distances, and the targets: of one for each image those of these.

    Raises:
        WhycamError: too few of them.
    """
    images = Images(inputs)
    count = min(most, len(images))
    if count < FEWEST:
        raise WhycamError(f"a choice takes at least {FEWEST} images, half of them held out; {count} came.")
    numbers = [round(k * (len(images) - 1) / (count - 1)) for k in range(count)]
    if isinstance(targets, (list, tuple)):  # of other lengths they are refused where they are used
        of_these = [
            of_images(each, numbers) if is_of_each(each) and len(each) == len(images) else each for each in targets
        ]
        targets = type(targets)(of_these)
    if images.several or not isinstance(images.inputs, (list, tuple)):
        return images.some(numbers)[0], targets
    return [images.inputs[number] for number in numbers], targets
