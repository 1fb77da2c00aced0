"""The line of Python and that of a shell which make maps again."""

import csv
import io
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from whycam.targets import TargetSpec


@dataclass(frozen=True)
class Loading:
    """What was said of a model beside its spec, as the command line has it; `labels_in`: what that file is.

    Examples:
        >>> from whycam.results.reproduce import Lines, Loading
        >>> print(Lines("net:made", "cat.jpg", loading=Loading(labels="names.txt", preprocess="imagenet:64")).python)
        from pathlib import Path
        labels = Path("names.txt").read_text("utf-8").splitlines()
        whycam.explain("net:made", "cat.jpg", preprocess=whycam.Preprocess.imagenet(64, 73), labels=labels)
    """

    weights: str | None = None
    unsafe_pickle: bool = False
    preprocess: str | None = None
    labels: str | None = None
    device: str | None = None
    labels_in: Literal["lines", "list", "mapping"] = "lines"

    @property
    def words(self) -> list[str]:
        """The options."""
        given = {each: getattr(self, each) for each in ("weights", "preprocess", "labels", "device")}
        said = [word for name, value in given.items() if value is not None for word in (f"--{name}", value)]
        return [*said, *(["--unsafe-pickle"] if self.unsafe_pickle else [])]

    def code(self, spec: str) -> tuple[list[str], str, dict[str, str]]:
        """Lines that come before the call, the model in it, and parameters by name."""
        before, model, more = [], _spelled(spec), {}
        if self.weights is not None or self.device is not None:
            said = [model, *([f"weights={_spelled(self.weights)}"] if self.weights is not None else [])]
            said += ["unsafe_pickle=True"] if self.unsafe_pickle else []
            model = f"whycam.load({', '.join(said)})"
        if self.device is not None:
            before += [f"model = {model}", f"model.module.to({_spelled(self.device)})"]
            model = "model"
        if self.preprocess is not None:
            module, _, name = self.preprocess.partition(":")
            if module == "imagenet":
                more["preprocess"] = f"whycam.Preprocess.imagenet{imagenet_sizes(self.preprocess)}"
            else:
                before.append(f"import {module}")
                more["preprocess"] = f"{module}.{name}"
        if self.labels is not None:
            before += [*(["import json"] if self.labels_in != "lines" else []), "from pathlib import Path"]
            text = f'Path({_spelled(self.labels)}).read_text("utf-8")'
            read = {
                "lines": f"{text}.splitlines()",
                "list": f"json.loads({text})",
                "mapping": f"{{int(index): name for index, name in json.loads({text}).items()}}",
            }
            before.append(f"labels = {read[self.labels_in]}")
            more["labels"] = "labels"
        return before, model, more


#: Nothing was.
ALONE = Loading()


def imagenet_sizes(preprocess: str) -> tuple[int, int] | None:
    """What `imagenet` or `imagenet:SIZE` stands for: the sides of the cut and of what it is cut from."""
    found = re.fullmatch(r"imagenet(?::(\d+))?", preprocess)
    side = int(found[1] or 224) if found is not None else 0
    return None if found is None else (side, round(side / 0.875))


@dataclass(frozen=True)
class Lines:
    """What was asked, in words, as code.

    Args:
        model: its spec. `photo`: its path, or the name that it came with.
        methods: by name; none of them is the usual one. `options`: of each method by its name.
        layers: names; several of one entry, `"layer3+layer4"`, are fused. None of them is the chosen one.
        targets: as on the command line, and what they stand for; none of them is the top class.
        more: other parameters of `whycam.compare` that are options of the same name on the command line.
        loading: what was said of the model beside its spec.

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
    loading: Loading = ALONE

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
        before, model, loaded = self.loading.code(self.model)
        placed = [model, *map(_spelled, [self.photo, *([methods] if methods is not None else [])])]
        by_name = {name: _spelled(value) for name, value in named.items()} | loaded
        said = [*placed, *(f"{name}={value}" for name, value in by_name.items())]
        return "\n".join([*before, f"whycam.{'explain' if self.single else 'compare'}({', '.join(said)})"])

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
        words += self.loading.words
        return shlex.join(words)


def _spelled(value: Any) -> str:
    """A value as code: texts in double quotes, targets by their full names and without what is usual."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(_spelled, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_spelled(name)}: {_spelled(each)}' for name, each in value.items())}}}"
    if type(value).__module__.startswith("whycam.targets"):
        first, *others = ((each, getattr(value, each.name)) for each in fields(value))
        said = [first, *((each, held) for each, held in others if held != each.default)]
        named = ", ".join(f"{each.name}={_spelled(held)}" for each, held in said)
        return f"whycam.targets.{type(value).__name__}({named})"
    return repr(value)


def _row(entries: Sequence[str]) -> str:
    """A list as `--targets` takes it: an entry with a comma or a quote in double quotes, and its own twice."""
    row = io.StringIO()
    csv.writer(row, lineterminator="").writerow(entries)
    return row.getvalue()


def _valued(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
