"""Compiled models are recorded through their eager twin, and stay compiled."""

import nets
import pytest
import torch
from torch import nn

import whycam
from whycam.network.unwrap import eager, parallel, unwrapped, what_instead


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
    assert unwrapped(nn.DataParallel(torch.compile(model, backend="eager"))) is model
    assert unwrapped(torch.compile(nn.DataParallel(model), backend="eager")) is model
    assert parallel(model) is parallel(torch.compile(model, backend="eager")) is None
    assert parallel(torch.compile(nn.DataParallel(model), backend="eager")) == "DataParallel"


@pytest.fixture
def one_process():
    """A process group of this process alone."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("kind", [nn.DataParallel, nn.parallel.DistributedDataParallel])
def test_the_module_inside_a_data_parallel_wrapper_is_run_and_that_is_said(kind, one_process):
    inner, inputs = nets.plain(), nets.images()
    expected = whycam.explain(nets.plain(), inputs, layer="conv2")
    chosen = whycam.explain(nets.plain(), inputs)
    model = kind(inner)
    before = nets.state(model)
    for layer in ("conv2", "module.conv2", inner.conv2):
        found = whycam.explain(model, inputs, layer=layer)
        assert torch.equal(found.maps, expected.maps)
        assert found.layer.name == "conv2"
        assert f"the module inside {kind.__name__} was run, on one device" in found.notes
    assert torch.equal(whycam.explain(model, inputs).maps, chosen.maps)
    assert nets.differences(before, nets.state(model)) == []
    assert not any("inside" in note for note in expected.notes)


def test_a_distributed_training_step_around_it_is_not_disturbed(one_process):
    inputs = nets.images()
    models = [nn.parallel.DistributedDataParallel(nets.plain()) for _ in range(2)]
    losses = [model(inputs).square().sum() for model in models]
    whycam.explain(models[0], inputs, layer="conv1")
    for loss in losses:
        loss.backward()
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one.grad, other.grad)


@pytest.fixture(scope="module")
def exported():
    dynamic = ({0: torch.export.Dim.AUTO},)
    return torch.export.export(nets.plain(), (nets.images(),), dynamic_shapes=dynamic)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # of torch.export itself
def test_an_exported_program_is_refused_with_what_to_pass_instead(exported):
    inputs = nets.images()
    assert what_instead(exported) == " Pass torch.export.unflatten(program), or the module that was exported."
    for layer in (None, "conv2"):
        with pytest.raises(whycam.WhycamError, match=r"calls none of its modules.*torch\.export\.unflatten"):
            whycam.explain(exported.module(), inputs, layer=layer)
    found = whycam.explain(torch.export.unflatten(exported), inputs, layer="conv2")
    torch.testing.assert_close(found.maps, whycam.explain(nets.plain(), inputs, layer="conv2").maps)


def test_a_graph_that_calls_its_modules_is_explained_like_them():
    traced, inputs = torch.fx.symbolic_trace(nets.plain()), nets.images()
    for layer in (None, "conv2", "relu2:input"):
        found = whycam.explain(traced, inputs, layer=layer)
        assert torch.equal(found.maps, whycam.explain(nets.plain(), inputs, layer=layer).maps)


@pytest.mark.parametrize(
    ("home", "sentence"),
    [("onnxruntime.capi", "A network of onnxruntime has no gradients"), ("onnx.onnx_ml_pb2", "of onnx"), ("mine", "")],
)
def test_networks_of_other_libraries_are_told_apart(home, sentence):
    foreign = type("InferenceSession", (), {"__module__": home})()
    assert sentence in what_instead(foreign)
    assert bool(what_instead(foreign)) == bool(sentence)


def test_a_lazy_network_is_refused_and_left_lazy():
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5)).eval()
    with pytest.raises(whycam.WhycamError, match=r"do not all exist yet \(0.weight\)"):
        whycam.explain(model, torch.randn(1, 3, 8, 8))
    assert type(model[0]) is nn.LazyConv2d
