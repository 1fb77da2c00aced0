"""`whycam.load`: a spec finds its source, and one of no known form is told the forms that there are."""

import importlib
import pkgutil
import re

import pytest
import torch
from torch import nn

import whycam
from whycam.models import sources

#: What each source says that a spec of it looks like; a source that is added is among them.
FORM = [
    importlib.import_module(f"{sources.__name__}.{each.name}").FORM for each in pkgutil.iter_modules(sources.__path__)
]
FORMS = f"a model is given as {', '.join(FORM[:-1])} or {FORM[-1]}."
assert {"'builtin'", "'hf:NAME'", "'timm:NAME'"} < set(FORM)
NEEDS_LIBRARY = " A model by name needs its library: 'timm:resnet50', 'torchvision:resnet50'."


@pytest.mark.parametrize(
    ("spec", "hint"),
    [("bultin", " Did you mean 'builtin'?"), ("", ""), ("builtin ", " Did you mean 'builtin'?"),
     ("resnet50", NEEDS_LIBRARY), ("a b:c", ""), ("module:", ""), (":callable", ""), ("mod:9x", "")],
)  # fmt: skip
def test_a_spec_of_no_known_form_lists_the_forms(spec, hint):
    with pytest.raises(whycam.WhycamError) as caught:
        whycam.load(spec)
    assert str(caught.value) == f"no model {spec!r}; {FORMS}{hint}"


def test_explain_says_the_same():
    with pytest.raises(whycam.WhycamError, match=re.escape(f"no model 'resnet50'; {FORMS}")):
        whycam.explain("resnet50", torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize(("spec", "words"), [("onnx:model.onnx", "from ONNX")])
def test_sources_to_come_are_no_modules_of_the_caller_s(spec, words):
    with pytest.raises(whycam.WhycamError, match=f"{words} cannot be named yet. Build the model yourself"):
        whycam.load(spec)


def test_weights_go_into_the_model_that_the_spec_names(tmp_path, monkeypatch):
    (tmp_path / "two_by_two.py").write_text("from torch import nn\nmake = lambda: nn.Linear(2, 2)\n")
    monkeypatch.chdir(tmp_path)
    wanted = nn.Linear(2, 2)
    torch.save(wanted.state_dict(), tmp_path / "w.pt")
    for path in ("w.pt", tmp_path / "w.pt"):
        model = whycam.load("two_by_two:make", weights=path)
        assert model.name == "two_by_two:make"
        assert torch.equal(model.module.weight, wanted.weight)
        assert torch.equal(model.module.bias, wanted.bias)


def test_random_weights_of_the_built_in_network_are_said_to_be_random():
    module = whycam.load("builtin", weights="random")
    assert module.name == "EfficientNet-Lite0 (random weights)"
    trained = whycam.load("builtin").module.state_dict()
    name = next(name for name in trained if name.endswith("weight"))
    assert not torch.equal(module.module.state_dict()[name], trained[name])


@pytest.mark.parametrize("spec", ["timm", "keras"])
def test_a_prefix_alone_is_no_model(spec):
    with pytest.raises(whycam.WhycamError, match=f"^no model '{spec}'; a model is given as"):
        whycam.load(spec)
