"""The exceptions that callers see: one tree under `WhycamError`.

A message says what was expected, what came, and what to do, in the caller's own words.
"""


class WhycamError(ValueError):
    """Something the caller can put right: an unknown layer, a target out of range, a model this cannot explain.

    Attributes:
        reason: what is wrong.
        advice: what to do about it: the message's last sentence, or what follows a semicolon.

    Examples:
        >>> try:
        ...     whycam.explain(net, batch, layer="2nd")
        ... except whycam.LayerNotFound as error:
        ...     print(error.reason)
        no layer '2nd'; this model has 0, 1, 2, 3, 4
    """

    @property
    def reason(self) -> str:
        """What is wrong."""
        return _halves(str(self))[0]

    @property
    def advice(self) -> str:
        """What to do about it; empty where the reason says it all."""
        return _halves(str(self))[1]


class LayerNotFound(WhycamError):
    """No layer of that name, or not that call of it, in this network."""


class LayerRefused(WhycamError):
    """A layer of which no map can be made: it has no spatial axes, or its positions lie elsewhere than in the input."""


class Misplaced(LayerRefused):
    """A layer whose positions are known not to lie where its layout puts them."""


class NoGradient(WhycamError):
    """The score does not depend on what was recorded, or the network lets no gradient through."""


class TargetError(WhycamError):
    """A target that does not fit the model's output: a class out of range, an unknown label, no class at all."""


class OutputError(WhycamError):
    """The part of a model's output that holds the answer cannot be told, or is not where the caller says."""


class InputError(WhycamError):
    """Inputs that the network does not take."""


class PhotoError(InputError):
    """A file that is no readable photo. Runs over many files list it and go on; it never becomes a zero map."""


class MethodNotFound(WhycamError):
    """No method of that name."""


class MetricNotFound(WhycamError):
    """No metric of that name."""


class OptionError(WhycamError):
    """An option that a method, target or fusion does not have, or a value that it does not take."""


class ModelError(WhycamError):
    """A model that cannot be had, or that is none."""


class MissingExtraError(WhycamError, ImportError):
    """A package of an optional extra is absent; the message names the extra."""


def missing(package: str, extra: str, purpose: str) -> MissingExtraError:
    """The error for an absent optional package."""
    return MissingExtraError(f"{purpose} needs {package}, which is not installed: pip install 'whycam[{extra}]'")


def _halves(message: str) -> tuple[str, str]:
    """A message without its last sentence, or what follows a semicolon; and that."""
    said, mark, advice = message.rpartition(". ")
    if not mark:
        said, mark, advice = message.rpartition("; ")
    return (said, advice) if mark else (message, "")
