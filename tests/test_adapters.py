"""whycam's maps in other libraries' suites, and other libraries' maps in whycam's."""

import pickle

import nets
import numpy as np
import pytest
import torch
from PIL import Image

import whycam

INPUTS = nets.images(4)
TARGETS = [0, 3, 1, 1]


def test_quantus_gets_the_maps_of_its_targets_whatever_they_come_in():
    model = nets.plain()
    expected = whycam.explain(model, INPUTS, "hires_cam", target=TARGETS).heatmaps(normalize="none")
    explain = whycam.adapters.explain_func("hires_cam")
    for targets in (TARGETS, np.array(TARGETS), torch.tensor(TARGETS)):
        found = explain(model=model, inputs=INPUTS.numpy().astype("float32"), targets=targets, device="cpu")
        assert isinstance(found, np.ndarray)
        assert found.shape == (4, 1, 8, 8)
        np.testing.assert_allclose(found[:, 0], expected.numpy(), rtol=1e-4, atol=1e-6)
    other = explain(model, INPUTS, TARGETS, layer="relu1")
    assert not np.allclose(other[:, 0], expected.numpy())


def test_captum_gets_attributions_of_the_inputs_shape():
    model = nets.plain()
    attribution = whycam.adapters.Attribution(model, "layer_cam", layer="relu2")
    expected = whycam.explain(model, INPUTS, "layer_cam", layer="relu2", target=2).heatmaps(normalize="none")
    with torch.no_grad():  # as captum's sensitivity runs it
        found = attribution.attribute(INPUTS, target=2)
    assert found.dtype == INPUTS.dtype
    for color in range(3):
        assert torch.equal(found[:, color].float(), expected)
    each = attribution.attribute(INPUTS, target=torch.tensor(TARGETS))
    assert torch.equal(each[1], attribution.attribute(INPUTS[1:2], target=3)[0])
    with pytest.raises(whycam.WhycamError, match="one input is explained"):
        attribution.attribute(INPUTS, 2, (1,))


def test_captums_own_metrics_run_on_it():
    metrics = pytest.importorskip("captum.metrics")
    model = nets.plain()
    attribution = whycam.adapters.Attribution(model, "grad_cam")
    found = metrics.sensitivity_max(attribution.attribute, INPUTS, target=2, n_perturb_samples=2)
    assert found.shape == (4,)
    assert (found >= 0).all()


def test_maps_of_others_are_methods_of_their_own_in_an_evaluation():
    model = nets.plain()
    asked = []

    def theirs(module, inputs, classes):
        asked.append(classes.tolist())
        return whycam.explain(module, inputs, "hires_cam", target=classes.tolist()).maps

    arrays = whycam.explain(model, INPUTS, "hires_cam", target=2).maps.numpy()
    found = whycam.evaluate(
        model, INPUTS, ["hires_cam"], metrics=["insertion"], targets=[2], maps={"function": theirs, "array": arrays},
        sanity=0, controls=False, batch=3,
    )  # fmt: skip
    values = {method: [row["value"] for row in found.rows if row["method"] == method] for method in
              ("hires_cam", "function", "array")}  # fmt: skip
    assert values["function"] == pytest.approx(values["hires_cam"], abs=1e-9)
    assert values["array"] == pytest.approx(values["hires_cam"], abs=1e-9)
    assert asked == [[2, 2, 2], [2]]
    with pytest.raises(whycam.WhycamError, match="array holds 3 entries for 4 images"):
        whycam.evaluate(model, INPUTS, maps={"array": arrays[:3]})


def test_a_ray_pipeline_gets_the_rows_of_a_run_beside_its_own_columns(tmp_path):
    model, preprocess = nets.plain().float(), whycam.Preprocess((8, 8), "stretch", mean=(0.5,) * 3, std=(0.25,) * 3)
    photos = np.random.default_rng(0).integers(0, 256, (3, 12, 10, 3), dtype=np.uint8)
    explain = pickle.loads(pickle.dumps(whycam.adapters.RayExplainer(
        model, "layer_cam", 1, "relu2", preprocess=preprocess, maps="float32"
    )))  # fmt: skip
    made = explain({"image": photos, "id": np.array([7, 8, 9])})
    alone = whycam.explain(model, [*photos], "layer_cam", target=1, layer="relu2", preprocess=preprocess)
    assert made["id"].tolist() == [7, 8, 9]
    assert "image" not in made
    for number in range(3):
        shape, kind = made["map_shape"][number], made["map_type"][number]
        held = np.frombuffer(made["map"][number], kind).reshape(shape)
        np.testing.assert_allclose(held, alone.maps[number].numpy(), rtol=1e-5, atol=1e-7)
    assert made["score"] == pytest.approx(alone.scores.tolist(), rel=1e-5)
    assert made["status"].tolist() == [each.kind for each in alone.status]
    held = explain({"image": [photos[0], b"none", str(tmp_path / "away.png")]})  # lists, as of datasets
    assert held["error"][0] is None
    assert "away.png" in held["error"][2]
    Image.fromarray(photos[0]).save(tmp_path / "there.png")
    named = explain({"image": [str(tmp_path / "there.png"), (tmp_path / "there.png").read_bytes()]})
    assert named["content"][0] == named["content"][1]
    assert held["height"].tolist() == [12, None, None]
    assert np.isnan(held["score"][1:]).all()
    assert held["score"][0] == pytest.approx(made["score"][0], rel=1e-5)


def test_a_batch_without_photos_or_with_columns_of_ours_is_refused():
    explain = whycam.adapters.RayExplainer(nets.plain(), preprocess=whycam.Preprocess((8, 8), "stretch"), photo="bytes")
    with pytest.raises(whycam.OptionError, match="no column 'bytes'; it has image"):
        explain({"image": []})
    with pytest.raises(whycam.OptionError, match="'score' is one that is made"):
        explain({"bytes": [b""], "score": [1.0]})


def test_a_device_that_is_not_there_is_said():
    with pytest.raises(whycam.WhycamError, match="device tpu9: the network cannot be put there: "):
        whycam.adapters.RayExplainer(torch.nn.Conv2d(3, 2, 1), device="tpu9")
