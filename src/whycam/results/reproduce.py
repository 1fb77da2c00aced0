"""The line of Python and that of a shell which make maps again."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from whycam.targets import TargetSpec


@dataclass(frozen=True)
class Lines:
    """What was asked, in words, as code.

    Args:
        model: its spec. `photo`: its path, or the name that it came with.
        methods: by name; none of them is the usual one. `options`: of each method by its name.
        layers: names; several of one entry, `"layer3+layer4"`, are fused. None of them is the chosen one.
        targets: as on the command line, and what they stand for; none of them is the top class.
        more: other parameters of `whycam.compare` that are options of the same name on the command line.

    Examples:
        >>> from whycam.results.reproduce import Lines
        >>> lines = Lines("builtin", "cat.jpg", ["grad_cam"], targets={"281": 281})
        >>> print(lines.python)
        whycam.explain("builtin", "cat.jpg", "grad_cam", target=281)
        >>> print(lines.shell)
        whycam explain cat.jpg -m grad_cam -t 281
    """

    model: str
    photo: str
    methods: Sequence[str] = ()
    layers: Sequence[str] = ()
    targets: Mapping[str, TargetSpec] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def single(self) -> bool:
        """Whether it is one map, which `explain` makes."""
        several = any(getattr(each, "several", False) for each in self.targets.values())
        return max(len(self.methods), len(self.layers), len(self.targets)) < 2 and not several

    @property
    def python(self) -> str:
        """The call, for a session that has imported whycam."""
        layers = [each.split("+") if "+" in each else each for each in self.layers]
        options = {name: dict(own) for name, own in self.options.items() if own}
        targets = list(self.targets.values())
        named: dict[str, Any] = {}
        if self.single:
            methods: Any = self.methods[0] if self.methods else None
            if targets and targets[0] is not None:
                named["target"] = targets[0]
            if layers:
                named["layer"] = layers[0]
            named |= {**self.more, **next(iter(options.values()), {})}
        else:
            methods = list(self.methods) or None
            if layers:
                named["layers"] = layers
            if targets:
                named["targets"] = targets
            named |= {**self.more, **({"options": options} if options else {})}
        placed = [self.model, self.photo, *([methods] if methods is not None else [])]
        said = [*map(_spelled, placed), *(f"{name}={_spelled(value)}" for name, value in named.items())]
        return f"whycam.{'explain' if self.single else 'compare'}({', '.join(said)})"

    @property
    def shell(self) -> str:
        """The command."""
        photo = f"./{self.photo}" if self.photo.startswith("-") else self.photo  # which else would be an option
        words = ["whycam", "explain" if self.single else "compare", photo]
        if self.methods:
            words += ["-m", ",".join(self.methods)]
        aims = [each for each in self.targets if each != "top" or not self.single]
        words += ["-t", aims[0] if self.single else _row(aims)] if aims else []
        if self.layers:
            places = self.layers[0].split("+") if self.single else [_row(self.layers)]
            words += [word for place in places for word in ("-l", place)]
        for method, own in self.options.items():
            for name, value in own.items():
                words += ["-O", f"{'' if self.single else f'{method}.'}{name}={_valued(value)}"]
        for name, value in self.more.items():
            words += [f"--{name}", str(value)]
        if self.model != "builtin":
            words += ["--model", self.model]
        return shlex.join(words)


def _spelled(value: Any) -> str:
    """A value as code: texts in double quotes, targets by their full names."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(_spelled, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_spelled(name)}: {_spelled(each)}' for name, each in value.items())}}}"
    if type(value).__module__.startswith("whycam.targets"):
        return f"whycam.targets.{value!r}"
    return repr(value)


def _row(entries: Sequence[str]) -> str:
    """A list as `--targets` takes it: an entry with a comma in double quotes."""
    return ",".join(f'"{each}"' if "," in each else each for each in entries)


def _valued(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
