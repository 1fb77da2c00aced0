"""ultralytics' networks beyond their boxes' scores: what their heads keep, the object around them, other heads."""

import os
import tempfile

import detectors
import numpy as np
import pytest
import torch

import whycam
from whycam.targets import Box
from whycam.targets.outputs import detections

os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())
ultralytics = pytest.importorskip("ultralytics")
from ultralytics.nn import tasks  # noqa: E402


@pytest.mark.parametrize("name", list(detectors.ULTRALYTICS))
def test_anchors_kept_in_inference_mode_bear_a_gradient_and_are_left(name):
    model, inputs = detectors.made(detectors.ULTRALYTICS[name])
    plain = whycam.explain(model, inputs, "layer_cam", target=Box(0))
    head = model.model[-1]
    head.shape = None
    with torch.inference_mode():
        model(inputs)
    kept = head.anchors, head.strides, head.shape
    assert kept[0].is_inference()
    again = whycam.explain(model, inputs, "layer_cam", target=Box(0))
    assert torch.equal(again.maps, plain.maps)
    assert (head.anchors, head.strides, head.shape) == (kept[0], kept[1], kept[2])
    assert whycam.explain(model, inputs, "integrated_grad_cam", target=Box(0), steps=2).status[0].kind == "ok"


@pytest.fixture(scope="module")
def yolo(tmp_path_factory):
    """`YOLO(...)` of a file, as people have it, with tiny weights."""
    config = tasks.yaml_model_load("yolov8n.yaml") | {"nc": 4}
    config["scales"] = {"n": [0.33, 0.0625, 64]}
    path = tmp_path_factory.mktemp("yolo") / "yolov8n.yaml"
    import yaml

    path.write_text(yaml.safe_dump({key: value for key, value in config.items() if key != "yaml_file"}))
    torch.manual_seed(0)
    model = ultralytics.YOLO(path)
    for parameter in model.model.parameters():
        if parameter.ndim == 4:
            parameter.data.mul_(2.2)
    model.model.eval()
    return model


def test_the_object_is_unwrapped_with_its_labels_and_letterbox(yolo):
    photo = np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8)
    modes = [module.training for module in yolo.modules()]
    yolo.model.names = {0: "cat", 1: "dog", 2: "cow", 3: "hen"}
    found = whycam.explain(yolo, photo, target=Box(0))
    assert [module.training for module in yolo.modules()] == modes
    assert found.context.inputs.shape == (1, 3, 640, 640)
    assert found.target[0].split(", ")[1].split()[0] in ("cat", "dog", "cow", "hen")
    assert any("letterbox" in note for note in found.notes)
    with torch.no_grad():
        (by_hand,) = detections(yolo.model(found.context.inputs), (640, 640), yolo.model)
    assert found.shown[0].box == pytest.approx(by_hand.boxes[0].tolist(), rel=1e-5)


def test_in_training_mode_it_says_so(yolo):
    yolo.model.train()
    try:
        with (
            pytest.warns(UserWarning, match="the model is in training mode"),
            pytest.raises(whycam.WhycamError, match=r"training mode .* call model.eval\(\)"),
        ):
            whycam.explain(yolo, torch.rand(1, 3, 64, 96), target=Box(0))
    finally:
        yolo.model.eval()


@pytest.mark.parametrize("end_to_end", [False, True])
@pytest.mark.parametrize("kind", ["Segmentation", "Pose", "OBB"])
def test_what_other_heads_add_is_no_class(kind, end_to_end):
    short = {"Segmentation": "seg", "Pose": "pose", "OBB": "obb"}[kind]
    config = tasks.yaml_model_load(f"yolo26n-{short}.yaml") | {"nc": 4}
    config["scales"] = {"n": [0.33, 0.0625, 64]}
    torch.manual_seed(0)
    model = getattr(tasks, f"{kind}Model")(config, ch=3, verbose=False).eval()
    model.model[-1].end2end = end_to_end
    inputs = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        output = model(inputs)
        (found,) = detections(output, (64, 96), model)
    raw = output[1]["one2one" if end_to_end else "one2many"]["scores"][0]
    assert int(found.labels.max()) < 4
    torch.testing.assert_close(found.scores[0], raw.sigmoid().max())
    assert whycam.explain(model, inputs, target=Box(0)).shown[0].box is not None


def test_a_file_is_named_and_read_where_it_is_trusted(yolo, tmp_path):
    path = tmp_path / "mine.pt"
    yolo.save(path)
    with pytest.raises(whycam.ModelError, match=r"would run code that is stored in it; .* unsafe_pickle=True"):
        whycam.load(f"ultralytics:{path}")
    vision = whycam.load(f"ultralytics:{path}", unsafe_pickle=True)
    assert not vision.module.training
    assert vision.labels == tuple(yolo.model.names.values())
    inputs = torch.rand(1, 3, 64, 96)
    found, mine = (whycam.explain(each, inputs, target=Box(0)) for each in (vision, yolo))
    torch.testing.assert_close(found.scores, mine.scores, rtol=1e-2, atol=1e-2)  # files are in half precision
    with pytest.raises(whycam.ModelError, match="there is no file"):
        whycam.load("ultralytics:nowhere.pt")
