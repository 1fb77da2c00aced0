"""Words of a caption: the score is read by hand from the model's own forward, and so is its gradient."""

import math

import captioners
import pytest
import torch
import towers

import whycam
from whycam.targets import Tokens

CAPTIONS = ("a red disc on a blue square", "a blue square and a red disc")
#: In each caption, between which places "red disc" stands; place 0 is the mark of its beginning.
PLACES = ((2, 3), (6, 7))


def summed(gradients):
    """The gradient of the score at each location, its channels added up."""
    return gradients.sum(1)


@pytest.fixture(scope="module", params=list(captioners.FAMILIES))
def case(request):
    build, layer = captioners.FAMILIES[request.param]
    model, pictures = captioners.made(build)
    return model, captioners.given(build, pictures, CAPTIONS), layer


def by_hand(model, inputs, layer, places):
    """Each sample's sum of log-probabilities, and its gradient at the layer's patches, by plain autograd."""
    kept = []
    handle = model.get_submodule(layer).register_forward_hook(lambda *each: kept.append(each[2]))
    logits = model(**inputs).logits
    handle.remove()
    length = len(towers.ids(CAPTIONS[0]))
    sums = []
    for row, sentence, (start, stop) in zip(logits, CAPTIONS, places, strict=True):
        ids, total = towers.ids(sentence), 0.0
        for at in range(start, stop + 1):
            scores = row[len(row) - length + at - 1]  # what is said of the token behind
            total = total + scores[ids[at]] - scores.exp().sum().log()
        sums.append(total)
    (slopes,) = torch.autograd.grad(sum(sums), kept[:1])
    return torch.stack(sums).detach(), slopes[:, 1:].sum(2).reshape(-1, 4, 4)


def test_the_score_is_the_sum_of_log_probabilities_and_so_is_its_gradient(case):
    model, inputs, layer = case
    scores, slopes = by_hand(model, inputs, layer, PLACES)
    for target in (Tokens("red disc", tokenizer=towers.tokenizer()), Tokens(towers.ids("red disc")[1:-1])):
        found = whycam.explain(model, inputs, summed, target=target)
        assert found.layer.name.partition("#")[0] == layer
        torch.testing.assert_close(found.scores, scores, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(found.maps, slopes.float(), rtol=1e-5, atol=1e-6 * float(slopes.abs().amax()))
        assert float(slopes.abs().amax()) > 0
    assert found.target[0] == f"tokens [5, 7], log-probability {float(scores[0]):.2f}"


def test_the_words_one_by_one_in_one_pass_add_up(case):
    model, inputs, _ = case
    reads = towers.tokenizer()
    words = [Tokens("red", reads), Tokens("disc", reads), Tokens("red disc", reads)]
    made = whycam.compare(model, inputs, [summed], targets=words)
    red, disc, both = (each.maps for each in made.values())
    torch.testing.assert_close(red + disc, both)


def test_labels_are_read_without_a_shift():
    model, pictures = captioners.made(captioners.encoder_decoder)
    given = captioners.given(captioners.encoder_decoder, pictures, CAPTIONS)["decoder_input_ids"]
    by_inputs = {"pixel_values": pictures, "decoder_input_ids": given[:, :-1]}
    by_labels = {"pixel_values": pictures, "labels": given[:, 1:].clone()}
    target = Tokens("red disc", tokenizer=towers.tokenizer())
    expected = whycam.explain(model, by_inputs, target=target)
    torch.testing.assert_close(whycam.explain(model, by_labels, target=target).scores, expected.scores)
    left_out = {"pixel_values": pictures[:1], "labels": torch.tensor([[4, 5, 7, 2, -100, -100]])}
    assert math.isfinite(float(whycam.explain(model, left_out, target=target).scores[0]))


def test_words_that_come_twice_and_words_that_do_not():
    model, pictures = captioners.made(captioners.blip)
    inputs = captioners.given(captioners.blip, pictures[:1], CAPTIONS[:1])
    reads = towers.tokenizer()
    twice = whycam.explain(model, inputs, target=Tokens("a", tokenizer=reads))
    assert "'a' comes 2 times in the caption, and the first is meant" in twice.notes
    torch.testing.assert_close(
        twice.scores, whycam.explain(model, inputs, target=Tokens([4, 5])).scores
        - whycam.explain(model, inputs, target=Tokens([5])).scores,
    )  # fmt: skip
    for target, words in (
        (Tokens("green", tokenizer=reads), "'green' is not in the caption, '<bos> a red disc on a blue square <eos>'"),
        (Tokens("re", tokenizer=reads), "'re' is not in the caption"),
        (Tokens([7, 5]), r"\(7, 5\) is not in the caption, tokens \[1, 4, 5, 7"),
        (Tokens([1]), "the first token of a caption is given, not written"),
        (Tokens("red"), "'red' is found in the caption by its tokenizer: pass tokenizer="),
    ):
        with pytest.raises(whycam.TargetError, match=words):
            whycam.explain(model, inputs, target=target)


def test_what_is_no_caption_is_said():
    model, pictures = captioners.made(captioners.encoder_decoder)
    alone = {"pixel_values": pictures, "decoder_inputs_embeds": torch.randn(2, 5, 24, dtype=torch.float64)}
    with pytest.raises(whycam.TargetError, match=r"the caption is not among the inputs\. Pass the finished one beside"):
        whycam.explain(model, alone, target=Tokens([4]))
    clip, pictures = towers.made(towers.clip)
    with pytest.raises(whycam.OutputError, match=r"no logits \(batch, token, word\) are in this output"):
        whycam.explain(clip, pictures, target=Tokens([4]))


def test_methods_that_edit_the_input_ask_about_the_same_words():
    model, pictures = captioners.made(captioners.git)
    same = captioners.given(captioners.git, pictures, CAPTIONS[:1] * 2)
    target = Tokens("red disc", tokenizer=towers.tokenizer())
    options = {"probability": False, "window": 16, "stride": 16}
    both = whycam.explain(model, same, "occlusion", target=target, **options)
    other = captioners.given(captioners.git, pictures, CAPTIONS)
    for number in range(2):
        one = {name: each[number : number + 1] for name, each in same.items()}
        alone = whycam.explain(model, one, "occlusion", target=target, **options)
        torch.testing.assert_close(both.maps[number], alone.maps[0])
        # by hand: each quarter covered in turn
        covered = []
        for top, left in ((0, 0), (0, 16), (16, 0), (16, 16)):
            pixels = one["pixel_values"].clone()
            pixels[:, :, top : top + 16, left : left + 16] = 0
            edited = whycam.explain(model, {**one, "pixel_values": pixels}, target=target)
            covered.append(float(alone.scores[0] - edited.scores[0]))
        assert alone.maps.flatten()[[0, -1]].tolist() == pytest.approx([covered[0], covered[3]], abs=1e-5)
    differ = whycam.explain(model, other, "occlusion", target=target, **options)
    torch.testing.assert_close(differ.maps[0], both.maps[0])
    second = {name: each[1:] for name, each in other.items()}
    torch.testing.assert_close(
        differ.maps[1:], whycam.explain(model, second, "occlusion", target=target, **options).maps
    )
