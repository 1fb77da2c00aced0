"""An evaluation that is stopped, killed or asked again goes on and says what one run says, bit for bit."""

import errno
import json
import math
import os

import nets
import numpy as np
import pytest
import torch
from PIL import Image

import whycam
from whycam.evaluation import evaluate as module
from whycam.evaluation.evaluate import Interrupted
from whycam.evaluation.journal import NAME
from whycam.targets import Region

PICTURES = nets.images(7, seed=3)
METRICS = ["insertion", "entropy"]
SHORT = {"insertion": {"steps": 3}}


def evaluated(inputs=PICTURES, **given):
    asked = {"methods": ["grad_cam", "layer_cam"], "metrics": METRICS, "options": SHORT, "sanity": 0, "batch": 2}
    return whycam.evaluate(nets.plain(), inputs, **{**asked, **given})


def same(one, other):
    """Every row and curve, to the last bit; NaN is itself."""
    assert list(map(str, one.rows)) == list(map(str, other.rows))
    assert one.curves == other.curves
    assert one.at == other.at


@pytest.fixture
def stopped(monkeypatch):
    """Let the batch of that number raise."""
    real = module._measured

    def at(number, error):
        calls = []

        def measured(*given):
            calls.append(1)
            if len(calls) == number:
                raise error
            return real(*given)

        monkeypatch.setattr(module, "_measured", measured)
        return calls

    yield at
    monkeypatch.undo()


def test_ctrl_c_loses_nothing(stopped, monkeypatch, tmp_path):
    whole = evaluated()
    stopped(3, KeyboardInterrupt())
    with pytest.raises(Interrupted) as caught:
        evaluated(folder=tmp_path)
    part = caught.value.evaluation
    assert part.samples == ["sample0", "sample1", "sample2", "sample3"]
    assert list(map(str, part.rows)) == [str(row) for row in whole.rows if row["sample"] in part.samples]
    calls = stopped(0, None)
    same(evaluated(folder=tmp_path), whole)
    assert len(calls) == 2  # of four batches
    same(evaluated(folder=tmp_path), whole)
    assert len(calls) == 2


def test_ctrl_c_without_a_folder_has_what_was_done(stopped):
    stopped(2, KeyboardInterrupt())
    with pytest.raises(Interrupted, match="2 images evaluated") as caught:
        evaluated()
    assert caught.value.evaluation.samples == ["sample0", "sample1"]


@pytest.mark.parametrize("share", [0.02, 0.4, 0.7, 0.999])
def test_a_journal_cut_anywhere_goes_on(share, tmp_path):
    whole = evaluated(folder=tmp_path)
    file = tmp_path / NAME
    held = file.read_bytes()
    file.write_bytes(held[: int(share * len(held))])
    again = evaluated(folder=tmp_path)
    same(again, whole)
    first, *lines = map(json.loads, file.read_text().splitlines())
    assert first["asked"]["methods"] == ["grad_cam", "layer_cam"]
    assert [name for line in lines for name in line["samples"]] == whole.samples


def test_what_is_not_defined_stays_so(tmp_path):
    maps = {"nothing": torch.zeros(7, 4, 4)}
    first = evaluated(maps=maps, folder=tmp_path, controls=False)
    kept = evaluated(maps=maps, folder=tmp_path, controls=False)
    same(first, kept)
    assert any(math.isnan(row["value"]) for row in kept.rows)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"methods": ["grad_cam"]}, r"methods was \['grad_cam', 'layer_cam'\] and is \['grad_cam'\]"),
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"options": {"insertion": {"steps": 4}}}, r"metrics was .* and is .*'steps': '4'"),
        ({"metrics": ["deletion"], "options": {}}, "metrics was .*insertion.* and is .*deletion"),
        ({"targets": [1]}, r"targets was \['None'\] and is \['1'\]"),
        ({"layers": ["relu1"]}, "layers was"),
        ({"controls": False}, "controls was True and is False"),
    ],
)
def test_another_question_is_refused_and_what_differs_is_said(other, said, tmp_path):
    evaluated(folder=tmp_path)
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(whycam.WhycamError, match=f"{said}.*take another folder"):
        evaluated(folder=tmp_path, **other)
    assert (tmp_path / NAME).read_bytes() == before


def _first(output):
    return output[:, 0]


def _square(row):
    mask = torch.zeros(48, 48, dtype=torch.bool)
    mask[row : row + 4, 20:24] = True
    return mask


SEGMENTER = nets.fixed(
    torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(4, 3, 1))
)
SCENES = nets.images(2, side=48)
HEADS = nets.fixed(nets.TwoHeads())
NETWORK, BOTH = nets.plain(), ["relu1", "relu2"]


@pytest.mark.parametrize(
    ("model", "one", "other"),
    [
        (NETWORK, {"layers": [NETWORK.relu1]}, {"layers": [NETWORK.relu2]}),
        (NETWORK, {"layers": [BOTH], "fusion": "mean"}, {"layers": [BOTH], "fusion": "sum"}),
        (NETWORK, {"layout": whycam.layouts.ChannelsFirst()}, {}),
        (NETWORK, {"targets": [_first]}, {"targets": [lambda output: output[:, 1]]}),
        (NETWORK, {"targets": [lambda output: output[:, 0]]}, {"targets": [lambda output: output[:, 1]]}),
        (SEGMENTER, *({"targets": [Region(1, mask=_square(row))]} for row in (20, 30))),
        (SEGMENTER, *({"targets": [Region(1, mask=_square(row).numpy())]} for row in (20, 30))),
        (HEADS, {"output": "logits"}, {"output": "auxiliary"}),
    ],
    ids=["modules", "fusion", "layout", "functions", "lambdas", "tensors", "arrays", "outputs"],
)  # fmt: skip
def test_questions_whose_texts_are_the_same_are_others(model, one, other, tmp_path):
    pictures = SCENES if model is SEGMENTER else PICTURES[:2]

    def asked(given):
        return whycam.evaluate(
            model, pictures, ["grad_cam"], metrics=["entropy"], sanity=0, controls=False, folder=tmp_path, **given
        )

    first = asked(one)
    same(asked(one), first)
    with pytest.raises(whycam.WhycamError, match="holds another evaluation"):
        asked(other)


def test_a_target_that_is_a_function_is_known_in_another_process(tmp_path):
    evaluated(targets=[_first], folder=tmp_path)
    head = json.loads((tmp_path / NAME).read_text().splitlines()[0])
    assert head["asked"]["targets"][0].startswith(f"{__name__}:_first ")
    assert " at 0x" not in json.dumps(head)


def test_several_targets_of_one_text_have_rows_of_their_own():
    labels = [0, 1, 2, 3, 4, 0, 1]
    both = evaluated(targets=[labels, labels[::-1], 2, 2])
    assert both.targets == ["own", "own-2", "2", "2-2"]
    for place, asked in {"own": labels, "own-2": labels[::-1], "2-2": 2}.items():
        alone = evaluated(targets=[asked], controls=False)
        found = [
            row["value"] for row in both.rows if row["target"] == place and not row["method"].startswith("control")
        ]
        assert found == pytest.approx([row["value"] for row in alone.rows])
    regions = [Region(1, mask=_square(20)), Region(1, mask=_square(30))]
    found = whycam.evaluate(SEGMENTER, SCENES, ["grad_cam"], metrics=["entropy"], targets=regions, sanity=0)
    assert found.targets == ["Region(of=1, where='mask')", "Region(of=1, where='mask')-2"]


def test_targets_of_one_list_may_be_meant_for_each_image():
    with pytest.raises(whycam.WhycamError, match=r"7 entries for 7 images.*targets=\[labels\]; .* pass a tuple"):
        evaluated(targets=[0, 1, 2, 3, 4, 0, 1])
    assert evaluated(targets=(0, 1, 2, 3, 4, 0, 1)).targets == ["0", "1", "2", "3", "4", "0-2", "1-2"]


def test_another_network_is_refused(tmp_path):
    evaluated(folder=tmp_path)
    with pytest.raises(whycam.WhycamError, match="weights was"):
        whycam.evaluate(
            nets.fixed(nets.Plain(), seed=1), PICTURES, ["grad_cam", "layer_cam"], metrics=METRICS, options=SHORT,
            sanity=0, folder=tmp_path,
        )  # fmt: skip


def test_another_file_of_that_name_is_left_alone(tmp_path):
    (tmp_path / NAME).write_text("my own notes\n")
    with pytest.raises(whycam.WhycamError, match="is no journal"):
        evaluated(folder=tmp_path)
    assert (tmp_path / NAME).read_text() == "my own notes\n"


def test_a_disk_that_is_full_is_said_and_what_was_done_is_kept(monkeypatch, tmp_path):
    calls, sync = [], os.fsync

    def full(handle):
        calls.append(handle)
        if len(calls) == 4:  # of the head and four batches
            os.ftruncate(handle, os.fstat(handle).st_size - 9)
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(whycam.WhycamError, match=r"jsonl cannot be read or written: No space left on device.*goes on"):
        evaluated(folder=tmp_path)
    assert len((tmp_path / NAME).read_bytes().splitlines()) == 4
    same(evaluated(folder=tmp_path), evaluated())
    assert len(calls) == 4 + 2


def test_a_journal_that_cannot_be_had_is_said(tmp_path):
    (tmp_path / "a" / NAME).mkdir(parents=True)
    (tmp_path / "b").write_text("a file")
    for folder in "ab":
        with pytest.raises(whycam.WhycamError, match="cannot be read or written"):
            evaluated(folder=tmp_path / folder)


def test_other_images_under_the_same_names_are_measured(tmp_path):
    evaluated(PICTURES[:3], folder=tmp_path)
    other = evaluated(PICTURES[3:6], folder=tmp_path)
    expected = evaluated(PICTURES[3:6], controls=False)
    found = [row["value"] for row in other.rows if not row["method"].startswith("control")]
    assert found == pytest.approx([row["value"] for row in expected.rows], nan_ok=True)
    assert other.asked["images"] == 3
    assert set(other.samples).isdisjoint({"sample0", "sample1", "sample2"})


def test_more_images_are_added_in_whatever_order(stopped, tmp_path):
    evaluated(PICTURES[:2], folder=tmp_path)
    calls = stopped(0, None)
    more = evaluated(PICTURES[[4, 1, 0]], folder=tmp_path)
    assert len(calls) == 2 - 1  # sample1 and sample0 are there; batches are [4, 1] and [0]
    assert more.asked["images"] == 3
    assert len(evaluated(PICTURES[:1], folder=tmp_path).samples) == 1


def test_a_target_of_each_image_belongs_to_the_image(stopped, tmp_path):
    labels = [0, 1, 2, 3, 4, 0, 1]
    first = evaluated(targets=[labels], folder=tmp_path)
    assert {row["target"] for row in first.rows} == {"own"}
    calls = stopped(0, None)
    assert evaluated(targets=[torch.tensor(labels)], folder=tmp_path).asked["images"] == 7
    assert not calls
    changed = [0, 1, 2, 3, 4, 0, 2]
    evaluated(targets=[changed], folder=tmp_path)
    assert len(calls) == 1


# --- Photos -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def model():
    return whycam.VisionModel(nets.plain().float(), whycam.Preprocess.imagenet(8, 8), list("abcde"), "tiny")


def photo(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    colors = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(colors).save(path)
    return path


def of_photos(model, photos, **given):
    asked = {"methods": ["grad_cam"], "metrics": METRICS, "options": SHORT, "sanity": 0, "controls": False, "batch": 2}
    return whycam.evaluate(model, photos, **{**asked, **given})


def test_photos_of_one_name_are_told_apart_by_what_they_hold(model, tmp_path):
    one, two = photo(tmp_path / "a" / "cat.png", 1), photo(tmp_path / "b" / "cat.png", 2)
    both = of_photos(model, [one, two], folder=tmp_path / "out")
    assert both.samples == ["cat", "cat-2"]
    alone = of_photos(model, [two], folder=tmp_path / "out")
    assert alone.samples == ["cat-2"]
    assert list(map(str, alone.rows)) == [str(row) for row in both.rows if row["sample"] == "cat-2"]
    turned = of_photos(model, [two, one], folder=tmp_path / "out")
    assert sorted(map(str, turned.rows)) == sorted(map(str, both.rows))
    for _ in range(2):
        assert of_photos(model, [one, one], folder=tmp_path / "twice").samples == ["cat", "cat-2"]
        assert of_photos(model, [one, one, one], folder=tmp_path / "twice").asked["images"] == 3


def test_a_photo_that_cannot_be_read_is_a_failure_and_tried_again(model, tmp_path):
    good = [photo(tmp_path / f"{name}.png", seed) for seed, name in enumerate("abc")]
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    photos = [good[0], bad, *good[1:]]
    first = of_photos(model, photos, folder=tmp_path / "out")
    assert first.samples == ["a", "b", "c"]
    assert list(first.failures) == ["bad"]
    assert "bad.png" in first.failures["bad"]
    again = of_photos(model, photos, folder=tmp_path / "out")
    same(first, again)
    assert again.failures == first.failures
    photo(bad, 9)
    repaired = of_photos(model, photos, folder=tmp_path / "out")
    assert (sorted(repaired.samples), repaired.failures) == (["a", "b", "bad", "c"], {})


def test_photos_that_are_prepared_in_another_way_are_others(model, tmp_path):
    photos = [photo(tmp_path / "a.png", 1)]
    of_photos(model, photos, folder=tmp_path / "out")
    other = whycam.VisionModel(model.module, whycam.Preprocess((8, 8), "stretch"), list("abcde"), "tiny")
    with pytest.raises(whycam.WhycamError, match=r"preprocess was .*'shorter'.* and is .*'stretch'"):
        of_photos(other, photos, folder=tmp_path / "out")


def test_photos_that_cannot_be_had_together_are_had_one_by_one(tmp_path):
    def as_it_is(photo):
        return torch.from_numpy(np.array(photo)).double().movedim(-1, 0) / 255

    sizes = [(12, 16), (16, 12), (12, 16)]
    photos = [
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (*size, 3), dtype=np.uint8))
        for i, size in enumerate(sizes)
    ]
    model = whycam.VisionModel(nets.plain(), as_it_is, list("abcde"), "any size")
    found = of_photos(model, photos, batch=3)
    assert found.samples == ["sample0", "sample1", "sample2"]
    alone = [of_photos(model, [each]).rows for each in photos]
    for number, rows in enumerate(alone):
        expected = [row["value"] for row in rows]
        assert [row["value"] for row in found.rows if row["sample"] == f"sample{number}"] == pytest.approx(expected)


@pytest.mark.parametrize(("single", "near"), [(False, 1e-12), (True, 1e-5)], ids=["float64", "float32"])
def test_batches_of_any_size_say_the_same(single, near):
    pictures = PICTURES.float() if single else PICTURES
    model = nets.plain().float() if single else nets.plain()

    def rows(batch):
        found = whycam.evaluate(model, pictures, ["grad_cam", "layer_cam", "rise"], metrics=["deletion", *METRICS],
                                options={"rise": {"samples": 8}}, sanity=0, batch=batch).rows  # fmt: skip
        return {tuple(row[name] for name in ("method", "metric", "sample")): row["value"] for row in found}

    whole = rows(7)
    for size in (1, 3):
        part = rows(size)
        assert part.keys() == whole.keys()
        for key, value in part.items():
            assert value == pytest.approx(whole[key], rel=near, abs=near, nan_ok=True), key


@pytest.mark.parametrize("small", [0, 3])
def test_a_photo_that_the_network_refuses_is_a_failure_of_that_photo(small):
    photos = [Image.fromarray(np.full((8, 8, 3), 20 * number, np.uint8)) for number in range(5)]
    photos[small] = photos[small].resize((1, 1))
    model = whycam.VisionModel(
        nets.plain(), preprocess=lambda photo: torch.from_numpy(np.array(photo)).movedim(2, 0) / 255
    )
    found = whycam.evaluate(model, photos, ["grad_cam"], metrics=["entropy"], sanity=0, controls=False, batch=4)
    assert [*found.failures] == [f"sample{small}"]
    assert "spatial axes" in found.failures[f"sample{small}"]
    assert {row["sample"] for row in found.rows} == {f"sample{number}" for number in range(5) if number != small}
    with pytest.raises(whycam.WhycamError, match="spatial axes"):  # then it is the question, as far as can be told
        whycam.evaluate(model, [photos[small]] * 2, ["grad_cam"], metrics=["entropy"], sanity=0)


def test_time_is_of_the_images_that_a_method_was_asked_of():
    parts = [module.Part({"a": "", "b": ""}, seconds={("m", "l"): 1.0, ("n", "l"): 3.0})]
    parts += [module.Part({"c": ""}, seconds={("n", "l"): 6.0}), module.Part({"mosaic": ""})]
    assert module._seconds(parts) == {("m", "l"): 1.0, ("n", "l"): 4.0}


def test_maps_are_not_named_as_a_control():
    with pytest.raises(whycam.WhycamError, match=r"'control: edges', which is a control"):
        evaluated(maps={"control: edges": torch.zeros(7, 4, 4)})
