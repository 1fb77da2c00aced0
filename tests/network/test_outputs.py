"""Which part of a model's output is its answer."""

import collections

import nets
import pytest
import torch

from whycam.errors import WhycamError
from whycam.network.outputs import answer

LOGITS, OTHER, MAPS = torch.zeros(2, 5), torch.ones(2, 5), torch.ones(2, 4, 3, 3)
Named = collections.namedtuple("Named", "features logits")


@pytest.mark.parametrize(
    ("output", "name"),
    [
        (LOGITS, ""),
        ((LOGITS, OTHER), "[0]"),
        ([MAPS, LOGITS], "[1]"),
        ({"auxiliary": OTHER, "logits": LOGITS}, ".logits"),
        ({"out": LOGITS, "aux": OTHER}, ".out"),
        ({"features": MAPS, "labels": LOGITS}, ".labels"),
        (nets.Answer(torch.tensor(0.5), LOGITS, (OTHER,)), ".logits"),
        (nets.ModelOutput(hidden=(MAPS,), logits=LOGITS), ".logits"),
        (Named(OTHER, LOGITS), ".logits"),
        ({"only": LOGITS[:, 0]}, ".only"),
        ((torch.tensor(3), (LOGITS,)), "[1][0]"),
    ],
    ids=str,
)
def test_the_answer_is_found_by_its_usual_name_or_its_shape(output, name):
    assert answer(output)[0] == name
    assert torch.equal(answer(output)[1], LOGITS if name != ".only" else LOGITS[:, 0])


@pytest.mark.parametrize(
    ("output", "held"),
    [
        ({"a": MAPS, "b": MAPS}, r"mapping \(dict\) with \.a \(2, 4, 3, 3\), \.b"),
        ((torch.tensor([1, 2]), "x"), "tuple with no floating-point tensor"),
        (None, "NoneType with no floating-point tensor"),
    ],
)
def test_what_cannot_be_told_is_listed(output, held):
    with pytest.raises(WhycamError, match=held):
        answer(output)
