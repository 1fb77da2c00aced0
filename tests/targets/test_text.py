"""Sentences: the score is what the model itself says of a picture and a text, and so is its gradient."""

import copy
import math

import nets
import pytest
import torch
import towers
from torch import nn

import whycam
from whycam.engine.target_words import parse_target
from whycam.targets import Similarity, Text
from whycam.targets.structured import OutputContext

ONE, OTHERS = "a red disc", ("a blue square", "a black disc and a blue disc")


def summed(gradients):
    """The gradient of the score at each location, its channels added up."""
    return gradients.sum(1)


@pytest.fixture(scope="module", params=list(towers.FAMILIES))
def case(request):
    build, layer = towers.FAMILIES[request.param]
    model, inputs = towers.made(build)
    words = towers.ids if hasattr(model, "config") else towers.full
    return model, inputs, layer, words


def own_logits(model, inputs, sentences, words):
    """What the model says of each picture and sentence, asked about both at once; without SigLIP's constant."""
    rows = []
    for sentence in sentences:  # one by one, so that none is filled up
        text = words(sentence)[None]
        if hasattr(model, "config"):
            logits = model(pixel_values=inputs, input_ids=text).logits_per_image - getattr(model, "logit_bias", 0.0)
        else:
            picture, vector, scale = model(inputs, text)
            logits = scale * picture @ vector.T
        rows.append(logits[:, 0])
    return torch.stack(rows, 1)


def by_hand(model, inputs, layer, score):
    """A score and the sum over channels of its gradient at a layer, by plain autograd."""
    kept = []
    handle = model.get_submodule(layer).register_forward_hook(lambda *each: kept.append(each[2]))
    scores = score()
    handle.remove()
    slopes = torch.stack(torch.autograd.grad(scores.sum(), kept)).sum(0)  # one call for each sentence
    side = 4
    if slopes.ndim == 4:
        return scores.detach(), slopes.sum(1)
    return scores.detach(), slopes[:, slopes.shape[1] - side * side :].sum(2).reshape(-1, side, side)


@pytest.mark.parametrize("against", [(), OTHERS[:1], OTHERS])
def test_the_score_and_its_gradient_are_those_of_the_model_s_own_logits(case, against):
    model, inputs, layer, words = case
    scale = float(model.logit_scale.detach().exp())

    def own():
        logits = own_logits(model, inputs, (ONE, *against), words)
        return logits[:, 0] - logits[:, 1:].logsumexp(1) if against else logits[:, 0] / scale

    scores, slopes = by_hand(model, inputs, layer, own)
    target = Text(words(ONE), [words(each) for each in against], norm="live")
    found = whycam.explain(model, inputs, summed, target=target)
    assert found.layer.name == layer
    torch.testing.assert_close(found.scores, scores, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found.maps, slopes.float(), rtol=1e-5, atol=1e-6 * float(slopes.abs().amax()))
    assert f"in logits, cosines times {scale:.4g}" in "".join(found.notes) or not against


@pytest.mark.parametrize("name", towers.KIN)
def test_the_score_of_kin_is_the_cosine_of_what_they_return_for_both(name):
    model, inputs = towers.made(towers.KIN[name])
    found = whycam.explain(model, inputs, target=Text(towers.ids(ONE)))
    with torch.no_grad():
        both = model(pixel_values=inputs, input_ids=towers.ids(ONE)[None])
    expected = [cosine(each, both.text_embeds[0]) for each in both.image_embeds]
    assert found.scores.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert found.layer.grid == (4, 4)


def test_in_half_precision_cosines_are_taken_in_full():
    model, inputs = towers.made(towers.clip)
    expected = whycam.explain(model, inputs, target=Text(towers.ids(ONE))).scores
    found = whycam.explain(model.bfloat16(), inputs.bfloat16(), target=Text(towers.ids(ONE)))
    assert found.scores.dtype == torch.float32
    torch.testing.assert_close(found.scores.double(), expected, rtol=0.05, atol=0.02)


def test_nothing_of_the_pass_is_kept():
    """The functions that are left for later outputs hold no tensor with a graph."""
    model, inputs = towers.made(towers.clip)
    output = model.get_image_features(inputs)
    vector = torch.ones(1, 10, dtype=torch.float64)
    for target in (Text(towers.ids(ONE), _vectors=vector), Similarity(vector)):
        (settled,) = target.settle(output, OutputContext(model, inputs))
        held = [cell.cell_contents for cell in settled.read.__closure__]
        assert not any(isinstance(each, torch.Tensor) and each.requires_grad for each in held)


def test_the_fixed_length_is_a_constant(case):
    """d(a . b) / d layer, with a not divided by its length in the graph."""
    model, inputs, layer, words = case

    def own():
        picture = model.get_image_features(inputs).pooler_output if hasattr(model, "config") else model.visual(inputs)
        text = words(ONE)[None]
        vector = model.get_text_features(text).pooler_output if hasattr(model, "config") else model.encode_text(text)
        length = picture.square().sum(1).sqrt().detach() * vector[0].square().sum().sqrt()
        return picture @ vector[0] / length

    scores, slopes = by_hand(model, inputs, layer, own)
    found = whycam.explain(model, inputs, summed, target=Text(words(ONE)))
    torch.testing.assert_close(found.scores, scores, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found.maps, slopes.float(), rtol=1e-5, atol=1e-6 * float(slopes.abs().amax()))


def test_the_model_is_left_as_found_and_a_similarity_is_of_the_pictures_alone(case):
    model, inputs, layer, words = case
    before = copy.deepcopy(model.state_dict())
    grads = [each.requires_grad for each in model.parameters()]
    made = whycam.explain(model, inputs, target=Similarity(inputs[:1]))
    assert made.layer.name == layer
    assert float(made.scores[0]) == pytest.approx(1.0)
    whycam.explain(model, inputs, target=Text(words(ONE)))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [each.requires_grad for each in model.parameters()] == grads
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in model.modules())
    assert not model.training
    assert all(each.grad is None for each in model.parameters())


def cosine(one, other):
    dot = sum(float(a) * float(b) for a, b in zip(one, other, strict=True))
    return dot / math.sqrt(sum(float(a) ** 2 for a in one)) / math.sqrt(sum(float(b) ** 2 for b in other))


def test_the_map_of_a_pooling_network_adds_up_to_the_similarity_and_of_the_literal_derivative_to_nothing():
    model = nets.fixed(towers.Pooled()).double()
    model.logit_scale.data.fill_(2.0)
    inputs = torch.rand(2, 3, 8, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    pictures = model.get_image_features(inputs).detach()
    sentences = [model.words.weight.detach()[towers.ids(each)].mean(0) for each in (ONE, *OTHERS)]
    cosines = [[cosine(picture, sentence) for sentence in sentences] for picture in pictures]
    for norm in ("fixed", "live"):
        found = whycam.explain(model, inputs, "hires_cam", target=Text(towers.ids(ONE), norm=norm), layer="body")
        expected = [row[0] for row in cosines]
        assert found.scores.tolist() == pytest.approx(expected, rel=1e-6)
        total = expected if norm == "fixed" else [0.0, 0.0]
        assert found.maps.sum((1, 2)).tolist() == pytest.approx(total, rel=1e-5, abs=1e-6)
    scale = math.exp(2.0)
    odds = [scale * one - math.log(sum(math.exp(scale * each) for each in rest)) for one, *rest in cosines]
    against = [towers.ids(each) for each in OTHERS]
    found = whycam.explain(model, inputs, "hires_cam", target=Text(towers.ids(ONE), against), layer="body")
    assert found.scores.tolist() == pytest.approx(odds, rel=1e-5)


def test_words_become_numbers_by_a_tokenizer_and_siglip_s_are_filled_up():
    model, inputs = towers.made(towers.clip)
    by_ids = whycam.explain(model, inputs, target=Text(towers.ids(ONE), towers.ids(OTHERS[1])))
    words = Text(ONE, OTHERS[1], tokenizer=towers.tokenizer())
    found = whycam.explain(model, inputs, target=words)
    torch.testing.assert_close(found.maps, by_ids.maps)
    assert found.target[0].startswith(f"'{ONE}' rather than '{OTHERS[1]}', log-odds {float(found.scores[0]):+.2f}")
    siglip, _ = towers.made(towers.siglip)
    filled = towers.ids(ONE)
    filled = torch.cat([filled, filled.new_zeros(towers.LENGTH - len(filled))])
    by_ids = whycam.explain(siglip, inputs, target=Text(filled))
    found = whycam.explain(siglip, inputs, target=Text(ONE, tokenizer=towers.tokenizer()))
    torch.testing.assert_close(found.scores, by_ids.scores)
    other, pictures = towers.made(towers.open_vit)
    by_ids = whycam.explain(other, pictures, target=Text(towers.full(ONE)))
    own = Text(ONE, tokenizer=lambda texts: torch.stack([towers.full(each) for each in texts]))
    torch.testing.assert_close(whycam.explain(other, pictures, target=own).maps, by_ids.maps)


def test_a_ready_vector_serves_a_model_without_a_tower_for_texts():
    model, inputs = towers.made(towers.clip)
    vector = model.get_text_features(towers.ids(ONE)[None]).pooler_output[0].detach()
    by_ids = whycam.explain(model, inputs, target=Text(towers.ids(ONE)))
    torch.testing.assert_close(whycam.explain(model, inputs, target=Text(vector)).maps, by_ids.maps)

    class Pictures(nn.Module):
        def __init__(self, tower, head):
            super().__init__()
            self.tower, self.head = tower, head

        def forward(self, inputs):
            return self.head(self.tower(inputs).pooler_output)

    alone = Pictures(model.vision_model, model.visual_projection).eval()
    torch.testing.assert_close(whycam.explain(alone, inputs, target=Text(vector)).scores, by_ids.scores)
    with pytest.raises(whycam.TargetError, match=r"Pictures has no tower for texts .* pass the text's vector"):
        whycam.explain(alone, inputs, target=Text(ONE))
    with pytest.raises(whycam.TargetError, match="no logit_scale, which against= compares in; pass scale="):
        whycam.explain(alone, inputs, target=Text(vector, -vector))
    found = whycam.explain(alone, inputs, target=Text(vector, -vector, scale=3.0))
    torch.testing.assert_close(found.scores, 6 * by_ids.scores)  # 3 c - (3 (-c))
    with pytest.raises(whycam.TargetError, match="the text's vector has 4 numbers and the pictures' have 10"):
        whycam.explain(alone, inputs, target=Text(vector[:4]))


def test_what_cannot_be_is_said():
    model, inputs = towers.made(towers.clip)
    with pytest.raises(whycam.TargetError, match=r"'a dog' cannot become numbers without .* Pass tokenizer=, such as"):
        whycam.explain(model, inputs, target=Text("a dog"))
    for wrong in ("", 3, [], ["a", "b"]):
        with pytest.raises(whycam.TargetError, match="a sentence, token ids"):
            Text(wrong)
    both = {"pixel_values": inputs, "input_ids": towers.ids(ONE).repeat(2, 1)}
    with pytest.raises(whycam.TargetError, match="texts are among the inputs, and the model then divides its"):
        whycam.explain(model, both, target=Text(towers.ids(ONE)))
    live = whycam.explain(model, both, target=Text(towers.ids(ONE), norm="live"))
    alone = whycam.explain(model, {"pixel_values": inputs}, target=Text(towers.ids(ONE), norm="live"))
    torch.testing.assert_close(live.scores, alone.scores)


def test_each_sample_its_own_sentence_and_several_in_one_pass():
    model, inputs = towers.made(towers.clip)
    sentences = [Text(towers.ids(each)) for each in (ONE, OTHERS[0])]
    both = whycam.compare(model, inputs, ["grad_cam"], targets=sentences)
    assert (both.cost.forwards, both.cost.backwards) == (1, 2) or both.cost.choosing
    each = whycam.explain(model, inputs, target=sentences)
    for number, sentence in enumerate(sentences):
        torch.testing.assert_close(each.maps[number], both["grad_cam", each.layer.name, sentence].maps[number])


def test_methods_that_edit_the_input_read_the_probability_among_the_prompts():
    model, inputs = towers.made(towers.clip)
    target = Text(towers.ids(ONE), towers.ids(OTHERS[0]))
    windows = {"window": 16, "stride": 16}
    found = whycam.explain(model, inputs[:1], "occlusion", target=target, **windows)
    by_odds = whycam.explain(model, inputs[:1], "occlusion", target=target, probability=False, **windows)
    covered = inputs[:1].clone()
    covered[:, :, :16, :16] = 0
    with torch.no_grad():
        logits = torch.cat([own_logits(model, each, (ONE, OTHERS[0]), towers.ids) for each in (inputs[:1], covered)])
    before, after = logits.softmax(1)[:, 0].tolist()
    assert float(found.maps[0, 0, 0]) == pytest.approx(before - after, abs=1e-6)
    odds = (logits[:, 0] - logits[:, 1]).tolist()
    assert float(by_odds.maps[0, 0, 0]) == pytest.approx(odds[0] - odds[1], abs=1e-5)


def test_on_the_command_line():
    assert parse_target("text:a dog") == Text("a dog")
    assert parse_target("text: a dog / a cat/a car") == Text("a dog", ["a cat", "a car"])
