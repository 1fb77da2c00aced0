"""Fixtures for tests in a real browser: Debian's Chromium, driven by playwright; skipped where there is none.

A plugin of pytest's, named in conftest.py. `page` is a tab that fails its test on what nobody looks for otherwise: an
error on the console, an uncaught one, a request that leaves the machine.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

CHROMIUM = Path("/usr/bin/chromium")
ABSENT = f"no Chromium at {CHROMIUM} (apt-get install chromium), so that tests in a browser are left out"
#: Chromium as root, with nothing that it would ask the network for by itself.
_ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if any(ABSENT in str(each.longrepr) for each in terminalreporter.stats.get("skipped", [])):
        terminalreporter.write_line(f"SKIPPED: {ABSENT}")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser for the tests of one file; its event loop, which others could not run beside, ends with them."""
    if not CHROMIUM.exists():
        pytest.skip(ABSENT)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the test's pages did wrong so far; a test that provokes an error takes it out after it looked at it."""
    return []


@pytest.fixture
def open_page(chromium: Any, complaints: list[str]) -> Iterator[Callable[..., Any]]:
    """Opens tabs, each in a context of its own: `open_page(has_touch=True)`, as playwright's `new_context` takes it."""
    contexts: list[Any] = []

    def opened(**how: Any) -> Any:
        context = chromium.new_context(**how)
        context.set_default_timeout(60_000)
        contexts.append(context)
        context.on("request", lambda request: complaints.extend(_outside(request.url)))
        context.on("weberror", lambda error: complaints.append(f"uncaught: {error.error}"))
        context.on("console", lambda said: complaints.append(f"console: {said.text}") if said.type == "error" else None)
        return context.new_page()

    yield opened
    for context in contexts:
        context.close()
    assert not complaints, "\n".join(complaints)


@pytest.fixture
def page(open_page: Callable[..., Any]) -> Any:
    """A tab of 1280 x 900."""
    return open_page(viewport={"width": 1280, "height": 900})


def axe(page: Any) -> list[str]:
    """The serious and critical violations that axe finds on a page, each with the elements concerned."""
    from axe_playwright_python.sync_playwright import Axe

    return [
        f"{found['id']}: {found['help']}: " + ", ".join(str(node["target"]) for node in found["nodes"])
        for found in Axe().run(page).response["violations"]
        if found["impact"] in ("serious", "critical")
    ]


def sideways(page: Any) -> int:
    """By how many pixels a page is wider than its window."""
    wider: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return wider


def _outside(url: str) -> list[str]:
    parts = urlsplit(url)
    inside = parts.scheme in ("file", "data", "blob", "about") or parts.hostname == "127.0.0.1"
    return [] if inside else [f"a request leaves the machine: {url}"]
