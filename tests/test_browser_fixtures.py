"""The browser fixtures themselves: each thing that a page must not do is seen."""

import pytest
from browser import axe, sideways


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("console.error('oh')", "console: oh"),
        ("setTimeout(() => { throw new Error('late'); })", "uncaught: late"),
        ("new Image().src = 'http://whycam.invalid/pixel.png'", "a request leaves the machine: http://whycam.invalid"),
    ],
)
def test_a_page_that_does_wrong_is_found_out(page, complaints, script, said):
    page.set_content("<p>calm</p>")
    page.evaluate(script)
    page.wait_for_timeout(200)
    assert complaints
    assert complaints[0].startswith(said)
    complaints.clear()


def test_a_calm_page_has_no_complaint(page, tmp_path):
    (tmp_path / "calm.html").write_text("<html lang=en><title>Calm</title><main><h1>Calm</h1></main>")
    page.goto((tmp_path / "calm.html").as_uri())
    assert axe(page) == []
    assert sideways(page) == 0


def test_axe_and_width_find_what_is_wrong(page):
    page.set_content("<html lang=en><title>a</title><main><img width=2000 height=9 src='data:,'></main>")
    assert axe(page)[0].startswith("image-alt: ")
    assert sideways(page) > 700
