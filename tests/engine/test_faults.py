"""The 44 ways in which explaining a network was seen to go wrong elsewhere, each with the test that it does not here.

The rows are those of a survey of users' threads and of reproductions with two widely used libraries; each stands here
in a sentence. What other files test is pointed to, by a name that must exist; the rest is tested below, by values from
plain autograd. Rows 19 to 22, on the layers and layouts of transformers, are in `engine/test_faults_layouts.py`.
"""

import ast
import gc
import weakref
from functools import cache
from pathlib import Path

import nets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision_shim
from few import OF_ANY, few
from torch import nn

import whycam
from whycam import WhycamError
from whycam.kit.registry import methods

torchvision_shim.register()
import timm  # noqa: E402
import torchvision.models as zoo  # noqa: E402
import transformers  # noqa: E402

EVERY = "engine/test_every_method.py::test_the_map_is_that_of_plain_autograd_and_nothing_is_left_behind"
HERE = "engine/test_faults.py::"

#: Number: what went wrong, and the
#: tests of what happens instead. `[case]` is a condition of `engine/test_every_method.py`.
FAULTS = {
    1: ("an operation in place after the layer reached the recording", [
        HERE + "test_networks_with_operations_in_place_behind_the_layer", EVERY + "[in_place]",
        "engine/test_every_method.py::test_in_place_and_out_of_place_agree_bit_for_bit",
        "network/recording/test_record.py::test_networks_that_write_in_place_are_recorded_exactly",
    ]),
    2: ("the layer itself works in place", [EVERY + "[in_place_at_the_activation]"]),
    3: ("only evidence against, or no gradient: zeros without a word", [
        HERE + "test_a_map_of_zeros_says_why", "kit/test_status.py::test_the_most_serious_finding_wins",
    ]),
    4: ("NaN in the input became a map", [
        "network/diagnosis/test_non_finite.py::test_the_status_says_where_and_the_other_samples_are_unharmed",
        "engine/test_explain.py::test_an_output_that_is_not_finite_has_no_top_class",
    ]),
    5: ("a model in float16", [EVERY + "[float16]"]),
    6: ("an empty map in float16 became NaN, and so did Grad-CAM++", [
        HERE + "test_half_precision_never_makes_nan_of_nothing",
    ]),
    7: ("bfloat16 and autocast", [EVERY + "[bfloat16]", EVERY + "[autocast]"]),
    8: ("one target for a batch explained its first sample; tensors and wrong numbers of targets", [
        HERE + "test_one_target_explains_every_sample_of_a_batch",
        "engine/test_explain.py::test_one_target_serves_the_whole_batch",
        "engine/test_explain.py::test_wrong_choices_get_a_sentence",
        "test_targets.py::test_an_index_may_come_from_anywhere", EVERY + "[mixed_targets]",
    ]),
    9: ("a layer that is called twice was taken for one of its calls, or paired with another layer", [
        "network/recording/test_record.py::test_each_call_of_a_shared_module_has_a_number",
        "network/recording/test_views.py::test_each_call_of_a_siamese_network_is_drawn_on_its_own_picture",
        EVERY + "[shared_module]", EVERY + "[last_call_of_a_shared_module]",
    ]),
    10: ("pictures that are not square", [HERE + "test_pictures_that_are_not_square_keep_their_axes"]),
    11: ("volumes", [EVERY + "[three_dimensions]"]),
    12: ("signals", [EVERY + "[one_dimension]"]),
    13: ("an output in a tuple", [
        EVERY + "[answer_in_a_tuple]", HERE + "test_auxiliary_heads_of_well_known_networks",
        "network/test_outputs.py::test_the_named_head_is_explained_and_the_result_names_it",
    ]),
    14: ("an output in a dict, a dataclass or a ModelOutput", [
        EVERY + "[answer_in_a_dict]", EVERY + "[answer_in_a_dataclass]", EVERY + "[answer_in_a_model_output]",
        HERE + "test_a_hugging_face_model_and_its_processors_output_are_taken_as_they_are",
    ]),
    15: ("all parameters frozen", [EVERY + "[frozen]"]),
    16: ("the backbone frozen", [EVERY + "[frozen_backbone]", EVERY + "[inner_no_grad]"]),
    17: ("the caller works without gradients or in inference mode", [
        EVERY + "[without_gradients]", EVERY + "[in_inference_mode]",
        "network/recording/test_record.py::test_a_forward_decorated_with_no_grad_is_no_hindrance",
    ]),
    18: ("an input made in inference mode", [EVERY + "[inference_tensors]"]),
    23: ("the model was left in evaluation mode", [
        EVERY + "[training]",
        "network/test_preserve_state.py::test_a_frozen_norm_in_a_training_model_is_left_evaluating",
    ]),
    24: ("the caller's gradients were wiped and filled", [
        "engine/test_every_method.py::test_a_training_step_around_it_is_not_disturbed",
        "engine/test_every_method.py::test_inputs_are_left_as_they_are",
    ]),
    25: ("an exception in the forward left hooks behind", [
        "engine/test_every_method.py::test_an_exception_in_the_network_passes_through_and_leaves_no_trace",
    ]),
    26: ("an exception in the forward, inside a block", [
        "engine/test_every_method.py::test_an_exception_in_the_network_passes_through_and_leaves_no_trace",
    ]),
    27: ("one of several layers does not exist: hooks stayed on the others", [
        HERE + "test_a_wrong_name_among_right_ones_leaves_no_hook",
        "engine/test_explain.py::test_wrong_choices_get_a_sentence",
    ]),
    28: ("a target that raises left the model changed", [
        "engine/test_every_method.py::test_an_exception_in_the_target_passes_through_and_leaves_no_trace",
    ]),
    29: ("guided backprop replaced the model's ReLUs for good", [
        HERE + "test_guided_backprop_leaves_every_relu_in_place",
        "engine/test_every_method.py::test_an_exception_in_the_backward_pass_leaves_no_trace",
    ]),
    30: ("an IndexError was swallowed", [HERE + "test_no_exception_is_swallowed"]),
    31: ("torch.compile, before the first run", [EVERY + "[compiled]"]),
    32: ("torch.compile, after the first run", [
        EVERY + "[compiled_and_run]", EVERY + "[compiled_in_place_of_itself]", EVERY + "[compiled_part]",
        "network/test_unwrap.py::test_hooks_fire_and_the_compiled_code_is_used_again_afterwards",
    ]),
    33: ("a batch in parts gave the maps of one part", [
        EVERY + "[parts_of_the_batch]", EVERY + "[parts_of_the_batch_backwards]",
        "network/recording/test_views.py::test_parts_of_the_batch_are_put_together_in_the_order_of_the_samples",
        "network/recording/test_views.py::test_each_view_of_a_sample_has_its_own_map_on_its_own_picture",
    ]),
    34: ("DataParallel, with and without its prefix", [
        EVERY + "[data_parallel]",
        "network/test_unwrap.py::test_the_module_inside_a_data_parallel_wrapper_is_run_and_that_is_said",
        "network/test_unwrap.py::test_a_distributed_training_step_around_it_is_not_disturbed",
    ]),
    35: ("threads that share a model got each other's maps", [
        "engine/test_every_method.py::test_eight_threads_share_one_model_and_all_are_right",
        "engine/test_every_method.py::test_eight_threads_with_every_method_are_all_right",
    ]),
    36: ("threads that share a model crashed the process", [
        "engine/test_every_method.py::test_eight_threads_share_one_model_and_all_are_right",
        "engine/test_every_method.py::test_eight_threads_leave_a_model_in_training_as_it_was",
    ]),
    37: ("another forward before the map was made explained the other picture", [
        HERE + "test_a_forward_of_the_callers_changes_no_map",
    ]),
    38: ("a copy of the model carried hooks, or could not be made", [
        HERE + "test_the_model_can_be_copied_while_an_explanation_lives_and_no_graph_lives_with_it",
        "network/recording/test_record.py::test_a_copy_of_the_model_made_meanwhile_and_afterwards_is_clean",
        "network/test_preserve_state.py::test_tensors_that_a_model_keeps_for_itself_are_put_back_and_no_graph_stays",
    ]),
    39: ("a layer that does not run", [
        "network/recording/test_record.py::test_a_layer_that_did_not_run_is_said",
        "network/recording/test_record.py::test_a_layer_beside_the_path_is_said",
        "network/recording/test_graph_breaks.py::test_a_module_that_cuts_is_named",
    ]),
    40: ("a Sequential was iterated as a list of layers", [
        HERE + "test_a_sequential_is_one_layer",
        "engine/test_explain.py::test_wrong_types_get_a_sentence_where_nothing_checks_annotations",
    ]),
    41: ("scripted and traced models, and other networks that are no modules", [
        "engine/test_explain.py::test_scripted_and_traced_networks_are_refused_with_what_to_do",
        "network/test_unwrap.py::test_an_exported_program_is_refused_with_what_to_pass_instead",
        "network/test_unwrap.py::test_networks_of_other_libraries_are_told_apart",
    ]),
    42: ("a method that explains no class took one", [
        "engine/test_every_method.py::test_a_method_that_explains_no_class_refuses_a_target",
    ]),
    43: ("the hottest pixel was blue", [HERE + "test_the_hottest_pixel_is_red_in_the_classic_colors"]),
    44: ("the strength of the evidence did not show", [HERE + "test_raw_maps_scale_with_the_score"]),
}  # fmt: skip

#: What the survey asks for that is no row of its own, by its number there.
REQUIREMENTS = {
    "R9": ["network/recording/test_graph_breaks.py::test_a_module_that_cuts_is_named"],
    "R14": ["network/test_outputs.py::test_a_part_can_be_asked_for",
            "network/test_outputs.py::test_a_regression_is_explained_by_its_value",
            "test_targets.py::test_one_unit_heads_are_explained_for_the_predicted_side_which_is_named"],
    "R19": ["engine/test_explain.py::test_one_target_serves_the_whole_batch"],
    "R23": ["engine/test_inputs.py::test_a_forward_gets_what_it_takes_by_position_or_by_name",
            "network/recording/test_views.py::test_the_caller_may_say_what_each_call_looks_at"],
    "R29": [HERE + "test_a_hugging_face_model_and_its_processors_output_are_taken_as_they_are"],
    "R30": ["network/test_outputs.py::test_the_top_class_of_an_embedding_is_refused_and_a_function_of_it_explained"],
    "R34": ["network/recording/test_views.py::test_parts_of_the_batch_are_put_together_in_the_order_of_the_samples"],
    "R40": ["network/recording/test_recurrent.py::test_it_is_off_while_the_layer_runs_and_no_longer"],
    "R41": ["engine/test_inputs.py::test_a_model_without_weights_is_refused_with_what_to_do"],
    "R42": ["network/test_unwrap.py::test_an_exported_program_is_refused_with_what_to_pass_instead"],
}  # fmt: skip


@cache
def functions(path):
    tree = ast.parse((Path(__file__).parents[1] / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_row_has_its_tests_and_they_exist():
    assert sorted([*FAULTS, 19, 20, 21, 22]) == list(range(1, 45))
    listed = [test for _, tests in FAULTS.values() for test in tests]
    listed += [test for tests in REQUIREMENTS.values() for test in tests]
    conditions = (
        (Path(__file__).parents[1] / "engine/test_every_method.py")
        .read_text()
        .partition("CASES = [")[2]
        .partition("]")[0]
    )
    for test in listed:
        path, _, name = test.partition("::")
        name, _, case = name.partition("[")
        assert name in functions(path), test
        assert not case or case.removesuffix("]") in conditions.replace(",", " ").split(), test
    assert all(tests for _, tests in FAULTS.values())


def by_autograd(model, inputs, layer, index=None, answer=lambda output: output):
    """A layer's output and its gradient, from a copy of the network with nothing written in place behind the layer."""
    kept = []
    handle = model.get_submodule(layer).register_forward_hook(
        lambda _, __, output: kept.append(output) or output.clone()
    )
    output = answer(model(inputs) if isinstance(inputs, torch.Tensor) else model(**inputs))
    handle.remove()
    score = output.amax(1) if index is None else output[:, index]
    (gradient,) = torch.autograd.grad(score.sum(), kept[0])
    return kept[0].detach(), gradient


def grad_cam(activations, gradients):
    return torch.einsum("nchw,nc->nhw", activations, gradients.mean((2, 3))).clamp(min=0).float()


def built(name, seed=0, **options):
    torch.manual_seed(seed)
    return getattr(zoo, name)(weights=None, **options).eval()


@pytest.mark.parametrize(
    ("name", "layer"),
    [("alexnet", "features.10"), ("vgg11", "features.18"), ("resnet18", "layer4.1.bn2"), ("densenet121", "features")],
)
def test_networks_with_operations_in_place_behind_the_layer(name, layer):
    model, inputs = built(name, num_classes=7), torch.randn(2, 3, 64, 64)
    found = whycam.explain(model, inputs, layer=layer, target=4)
    expected = grad_cam(*by_autograd(model, inputs, layer, 4))
    torch.testing.assert_close(found.maps, expected, rtol=0, atol=1e-5 * float(expected.max()))
    assert expected.any()


def test_a_map_of_zeros_says_why():
    model, inputs = nets.plain(), nets.images()
    with torch.no_grad():
        model.head.weight[1] = -model.head.weight[1].abs()
        model.head.weight[2] = 0
    against = whycam.explain(model, inputs, layer="relu2", target=1)
    nothing = whycam.explain(model, inputs, layer="relu2", target=2)
    assert not against.maps.any()
    assert not nothing.maps.any()
    assert {status.kind for status in against.status} == {"no positive evidence"}
    assert {status.kind for status in nothing.status} == {"zero gradient"}
    assert not against.heatmaps().any()  # and is not stretched until something lights up


@pytest.mark.parametrize("name", [name for name, each in OF_ANY.items() if each.has_layer])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_never_makes_nan_of_nothing(name, dtype):
    model = nets.plain()
    with torch.no_grad():
        model.head.weight.mul_(1e-5)  # squares of it are zero in float16
        model.head.weight[1] = -model.head.weight[1].abs()
        model.head.weight[2] = 0
    model, inputs = model.to(dtype), nets.images().to(dtype)
    for target in (1, 2) if methods()[name].class_specific else (None,):
        found = whycam.explain(model, inputs, name, layer="relu2", target=target, **few(methods()[name]))
        assert torch.isfinite(found.maps).all()
        assert torch.isfinite(found.heatmaps()).all()


def test_one_target_explains_every_sample_of_a_batch():
    model, inputs = nets.plain(), nets.images(3)
    expected = grad_cam(*by_autograd(model, inputs, "conv2", 3))
    for target in (3, np.int64(3), torch.tensor(3), [3, 3, 3], torch.tensor([3, 3, 3])):
        torch.testing.assert_close(whycam.explain(model, inputs, layer="conv2", target=target).maps, expected)
    mixed = torch.stack([grad_cam(*by_autograd(model, inputs, "conv2", index))[n] for n, index in enumerate([4, 0, 2])])
    torch.testing.assert_close(whycam.explain(model, inputs, layer="conv2", target=[4, 0, 2]).maps, mixed)
    for wrong in ([3], [3, 3], torch.tensor([3] * 5)):
        with pytest.raises(WhycamError, match=rf"{len(wrong)} targets came for 3 samples"):
            whycam.explain(model, inputs, layer="conv2", target=wrong)


def test_pictures_that_are_not_square_keep_their_axes():
    model = nets.plain()
    inputs = torch.cat([nets.images(), nets.images(seed=2) * 0.1], 3)  # twice as wide as high
    for picture, layer in ((inputs, "conv2"), (inputs.mT.contiguous(), "conv2")):
        found = whycam.explain(model, picture, layer=layer, target=1)
        torch.testing.assert_close(found.maps, grad_cam(*by_autograd(model, picture, layer, 1)))
        assert found.maps.shape[1:] == tuple(side // 2 for side in picture.shape[2:])
        assert found.layer.stride == (2.0, 2.0)
        expected = F.interpolate(found.maps[:, None], picture.shape[2:], mode="bilinear")[:, 0]
        torch.testing.assert_close(found.heatmaps(normalize="none"), expected)


HEADS = {
    "GoogLeNet in training": (
        lambda: built("googlenet", num_classes=5, aux_logits=True, init_weights=False).train(),
        64, "inception5b", lambda output: output.logits, ".logits",
    ),
    "DeiT in training": (
        lambda: distilled(), 32, "blocks.0.norm2", lambda output: output[0], "[0]",
    ),
    "DeiT with a teacher": (
        lambda: with_teacher(), 32, "deit.layers.0", lambda output: output.logits, ".logits",
    ),
}  # fmt: skip


def distilled():
    torch.manual_seed(0)
    model = timm.create_model("deit_tiny_distilled_patch16_224", img_size=32, patch_size=8, depth=2, num_classes=5)
    nn.init.normal_(model.head.weight)
    model.set_distilled_training(True)
    return model.train()


def with_teacher():
    torch.manual_seed(0)
    config = transformers.DeiTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8
    )
    return transformers.DeiTForImageClassificationWithTeacher(config).eval()


@pytest.mark.parametrize(("make", "side", "layer", "answer", "name"), HEADS.values(), ids=HEADS)
@pytest.mark.filterwarnings("ignore:the model is in training mode")
def test_auxiliary_heads_of_well_known_networks(make, side, layer, answer, name):
    inputs = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    model, twin = make(), make()
    torch.manual_seed(5)
    found = whycam.explain(model, inputs, "hires_cam", layer=layer, target=1)
    torch.manual_seed(5)
    activations, gradients = by_autograd(twin, inputs, layer, 1, answer)
    if activations.ndim == 3:
        activations, gradients = (each[:, 2:].mT.unflatten(-1, (4, 4)) for each in (activations, gradients))
    expected = (activations * gradients).sum(1)
    torch.testing.assert_close(found.maps, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    assert f"explains the model's output{name}" in found.notes


def test_a_hugging_face_model_and_its_processors_output_are_taken_as_they_are():
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8,
        id2label={0: "cat", 1: "dog", 2: "hen"}, label2id={"cat": 0, "dog": 1, "hen": 2},
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config).eval()
    processed = transformers.BatchFeature({"pixel_values": torch.randn(2, 3, 32, 32)})
    found = whycam.explain(model, processed, "hires_cam", layer="vit.layers.0", target=2)
    activations, gradients = by_autograd(model, dict(processed), "vit.layers.0", 2, lambda output: output.logits)
    expected = (activations * gradients).sum(2)[:, 1:].unflatten(-1, (4, 4))
    torch.testing.assert_close(found.maps, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert "explains the model's output.logits" in found.notes
    assert torch.equal(whycam.explain(model, processed).maps, whycam.explain(model, processed["pixel_values"]).maps)


def test_a_wrong_name_among_right_ones_leaves_no_hook():
    model = nets.plain()
    before = nets.state(model)
    with pytest.raises(WhycamError, match="no layer 'convx'"):
        whycam.explain(model, nets.images(), layer=["conv1", "convx"])
    with pytest.raises(WhycamError, match="no layer 'convx'"):
        whycam.compare(model, nets.images(), layers=["conv1", "convx"])
    assert nets.differences(before, nets.state(model)) == []


def test_guided_backprop_leaves_every_relu_in_place():
    model = built("resnet18", num_classes=5)
    before = nets.state(model)
    relus = [(name, id(each), each.inplace) for name, each in model.named_modules() if type(each) is nn.ReLU]
    whycam.explain(model, torch.randn(1, 3, 64, 64), "guided_backprop")
    with pytest.raises(ZeroDivisionError):
        whycam.explain(model, torch.randn(1, 3, 64, 64), "guided_backprop", target=lambda output: 1 / 0)
    assert relus == [(name, id(each), each.inplace) for name, each in model.named_modules() if type(each) is nn.ReLU]
    after = nets.state(model)
    assert [each for each in nets.differences(before, after) if each != "random numbers"] == []  # drawn by the test


@pytest.mark.parametrize("error", [IndexError, KeyError, np.exceptions.AxisError], ids=lambda error: error.__name__)
def test_no_exception_is_swallowed(error):
    model = nets.fixed(nets.Raising())
    model.error = error("mine")
    for ask in (whycam.explain, whycam.compare):
        with pytest.raises(error) as caught:
            ask(model, nets.images())
        assert caught.value is model.error


def test_a_forward_of_the_callers_changes_no_map():
    model, inputs = nets.plain(), nets.images()
    expected = whycam.explain(model, inputs, layer="conv2").maps.clone()
    found = whycam.explain(model, inputs, layer="conv2")
    model(nets.images(seed=9))
    whycam.explain(model, nets.images(seed=9), layer="conv2")
    inputs.zero_()
    assert torch.equal(found.maps, expected)


def test_the_model_can_be_copied_while_an_explanation_lives_and_no_graph_lives_with_it():
    model, inputs = nets.plain(), nets.images()
    graphs = []
    handle = model.head.register_forward_hook(lambda _, __, output: graphs.append(weakref.ref(output)) or None)
    explanation = whycam.explain(model, inputs, layer="conv2")
    handle.remove()
    gc.collect()
    assert graphs
    assert all(graph() is None for graph in graphs)
    copied = nets.twin(model)
    assert torch.equal(whycam.explain(copied, inputs, layer="conv2").maps, explanation.maps)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in copied.modules())


def test_a_sequential_is_one_layer():
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3)), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    model, inputs = nets.fixed(model), nets.images()
    expected = grad_cam(*by_autograd(model, inputs, "0", 1))
    for layer in (model[0], "0", [model[0]]):
        found = whycam.explain(model, inputs, layer=layer, target=1)
        torch.testing.assert_close(found.maps, expected)
        assert found.layer.name == "0"


def test_the_hottest_pixel_is_red_in_the_classic_colors():
    model = nets.fixed(nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[0].bias.zero_()
    inputs = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    inputs[..., 4:8, 20:24] = 1.0
    picture = np.asarray(
        whycam.explain(model, inputs, layer="0", target=1).overlay(
            colormap="jet", opacity=1.0, blend="even", caption=False
        )
    )
    height, width = picture.shape[0] / 32, picture.shape[1] / 32
    hot = picture[int(6 * height), int(22 * width)].astype(int)
    cold = picture[int(24 * height), int(6 * width)].astype(int)
    assert hot[0] > hot[2] + 50
    assert cold[2] > cold[0] + 50


def test_raw_maps_scale_with_the_score():
    model, faint = nets.plain(), nets.plain()
    with torch.no_grad():
        faint.head.weight.mul_(1e-4)
    inputs = nets.images()
    strong, weak = (whycam.explain(each, inputs, layer="conv2", target=1) for each in (model, faint))
    torch.testing.assert_close(weak.maps, strong.maps * 1e-4, rtol=1e-4, atol=0)
    torch.testing.assert_close(weak.heatmaps(), strong.heatmaps())  # a common scale is a choice of drawing
