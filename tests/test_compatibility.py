"""A quarter of the compatibility suite, the suite's own checks, and the page that it makes."""

import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nets
import pytest
import torch
import torchvision_shim
from torch import Tensor, nn

torchvision_shim.register()
for needed in ("timm", "torchvision", "transformers"):
    pytest.importorskip(needed)

from compatibility import __main__ as command  # noqa: E402
from compatibility import check as checking  # noqa: E402
from compatibility.attention import apart, section  # noqa: E402
from compatibility.attention import check as attended  # noqa: E402
from compatibility.check import Row, check  # noqa: E402
from compatibility.entry import Entry, by_stride  # noqa: E402
from compatibility.location import Finding, locate, reader  # noqa: E402
from compatibility.page import page  # noqa: E402
from compatibility.timm_zoo import SMALLEST  # noqa: E402
from compatibility.transformers_zoo import LEFT_OUT, SMALL  # noqa: E402
from compatibility.weights import awaken, natural, settle  # noqa: E402
from compatibility.zoo import zoo  # noqa: E402

ROOT = Path(__file__).parents[1]

#: A representative quarter: convolutions; transformers read through a class token, a mean, an attention; with
#: distillation tokens and registers; channels last; hybrids; mixers; units for tokens; several stages; clips.
QUARTER = {
    "timm": [
        "test_resnet", "test_convnext", "test_efficientnet", "test_nfnet", "test_byobnet", "mobilenetv3_small_050",
        "regnetx_002", "ghostnet_050", "starnet_s050", "test_vit", "deit_tiny_distilled_patch16_224",
        "vit_small_patch14_reg4_dinov2", "test_vit_relpos", "vit_tiny_r_s16_p8_224", "convit_tiny", "pit_ti_224",
        "test_coatnet", "gmlp_ti16_224", "test_mambaout", "edgenext_xx_small",
    ],
    "torchvision": [
        "mobilenet_v3_small", "mnasnet0_5", "shufflenet_v2_x0_5", "squeezenet1_1", "regnet_x_400mf",
    ],
    "video": [
        "mc3_18", "swin3d_t",
    ],
    "transformers": [
        "BeitForImageClassification", "BitForImageClassification", "CLIPForImageClassification",
        "ConvNextForImageClassification", "ConvNextV2ForImageClassification", "CvtForImageClassification",
        "Data2VecVisionForImageClassification", "DeiTForImageClassification", "DeiTForImageClassificationWithTeacher",
        "Dinov2ForImageClassification", "Dinov2WithRegistersForImageClassification",
        "DonutSwinForImageClassification", "EfficientNetForImageClassification", "FocalNetForImageClassification",
        "HieraForImageClassification", "IJepaForImageClassification", "LevitForImageClassification",
        "LevitForImageClassificationWithTeacher", "MetaClip2ForImageClassification",
        "MobileNetV1ForImageClassification", "MobileNetV2ForImageClassification", "MobileViTForImageClassification",
        "MobileViTV2ForImageClassification", "PoolFormerForImageClassification", "PPLCNetForImageClassification",
        "PvtForImageClassification", "PvtV2ForImageClassification", "RegNetForImageClassification",
        "ResNetForImageClassification", "SegformerForImageClassification", "SiglipForImageClassification",
        "SwiftFormerForImageClassification", "SwinForImageClassification", "Swinv2ForImageClassification",
        "TextNetForImageClassification", "ViTForImageClassification", "ViTMSNForImageClassification",
    ],
}  # fmt: skip


def entries() -> dict[str, Entry]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {f"{entry.library}:{entry.name}": entry for entry in zoo()}


ZOO = entries()


# ---------------------------------------------------------------- the quarter


def of_the_quarter(*libraries: str) -> list[str]:
    return [f"{library}:{name}" for library in libraries for name in QUARTER[library]]


#: Of every way to read a network one.
FEW = [
    "timm:test_convnext", "timm:test_vit", "timm:test_coatnet", "timm:gmlp_ti16_224", "torchvision:squeezenet1_1",
    "transformers:DeiTForImageClassificationWithTeacher", "transformers:SwinForImageClassification",
    "transformers:HieraForImageClassification",
]  # fmt: skip


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(FEW, id="few"),
        pytest.param(of_the_quarter("timm"), id="timm", marks=pytest.mark.slow),
        pytest.param(of_the_quarter("torchvision", "video"), id="torchvision", marks=pytest.mark.slow),
        pytest.param(of_the_quarter("transformers"), id="transformers", marks=pytest.mark.slow),
    ],
)
def test_zero_configuration_is_right(names: list[str], tmp_path: Path) -> None:
    """In a process of its own: the run-time checks of every annotation would take most of the time."""
    file = tmp_path / "rows.json"
    done = subprocess.run(
        [sys.executable, "-m", "compatibility", *names, "--patience", "0.2", "--json", str(file)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [Row.from_dict(values) for values in json.loads(file.read_text())]
    shown = [(f"{row.library}:{row.name}", row.size) for row in rows]
    assert sorted(shown) == sorted((name, size) for name in names for size in ZOO[name].sizes)
    for row in rows:
        assert row.faults == ()
        assert row.statuses.keys() == set(checking.METHODS)
        assert row.grid in row.right
        assert row.location in ("by construction", "verified", "undetermined")
        assert row.oracle in ("holds", "cannot tell")
        assert row.backwards >= 1
    assert sum(row.oracle == "holds" for row in rows) > len(rows) / 2


def test_the_quarter_is_a_quarter() -> None:
    assert sum(map(len, QUARTER.values())) >= len(ZOO) / 4
    assert all(f"{library}:{name}" in ZOO for library, names in QUARTER.items() for name in names)


# ---------------------------------------------------------------- the zoo


def test_every_family_of_timm_is_there() -> None:
    import timm

    families = {entry.family for entry in ZOO.values() if entry.library == "timm"}
    assert families == set(timm.list_modules())
    assert all(timm.is_model(name) for name in SMALLEST.values())


def test_every_builder_of_torchvision_is_there() -> None:
    import torchvision.models as models

    names = {entry.name for entry in ZOO.values() if entry.library == "torchvision"}
    assert names == set(models.list_models(module=models))
    assert len(names) >= 80
    videos = {entry.name for entry in ZOO.values() if entry.library == "video"}
    assert videos == set(models.list_models(module=models.video))


def test_every_classifier_of_transformers_is_there_or_left_out_for_a_reason() -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as NAMES

    assert set(SMALL) | set(LEFT_OUT) == set(NAMES)
    assert not set(SMALL) & set(LEFT_OUT)
    assert len({entry.family for entry in ZOO.values() if entry.library == "transformers"}) >= 25


def test_most_models_are_shown_an_input_that_is_not_square_and_the_rest_say_why() -> None:
    for entry in ZOO.values():
        assert entry.sizes[0][-1] == entry.sizes[0][-2]
        assert entry.remark or entry.sizes[1][-1] != entry.sizes[1][-2]


def test_the_page_has_every_model() -> None:
    text, _ = apart((ROOT / "docs" / "compatibility.md").read_text())
    sections = {part.partition("\n")[0]: part for part in text.split("\n## ")}
    from compatibility.page import TITLES

    for entry in ZOO.values():
        assert f"\n| `{entry.name}` |" in sections[TITLES[entry.library]], entry.name
    assert sum(line.startswith("| `") for line in text.splitlines()) == len(ZOO)


# ---------------------------------------------------------------- attention


@pytest.mark.parametrize(
    ("name", "verdicts"),
    [
        ("timm:test_vit", ["all 6 captured"]),
        ("transformers:ViTForImageClassification", ["all 3 captured"] * 2),
        ("timm:resnest14d", ["no attention matrix: 4 softmaxes run, .*gates.*"]),
        ("timm:swiftformer_xs", ["no attention matrix: no softmax runs .*"]),
        ("timm:test_resnet", []),
    ],
)
def test_all_attention_is_captured_or_the_reason_is_said(name: str, verdicts: list[str]) -> None:
    found = list(attended(ZOO[name]))
    assert len(found) == len(verdicts)
    for row, verdict in zip(found, verdicts, strict=True):
        assert re.fullmatch(verdict, row.verdict)
        assert max(row.weights, row.gradients) < 1e-10
    if name == "timm:test_vit":
        assert (found[0].kinds, found[0].queries, found[0].projections) == ("tokens 6", 6, 6)
        assert "| timm | `test_vit` | all 6 captured | " in section(found)


def test_a_missed_attention_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    from whycam.network.attention import capture

    monkeypatch.setattr(capture, "softmax_of", lambda query, key, *_: (query @ key.mT).softmax(-1))
    (row,) = attended(ZOO["timm:test_vit"])
    assert not row.ok
    assert row.verdict.startswith("apart by")
    fused = nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(capture.Capture, "_fused", lambda _, *args, **options: fused(*args, **options))
    (row,) = attended(ZOO["timm:test_vit"])
    assert row.verdict == "none of 6 captured"


def test_the_page_says_what_became_of_attention() -> None:
    _, text = apart((ROOT / "docs" / "compatibility.md").read_text())
    rows = [line for line in text.splitlines() if line.startswith("| ") and "`" in line]
    captured = [line for line in rows if re.search(r"\| all \d+ captured[ ,]", line)]
    assert len(captured) >= 40
    assert {line.split(" | ")[0] for line in captured} == {"| timm", "| torchvision", "| video", "| transformers"}
    assert sum(", eager`" in line for line in captured) >= 10
    assert all("no attention matrix" in line for line in rows if line not in captured)


# ---------------------------------------------------------------- weights


class Sleeping(nn.Module):
    """Everything that starts at zero in one place or another."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, stride=4)
        nn.init.normal_(self.patch.weight, 0, 1e-3)
        self.norm = nn.BatchNorm2d(8)
        nn.init.zeros_(self.norm.weight)
        self.gamma = nn.Parameter(torch.full((8, 1, 1), 1e-5))
        self.place = nn.Parameter(torch.zeros(1, 4, 8))
        self.head = nn.Linear(8, 5)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.gamma * self.norm(self.patch(x))).mean((2, 3)))


def test_nothing_that_starts_at_zero_stays_there() -> None:
    model = awaken(Sleeping()).requires_grad_(False)
    assert not model.training
    for gate in (model.norm.weight, model.gamma):
        assert 0.5 <= float(gate.min()) < float(gate.max()) <= 1
    assert float(model.head.weight.std()) == pytest.approx(8**-0.5, rel=0.4)
    assert float(model.patch.weight.std()) == pytest.approx(48**-0.5, rel=0.01)
    assert float(model.place.std()) > 0.05
    assert float(model.head.bias.abs().min()) > 0


def test_weights_that_already_matter_are_kept() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.LayerNorm(6))
    before = [parameter.clone() for parameter in model.parameters() if float(parameter.detach().std()) > 0]
    awaken(model)
    after = list(model.parameters())
    assert torch.equal(before[0], after[0])
    assert torch.equal(after[2], torch.ones(8))
    assert torch.equal(after[4], torch.ones(6))


def test_batch_norms_take_the_statistics_of_the_inputs() -> None:
    model = settle(nn.Sequential(nn.BatchNorm2d(3)).eval(), 5 + 3 * natural((32, 32)))
    values = model(5 + 3 * natural((32, 32))).detach()
    assert float(values.mean()) == pytest.approx(0, abs=1e-3)
    assert float(values.std()) == pytest.approx(1, abs=1e-2)
    assert model[0].momentum == 0.1
    assert not model[0].training


def test_a_model_is_built_the_same_twice() -> None:
    entry = ZOO["transformers:ViTForImageClassification"]
    torch.manual_seed(3)
    one = entry.build((64, 64))
    following = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(following, torch.rand(1))
    other = entry.build((64, 64))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert torch.equal(entry.inputs((64, 64)), entry.inputs((64, 64)))


def test_a_grid_by_its_stride_may_be_rounded_either_way() -> None:
    grids = by_stride(16)
    assert grids(nn.Identity(), torch.zeros(1, 3, 64, 80)) == {(4, 5)}
    assert grids(nn.Identity(), torch.zeros(1, 3, 60, 80)) == {(3, 5), (4, 5)}
    assert by_stride(2, 16, 16)(nn.Identity(), torch.zeros(1, 3, 8, 64, 96)) == {(4, 4, 6)}


# ---------------------------------------------------------------- the check of places


def patches(width: int = 12, patch: int = 4) -> nn.Module:
    return nets.fixed(nn.Sequential(nn.Conv2d(3, width, patch, stride=patch)))


def found(arrange: Any, size: tuple[int, int] = (32, 32), **options: Any) -> Finding:
    """What the check says of patches that were rearranged behind their claim."""
    model = patches()
    return locate(lambda x: arrange(model(x)), natural(size, samples=1).double(), **options)


def shuffled(maps: Tensor) -> Tensor:
    order = torch.randperm(maps[0, 0].numel(), generator=torch.Generator().manual_seed(1))
    return maps.flatten(2)[..., order].reshape(maps.shape)


def in_units(maps: Tensor) -> Tensor:
    """Two by two positions after two by two positions, as Hiera orders its tokens."""
    rows, columns = maps.shape[2:]
    return maps.unflatten(3, (columns // 2, 2)).unflatten(2, (rows // 2, 2)).transpose(3, 4).reshape(maps.shape)


def blended(maps: Tensor) -> Tensor:
    """Where they are, under five times as much of what is everywhere."""
    return maps + 5 * maps.mean((2, 3), keepdim=True)


@pytest.mark.parametrize("size", [(32, 32), (24, 40), (8, 16)])
def test_positions_in_place_are_found_in_place(size: tuple[int, int]) -> None:
    finding = found(lambda maps: maps, size)
    assert finding.answer == "holds"
    assert min(finding.follows) > 0.95


@pytest.mark.parametrize(
    "arrange",
    [
        shuffled,
        in_units,
        lambda maps: maps.mT,
        lambda maps: maps.flip(2),
        lambda maps: maps.flip(3),
        lambda maps: maps.roll(4, 3),
        lambda maps: maps[:, :, torch.tensor([1, 0]).repeat(4) * 4 + torch.arange(4).repeat_interleave(2)],
    ],
    ids=["shuffled", "units", "transposed", "upside down", "mirrored", "rolled", "rows interleaved"],
)
def test_positions_elsewhere_are_not_said_to_hold(arrange: Any) -> None:
    assert found(arrange).answer == "does not hold"


def test_a_little_place_under_much_that_is_everywhere_is_found() -> None:
    assert found(blended).answer == "holds"
    assert found(lambda maps: blended(maps).mT).answer != "holds"


def test_what_is_everywhere_has_no_place() -> None:
    assert found(lambda maps: maps.mean((2, 3), keepdim=True).expand_as(maps)).answer == "cannot tell"
    assert found(torch.zeros_like).answer == "cannot tell"


def test_positions_of_unlike_sensitivity_are_found() -> None:
    gain = torch.ones(8, 8, dtype=torch.float64)
    gain[5:, :2] = 1e4

    def uneven(maps: Tensor) -> Tensor:
        return blended(maps) * gain

    assert min(found(uneven).follows) > 0.95
    assert found(lambda maps: blended(maps).mT * gain).answer != "holds"


def test_half_of_the_input_may_move_everything_more() -> None:
    """A global part that reads the left much more than the right, as attention sinks do."""

    def lopsided(maps: Tensor) -> Tensor:
        return maps + 4 * maps[..., :2].mean((2, 3), keepdim=True)

    assert found(lopsided).answer == "holds"
    assert found(lambda maps: lopsided(maps).mT).answer != "holds"


def test_positions_that_nothing_moves_are_left_out() -> None:
    dead = torch.rand(8, 8, generator=torch.Generator().manual_seed(0)) < 0.5
    finding = found(lambda maps: maps.masked_fill(dead, 0))
    assert min(finding.follows) > 0.95


def test_an_axis_of_one_position_claims_nothing() -> None:
    assert len(found(lambda maps: maps, (4, 32)).follows) == 1
    assert found(lambda maps: maps, (4, 4)).answer == "cannot tell"


def test_the_axis_of_time_is_checked_too() -> None:
    model = nets.fixed(nn.Sequential(nn.Conv3d(3, 8, (2, 4, 4), stride=(2, 4, 4))))
    clip = natural((8, 16, 24), samples=1).double()
    finding = locate(model, clip)
    assert (finding.answer, len(finding.follows)) == ("holds", 3)
    assert locate(lambda x: model(x).flip(2), clip).answer == "does not hold"


def test_padded_convolutions_with_a_stride_are_found_in_place() -> None:
    layers = [layer for _ in range(4) for layer in (nn.Conv2d(3, 3, 3, stride=2, padding=1), nn.ReLU())]
    model = nets.fixed(nn.Sequential(*layers, nn.Conv2d(3, 64, 1)))
    assert locate(model, natural((64, 96), samples=1).double()).answer == "holds"


def test_as_many_channels_as_rows_and_columns() -> None:
    model = nn.Sequential(patches(8), nets.ToLast())
    sample = natural((32, 32), samples=1).double()
    for layout, answer in (("channels last", "holds"), ("channels first", "does not hold")):
        read = reader(model, "1", (1, 8, 8, 8), layout)
        assert read is not None
        assert locate(read, sample).answer == answer


# ---------------------------------------------------------------- what a hook reads


class Twice(nn.Module):
    """One module called twice, which returns a tuple, and tokens behind two others."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nets.Nested(lambda tensor: (tensor.mean(), {"map": tensor}))

    def forward(self, x: Tensor) -> Tensor:
        self.inner(x)
        return self.inner(-x)[1]["map"]


def test_a_hook_reads_a_call_and_what_a_module_is_given() -> None:
    model = nets.fixed(Twice())
    x = nets.images(2)
    first, last, given = (
        reader(model, name, shape, "channels first")
        for name, shape in (("inner#0", (2, 6, 8, 8)), ("inner", (2, 6, 8, 8)), ("inner:input", (2, 3, 8, 8)))
    )
    assert first is not None
    assert last is not None
    assert given is not None
    assert torch.equal(first(x), model.inner.conv(x))
    assert torch.equal(last(x), model.inner.conv(-x))
    assert torch.equal(given(x), -x)
    assert not model.inner._forward_hooks


def test_a_hook_reads_tokens_row_by_row() -> None:
    model = nn.Sequential(nn.Identity())
    tokens = torch.arange(2.0 * 8 * 3).reshape(2, 8, 3)
    read = reader(model, "0", (2, 8, 3), "tokens on a grid of 2x3 after 2")
    assert read is not None
    maps = read(tokens)
    assert maps.shape == (2, 3, 2, 3)
    for row in range(2):
        for column in range(3):
            assert torch.equal(maps[:, :, row, column], tokens[:, 2 + 3 * row + column])


def test_words_that_are_no_layout_are_not_guessed() -> None:
    assert reader(nn.Sequential(nn.Identity()), "0", (1, 4, 4), "spiral") is None


# ---------------------------------------------------------------- the check of a model


def own(construct: Any, grids: Any = by_stride(2), sizes: Any = ((16, 16), (12, 20))) -> Entry:  # noqa: B008
    return Entry("timm", "own", "own", construct, sizes, grids)


def faults(entry: Entry) -> str:
    return "; ".join(fault for row in check(entry) for fault in row.faults)


def plain(_: Any = None) -> nn.Module:
    return nets.plain().float()


def test_a_plain_network_is_right() -> None:
    square, oblong = check(own(plain))
    assert square.ok
    assert (square.grid, oblong.grid) == ((8, 8), (6, 10))
    assert square.oracle == oblong.oracle == "holds"
    assert square.layout == "channels first"
    assert set(square.statuses) == set(checking.METHODS)


def test_another_grid_is_a_fault() -> None:
    assert "the grid is 8x8; right is 4x4" in faults(own(plain, by_stride(4)))


def test_a_model_that_is_changed_is_a_fault() -> None:
    class Counting(nets.Plain):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(x)

    assert "not as it was found" in faults(own(lambda _: nets.fixed(Counting()).float()))


def test_what_raises_becomes_a_row() -> None:
    def broken(_: Any) -> nn.Module:
        raise ValueError("no such size")

    rows = list(check(own(broken)))
    assert [row.faults for row in rows] == [("ValueError: no such size",)] * 2
    assert "no such size" in page(rows)


def test_a_model_without_spatial_axes_becomes_a_row_with_whycams_sentence() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 5))
    (row,) = check(own(lambda _: model, sizes=((16, 16),)))
    assert "no module of this model returns anything with spatial axes" in row.faults[0]


def test_a_zero_head_is_a_fault() -> None:
    class Dead(nets.Plain):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 0

    assert "zero gradient" in faults(own(lambda _: nets.fixed(Dead()).float()))


def test_a_claim_that_is_refuted_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "locate", lambda *_, **__: Finding("does not hold", (0.1,)))
    assert "location is 'by construction', but does not hold (0.10)" in faults(own(plain))


def test_maps_that_are_not_what_a_hook_reads_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def crooked(*given: Any) -> Any:
        read = reader(*given)
        assert read is not None
        return lambda inputs: read(inputs).mT

    monkeypatch.setattr(checking, "reader", crooked)
    assert "are not what a hook reads there" in faults(own(plain, sizes=((16, 16),)))


def test_words_that_the_hook_cannot_follow_are_checked_through_the_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "reader", lambda *_: None)
    row, _ = check(own(plain))
    assert (row.ok, row.oracle) == (True, "holds")


# ---------------------------------------------------------------- the command and the page


@pytest.fixture
def small_zoo(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A zoo of three, the middle one broken; returns the names that were built, as they are."""
    built: list[str] = []

    def construct(name: str) -> Any:
        def build(_: Any) -> nn.Module:
            built.append(name)
            if name == "broken":
                raise RuntimeError("out of paint")
            return plain()

        return build

    def listed(*_: Any) -> list[Entry]:
        return [
            Entry("timm", name, name, construct(name), ((16, 16), (12, 20)), by_stride(2))
            for name in ("first", "broken", "last")
        ]

    monkeypatch.setattr("compatibility.zoo.zoo", listed)
    return built


def test_the_command_goes_on_after_a_fault(
    small_zoo: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.json"
    assert command.main(["--json", str(file)]) == 1
    printed = capsys.readouterr().out
    assert "4 of 6 without a fault" in printed
    assert "out of paint" in printed
    rows = [Row.from_dict(values) for values in json.loads(file.read_text())]
    assert [row.name for row in rows] == ["first"] * 2 + ["broken"] * 2 + ["last"] * 2
    assert rows[0].grid == (8, 8)
    assert rows[0].right == ((8, 8),)
    small_zoo.clear()
    command.main(["--json", str(file)])
    assert small_zoo == []


def test_ctrl_c_keeps_what_was_done(small_zoo: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rows.json"
    page_before = command.PAGE.read_text() if command.PAGE.exists() else None

    def interrupted(entry: Entry, **_: Any) -> Iterator[Row]:
        if entry.name == "last":
            raise KeyboardInterrupt
        yield from check(entry)

    monkeypatch.setattr("compatibility.check.check", interrupted)
    assert command.main(["--json", str(file), "--write"]) == 1
    assert {values["name"] for values in json.loads(file.read_text())} == {"first", "broken"}
    assert (command.PAGE.read_text() if command.PAGE.exists() else None) == page_before


def test_the_page_is_written_from_a_whole_run_alone(
    small_zoo: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(command, "PAGE", tmp_path / "page.md")
    with pytest.raises(SystemExit):
        command.main(["--write", "--match", "first"])
    file = tmp_path / "rows.json"
    command.main(["--write", "--json", str(file)])
    assert not file.exists()
    text = (tmp_path / "page.md").read_text()
    assert "| [timm](#timm) | 3 | 2/3 | 2/3 | 4 | 0 | 0 | 4 | 0 | 0 |" in text
    assert "- `broken` (timm, 16x16): RuntimeError: out of paint" in text
    assert "| `first` | yes | 16x16, 12x20 |" in text
    assert "| `broken` | **no** |" in text


def test_the_page_names_what_is_undetermined_and_what_is_square_alone() -> None:
    rows = [
        Row("timm", "family", "a", (16, 16), location="undetermined", oracle="cannot tell"),
        Row("timm", "family", "a", (12, 20), location="undetermined", oracle="holds"),
        Row("video", "family", "b", (8, 16, 16), location="verified", oracle="holds", remark="takes one size"),
    ]
    text = page(rows)
    assert "- `a` (timm, 16x16 and 12x20): the independent check cannot tell either and finds them in place" in text
    assert "- `b`: takes one size" in text
    assert "| all | 2 | 2/2 | 1/1 | 0 | 1 | 2 | 2 | 1 | 0 |" in text
    assert "## Not right" not in text
