"""Places in a network, by name: `layer4`, `features.*`, `relu#0` (its first call), `avgpool:input` (what it is given).

A name may be a dotted name, a module, or a glob. `#k` picks one call of a module that runs several times (negative
numbers count from the last), `#*` all of them; with no `#` it is the last. `:input` is what the module receives.
"""

import fnmatch
import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple

from torch import nn

from whycam.errors import LayerNotFound
from whycam.network.adapted import Adapted

#: What DataParallel, torch.compile and wrappers for checkpointing call the module inside them.
_WRAPPED = {"module", "_orig_mod", "_checkpoint_wrapped_module"}
_GRAMMAR = re.compile(r"(?P<name>.*?)(#(?P<call>-?\d+|\*))?(?P<side>:input|:output)?$", re.DOTALL)
_STAGES = re.compile(r"last ([1-9][0-9]*) stages?")


class LayerRef(NamedTuple):
    """One place where a network is recorded: a module's name, which of its calls, and which side of it.

    `spelled` is what the module is called where that is another name than the dotted one, as in other frameworks.
    """

    module: str
    call: int | Literal["last", "all"] = "last"
    side: Literal["output", "input"] = "output"
    spelled: str = ""

    def __str__(self) -> str:
        if self.call == "last" and self.side == "output":
            return self.spelled or self.module
        call = {"last": "", "all": "#*"}.get(str(self.call), f"#{self.call}")
        return f"{self.spelled or self.module}{call}{':input' if self.side == 'input' else ''}"

    def at(self, call: int | Literal["last", "all"]) -> "LayerRef":
        """The same place at that call."""
        return LayerRef(self.module, call, self.side, self.spelled)


def find_layers(model: nn.Module, layer: Any) -> list[LayerRef]:
    """The places that a name, a glob or a module stands for, in the model's own order.

    Raises:
        WhycamError: nothing in the model has that name (near misses are suggested), the module is not part of it, or it
            is none of these.
    """
    asked = layer
    if isinstance(model, Adapted):
        layer = model.named(layer)
    if isinstance(layer, nn.Module):
        return [LayerRef(_name_of(model, layer))]
    if not isinstance(layer, str):
        raise LayerNotFound(f"a layer is a dotted name, a glob or a module of the model, not {type(layer).__name__}.")
    match = _GRAMMAR.match(layer)
    assert match is not None  # the grammar accepts any text
    name, call = match["name"], match["call"]
    which: int | Literal["last", "all"] = "last" if call is None else "all" if call == "*" else int(call)
    side: Literal["output", "input"] = "input" if match["side"] == ":input" else "output"
    if name and _is_module(model, name):
        return [tap_of(model, name, which, side)]  # without a walk over the whole network
    names = [each for each, _ in model.named_modules(remove_duplicate=False)]
    found = [each for each in names if each and _matches(each, name)] if is_pattern(name) else []
    found = found or _behind_wrappers(name, names)
    if not found:
        spell = model.spell if isinstance(model, Adapted) else str
        raise LayerNotFound(_unknown(name if asked is layer else str(asked), [spell(each) for each in names]))
    return [tap_of(model, each, which, side) for each in found]


def tap_of(
    model: nn.Module,
    name: str,
    call: int | Literal["last", "all"] = "last",
    side: Literal["output", "input"] = "output",
) -> LayerRef:
    """The place, under the name that its framework has for it."""
    return LayerRef(name, call, side, model.spell(name) if isinstance(model, Adapted) else "")


def is_pattern(name: str) -> bool:
    """Whether a name may stand for several places: a glob, every call of one, or the last stages."""
    return any(mark in name for mark in "*?[") or stage_count(name) is not None


def stage_count(name: Any) -> int | None:
    """The number in `last 3 stages`; `None` for anything else."""
    match = _STAGES.fullmatch(name) if isinstance(name, str) else None
    return int(match[1]) if match is not None else None


def _is_module(model: nn.Module, name: str) -> bool:
    try:
        model.get_submodule(name)
    except AttributeError:
        return False
    return True


def _behind_wrappers(name: str, names: Sequence[str]) -> list[str]:
    """The modules meant by a name with or without what wrappers put into it, such as `module.layer4`."""

    def bare(name: str) -> str:
        return ".".join(part for part in name.split(".") if part not in _WRAPPED)

    found: dict[str, str] = {}
    for each in names:
        if bare(each) and _matches(bare(each), bare(name)):
            found.setdefault(bare(each), each)
    return list(found.values())


def _matches(name: str, pattern: str) -> bool:
    """A glob whose `*` stops at dots, so that `layer*` means the stages and not everything inside them."""
    parts, wanted = name.split("."), pattern.split(".")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


def _name_of(model: nn.Module, module: nn.Module) -> str:
    if module is model:
        raise LayerNotFound("the layer is the whole model; choose one of the modules inside it.")
    for name, each in model.named_modules(remove_duplicate=False):
        if each is module or getattr(each, "_orig_mod", None) is module:
            return str(name)
    raise LayerNotFound(
        f"the layer, a {type(module).__name__}, is not part of this {type(model).__name__}; "
        "pass one of its own modules or a dotted name."
    )


def _unknown(name: str, names: Sequence[str]) -> str:
    top = [each for each in names if each and "." not in each and "/" not in each]
    shown = ", ".join(top[:12]) + (", ..." if len(top) > 12 else "")
    inside = len(names) - 1 - len(top)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    beside = f" (and {inside} inside them)" if inside else ""
    return f"no layer {name!r}; this model has {shown}{beside}.{hint}"
