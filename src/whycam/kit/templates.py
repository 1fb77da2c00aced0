"""Pages from the package's own templates, in which every text is escaped unless it is marked as HTML."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment
else:
    Environment = Any  # imported where a page is made


def rendered(room: str, name: str, /, **values: Any) -> str:
    """A template of a package, such as `whycam.reports`, with these values; one that is missing is an error."""
    return _templates(room).get_template(name).render(**values)


def text_of(room: str, name: str) -> str:
    """A file beside a package's templates as it stands, such as a style sheet."""
    environment = _templates(room)
    assert environment.loader is not None  # given below
    return environment.loader.get_source(environment, name)[0]


@lru_cache
def _templates(room: str) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader(room), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
