"""Who may drive the page, and who may not."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pages
import pytest
from starlette.testclient import TestClient

from whycam.page.guard import Guard, cookie_of

COOKIE = cookie_of("a-long-word")
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    made = pages.page()
    yield made
    made.jobs.close()


def client(page: Any, **guard: Any) -> TestClient:
    return TestClient(Guard(page.app(), **guard), base_url="http://localhost:8347", follow_redirects=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["localhost", "localhost:8347", "127.0.0.1:9000", "[::1]", "[::1]:8347", "LOCALHOST"])
def test_names_of_this_machine(page: Any, host: str) -> None:
    assert client(page).get("/api/about", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8347", "localhost.evil.example", "127.0.0.1.evil.example", "192.168.1.5", "[::2]",
     "localhost@evil.example", "evil.example#localhost", "", "[", "0.0.0.0"],
)  # fmt: skip
def test_other_names_are_refused_as_after_rebinding(page: Any, host: str) -> None:
    for method, address in (("GET", "/"), ("GET", "/api/about"), ("POST", "/api/jobs"), ("DELETE", "/api/jobs/x")):
        response = client(page).request(method, address, headers={"host": host, **JSON})
        assert response.status_code == 403
        assert "for this machine alone" in response.json()["error"]


@pytest.mark.parametrize(
    "headers",
    [{"origin": "https://evil.example"}, {"origin": "null"}, {"origin": "http://localhost:3000"},
     {"origin": "http://localhost:8347.evil.example"}, {"origin": "http://127.0.0.1:8347"},
     {"origin": "https://evil.example", "sec-fetch-site": "same-origin"},
     {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"},
     {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}],
)  # fmt: skip
def test_another_site_may_send_nothing(page: Any, headers: dict[str, str]) -> None:
    for method, address in (("POST", "/api/jobs"), ("POST", "/api/photos"), ("DELETE", "/api/jobs/x")):
        response = client(page).request(method, address, headers={**headers, **JSON}, content=b"{}")
        assert response.status_code == 403
        assert "may not drive this page" in response.json()["error"]


def test_another_site_may_load_nothing_but_lead_here(page: Any) -> None:
    asked = client(page)
    for mode in ("no-cors", "cors"):
        headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": mode}
        assert asked.get("/api/about", headers=headers).status_code == 403
    assert asked.get("/", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}).status_code == 200


def test_the_page_itself_may(page: Any) -> None:
    own = {"origin": "http://localhost:8347", "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", **JSON}
    assert client(page).post("/api/jobs", headers=own, content=b"{}").status_code == 404  # no such model
    typed = {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}
    assert client(page).get("/", headers=typed).status_code == 200


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "image/png", ""]
)
def test_forms_are_refused(page: Any, kind: str) -> None:
    response = client(page).post("/api/photos?name=x", headers={"content-type": kind}, content=b"x")
    assert response.status_code == 415
    assert "application/json or application/octet-stream" in response.json()["error"]


def test_no_site_is_granted_what_it_asks_for_first(page: Any) -> None:
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    response = client(page).options("/api/jobs", headers=asked)
    assert response.status_code == 403
    for address in ("/", "/api/about", "/api/jobs/x"):
        assert not [name for name in client(page).get(address).headers if name.startswith("access-control")]


@pytest.mark.parametrize("address", ["/", "/api/about", "/api/nothing", "/static/nothing"])
def test_headers_keep_others_out(page: Any, address: str) -> None:
    headers = client(page).get(address).headers
    assert headers["content-security-policy"].startswith("default-src 'self';")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_headers_stand_on_refusals_too(page: Any) -> None:
    headers = client(page).get("/", headers={"host": "evil.example"}).headers
    assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")


def test_a_token_is_asked_for_once(page: Any) -> None:
    asked = client(page, token="a-long-word")
    for address in ("/", "/api/about", "/?token=", "/?token=wrong", "/static/page.css"):
        response = asked.get(address)
        assert (response.status_code, "asks for a token" in response.json()["error"]) == (401, True)
    assert asked.post("/api/jobs?token=wrong", json={}).status_code == 401
    opened = asked.get("/?token=a-long-word&x=1")
    assert (opened.status_code, opened.headers["location"]) == (303, "./?x=1")
    assert opened.headers["set-cookie"] == f"{COOKIE}=a-long-word; HttpOnly; SameSite=Strict"
    assert asked.get("/").status_code == 200
    assert asked.get("/api/about").status_code == 200
    assert asked.get("/api/about", headers={"cookie": f"{COOKIE}=a-long-wor"}).status_code == 401


def test_two_servers_keep_their_tokens_apart() -> None:
    assert cookie_of("another") != COOKIE


def test_with_a_token_any_name_will_do_but_no_other_site(page: Any) -> None:
    asked = client(page, token="a-long-word")
    asked.cookies.set(COOKIE, "a-long-word")
    named = {"host": "box.lab.example:8347", "cookie": f"{COOKIE}=a-long-word"}
    assert asked.get("/api/about", headers=named).status_code == 200
    behind = {
        **named,
        **JSON,
        "host": "10.0.0.7:8347",
        "origin": "https://lab.example",
        "sec-fetch-site": "same-origin",
    }
    assert asked.post("/api/jobs", headers=behind, content=b"{}").status_code == 404  # no such model
    crossed = {**named, **JSON, "origin": "https://evil.example"}
    assert asked.post("/api/jobs", headers=crossed, content=b"{}").status_code == 403


@pytest.mark.parametrize("path", ["//evil.example", "/x/\r\nset-cookie: a=b", "/https://evil.example"])
def test_a_token_opens_no_redirect_to_elsewhere(path: str) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"token=a-long-word", "headers": []}
    asyncio.run(Guard(send, "a-long-word")(scope, None, send))  # type: ignore[arg-type]
    location = dict(sent[0]["headers"])[b"location"].decode()
    assert location.startswith("./")
    assert not {"//", "\r", ":"} & {location[at : at + n] for n in (1, 2) for at in range(len(location))}


@pytest.mark.parametrize("address", ["/tools/cam/api/about", "/api/about", "/tools/cam/"])
def test_behind_a_prefix_that_a_proxy_keeps_or_strips(page: Any, address: str) -> None:
    assert client(page, prefix="/tools/cam").get(address).status_code == 200


def test_a_prefix_without_its_slash_leads_to_the_page(page: Any) -> None:
    asked = client(page, prefix="/tools/cam/")
    response = asked.get("/tools/cam")
    assert (response.status_code, response.headers["location"]) == (308, "/tools/cam/")
    assert asked.get("/tools/camera/api/about").status_code == 404
