"""What is recommended where the truth is known: a winner, a tie, a control that wins, and too little to tell."""

import math
from dataclasses import replace

import pytest
from evaluations import evaluation, spread

from whycam.kit.metric import find_metric
from whycam.results.evaluation import Evaluation
from whycam.results.recommendation import CHANGES, STAYS, primary
from whycam.results.standing import Place

nan = math.nan
#: Images differ far more than the places do.
HARD = spread(0.0, 20, seed=9, wide=0.3)


def over(means, *, samples=20, metric="insertion", wide=0.02, layers=None, **given):
    """An evaluation of places with these means, each image as hard for all of them."""
    measured = {}
    for number, (name, mean) in enumerate(means.items()):
        own = spread(mean, samples, seed=number, wide=wide)
        layer = "-" if name.startswith("control") else (layers or {}).get(name, "l4")
        measured[name, layer] = {metric: [each + hard for each, hard in zip(own, HARD[:samples], strict=True)]}
    return evaluation(measured, **given)


def warned(advice, words):
    return [each for each in advice.warnings if words in each]


def test_a_clear_winner():
    advice = over({"grad_cam": 0.5, "layer_cam": 0.6, "control: random": 0.3, "control: centre": 0.4}).recommendation
    assert (advice.method, advice.layer, advice.target, advice.metric) == ("layer_cam", "l4", "top", "insertion")
    assert advice.sure
    assert advice.runner_up == Place("grad_cam", "l4", "top")
    assert advice.difference.value == pytest.approx(0.1)
    assert 0.09 < advice.difference.low < 0.1 < advice.difference.high < 0.11
    assert advice.value.value == pytest.approx(0.6)
    assert advice.equal == (Place("layer_cam", "l4", "top"),)
    assert advice.text.startswith("Use layer_cam at l4: its insertion is 0.600 (95% interval 0.")
    assert (
        "over 20 images; higher is better. It is better than all others (than grad_cam at l4, the next, by +0.100,"
        in (advice.text)
    )
    assert advice.text.endswith("It beats every control (random and centre).")
    assert not warned(advice, "not surely better")


def test_lower_may_be_better():
    advice = over({"grad_cam": 0.5, "layer_cam": 0.6, "control: random": 0.7}, metric="deletion").recommendation
    assert (advice.method, advice.sure) == ("grad_cam", True)
    assert advice.difference.value == pytest.approx(0.1)
    assert "lower is better" in advice.text


def test_what_is_within_the_error_is_said():
    advice = over({"grad_cam": 0.500, "layer_cam": 0.501, "cam": 0.45, "control: random": 0.3}).recommendation
    assert advice.method == "layer_cam"
    assert not advice.sure
    assert set(advice.equal) == {Place("layer_cam", "l4", "top"), Place("grad_cam", "l4", "top")}
    assert "It cannot be told apart from grad_cam at l4 (from the first by +0.001, 95% interval -0." in advice.text
    assert "cam at l4 (" in advice.text
    assert "and cam" not in advice.text


def test_of_equal_ones_the_cheaper_is_preferred():
    means = {"rise": 0.501, "grad_cam": 0.5, "layer_cam": 0.4999, "control: random": 0.3}
    costs = {"rise": 9.0, "grad_cam": 0.12, "layer_cam": 0.1}
    advice = over(means, seconds=costs, layers={"rise": "input"}).recommendation
    assert advice.method == "grad_cam"  # layer_cam's time is about the same, and its value is lower
    assert "It is the quicker one: rise at input takes 75.0 times as long." in advice.text
    assert advice.runner_up.method == "rise"
    assert advice.difference.value == pytest.approx(-0.001)
    clear = over({**means, "rise": 0.6}, seconds=costs).recommendation
    assert (clear.method, clear.sure) == ("rise", True)


def test_equal_maps_are_told_apart_from_nothing():
    values = spread(0.5, 12)
    same = {(name, "l4"): {"insertion": values} for name in ("cam", "hires_cam")}
    advice = evaluation({**same, ("control: random", "-"): {"insertion": spread(0.3, 12)}}).recommendation
    assert (advice.method, advice.sure) == ("cam", False)
    assert "cannot be told apart from hires_cam at l4 (from the first by +0.000, 95% interval +0.000 to +0.000)" in (
        advice.text
    )


def test_a_control_that_wins_is_named_and_no_map_is_to_be_trusted():
    advice = over({"grad_cam": 0.5, "layer_cam": 0.4, "control: random": 0.3, "control: centre": 0.55}).recommendation
    assert not advice.sure
    assert advice.text.startswith(
        "Trust none of these maps: by insertion the best of them, grad_cam at l4 with 0.500, is worse than control: "
        "centre with 0.550, which knows nothing of the network (by -0.050, 95% interval -0."
    )
    (said,) = warned(advice, "not surely better than a control")
    assert said == "By insertion these are not surely better than a control: grad_cam at l4, layer_cam at l4 (centre)."


def test_a_control_that_may_be_as_good_is_enough_for_doubt():
    advice = over({"grad_cam": 0.500, "control: centre": 0.4995}).recommendation
    assert not advice.sure
    assert advice.text.startswith("Whether these maps can be trusted cannot be told: by insertion the best of them,")
    assert "is not surely better than control: centre" in advice.text
    assert "More images may tell." in advice.text
    same = over({"grad_cam": 0.4995, "control: centre": 0.5000}).recommendation
    assert same.text.startswith(
        "Trust none of these maps: by insertion the best of them, grad_cam at l4 with 0.499, is "
    )
    assert "no better than control: centre" in same.text


def test_of_equal_ones_that_which_beats_the_controls_is_preferred():
    steady, shaky = spread(0.50, 20, seed=1, wide=0.005), spread(0.501, 20, seed=2, wide=0.9)
    advice = evaluation(
        {
            ("rise", "input"): {"insertion": steady},
            ("grad_cam", "l4"): {"insertion": shaky},
            ("control: random", "-"): {"insertion": spread(0.45, 20, seed=3, wide=0.005)},
        },
        seconds={"rise": 9.0, "grad_cam": 0.1},
    ).recommendation
    assert advice.method == "rise"
    assert "grad_cam at l4 has a better value, but is not surely better than every control. It beats" in advice.text
    assert "It beats every control (random)." in advice.text
    assert "quicker" not in advice.text


def test_of_equal_ones_that_whose_maps_are_ok_is_preferred():
    statuses = {"rise": ["flat map"] * 11 + ["ok"] * 9}
    advice = over({"rise": 0.501, "grad_cam": 0.5, "control: random": 0.3}, statuses=statuses).recommendation
    assert advice.method == "grad_cam"
    assert "rise at l4 has a better value, but most of its maps are not ok. It beats" in advice.text
    assert "quicker" not in advice.text


@pytest.mark.parametrize("control", [0.52, 0.4995])
def test_where_no_equal_one_beats_the_controls_the_best_is_named(control):
    means, costs = {"rise": 0.501, "grad_cam": 0.5, "control: centre": control}, {"rise": 9.0, "grad_cam": 0.1}
    advice = over(means, seconds=costs).recommendation
    assert advice.method == "rise"
    assert "by insertion the best of them, rise at l4 with 0.501, is" in advice.text


def test_without_controls_that_is_said():
    advice = over({"grad_cam": 0.5, "cam": 0.4}).recommendation
    assert "No controls were measured" in advice.text


@pytest.mark.parametrize("samples", [1, 2, 5])
def test_too_few_images_cannot_tell(samples):
    costs = {"grad_cam": 9.0, "cam": 0.1}
    advice = over({"grad_cam": 0.9, "cam": 0.1, "control: random": 0.0}, samples=samples, seconds=costs).recommendation
    assert not advice.sure
    assert advice.method == "grad_cam"
    images = "1 image" if samples == 1 else f"{samples} images"
    assert advice.text.startswith(f"Which method is best cannot be told from {images}: it takes 6 at least")
    assert "So far grad_cam at l4 has the highest insertion, " in advice.text
    assert not warned(advice, "not surely better")  # of so few nobody is
    assert over({"grad_cam": 0.9, "cam": 0.1, "control: random": 0.0}, samples=6).recommendation.sure


def test_values_that_are_missing_are_counted_and_too_many_leave_a_method_out():
    some = [nan] * 12 + [0.99] * 8
    one = [nan, *spread(0.5, 19)]
    advice = evaluation(
        {
            ("grad_cam", "l4"): {"insertion": one},
            ("cam", "l4"): {"insertion": some},
            ("control: random", "-"): {"insertion": spread(0.3, 20)},
        }
    ).recommendation
    assert advice.method == "grad_cam"
    assert advice.sure
    (said,) = warned(advice, "Without a value")
    assert said == (
        "Without a value of insertion: grad_cam at l4 (on 1 of 20); cam at l4 (on 12 of 20). Left out for that: "
        "cam at l4."
    )


def test_nothing_that_has_a_value_recommends_nothing():
    advice = evaluation({("grad_cam", "l4"): {"insertion": [nan] * 8}}).recommendation
    assert (advice.method, advice.layer, advice.sure, advice.value) == ("", "", False, None)
    assert advice.text == "No method has a value of insertion, so none can be recommended."
    nothing = evaluation({}, failures={"bad": "cannot be read.", "worse": "cannot be read."}).recommendation
    assert (nothing.method, nothing.sure, nothing.text) == (
        "",
        False,
        "Nothing was measured: bad, worse (cannot be read).",
    )


def test_maps_that_are_not_ok_are_counted():
    statuses = {"grad_cam": ["flat map"] * 3 + ["ok"] * 16 + ["non-finite"], "cam": ["ok"] * 20}
    advice = over({"grad_cam": 0.5, "cam": 0.4, "control: random": 0.3}, statuses=statuses).recommendation
    assert warned(advice, "not ok") == [
        "Maps that are not ok: grad_cam at l4 (flat map on 3 of 20, non-finite on 1 of 20)."
    ]


def with_sanity(likeness, *, name="model_randomization", means=None):
    """Methods by insertion, and how much alike their maps stay on eight images; controls stay as they are."""
    sanity = measured_likeness(name)
    measured = {}
    for number, (method, alike) in enumerate(likeness.items()):
        layer = "-" if method.startswith("control") else "l4"
        mean = (means or {}).get(method, 0.3 if layer == "-" else 0.5)
        measured[method, layer] = {"insertion": spread(mean, 20, seed=number), name: spread(alike, 8, wide=0)}
    return evaluation(measured, metrics=[sanity])


def measured_likeness(name):
    from whycam.kit.metric import find_metric

    takes = frozenset({"maps", "explain_randomized" if name == "model_randomization" else "explain_class"})
    return replace(find_metric("insertion"), name=name, title=name, takes=takes, better="lower", low=-1)


def test_maps_that_change_with_the_network_are_said_to():
    advice = with_sanity({"grad_cam": 0.1, "control: random": 1.0}).recommendation
    assert "When the network is randomized its maps change (correlation 0.10)." in advice.text
    assert advice.sure
    assert not warned(advice, "not all maps change")


def test_maps_that_stay_show_the_picture_and_are_not_preferred():
    likeness = {"guided_backprop": 0.95, "grad_cam": 0.2, "eigen_cam": 0.6, "control: random": 1.0}
    means = {"guided_backprop": 0.5002, "grad_cam": 0.5, "eigen_cam": 0.4}
    found = with_sanity(likeness, means=means)
    advice = found.recommendation
    assert advice.method == "grad_cam"
    assert "guided_backprop at l4 has a better value, but its maps stay when the network is randomized." in advice.text
    (said,) = warned(advice, "not all maps change")
    assert said == (
        "When the network is randomized not all maps change: guided_backprop at l4 (stay as they are, correlation "
        "0.95); eigen_cam at l4 (change little, correlation 0.60); what stays shows the picture, not what the network "
        "learned. Controls: 1.00."
    )
    winner = with_sanity(likeness, means={**means, "guided_backprop": 0.6}).recommendation
    assert (winner.method, winner.sure) == ("guided_backprop", False)
    assert (
        "its maps stay as they are (correlation 0.95; what stays shows the picture, not what the network learned)"
        in winner.text
    )


def test_maps_that_are_the_same_for_another_class_cannot_say_why_this_one():
    advice = with_sanity({"eigen_cam": 1.0, "grad_cam": 0.3}, name="class_randomization").recommendation
    (said,) = warned(advice, "not all maps change")
    assert said == (
        "When another class is asked about not all maps change: eigen_cam at l4 (stay as they are, correlation 1.00); "
        "what stays cannot say why it is this class and no other."
    )
    assert 0 < CHANGES < STAYS < 1


def test_the_map_of_a_layer_is_said_to_be_local_and_one_of_the_input_is_not():
    local = over({"layer_cam": 0.5, "control: random": 0.3}).recommendation
    assert len(warned(local, "lies far from the object")) == 1
    assert "occlusion, RISE or path= (docs/evaluation.md)" in local.warnings[-1]
    assert not warned(over({"rise": 0.5}, layers={"rise": "input"}).recommendation, "far from the object")


def test_another_metric_that_says_otherwise_is_said():
    insertion = {"grad_cam": 0.5, "cam": 0.4, "control: random": 0.3}
    deletion = {"grad_cam": 0.3, "cam": 0.1, "control: random": 0.5}
    found = evaluation(
        {
            (name, "-" if ":" in name else "l4"): {
                "insertion": spread(mean, 20, seed=1), "deletion": spread(deletion[name], 20, seed=2),
                "entropy": spread(5 * deletion[name], 20),
            } for name, mean in insertion.items()
        }
    )  # fmt: skip
    (said,) = warned(found.recommendation, "is better (by")  # of entropy, which says nothing of the answer, nothing
    assert said == "By deletion cam at l4 is better (by +0.200, 95% interval +0.200 to +0.200)."


def test_another_metric_by_which_nothing_is_sure_is_not():
    found = evaluation(
        {
            ("grad_cam", "l4"): {"insertion": spread(0.5, 20), "deletion": spread(0.101, 20, seed=1, wide=0.1)},
            ("cam", "l4"): {"insertion": spread(0.4, 20), "deletion": spread(0.1, 20, seed=2, wide=0.1)},
        }
    )
    assert not warned(found.recommendation, "is better (by")


def test_each_target_has_its_own_and_what_holds_for_both_is_said_once():
    measured = {}
    for target, better in (("281", "grad_cam"), ("282", "cam")):
        for name in ("grad_cam", "cam", "control: random"):
            mean = 0.3 if ":" in name else 0.6 if name == better else 0.5
            measured[name, "-" if ":" in name else "l4", target] = {"insertion": spread(mean, 10)}
    advice = evaluation(measured).recommendation
    assert (advice.method, advice.target) == ("grad_cam", "281")
    assert [(each.method, each.target) for each in advice.others] == [("cam", "282")]
    assert "Target 281: Use grad_cam at l4" in str(advice)
    assert "Target 282: Use cam at l4" in str(advice)
    assert str(advice).count("By insertion these are") == 0
    assert str(advice).count("lies far from the object") == 2  # of grad_cam and of cam
    assert str(replace(advice, others=(advice,))).count("lies far from the object") == 1


def test_printed_it_is_the_text_and_the_warnings():
    advice = over({"grad_cam": 0.5, "cam": 0.1, "control: random": 0.3}).recommendation
    assert str(advice).splitlines() == [advice.text, *(f"- {each}" for each in advice.warnings)]
    assert len(advice.warnings) == 2


def test_insertion_decides_or_else_the_first_of_faithfulness_or_else_the_first():
    from whycam.kit.metric import metrics

    known = metrics()

    def of(*names):
        return primary({name: known[name] for name in names})

    assert of("entropy", "deletion", "insertion") == "insertion"
    assert of("entropy", "average_drop", "deletion") == "average_drop"
    assert of("sparseness", "entropy") == "sparseness"
    assert primary({}) == ""


def test_families_of_metrics():
    from whycam.kit.metric import metrics

    known = {name: each.family for name, each in metrics().items()}
    assert (known["insertion"], known["average_drop"], known["adcc"]) == ("faithfulness",) * 3
    assert (known["entropy"], known["sparseness"]) == ("complexity",) * 2
    of = {
        "pointing_game": "localization", "max_sensitivity": "robustness", "input_invariance": "robustness",
        "model_randomization": "randomization", "class_randomization": "randomization", "road": "faithfulness",
        "max_box_acc": "localization",
    }  # fmt: skip
    assert all(known.get(name, family) == family for name, family in of.items())


def test_among_equals_maps_that_are_ok_are_preferred():
    values = {"grad_cam": [0.5, 0.6, 0.4, 0.5] * 4, "full_grad": [0.52, 0.58, 0.42, 0.49] * 4}
    rows = [
        {"method": method, "layer": "a", "target": "top", "metric": "insertion", "sample": f"s{number}",
         "value": value, "status": "incomplete" if method == "full_grad" else "ok"}
        for method, several in values.items() for number, value in enumerate(several)
    ]  # fmt: skip
    found = Evaluation(
        tuple(rows), {}, {}, {"insertion": find_metric("insertion")}, {("grad_cam", "a"): 1.0, ("full_grad", "a"): 1.0},
        {}, (), {"model": "m", "images": 16},
    )  # fmt: skip
    assert found.recommendation.method == "grad_cam"
