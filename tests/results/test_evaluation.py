"""What an evaluation sums up, prints, draws and writes, from numbers that are known."""

import csv
import json
import math
import re
from dataclasses import replace

import pyarrow.parquet
import pytest
from evaluations import evaluation, spread

import whycam
from whycam.kit.metric import find_metric
from whycam.results.standing import Place, called, spelled
from whycam.results.tables import tables

nan = math.nan
GRAD, LAYER, RANDOM, CENTRE = (
    ("grad_cam", "l4"),
    ("layer_cam", "l4"),
    ("control: random", "-"),
    ("control: centre", "-"),
)


def few():
    """Two methods and two controls over eight images: one method beats both controls, the other none."""
    easy = [0.1, 0.5, 0.2, 0.9, 0.4, 0.3, 0.6, 0.0]
    return evaluation(
        {
            GRAD: {"insertion": [each + 0.2 for each in easy], "deletion": [0.3 - each / 5 for each in easy]},
            LAYER: {"insertion": easy, "deletion": [0.3 - each / 5 for each in easy]},
            RANDOM: {"insertion": [each + 0.1 for each in easy], "deletion": [0.4] * 8},
            CENTRE: {"insertion": [each + 0.05 for each in easy], "deletion": [0.2 - each / 5 for each in easy]},
        },
        statuses={"layer_cam": ["ok"] * 6 + ["flat map"] * 2},
    )


def line(found, method, metric):
    (made,) = [each for each in found.summary() if each["method"] == method and each["metric"] == metric]
    return made


# --- The summary


def test_summary_sums_up_each_place_and_metric():
    found = few()
    assert len(found.summary()) == 8
    made = line(found, "grad_cam", "insertion")
    assert made["value"] == pytest.approx(0.575)
    assert made["low"] < 0.575 < made["high"]
    assert (made["count"], made["undefined"], made["seconds"], made["not_ok"]) == (8, 0, 0.1, 0)
    assert made["beats"] == ["control: random", "control: centre"]
    assert (made["method"], made["layer"], made["target"]) == ("grad_cam", "l4", "top")
    assert line(found, "layer_cam", "insertion")["beats"] == []
    assert line(found, "layer_cam", "insertion")["not_ok"] == 0.25
    control = line(found, "control: random", "insertion")
    assert (control["seconds"], control["beats"]) == (None, [])


def test_the_lower_is_better_where_the_metric_says_so():
    # the interval of the pair is above 0 for random, whose deletion is higher, and below for the centre's
    assert line(few(), "layer_cam", "deletion")["beats"] == ["control: random"]
    judge = few().judge
    grad, random = Place(*GRAD, "top"), Place(*RANDOM, "top")
    assert judge.advantage(grad, random, "insertion").value == pytest.approx(0.1)
    assert judge.advantage(grad, random, "deletion").value == pytest.approx(0.4 - (0.3 - 0.375 / 5))


def test_beating_takes_six_images_and_the_same_ones():
    def beats(samples, values):
        found = evaluation({GRAD: {"insertion": values}, RANDOM: {"insertion": [0.1] * samples}})
        return line(found, "grad_cam", "insertion")["beats"]

    assert beats(5, [0.2] * 5) == []
    assert beats(6, [0.2] * 6) == ["control: random"]
    assert beats(8, [0.2] * 5 + [nan] * 3) == []


def test_what_is_not_defined_is_counted_and_left_out():
    found = evaluation({GRAD: {"entropy": [1.0, nan, 3.0]}, LAYER: {"entropy": [nan] * 3}})
    made = line(found, "grad_cam", "entropy")
    assert (made["value"], made["count"], made["undefined"]) == (2.0, 2, 1)
    none = line(found, "layer_cam", "entropy")
    assert (none["count"], none["undefined"]) == (0, 3)
    assert all(math.isnan(none[name]) for name in ("value", "low", "high"))


def test_a_metric_that_is_no_mean_is_summed_up_its_own_way():
    def at_best(values, curves):
        return float(curves.mean(0).amax())

    best = replace(find_metric("insertion"), name="best", over=at_best)
    curves = {("grad_cam", "best"): [[1, 0], [1, 0], [0, 1]], ("control: random", "best"): [[0, 0.5]] * 3}
    found = evaluation({GRAD: {"best": [1, 1, 1]}, RANDOM: {"best": [0.5] * 3}}, curves=curves, metrics=[best])
    assert line(found, "grad_cam", "best")["value"] == pytest.approx(2 / 3)
    pair = found.judge.advantage(Place(*GRAD, "top"), Place(*RANDOM, "top"), "best")
    assert (pair.value, pair.high) == (pytest.approx(1 / 6), pytest.approx(0.5))


def test_parts_of_a_metric_stay_in_the_rows_alone():
    found = few()
    part = {**found.rows[0], "metric": "insertion.first"}
    assert replace(found, rows=(*found.rows, part)).summary() == found.summary()


# --- The table


TABLE = """\
Method           Layer   Insertion ↑     Deletion ↓  Sec.
---------------------------------------------------------
grad_cam         l4     0.575 ±0.23*  0.225 ±0.05*!   0.1
layer_cam        l4     0.375 ±0.23!  0.225 ±0.05~!   0.1
---------------------------------------------------------
control: random  -      0.475 ±0.23   0.400 ±0.00
control: centre  -      0.425 ±0.23   0.125 ±0.05

a network over 8 images; ± is half of the 95% interval, Sec. what an image takes.
↑ higher is better, ↓ lower; * the best of its column, ~ cannot be told apart from it, ! not surely better than every \
control."""


def test_the_table_as_it_is_printed():
    found = few()
    assert found.table() == TABLE
    assert str(found) == f"{found.table()}\n\n{found.recommendation}"
    assert repr(found) == "Evaluation(a network: 2 methods by 2 metrics over 8 images)"


def test_metrics_that_do_not_fit_stand_below_and_none_is_lost():
    found = few()
    for width in (30, 46, 60, 80):
        lines = found.table(width).splitlines()
        assert max(map(len, lines)) <= max(width, 39)  # a name, a layer and one column are always side by side
        for title in ("Insertion ↑", "Deletion ↓", "Sec."):
            assert sum(title in each for each in lines if each.startswith("Method")) == 1
    assert [len(each.columns) for each in tables(found, 46)] == [3, 4]
    assert [len(each.columns) for each in tables(found)] == [5]


def test_the_best_comes_first_whatever_the_order_of_methods():
    values = {name: spread(mean, 10) for name, mean in {"a": 0.2, "b": 0.5, "c": 0.3}.items()}
    found = evaluation({(name, "x"): {"insertion": each} for name, each in values.items()})
    rows = [row[0].text for row in tables(found)[0].rows]
    assert rows == ["b", "c", "a"]
    marks = [row[2].marks for row in tables(found)[0].rows]
    assert marks == ["*", "", ""]


def test_a_place_that_lacks_a_metric_has_an_empty_cell_and_what_has_no_value_a_dash():
    found = evaluation({GRAD: {"insertion": [0.5] * 7}, LAYER: {"insertion": [nan] * 7, "entropy": [1.0] * 7}})
    table = {row[0].text: [cell.text for cell in row[2:4]] for row in tables(found)[0].rows}
    assert table == {"grad_cam": ["0.500 ±0.00", ""], "layer_cam": ["-", "1.00 ±0.00"]}


def test_targets_have_a_table_each():
    found = evaluation(
        {
            ("grad_cam", "l4", "281"): {"insertion": [0.5] * 7},
            ("grad_cam", "l4", "282"): {"insertion": [0.4] * 7},
            ("control: random", "-", "281"): {"insertion": [0.45] * 7},
            ("control: random", "-", "282"): {"insertion": [0.45] * 7},
        }
    )
    text = found.table()
    assert text.index("Target 281") < text.index("0.500") < text.index("Target 282") < text.index("0.400 ±0.00*!")


def test_what_has_a_value_on_the_easy_images_alone_is_not_the_best():
    easy = [0.9] * 5 + [nan] * 15
    found = evaluation({GRAD: {"insertion": [0.95] * 5 + [0.1] * 15}, LAYER: {"insertion": easy}})
    standing = found.judge.standing(found.placed("top", "insertion"), "insertion")
    assert standing.order == (Place(*GRAD, "top"),)
    assert standing.left_out == (Place(*LAYER, "top"),)


def test_places_are_compared_on_the_images_that_all_of_them_have():
    one = [0.5] * 19 + [0.0]
    other = [0.48] * 19 + [nan]  # the mean of more, but not of the same
    found = evaluation({GRAD: {"insertion": one}, LAYER: {"insertion": other}})
    assert line(found, "grad_cam", "insertion")["value"] == pytest.approx(0.475)
    assert found.judge.standing(found.placed("top", "insertion"), "insertion").order[0].method == "grad_cam"


def test_what_stays_when_the_network_or_the_class_is_another_is_marked():
    likeness = replace(
        find_metric("insertion"), name="model_randomization", title="Model randomization", better="lower", low=-1,
        takes=frozenset({"maps", "explain_randomized"}),
    )  # fmt: skip
    found = evaluation(
        {
            GRAD: {"insertion": [0.5] * 8, "model_randomization": [0.1] * 8},
            LAYER: {"insertion": [0.4] * 8, "model_randomization": [0.9] * 8},
            RANDOM: {"insertion": [0.3] * 8, "model_randomization": [1.0] * 8},
        },
        metrics=[likeness],
    )
    assert [row[3].marks for row in tables(found)[0].rows] == ["", "!", ""]
    assert "! not surely better than every control, or stays as it is when the network or the class is another." in (
        found.table()
    )


def test_long_layers_keep_their_ends():
    found = evaluation({("grad_cam", "encoder.blocks.11.attention.output"): {"entropy": [1.0]}})
    assert (
        tables(found)[0].rows[0][1].text == "...1.attention.output"[-24:] or len(tables(found)[0].rows[0][1].text) == 24
    )
    assert tables(found)[0].rows[0][1].text.endswith("attention.output")


def test_wide_letters_keep_columns_below_each_other():
    found = evaluation({("地図", "層4"): {"entropy": [1.0]}, ("grad_cam", "l4"): {"entropy": [2.0]}})
    heads, _, first, second, *_ = found.table().splitlines()
    wide = {"地": 2, "図": 2, "層": 2}
    assert [sum(wide.get(letter, 1) for letter in line[: line.index(word)])
            for line, word in ((heads, "Layer"), (first, "層4"), (second, "l4"))] == [10, 10, 10]  # fmt: skip
    assert [sum(wide.get(letter, 1) for letter in line[: line.index(word)])
            for line, word in ((first, "1.00"), (second, "2.00"))] == [21, 21]  # fmt: skip


def test_html_breaks_no_value_and_sets_marks_apart():
    page = few()._repr_html_()
    cells = re.findall(r"<td style=\"([^\"]*)\">(.*?)</td>", page)
    assert all("white-space:nowrap" in style for style, _ in cells)
    marked = [inside for _, inside in cells if "±" in inside]
    assert all(
        re.fullmatch(r"[\d.]+ ±[\d.]+<span style=\"[^\"]*width:1.3em[^\"]*\">[*~!]*</span>", each) for each in marked
    )
    assert "Insertion\u00a0↑" in page


def test_markdown_and_html_hold_the_same(tmp_path):
    found = few()
    text = found.to_markdown(tmp_path / "made" / "e.md")
    assert (tmp_path / "made" / "e.md").read_text() == text
    lines = text.splitlines()
    assert lines[0] == "| Method | Layer | Insertion ↑ | Deletion ↓ | Sec. |"
    assert re.sub(r"±0\.\d\d", "", lines[2]) == r"| grad\_cam | l4 | **0.575 ** \* | **0.225 ** \*! | 0.1 |"
    assert "Use grad\\_cam at l4" in text or "Trust none" in text
    page = found._repr_html_()
    assert page.count("<tr>") == 5
    assert "0.575" in page
    assert "font-weight:bold" in page
    assert page.count("border-top") == 5
    odd = evaluation({("a<b>|c", "l4"): {"entropy": [1.0]}})
    assert "a&lt;b&gt;|c" in odd._repr_html_()
    assert "a<b>\\|c" in odd.to_markdown()


def test_numbers_as_people_read_them():
    insertion, drop, entropy = map(find_metric, ("insertion", "average_drop", "entropy"))
    assert [spelled(insertion, 0.12345), spelled(drop, 12.345), spelled(entropy, 1.2345)] == ["0.123", "12.3", "1.23"]
    assert [spelled(entropy, 0.00012), spelled(entropy, 0.0), spelled(insertion, nan)] == ["0.00012", "0.00", "-"]
    assert spelled(insertion, 0.1, sign=True) == "+0.100"
    assert [called(insertion), called(drop), called(find_metric("adcc"))] == ["insertion", "average drop (%)", "ADCC"]


# --- Files


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_holds_the_summary_or_each_sample(tmp_path):
    found = evaluation({GRAD: {"entropy": [1.0, nan, 3.0]}, RANDOM: {"entropy": [2.0] * 3}})
    rows = read(found.to_csv(tmp_path / "new" / "e.csv"))
    assert [row["method"] for row in rows] == ["grad_cam", "control: random"]
    assert [row["value"] for row in rows] == ["2.0", "2.0"]
    assert (rows[0]["count"], rows[0]["undefined"], rows[1]["seconds"]) == ("2", "1", "")
    rows = read(found.to_csv(tmp_path / "s.csv", samples=True))
    assert [row["value"] for row in rows] == ["1.0", "", "3.0", "2.0", "2.0", "2.0"]
    assert (rows[1]["sample"], rows[1]["status"]) == ("s1", "ok")
    assert read(few().to_csv(tmp_path / "b.csv"))[0]["beats"] == "control: random; control: centre"


def test_parquet_holds_the_same(tmp_path):
    found = evaluation({GRAD: {"entropy": [1.0, nan, 3.0]}, RANDOM: {"entropy": [2.0] * 3}})
    held = pyarrow.parquet.read_table(found.to_parquet(tmp_path / "e.parquet")).to_pylist()
    assert [each["value"] for each in held] == [2.0, 2.0]
    assert [each["undefined"] for each in held] == [1, 0]
    held = pyarrow.parquet.read_table(found.to_parquet(tmp_path / "s.parquet", samples=True)).to_pylist()
    assert [each["value"] for each in held] == [1.0, None, 3.0, 2.0, 2.0, 2.0]


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(whycam.MissingExtraError, match=r"whycam\[evaluate\]"):
        few().to_parquet(tmp_path / "e.parquet")
    assert not list(tmp_path.iterdir())


def test_json_is_read_again_as_it_was(tmp_path):
    found = evaluation(
        {GRAD: {"insertion": [0.1 + 0.2, nan, 1 / 3]}, RANDOM: {"insertion": [0.2] * 3}},
        curves={("grad_cam", "insertion"): [[0.1, nan], [0.5, 0.6], [1 / 7, 1.0]]},
        failures={"bad": "cannot be read"}, notes=("a note",), asked={"model": "a network", "seed": 3},
    )  # fmt: skip
    again = whycam.Evaluation.load(found.to_json(tmp_path / "e.json"))
    assert repr(again.rows) == repr(found.rows)
    assert repr(again.curves) == repr(found.curves)
    for name in ("at", "metrics", "seconds", "failures", "notes", "asked"):
        assert getattr(again, name) == getattr(found, name), name
    assert repr(again.summary()) == repr(found.summary())
    document = json.loads((tmp_path / "e.json").read_text())
    assert document["summary"][0]["method"] == "grad_cam"
    assert document["recommendation"]["text"] == found.recommendation.text
    assert document["rows"][1]["value"] is None


def test_metrics_of_ones_own_come_back_unless_they_are_no_means(tmp_path):
    mean = replace(find_metric("insertion"), name="own", title="My own", better="lower")
    found = evaluation({GRAD: {"own": [0.1, 0.2]}}, metrics=[mean])
    again = whycam.Evaluation.load(found.to_json(tmp_path / "e.json"))
    assert again.summary() == found.summary()
    assert again.table() == found.table()
    other = replace(mean, over=lambda values, curves: float(values.max()))
    found = evaluation({GRAD: {"own": [0.1, 0.2]}}, metrics=[other])
    with pytest.raises(whycam.WhycamError, match=r"'own' is no mean .* import it first"):
        whycam.Evaluation.load(found.to_json(tmp_path / "e.json"))


@pytest.mark.parametrize("held", ["", "[1]", "{}", '{"schema": 99, "rows": []}', None])
def test_what_is_no_evaluation_is_said(held, tmp_path):
    if held is not None:
        (tmp_path / "e.json").write_text(held)
    with pytest.raises(whycam.WhycamError, match=r"e\.json (cannot be read|has schema 99)"):
        whycam.Evaluation.load(tmp_path / "e.json")


# --- The figure


def with_curves():
    return evaluation(
        {GRAD: {"insertion": [0.5, 0.6, nan]}, RANDOM: {"insertion": [0.2, 0.3, 0.4]}, LAYER: {"entropy": [1.0] * 3}},
        curves={
            ("grad_cam", "insertion"): [[0.0, 0.6, 1.0], [0.2, 0.6, 1.0], [nan] * 3],
            ("control: random", "insertion"): [[0.0, 0.1, 1.0], [0.2, 0.3, 1.0], [0.4, 0.5, 1.0]],
        },
    )


def test_the_figure_holds_the_mean_curve_of_each_method():
    axes = with_curves().figure().axes
    (panel,) = axes
    assert panel.get_title() == "Insertion (higher is better)"
    grad, random = panel.get_lines()
    assert list(grad.get_xdata()) == [0.0, 0.5, 1.0]
    assert (random.get_linestyle(), grad.get_linestyle()) == ("--", "-")
    # each curve less what the curves of its image share, plus what they share on all images: the third, which grad_cam
    # has no value of, does not count against it
    assert list(grad.get_ydata()) == pytest.approx([0.2, (0.25 + 0.15) / 2 + 1.3 / 3, 1.0])
    assert list(random.get_ydata()) == pytest.approx([0.2, 0.3, 1.0])
    legend = [each.get_text() for each in with_curves().figure().legends[0].get_texts()]
    assert legend == ["grad_cam at l4", "control: random"]


def test_a_figure_of_what_has_no_curve_is_refused():
    with pytest.raises(whycam.WhycamError, match="entropy has no curve here; there are those of insertion"):
        with_curves().figure(["entropy"])
    with pytest.raises(whycam.WhycamError, match="none of these metrics has a curve"):
        few().figure()
    with pytest.raises(whycam.WhycamError, match="no target 'x'; there are top"):
        with_curves().figure(target="x")
