"""The one exception that callers need to know.

A message says what was expected, what came, and what to do, in the caller's own words.
"""


class WhycamError(ValueError):
    """Something the caller can put right: an unknown layer, a target out of range, a model this cannot explain."""


class PhotoError(WhycamError):
    """A file that is no readable photo. Runs over many files list it and go on; it never becomes a zero map."""


class MissingExtraError(WhycamError, ImportError):
    """A package of an optional extra is absent; the message names the extra."""


def missing(package: str, extra: str, purpose: str) -> MissingExtraError:
    """The error for an absent optional package."""
    return MissingExtraError(f"{purpose} needs {package}, which is not installed: pip install 'whycam[{extra}]'")
