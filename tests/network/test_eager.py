"""Compiled models are recorded through their eager twin, and stay compiled."""

import nets
import pytest
import torch
from torch import nn

import whycam
from whycam.network.eager import eager, unwrapped


@pytest.fixture(autouse=True)
def _forget():
    yield
    torch._dynamo.reset()


class Backend:
    """Counts how often compiled code was made and run."""

    def __init__(self):
        self.made = self.ran = 0

    def __call__(self, graph, _):
        self.made += 1

        def run(*args):
            self.ran += 1
            return graph(*args)

        return run


def forms(backend):
    whole = torch.compile(nets.plain(), backend=backend)
    itself = nets.plain()
    itself.compile(backend=backend)
    part = nn.Sequential(torch.compile(nets.plain(), backend=backend))
    inner = nn.Sequential(nets.plain())
    inner[0].compile(backend=backend)
    forward = nets.plain()
    forward.forward = torch.compile(forward.forward, backend=backend)
    return {"whole": whole, "itself": itself, "part": part, "inner": inner, "forward": forward}


@pytest.mark.parametrize("form", ["whole", "itself", "part", "inner", "forward"])
def test_hooks_fire_and_the_compiled_code_is_used_again_afterwards(form):
    backend, inputs = Backend(), nets.images()
    model = forms(backend)[form]
    layer = {"inner": "0.relu2", "part": "0._orig_mod.relu2"}.get(form, "relu2")
    expected = whycam.explain(nets.plain(), inputs, layer="relu2").maps
    with torch.no_grad():
        model(inputs)
        ran, made = backend.ran, backend.made
        assert ran
        assert torch.equal(whycam.explain(model, inputs, layer=layer).maps, expected)
        assert torch.equal(whycam.explain(model, inputs).maps, whycam.explain(nets.plain(), inputs).maps)
        assert backend.ran == ran  # not while explaining
        model(inputs)
    assert backend.ran > ran  # and again afterwards,
    assert backend.made == made  # without having been compiled anew


def test_the_stance_is_given_back_after_an_exception():
    model = nets.plain()
    model.compile(backend="eager")
    with pytest.raises(KeyError), eager(model), eager(model):
        raise KeyError
    assert torch._dynamo.eval_frame._stance.stance == "default"


def test_a_model_that_is_not_compiled_leaves_the_compiler_alone(monkeypatch):
    monkeypatch.setattr(torch.compiler, "set_stance", lambda *_: pytest.fail("the stance was set"))
    with eager(nets.plain()):
        pass


def test_the_wrapped_module_is_found():
    model = nets.plain()
    assert unwrapped(model) is model
    assert unwrapped(torch.compile(model, backend="eager")) is model
    assert unwrapped(nn.Sequential(model)) is not model
