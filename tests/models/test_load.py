"""`whycam.load`: a spec finds its source, and one of no known form is told the forms that there are."""

import pytest
import torch
from torch import nn

import whycam


@pytest.mark.parametrize("spec", ["bultin", "", "builtin ", "resnet50", "a b:c", "module:", ":callable", "mod:9x"])
def test_a_spec_of_no_known_form_lists_the_forms(spec):
    with pytest.raises(whycam.WhycamError) as caught:
        whycam.load(spec)
    assert str(caught.value) == f"no model {spec!r}; a model is given as 'builtin' or 'package.module:callable'."


def test_explain_says_the_same():
    with pytest.raises(whycam.WhycamError, match="no model 'resnet50'; a model is given as 'builtin' or"):
        whycam.explain("resnet50", torch.zeros(1, 3, 8, 8))


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
