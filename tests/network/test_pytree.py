"""Tensors inside whatever models pass about."""

import collections
from dataclasses import dataclass

import nets
import pytest
import torch

from whycam.network.pytree import (
    detached_copy,
    first_tensor,
    leaves,
    mapped,
    only_tensor,
    replaced,
    spell,
    storage_of,
    tensors,
)  # fmt: skip

Named = collections.namedtuple("Named", "features size")


@dataclass(frozen=True)
class Frozen:
    made: torch.Tensor
    note: str = "kept"


A, B = torch.zeros(2, 3), torch.ones(2, 3, 4)
VALUES = {
    "itself": (A, [""]),
    "tuple": ((A, "text", B), ["[0]", "[2]"]),
    "list": ([None, A], ["[1]"]),
    "dict": ({"out": A, 3: B}, [".out", "[3]"]),
    "named": (Named(A, 3), [".features"]),
    "dataclass": (nets.Answer(None, A, (B,)), [".logits", ".extra[0]"]),
    "frozen": (Frozen(A), [".made"]),
    "model output": (nets.ModelOutput(logits=A, hidden=(B, B)), [".logits", ".hidden[0]", ".hidden[1]"]),
    "deep": ([{"a": ({"b": [A]},)}], ["[0].a[0].b[0]"]),
    "nothing": (("text", 3, None), []),
}


@pytest.mark.parametrize(("value", "paths"), VALUES.values(), ids=VALUES)
def test_every_tensor_is_found_replaced_and_nothing_else_changes(value, paths):
    found = list(tensors(value))
    assert [spell(path) for path, _ in found] == paths
    for path, old in found:
        new = torch.full_like(old, 7)
        made = replaced(value, path, new)
        assert type(made) is type(value)
        for other, tensor in tensors(made):
            assert tensor is (new if other == path else dict(found)[other])
        assert [tensor for _, tensor in tensors(value)] == [tensor for _, tensor in found]


@pytest.mark.parametrize("value", [value for value, _ in VALUES.values()], ids=VALUES)
def test_a_copy_shares_nothing(value):
    for (path, old), (same, new) in zip(tensors(value), tensors(detached_copy(value)), strict=True):
        assert path == same
        assert torch.equal(old, new)
        assert storage_of(old) != storage_of(new)


def test_a_copy_leaves_inference_mode_and_history():
    with torch.inference_mode():
        inside = torch.ones(2)
        assert not detached_copy(inside).is_inference()
    made = detached_copy((torch.ones(2, requires_grad=True) * 2, inside))
    assert not any(tensor.is_inference() or tensor.requires_grad for tensor in made)


def test_other_values_pass_through_a_mapping():
    made = mapped(Named({"a": A}, 3), lambda tensor: tensor + 1)
    assert isinstance(made, Named)
    assert made.size == 3
    assert torch.equal(made.features["a"], A + 1)


def test_the_one_tensor_is_told_from_its_companions():
    assert only_tensor(B, "x") == ((), B)
    assert only_tensor((torch.tensor([1]), A), "x")[0] == (1,)  # integers are no feature
    assert only_tensor((B, A), "x")[0] == (0,)  # nor is what has no spatial axes


def test_several_tensors_and_none_are_listed():
    with pytest.raises(
        TypeError, match=r"x is a tuple with 2 floating-point tensors: \[0\] of shape \(2, 3, 4\), \[1\]"
    ):
        only_tensor((B, B), "x")
    with pytest.raises(TypeError, match="x is a list with no floating-point tensors"):
        only_tensor([torch.tensor(1)], "x")
    with pytest.raises(TypeError, match="x is a NoneType"):
        only_tensor(None, "x")


def test_the_picture_is_found_among_other_inputs():
    assert first_tensor((A, B)) is B
    assert first_tensor({"ids": torch.ones(2, 3, 4, dtype=torch.long), "pixels": B}) is B
    assert first_tensor((A, torch.ones(3))) is A
    with pytest.raises(TypeError, match="no tensor"):
        first_tensor(("text",))


class Counted(list):
    copies = 0

    def __copy__(self):
        Counted.copies += 1
        return Counted(self)


def test_a_mapping_copies_each_container_once_and_shares_what_holds_no_tensor():
    given = Counted([A, B, Counted([A, "text"]), Counted(["text"])] * 5)
    made = mapped(given, lambda tensor: tensor)
    assert Counted.copies == 6
    assert made is not given
    assert made[2] is not given[2]
    assert made[3] is given[3]


def test_other_leaves_than_tensors():
    value = {"a": [1, ("b", 2.0)], "c": None}
    assert list(leaves(value, lambda each: isinstance(each, (int, float)))) == [1, 2.0]
    made = mapped(value, lambda number: -number, lambda each: isinstance(each, (int, float)))
    assert made == {"a": [-1, ("b", -2.0)], "c": None}
