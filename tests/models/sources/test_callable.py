"""`package.module:callable`: the caller's own code builds the model, from a file here or an installed package."""

import itertools
import sys
from textwrap import dedent

import pytest
import torch
from torch import nn

import whycam

_NUMBERS = itertools.count()


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes a module beside the user, under a name never used before; returns the name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    names = []

    def write(source):
        names.append(f"users_own_{next(_NUMBERS)}")
        (tmp_path / f"{names[-1]}.py").write_text(dedent(source))
        return names[-1]

    yield write
    for name in names:
        sys.modules.pop(name, None)


NETWORK = """
    from torch import nn
    import whycam

    def network():
        return nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""


def test_a_function_that_returns_a_module(written):
    spec = f"{written(NETWORK)}:network"
    model = whycam.load(spec)
    assert isinstance(model.module, nn.Sequential)
    assert not any(module.training for module in model.module.modules())
    assert (model.name, model.preprocess, model.labels) == (spec, None, None)


def test_each_load_builds_anew(written):
    spec = f"{written(NETWORK)}:network"
    assert whycam.load(spec).module is not whycam.load(spec).module


def test_a_module_that_is_there_already(written):
    name = written(NETWORK + "\n    ready = network()\n")
    model = whycam.load(f"{name}:ready")
    assert model.module is sys.modules[name].ready  # it is not called with no input
    assert not model.module.training


def test_a_class_is_built_and_a_dotted_path_followed(written):
    name = written(
        """
        from torch import nn

        class Zoo:
            class Net(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.conv = nn.Conv2d(3, 2, 1)

                def forward(self, x):
                    return self.conv(x).mean((2, 3))
        """
    )
    assert type(whycam.load(f"{name}:Zoo.Net").module).__name__ == "Net"


def test_a_vision_model_is_taken_as_it_is(written):
    name = written(
        NETWORK
        + """
    def vision():
        return whycam.VisionModel(network().train(), whycam.Preprocess.imagenet(), ("dog", "cat"), "mine")
    """
    )
    model = whycam.load(f"{name}:vision")
    assert (model.name, model.labels, model.preprocess) == ("mine", ("dog", "cat"), whycam.Preprocess.imagenet())
    assert model.module.training  # its mode too is the caller's


def test_it_can_be_explained_by_its_spec(written):
    name = written(NETWORK)
    torch.manual_seed(0)
    e = whycam.explain(f"{name}:network", torch.rand(2, 3, 9, 9), "hires_cam", target=0)
    assert e.model == f"{name}:network"
    assert e.maps.shape == (2, 7, 7)


@pytest.mark.parametrize(("returned", "kind"), [("3", "int"), ("None", "NoneType"), ("{'a': 1}", "dict")])
def test_something_else_is_refused_by_its_kind(written, returned, kind):
    spec = f"{written(f'make = lambda: {returned}')}:make"
    with pytest.raises(whycam.WhycamError) as caught:
        whycam.load(spec)
    assert str(caught.value) == (f"{spec!r} gave a {kind}; a torch.nn.Module or a whycam.VisionModel was expected.")


def test_an_attribute_that_is_not_there(written):
    name = written(NETWORK)
    for path in ("netwrk", "network.inner"):
        with pytest.raises(whycam.WhycamError) as caught:
            whycam.load(f"{name}:{path}")
        assert str(caught.value).startswith(f"{f'{name}:{path}'!r}: {name} has no {path!r}.")


@pytest.mark.parametrize(
    ("module", "absent"),
    [("no_such_module_here", "no_such_module_here"), ("no_such_package.models", "no_such_package"),
     ("xml.no_such_part", "xml.no_such_part")],
)  # fmt: skip
def test_a_module_that_is_not_there(module, absent, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(whycam.WhycamError) as caught:
        whycam.load(f"{module}:make")
    assert str(caught.value) == f"'{module}:make': no module named {absent!r} can be imported from here."


def test_the_user_s_own_missing_import_is_told_with_its_line(written, tmp_path):
    name = written("import os\nimport a_package_they_forgot\n")
    with pytest.raises(whycam.WhycamError) as caught:
        whycam.load(f"{name}:make")
    assert str(caught.value) == (
        f"'{name}:make': importing {name} raised ModuleNotFoundError: No module named 'a_package_they_forgot' "
        f"({tmp_path / name}.py, line 2)."
    )
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [("1 / 0", ZeroDivisionError, "importing {} raised ZeroDivisionError: division by zero ({}, line 1)."),
     ("x = 1\ndef make(:", SyntaxError, "importing {} raised SyntaxError: invalid syntax ({}, line 2)."),
     ("def make():\n    raise RuntimeError('no GPU')", RuntimeError,
      "calling make() raised RuntimeError: no GPU ({1}, line 2)."),
     ("import torch\ndef make():\n    return torch.nn.Linear(-1, 2)", RuntimeError,
      "calling make() raised RuntimeError: Trying to create tensor with negative dimension -1: [2, -1] ({1}, line 3)."),
     ("def make():\n    assert False", AssertionError, "calling make() raised AssertionError ({1}, line 2).")],
    ids=["while importing", "syntax", "while building", "deep in a library", "without a word"],
)  # fmt: skip
def test_an_error_in_the_user_s_own_code_is_a_sentence_with_their_line(written, tmp_path, source, error, said):
    name = written(source)
    with pytest.raises(whycam.WhycamError) as caught:
        whycam.load(f"{name}:make")
    assert str(caught.value) == f"'{name}:make': " + said.format(name, tmp_path / f"{name}.py")
    assert type(caught.value.__cause__) is error


def test_a_factory_that_wants_an_argument_is_told_so(written):
    name = written("def make(size):\n    return size")
    with pytest.raises(whycam.WhycamError, match=r"calling make\(\) raised TypeError: make\(\) missing 1 required"):
        whycam.load(f"{name}:make")


def test_what_whycam_says_inside_the_user_s_code_comes_out_as_it_is(written):
    name = written("import whycam\ndef make():\n    return whycam.load('onnx:x')\n")
    with pytest.raises(whycam.WhycamError, match=r"^'onnx:x': models from ONNX"):
        whycam.load(f"{name}:make")


def test_a_misspelt_library_is_suggested(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(whycam.WhycamError, match=r"no module named 'tim' .*\. Did you mean 'timm:resnet18'\?$"):
        whycam.load("tim:resnet18")


def test_random_weights_are_not_the_user_s_code_to_have(written):
    with pytest.raises(whycam.WhycamError, match="'random' weights are for models by name"):
        whycam.load(f"{written(NETWORK)}:network", weights="random")


def test_the_import_path_is_left_as_it_was(written, tmp_path):
    before = list(sys.path)
    name = written(NETWORK)
    whycam.load(f"{name}:network")
    assert sys.path == before
    with pytest.raises(whycam.WhycamError):
        whycam.load("no_such_module_here:make")
    with pytest.raises(whycam.WhycamError, match="ZeroDivisionError"):
        whycam.load(f"{written('1 / 0')}:make")
    assert sys.path == before


def test_the_import_path_is_left_as_it_was_by_a_module_that_changes_it(written):
    before = list(sys.path)
    name = written("import os, sys\nsys.path.insert(0, os.getcwd())\n" + dedent(NETWORK))
    try:
        whycam.load(f"{name}:network")
        assert sys.path.count("") == before.count("")
    finally:
        sys.path[:] = before


EXPORTED = """
    import torch
    from torch import nn

    def graph():
        network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
        return torch.export.export(network, (torch.zeros(1, 3, 8, 8),)).module()
"""


def test_an_exported_graph_has_one_mode_and_is_refused_in_words(written):
    model = whycam.load(f"{written(EXPORTED)}:graph")
    with pytest.raises(whycam.WhycamError, match=r"pass torch\.export\.unflatten"):
        whycam.explain(model, torch.zeros(1, 3, 8, 8))
