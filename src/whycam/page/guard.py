"""Who may drive the page: no other site, no other name for this machine, and with a token nobody without it."""

import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import SimpleCookie
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

Scope: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Any, Send], Awaitable[None]]

#: Names of this machine that no other site can have pointed here.
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
#: What may be sent: no form of another site can be of these types without asking first, and that is never granted.
TYPES = frozenset({"application/json", "application/octet-stream"})

HEADERS = {
    # blob: is how a page hands out a picture that it drew itself
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Lets through what the page itself asks, and adds headers that keep others out.

    Args:
        token: what has to be shown, where the page is not for this machine alone: once as `?token=`, then as a cookie.
            A token keeps out sites that have a name of theirs pointed here, too; without one the name is checked.
        prefix: a path that may stand before every path, as behind a proxy.
    """

    def __init__(self, app: App, token: str | None = None, prefix: str = "") -> None:
        self.app, self.token, self.prefix = app, token, prefix.rstrip("/")
        self.cookie = cookie_of(token or "")

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope["method"], headers)
        if refusal is not None:
            await _answer(send, *refusal)
            return
        query = scope["query_string"].decode("latin-1")
        if self.token is not None and not self._known(headers):
            given = dict(parse_qsl(query))
            if not hmac.compare_digest(given.pop("token", "").encode(), self.token.encode()):
                await _answer(
                    send, 401, "this page asks for a token: open the address that 'whycam serve' printed, with ?token=."
                )
                return
            if scope["method"] == "GET":
                cookie = f"{self.cookie}={self.token}; HttpOnly; SameSite=Strict"
                # a relative address, so that nobody has to know where the page lies
                last = quote(scope["path"].rpartition("/")[2])
                await _answer(
                    send, 303, "", {"set-cookie": cookie, "location": f"./{last}{'?' * bool(given)}{urlencode(given)}"}
                )
                return
        path = scope["path"]
        if self.prefix and path == self.prefix:
            await _answer(send, 308, "", {"location": f"{self.prefix}/"})
            return
        if self.prefix and path.startswith(f"{self.prefix}/"):
            scope = {**scope, "path": path[len(self.prefix) :], "raw_path": None}

        async def guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower() for name, _ in message.get("headers", ())}
                added = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in own]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        await self.app(scope, receive, guarded)

    def _refusal(self, method: str, headers: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if self.token is None and _name(host) not in LOOPBACK:
            return 403, (
                f"the page is for this machine alone, and was asked for by the name {_name(host)!r}. Open it as "
                "localhost, or start it with --token."
            )
        if method in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate":
            return None
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        # a proxy may ask by another Host than the browser did, which then says itself that both are one site
        behind_proxy = self.token is not None and site == "same-origin"
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower() and not behind_proxy:
            return 403, f"another site, {origin}, may not drive this page."
        if site not in (None, "same-origin", "none"):
            return 403, "another site may not drive this page."
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if method == "POST" and kind not in TYPES:
            return 415, f"what is sent is {' or '.join(sorted(TYPES))}, not {kind or 'of no type'}."
        return None

    def _known(self, headers: dict[str, str]) -> bool:
        held = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        return held is not None and hmac.compare_digest(held.value.encode(), (self.token or "").encode())


def cookie_of(token: str) -> str:
    """What the cookie with a token is called: a name of its own, since all ports of a host share their cookies."""
    return f"whycam-{hashlib.sha256(token.encode()).hexdigest()[:8]}"


def _name(host: str) -> str:
    """A Host header without its port: `[::1]:80` is `::1`."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return host


async def _answer(send: Send, status: int, sentence: str, headers: dict[str, str] | None = None) -> None:
    body = json.dumps({"error": sentence}).encode() if sentence else b""
    held = {**HEADERS, "content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in held.items()],
        }
    )
    await send({"type": "http.response.body", "body": body})
