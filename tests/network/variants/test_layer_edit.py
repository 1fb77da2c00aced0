"""Passes with a layer's output replaced: what is handed on, whose rows they are, and what is refused."""

import nets
import pytest
import torch
from torch import Tensor, nn

import whycam
from whycam.network.layer_refs import find_layers
from whycam.network.outputs import OutputSelector
from whycam.network.recording.record import record
from whycam.network.variants.layer_edit import Asked, answer, asked_of
from whycam.targets import resolve


def asked(model, inputs, layer, part=None, **options):
    question = OutputSelector(lambda output, **known: resolve(1, output, **known), part)
    found = record(model, inputs, find_layers(model, layer), [question], **options)
    return Asked(model, inputs, next(iter(found.layers.values())), part)


def replaced_by_hook(model, inputs, layer, value):
    hook = model.get_submodule(layer).register_forward_hook(lambda *_: value)
    with torch.no_grad():
        made = model(inputs)
    hook.remove()
    return made


def test_the_same_handed_on_gives_the_same_answer_and_gradients_stay_off():
    model, inputs = nets.plain(), nets.images()
    made = answer(asked(model, inputs, "conv1"), lambda rows: rows)
    assert torch.equal(made.output, model(inputs).detach())
    assert not made.output.requires_grad
    assert made.order is None


def test_what_is_handed_on_is_what_the_network_goes_on_with():
    model, inputs = nets.plain(), nets.images()
    given = torch.ones(3, 6, 8, 8, dtype=torch.float64)
    made = answer(asked(model, inputs, "conv1"), lambda rows: given)
    assert torch.equal(made.output, replaced_by_hook(model, inputs, "conv1", given))
    other = answer(asked(model, inputs, "conv1:input"), lambda rows: torch.zeros_like(rows))
    assert torch.equal(other.output, model(torch.zeros_like(inputs)).detach())


@pytest.mark.parametrize("backwards", [False, True])
def test_rows_of_parts_of_the_batch_are_those_of_their_samples(backwards):
    model, inputs = nets.fixed(nets.Parts(2, backwards=backwards)), nets.images()
    question = asked(model, inputs, "conv1")
    seen = []
    made = answer(question, lambda rows: seen.append(rows) or rows * 2)
    assert [len(rows) for rows in seen] == ([1, 2] if backwards else [2, 1])
    torch.testing.assert_close(made.by_sample(seen), question.layer.activations)
    twice = replaced_by_hook(nets.plain(), inputs, "conv1", 2 * question.layer.activations)
    torch.testing.assert_close(made.output, twice)


def test_gradients_are_on_from_the_layer_or_from_the_start():
    model, inputs = nets.fixed(nets.InnerNoGrad()), nets.images()

    def begin(rows: Tensor) -> Tensor:
        torch.set_grad_enabled(True)
        return rows.detach().clone().requires_grad_()

    question = asked(model, inputs, "conv2")
    assert not answer(question, begin).output.requires_grad
    made = answer(question, begin, from_start=True)
    assert made.output.requires_grad
    assert made.off == {"conv2"}


def test_another_number_of_calls_is_refused():
    class Sometimes(nets.Plain):
        skip = False

        def features(self, x: Tensor) -> Tensor:
            x = self.conv1(x) if not self.skip else x[:, :1].expand(-1, 6, -1, -1)
            return self.relu2(self.conv2(self.relu1(x)))

    model, inputs = nets.fixed(Sometimes()), nets.images()
    question = asked(model, inputs, "conv1")
    model.skip = True
    with pytest.raises(whycam.WhycamError, match="layer 'conv1' did not run as it did when it was recorded"):
        answer(question, lambda rows: rows)


def test_a_network_that_draws_by_itself_is_refused():
    class Noisy(nets.Plain):
        number = 0

        def forward(self, x: Tensor) -> Tensor:
            self.number += 1
            return super().forward(x * self.number)

    model, inputs = nets.fixed(Noisy()), nets.images()
    question = asked(model, inputs, "conv1")
    with pytest.raises(whycam.WhycamError, match="layer 'conv1' did not return what it did when it was recorded"):
        answer(question, lambda rows: rows)
    with pytest.raises(whycam.WhycamError, match="did not return what it did"):
        answer(Asked(model, inputs[:2], question.layer, None), lambda rows: rows)


def test_inference_mode_inside_is_refused():
    class Inner(nets.Plain):
        def features(self, x: Tensor) -> Tensor:
            with torch.inference_mode():
                return super().features(x)

    model, inputs = nets.fixed(Inner()), nets.images()
    question = asked(model, inputs, "conv2", gradients=False)
    with pytest.raises(whycam.WhycamError, match=r"torch.inference_mode\(\), which forbids gradients for good"):
        answer(question, lambda rows: rows)


def test_weights_made_in_inference_mode_are_refused():
    with torch.inference_mode():
        model = nets.plain()
    inputs = nets.images()
    question = asked(model, inputs, "conv1", gradients=False)

    def begin(rows: Tensor) -> Tensor:
        torch.set_grad_enabled(True)
        return rows.detach().clone().requires_grad_()

    with pytest.raises(whycam.WhycamError, match="was made, under"):
        answer(question, begin)


def test_an_answer_in_half_precision_keeps_its_history():
    model, inputs = nets.plain().bfloat16(), nets.images().bfloat16()

    def begin(rows: Tensor) -> Tensor:
        torch.set_grad_enabled(True)
        return rows.detach().clone().requires_grad_()

    made = answer(asked(model, inputs, "conv1"), begin)
    assert made.output.dtype == torch.float32
    assert made.output.requires_grad


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_scripted_layers_are_refused():
    model, inputs = nets.plain(), nets.images()
    question = asked(model, inputs, "relu2")
    model.relu2 = torch.jit.script(nn.ReLU())
    with pytest.raises(whycam.WhycamError, match="scripted"):
        answer(question, lambda rows: rows)


class Drifting(nets.Plain):
    """Its first layer returns a little more in each run after the first."""

    def __init__(self, drift: float) -> None:
        super().__init__()
        self.runs, self.drift = [], drift

    def features(self, x: Tensor) -> Tensor:
        self.runs.append(1)
        return self.relu2(self.conv2(self.relu1(self.conv1(x * (1 + self.drift * (len(self.runs) > 1))))))


@pytest.mark.parametrize(
    ("dtype", "drift", "same"),
    [(torch.float64, 0.9e-2, True), (torch.float64, 1.1e-2, False), (torch.bfloat16, 0.08, True),
     (torch.bfloat16, 0.13, False)],
)  # fmt: skip
def test_the_layer_must_return_what_was_recorded_up_to_what_devices_do(dtype, drift, same):
    model, inputs = nets.fixed(Drifting(drift)), nets.images().to(dtype)
    model.conv1.bias.data.zero_()
    question = asked(model.to(dtype), inputs, "conv1")
    if same:
        answer(question, lambda rows: rows)
    else:
        with pytest.raises(whycam.WhycamError, match="did not return what it did"):
            answer(question, lambda rows: rows)


@pytest.mark.parametrize(
    ("dtype", "off", "alone"),
    [(torch.float64, 1.1e-5, True), (torch.float64, 1.3e-5, False), (torch.bfloat16, 0.8e-2, True),
     (torch.bfloat16, 1.6e-2, False)],
)  # fmt: skip
def test_the_part_above_is_run_alone_where_it_answers_as_recorded_up_to_rounding(dtype, off, alone):
    model, inputs = nets.plain(), nets.images()
    layer = asked(model, inputs, "conv1", resume=True).layer
    output = model(inputs).detach()
    largest = output.abs().amax()
    output = torch.where(output.abs() == largest, output * (1 - off), output)
    made = asked_of(model, inputs, layer, None, output if dtype is torch.float64 else halved(output, largest, off))
    assert (made.above is not None) == alone


def halved(output: Tensor, largest: Tensor, off: float) -> Tensor:
    """As near to it as half precision comes, but for one value."""
    made = output.bfloat16().double()
    made[made.abs() == made.abs().amax()] = float(torch.tensor(float(largest) * (1 - off)).bfloat16())
    return made
