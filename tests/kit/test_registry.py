"""A signature read as a declaration."""

import pytest
import torch

from whycam.errors import WhycamError
from whycam.kit.quantities import QUANTITIES
from whycam.kit.registry import declare, find, method, methods


@pytest.mark.parametrize(
    "name", ["grad_cam_plus_plus", "Grad-CAM++", "gradcam++", "GRADCAMPLUSPLUS", "grad-cam-plus-plus"]
)
def test_names_are_spelled_forgivingly(name):
    assert find(name).name == "grad_cam_plus_plus"


def test_no_two_methods_share_a_spelling():
    for each in methods().values():
        assert find(each.title) is each
        assert find(each.name) is each


def test_what_stands_before_the_star_is_needed_and_what_stands_after_is_an_option():
    def mine(activations, scores, *, power=2.0): ...

    made = declare(mine)
    assert made.needs == {"activations", "scores"}
    assert {name: option.default for name, option in made.options.items()} == {"power": 2.0}
    assert made.class_specific
    assert made.has_layer
    assert (made.name, made.title, made.side, made.assumes_non_negative) == ("mine", "mine", "after", False)
    made.check_options({"power": 1.0})
    with pytest.raises(WhycamError, match=r"mine has no option 'strength'; its options are: power=2\.0"):
        made.check_options({"strength": 1.0})


def test_methods_that_read_no_score_explain_no_class():
    blind = {name for name, each in methods().items() if not each.class_specific}
    assert {"deep_feature_factorization", "eigen_cam", "fem", "kpca_cam", "random_cam"} <= blind
    assert blind.isdisjoint({"grad_cam", "cam", "score_cam", "ablation_cam", "rise", "full_grad", "guided_backprop"})
    at_the_input = {name for name, each in methods().items() if not each.has_layer}
    assert {"full_grad", "guided_backprop", "occlusion", "rise", "simple_full_grad"} <= at_the_input
    assert at_the_input.isdisjoint({"grad_cam", "cam", "score_cam", "eigen_cam", "cameras", "sess"})


def test_an_unknown_quantity_is_refused_with_the_table():
    def wrong(activations, gradiants): ...

    with pytest.raises(WhycamError) as error:
        declare(wrong)
    assert "wrong asks for gradiants; a method can ask for" in str(error.value)
    assert all(name in str(error.value) for name in QUANTITIES)


def test_a_name_is_registered_once():
    def grad_cam(activations):
        return activations.sum(1)

    with pytest.raises(ValueError, match="'grad_cam' is already registered"):
        method("Another", paper="none")(grad_cam)
    assert find("grad_cam").function is not grad_cam
    assert find(grad_cam).function is grad_cam  # passed as a function it is itself, whatever its name


def test_the_decorator_returns_the_function_itself():
    from whycam.methods.hires_cam import hires_cam

    ones = torch.ones(1, 2, 3, 3)
    assert hires_cam is methods()["hires_cam"].function
    assert torch.equal(hires_cam(ones, 2 * ones), torch.full((1, 3, 3), 4.0))


def test_the_side_before_the_activation_is_for_those_with_evidence_for_it():
    pooled = {"grad_cam", "guided_grad_cam", "integrated_grad_cam", "sess", "shapley_cam"}  # gradients, as Grad-CAM
    assert {name for name, each in methods().items() if each.side == "before"} == pooled
