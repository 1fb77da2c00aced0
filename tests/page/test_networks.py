"""What networks of every sort say of a photo."""

import io

import detectors
import numpy as np
import pages
import pytest
import segmenters
import torch
import towers
from PIL import Image

import whycam
from whycam.engine.inputs import make_batch
from whycam.page.networks import _region
from whycam.pictures.photos import read_photo
from whycam.targets import Box


def prepare(size: tuple[int, int]) -> whycam.Preprocess:
    return whycam.Preprocess(size, "stretch", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def ready(module: torch.nn.Module, size: tuple[int, int], labels: list[str] | None = None) -> whycam.VisionModel:
    return whycam.VisionModel(module, prepare(size), labels, name="it")


def pixels(data: bytes, size: tuple[int, int]) -> torch.Tensor:
    return make_batch(ready(torch.nn.Identity(), size), read_photo(data)).inputs  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["FCOS", "Faster R-CNN"])
def test_boxes_lie_on_the_photo_and_can_be_asked_about(name: str) -> None:
    module, _ = detectors.made(detectors.TORCHVISION[name])
    model = ready(module, (64, 96), ["none", "cat", "dog", "bird"])
    data = pages.photo(1, (128, 192))
    with pages.asking(pages.page(model)) as asking:
        about = asking.get("about")["models"][0]
        assert (about["answers"], about["usual_method"]) == ("boxes", "layer_cam")
        sent = asking.add(data)["id"]
        found = asking.post("predictions", {"photo": sent, "model": asking.model})
        with torch.no_grad():
            (own,) = module(pixels(data, (64, 96)))
        boxes = torch.tensor([each["box"] for each in found["boxes"]])
        assert torch.allclose(boxes, own["boxes"] * 2, atol=1e-3)
        assert [each["label"] for each in found["boxes"]] == [model.labels[k] for k in own["labels"].tolist()]  # type: ignore[index]
        (one,) = asking.ask(sent, targets=["box:1"])["maps"]
        direct = whycam.explain(model, io_photo(data), target=Box(1))
        raw = np.load(io.BytesIO(asking.client.get(f"/api/maps/{one['id']}/raw.npy").content))
        assert np.array_equal(raw, direct.maps[0].numpy())
        several = asking.ask(sent, targets=["boxes:0"])
        assert len(several["maps"]) == len(own["boxes"])


def io_photo(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_regions_and_the_class_at_a_point() -> None:
    module, *_ = segmenters.built("segformer")
    model = ready(module.eval(), (64, 96))
    data = pages.photo(2, (128, 192))
    with pages.asking(pages.page(model)) as asking:
        about = asking.get("about")["models"][0]
        assert (about["answers"], about["usual_method"]) == ("regions", "hires_cam")
        sent = asking.add(data)["id"]
        found = asking.post("predictions", {"photo": sent, "model": asking.model, "point": [191.5, 1]})
        with torch.no_grad():
            top = module(pixels(data, (64, 96))).logits[0].argmax(0)
        assert sum(each["share"] for each in found["regions"]) == pytest.approx(1)
        assert found["regions"][0]["index"] == int(top.flatten().mode()[0])
        assert found["at_point"]["index"] == int(top[0, -1])
        assert [each["called"] for each in found["regions"]] == [str(each["index"]) for each in found["regions"]]
        (one,) = asking.ask(sent, targets=[f"region:{found['at_point']['index']}@191,1"])["maps"]
        assert one["method"] == "hires_cam"
        outside = asking.post("predictions", {"photo": sent, "model": asking.model, "point": [500, 1]})
        assert outside["at_point"] is None
        able = {each["name"]: each["usable"] for each in asking.get(f"models/{asking.model}/methods?photo={sent}")}
        assert able["hires_cam"]
        assert not able["cam"]


@pytest.mark.parametrize(
    ("label", "said"), [("road", "road"), ("a road", "a road"), ("3", "0"), ("a@b", "0"), ("sky", "0"), (" x", "0")]
)
def test_a_region_is_called_what_is_read_as_it(label: str, said: str) -> None:
    found = _region(0, (label, "sky"))
    assert (found["label"], found["called"]) == (label, said)


def test_vectors_are_compared_with_photos_of_the_page() -> None:
    module, inputs = towers.made(towers.clip)
    size = tuple(inputs.shape[2:])
    model = ready(module, size)  # type: ignore[arg-type]
    with pages.asking(pages.page(model)) as asking:
        assert asking.get("about")["models"][0]["answers"] == "vectors"
        sent, other = (asking.add(pages.photo(number))["id"] for number in (1, 2))
        said = asking.post("predictions", {"photo": sent, "model": asking.model})
        assert said == {"classes": [], "boxes": None, "regions": None}
        asking.add(pages.photo(2), "dog.png")
        named = asking.ask(sent, "grad_cam", targets=["similarity:dog.png"])["maps"][0]["score"]
        asking.add(pages.photo(2))
        made = asking.ask(sent, "grad_cam", targets=[f"similarity:{other}"])
        assert made["maps"][0]["score"] == named
        (one,) = made["maps"]
        assert one["target_text"] == f"similarity:{other}"
        assert "similarity:photo.png" in made["shell"]
        assert 'target=whycam.targets.Similarity(reference="photo.png")' in made["python"]
        direct = whycam.explain(
            model, io_photo(pages.photo(1)), "grad_cam", target=whycam.targets.Similarity(io_photo(pages.photo(2)))
        )
        raw = np.load(io.BytesIO(asking.client.get(f"/api/maps/{one['id']}/raw.npy").content))
        assert np.array_equal(raw, direct.maps[0].numpy())


def test_half_precision() -> None:
    model = pages.model()
    model.module.bfloat16()
    with pages.asking(pages.page(model)) as asking:
        sent = asking.add(pages.photo())["id"]
        classes = asking.post("predictions", {"photo": sent, "model": asking.model})["classes"]
        assert sum(each["probability"] for each in classes) == pytest.approx(1, abs=1e-3)
        (one,) = asking.ask(sent, "grad_cam", targets=["1"])["maps"]
        direct = whycam.explain(model, io_photo(pages.photo()), "grad_cam", target=1)
        raw = np.load(io.BytesIO(asking.client.get(f"/api/maps/{one['id']}/raw.npy").content))
        assert np.array_equal(raw, direct.maps[0].numpy())


def test_where_the_place_on_the_photo_is_not_known_the_server_draws() -> None:
    fixed = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    model = whycam.VisionModel(pages.model().module, lambda photo: fixed, pages.LABELS, name="it")
    with pages.asking(pages.page(model)) as asking:
        (one,) = asking.ask(asking.add(pages.photo())["id"], "grad_cam")["maps"]
        assert (one["drawn"], one["heat"], one["geometry"]) == ("picture", None, None)
        assert asking.picture(f"maps/{one['id']}/overlay.png").size == (32, 32)
        assert asking.client.get(f"/api/maps/{one['id']}/heat.f32").status_code == 200
