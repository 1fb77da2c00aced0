"""Weights from files: every form that people have, and no code run from any of them unless that was asked for."""

import os
import pickle
import sys
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import whycam
from whycam.models.weights import ChosenWeights, read_state


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


@pytest.fixture
def trained(generator):
    """A network whose every entry, counters and running statistics too, differs from a fresh one's."""
    module = network()
    with torch.no_grad():
        for value in module.state_dict().values():
            value.copy_(torch.rand(value.shape, generator=generator) * 9 + 1)
    return module


def assert_loaded(module, state):
    own = module.state_dict()
    assert own.keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(own[name], value), name


class Creates:
    """Unpickling this runs `os.mkdir(path)`: a checkpoint that does something."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def wrapped(state, key):
    return {"epoch": 3, key: state, "optimizer": {"lr": 0.1}}


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


FORMS = {
    "plain": lambda state: state,
    "state_dict": lambda state: wrapped(state, "state_dict"),
    "model_state_dict": lambda state: wrapped(state, "model_state_dict"),
    "model": lambda state: wrapped(state, "model"),
    "weights": lambda state: wrapped(state, "weights"),
    "DataParallel": lambda state: prefixed(state, "module."),
    "compiled": lambda state: prefixed(state, "_orig_mod."),
    "DataParallel of compiled": lambda state: prefixed(state, "module._orig_mod."),
    "compiled of DataParallel": lambda state: prefixed(state, "_orig_mod.module."),
    "nested DataParallel": lambda state: wrapped(prefixed(state, "module."), "state_dict"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_a_torch_checkpoint(tmp_path, trained, form, suffix):
    path = tmp_path / f"w{suffix}"
    torch.save(FORMS[form](trained.state_dict()), path)
    module = network()
    ChosenWeights(path).into(module)
    assert_loaded(module, trained.state_dict())


@pytest.mark.parametrize("form", [name for name in FORMS if name in ("plain", "compiled") or name.startswith("Data")])
def test_safetensors(tmp_path, trained, form):
    path = tmp_path / "w.safetensors"
    save_file(FORMS[form](trained.state_dict()), path)
    module = network()
    ChosenWeights(path).into(module)
    assert_loaded(module, trained.state_dict())


def test_the_old_checkpoint_format(tmp_path, trained):
    path = tmp_path / "w.pth"
    torch.save(trained.state_dict(), path, _use_new_zipfile_serialization=False)
    module = network()
    ChosenWeights(path).into(module)
    assert_loaded(module, trained.state_dict())


def test_only_a_prefix_of_every_name_is_undone(tmp_path):
    state = {"module.weight": torch.ones(1), "bias": torch.zeros(1)}
    torch.save(state, tmp_path / "w.pt")
    assert read_state(tmp_path / "w.pt").keys() == state.keys()


def test_names_that_do_not_fit_are_counted_and_shown(tmp_path, trained):
    state = trained.state_dict()
    state["head.weight"] = state.pop("3.weight")
    state["head.bias"] = state.pop("3.bias")
    torch.save(state, tmp_path / "w.pt")
    module = network()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(whycam.WhycamError) as caught:
        ChosenWeights(tmp_path / "w.pt").into(module)
    assert str(caught.value) == (
        "w.pt does not fit this Sequential: 2 weights of the model are not in it (3.bias, 3.weight); "
        "it has 2 that the model lacks (head.bias, head.weight)."
    )
    assert_loaded(module, before)


def test_many_names_are_cut_short(tmp_path):
    torch.save({"other": torch.ones(1)}, tmp_path / "w.pt")
    with pytest.raises(whycam.WhycamError, match=r"9 weights .* \(0.bias, 0.weight, 1.bias, \.\.\.\); it has 1 that"):
        ChosenWeights(tmp_path / "w.pt").into(network())


def test_shapes_that_do_not_fit_are_both_told(tmp_path, trained):
    state = trained.state_dict()
    state["3.weight"] = torch.zeros(1000, 4)
    torch.save(state, tmp_path / "w.pt")
    module = network()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(whycam.WhycamError) as caught:
        ChosenWeights(tmp_path / "w.pt").into(module)
    assert str(caught.value) == (
        "w.pt does not fit this Sequential: 3.weight has shape (1000, 4), the model wants (2, 4)."
    )
    assert_loaded(module, before)


def hostile(path, made, how):
    """A checkpoint whose reading makes a folder, unless code in it is not run."""
    state = {"state_dict": network().state_dict(), "note": Creates(made)}
    if how == "zip":
        torch.save(state, path)
    elif how == "legacy":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps(state["note"], protocol=2))


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@pytest.mark.parametrize("how", ["zip", "legacy", "bare pickle"])
def test_code_in_a_checkpoint_is_not_run_and_the_refusal_says_why(tmp_path, suffix, how):
    path, made = tmp_path / f"w{suffix}", tmp_path / "made-by-the-checkpoint"
    hostile(path, made, how)
    with pytest.raises(whycam.WhycamError) as caught:
        ChosenWeights(path).into(network())
    assert not made.exists()
    message = str(caught.value)
    assert message.startswith(
        f"{path.name} holds more than tensors ({os.mkdir.__module__}.mkdir), and reading it would "
    )
    assert "it was not read" in message
    assert "unsafe_pickle=True" in message
    assert "--unsafe-pickle" in message


def test_the_flag_that_says_what_it_risks_reads_it_and_runs_the_code(tmp_path):
    path, made = tmp_path / "w.pt", tmp_path / "made-by-the-checkpoint"
    hostile(path, made, "zip")
    state = read_state(path, unsafe_pickle=True)
    assert made.is_dir()  # so the test above is one of a file that bites
    assert state.keys() == network().state_dict().keys()


def test_a_whole_pickled_module_needs_the_flag(tmp_path, trained):
    path = tmp_path / "w.pt"
    torch.save(trained, path)
    with pytest.raises(whycam.WhycamError, match="holds more than tensors"):
        ChosenWeights(path).into(network())
    module = network()
    ChosenWeights(path, unsafe_pickle=True).into(module)
    assert_loaded(module, trained.state_dict())


@pytest.mark.parametrize("flag", [False, True])
def test_load_passes_the_flag_on(tmp_path, monkeypatch, trained, flag):
    (tmp_path / f"builds_{flag}.py".lower()).write_text(
        "from torch import nn\n"
        "make = lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))\n"
    )
    monkeypatch.chdir(tmp_path)
    torch.save(trained, "w.pt")
    if flag:
        model = whycam.load("builds_true:make", weights="w.pt", unsafe_pickle=True)
        assert_loaded(model.module, trained.state_dict())
    else:
        with pytest.raises(whycam.WhycamError, match="holds more than tensors"):
            whycam.load("builds_false:make", weights="w.pt")


def test_no_such_file(tmp_path):
    with pytest.raises(whycam.WhycamError, match=r"no weights file .*absent\.pt\."):
        ChosenWeights(tmp_path / "absent.pt").into(network())
    with pytest.raises(whycam.WhycamError, match="no weights file"):
        ChosenWeights(tmp_path).into(network())


@pytest.mark.parametrize("name", ["w.h5", "w.onnx", "w", "w.pt.zip"])
def test_another_kind_of_file_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(whycam.WhycamError) as caught:
        ChosenWeights(tmp_path / name).into(network())
    assert str(caught.value) == f"weights come from .safetensors, .pt or .pth files; {name} is none of these."


@pytest.mark.parametrize("kept", [0, 1, 10, 0.5, 0.99])
@pytest.mark.parametrize("name", ["w.pt", "old.pth", "w.safetensors"])
def test_a_truncated_file_is_told_apart_from_a_hostile_one(tmp_path, trained, name, kept):
    path = tmp_path / name
    if name == "w.safetensors":
        save_file(trained.state_dict(), path)
    else:
        torch.save(trained.state_dict(), path, _use_new_zipfile_serialization=name == "w.pt")
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    with pytest.raises(whycam.WhycamError) as caught:
        ChosenWeights(path).into(network())
    assert str(caught.value).startswith(f"{name} cannot be read as a checkpoint: ")
    assert "run code" not in str(caught.value)


def test_a_text_file_with_a_checkpoint_s_name(tmp_path):
    for name in ("w.pt", "w.safetensors"):
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
        with pytest.raises(whycam.WhycamError, match=f"{name} cannot be read as a checkpoint: ") as caught:
            ChosenWeights(tmp_path / name).into(network())
        assert "run code" not in str(caught.value)


def test_a_zip_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as file:
        file.writestr("hello.txt", "hello")
    with pytest.raises(whycam.WhycamError, match=r"w\.pt cannot be read as a checkpoint"):
        ChosenWeights(tmp_path / "w.pt").into(network())


@pytest.mark.parametrize(
    ("held", "words"),
    [([1, 2], "holds a list; named tensors"), (torch.ones(3), "holds a Tensor; named tensors"),
     ({"epoch": 3, "lr": 0.1}, "holds no state_dict: its entries are epoch, lr"),
     ({}, r"holds no state_dict: it is empty\.$")],
    ids=["list", "tensor", "numbers", "empty"],
)  # fmt: skip
def test_a_checkpoint_without_a_state_dict(tmp_path, held, words):
    torch.save(held, tmp_path / "w.pt")
    with pytest.raises(whycam.WhycamError, match=words):
        ChosenWeights(tmp_path / "w.pt").into(network())


def test_weights_in_half_precision_are_brought_to_the_model_s(tmp_path, trained):
    torch.save({name: value.half() for name, value in trained.state_dict().items()}, tmp_path / "w.pt")
    module = network()
    ChosenWeights(tmp_path / "w.pt").into(module)
    assert {value.dtype for value in module.state_dict().values()} == {torch.float32, torch.int64}
    torch.testing.assert_close(module[3].weight, trained[3].weight, rtol=1e-3, atol=0)


def test_with_the_flag_a_text_file_does_not_ask_for_the_flag_again(tmp_path):
    (tmp_path / "w.pt").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(whycam.WhycamError) as caught:
        read_state(tmp_path / "w.pt", unsafe_pickle=True)
    assert str(caught.value) == (
        "w.pt cannot be read as a checkpoint: it is not a file that torch.save wrote, or only a part of one."
    )


def test_a_failed_read_leaves_the_model_as_it_was(tmp_path):
    module = network()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    (tmp_path / "w.pt").write_bytes(b"")
    with pytest.raises(whycam.WhycamError):
        ChosenWeights(tmp_path / "w.pt").into(module)
    assert_loaded(module, before)


def test_without_safetensors_the_extra_is_named(tmp_path, monkeypatch, trained):
    save_file(trained.state_dict(), tmp_path / "w.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(whycam.WhycamError) as caught:
        ChosenWeights(tmp_path / "w.safetensors").into(network())
    assert str(caught.value) == (
        "reading w.safetensors needs safetensors, which is not installed: pip install 'whycam[safetensors]'"
    )
