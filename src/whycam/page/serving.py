"""The server: a free port, the address that opens the page, and an end that cancels what is running."""

import os
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
import uvicorn

from whycam.errors import WhycamError
from whycam.kit.words import first_line
from whycam.models.vision_model import VisionModel
from whycam.page.app import Page
from whycam.page.guard import LOOPBACK, Guard
from whycam.page.jobs import Jobs
from whycam.page.kept import Kept
from whycam.page.networks import Served
from whycam.results.reproduce import ALONE, Loading

#: Where the page is looked for first.
USUAL_PORT = 8347
#: How long answers under way may take when the server is to end.
_GRACE = 2


def bind(host: str, port: int | None) -> tuple[socket.socket, str]:
    """A socket on that port, or, where none was named, on the usual one or any that is free; and what to say of it.

    Raises:
        WhycamError: the port or the host cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    said = ""
    for number in [port] if port is not None else [USUAL_PORT, 0]:
        made = socket.socket(family)
        if os.name == "posix":  # a port that was left a moment ago; elsewhere the flag takes ports from others
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((host, number))
            made.listen(128)
        except OSError as error:
            made.close()
            reason = error.strerror or str(error)
            if port is not None or number == 0:
                raise WhycamError(f"{host}, port {number}: no page can be served there: {reason}.") from None
            said = f"port {number} is taken, so another one is used."
            continue
        return made, said
    raise AssertionError("a port is had or refused")


def serve(
    networks: Sequence[tuple[str, VisionModel]],
    samples: Mapping[str, Path],
    bound: socket.socket,
    *,
    tell: Callable[[str], None],
    browser: bool = True,
    token: bool = False,
    prefix: str = "",
    loading: Loading = ALONE,
) -> None:
    """Serve the page until Ctrl-C.

    Each network is run once before the address is told, so that what cannot be asked is said at once.

    Args:
        networks: by the specs that name them. `samples`: photos that are offered, by what they are called.
        tell: is told the address. `browser`: whether to open it.
        token: ask for a token even here; anywhere but on this machine itself one is asked for in any case.
        prefix: the path under which a proxy hands the page out.
        loading: what was said of the networks beside their specs.

    Raises:
        WhycamError: a network that cannot be run.
    """
    # two lanes run networks at once, and threads of both beside each other would only be in each other's way
    torch.set_num_threads(max(1, torch.get_num_threads() // 2))
    host, port = bound.getsockname()[:2]
    word = secrets.token_urlsafe(24) if token or host not in LOOPBACK else None
    asked = [Served.of(spec, vision, loading) for spec, vision in networks]
    for each in asked:
        _try(each)
    jobs = Jobs()
    page = Page(asked, Kept(samples), jobs)
    config = uvicorn.Config(
        Guard(page.app(), word, prefix), log_level="warning", access_log=False, server_header=False, lifespan="off",
        timeout_graceful_shutdown=_GRACE, ws="none",
    )  # fmt: skip
    shown = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{port}{prefix.rstrip('/')}/" + (f"?token={word}" if word is not None else "")
    tell(address)
    if browser:
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    try:
        uvicorn.Server(config).run(sockets=[bound])
    except KeyboardInterrupt:
        pass  # how a page ends
    finally:
        bound.close()
        if not jobs.close(_GRACE):  # a thread that still runs a network cannot be left behind
            tell("A run of the network is under way; the page ends with it.")
            jobs.close()


def _try(served: Served) -> None:
    try:
        _ = served.answers, served.usual_method
    except WhycamError:
        raise
    except Exception as error:  # the network's own
        said = f"{type(error).__name__}: {first_line(error)}"
        raise WhycamError(f"{served.spec}: the network cannot be run on an input of its size: {said}.") from error
