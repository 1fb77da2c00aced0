"""Files on hubs: looking them up in the cache, whether the hub can be reached, and fetching them."""

import socket
import threading
import urllib.request
import warnings
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit

import torch

from whycam.errors import ModelError, WhycamError
from whycam.kit.words import first_line
from whycam.models.packages import optional

#: For how long a host may fail to answer. The libraries retry for minutes.
PATIENCE = 3.0

WAYS_OUT = (
    "Give a file of weights (--weights FILE, weights=FILE), or look at the structure alone (--weights random, "
    "weights='random')."
)


def need(url: str, spec: str, wanted: str, *, offline: str = "", instead: str = "") -> None:
    """Say that `wanted` is asked for, having made sure that somebody is there to answer.

    Args:
        url: where it would be asked for.
        spec: what the caller named.
        wanted: what would be fetched, in words: a repository or an address.
        offline: why the network must not be used, if so.
        instead: what to do without a network, where that is not what it usually is.

    Raises:
        WhycamError: it must not be asked for, or nobody answers; with the ways out.
    """
    host = urlsplit(url).hostname or url
    why = offline or ("" if reachable(url) else f"{host} cannot be reached")
    if why:
        instead = instead or WAYS_OUT[0].lower() + WAYS_OUT[1:]
        raise ModelError(
            f"{spec!r} would fetch {wanted} from {host}, since it is not on this machine, and {why}. Connect to the "
            f"network, or do without: {instead}"
        )
    warnings.warn(f"{spec}: fetching {wanted} from {host}", stacklevel=2)


def reachable(url: str) -> bool:
    """Whether the host of an address, or the proxy that stands before it, takes a connection."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxies = {} if urllib.request.proxy_bypass(host) else urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host = parts.hostname or ""
    answered = threading.Event()

    def knock() -> None:
        try:
            socket.create_connection((host, parts.port or (80 if parts.scheme == "http" else 443)), PATIENCE).close()
        except (OSError, ValueError):
            return
        answered.set()

    # in a thread of its own, since looking a name up knows no time limit
    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return answered.is_set()


def from_url(url: str, spec: str) -> Path:
    """A file that torch's hub keeps, fetched if it is not here yet; a digest in its name is checked then.

    Raises:
        WhycamError: it is not here and cannot be had.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(urlsplit(url).path).name
    if path.exists():
        return path
    need(url, spec, url)
    folder.mkdir(parents=True, exist_ok=True)
    digest = torch.hub.HASH_REGEX.search(path.name)
    try:
        torch.hub.download_url_to_file(url, str(path), digest[1] if digest else None, progress=True)
    except (RuntimeError, URLError, OSError) as error:
        raise ModelError(f"{spec!r}: {url} could not be fetched: {error}.") from error
    return path


def from_repository(repository: str, names: list[str], spec: str) -> Path:
    """The first of several files that a repository of the Hugging Face hub has, from the cache if it is there.

    Raises:
        WhycamError: none is here, and none can be had.
    """
    hub = optional("huggingface_hub", "timm", f"{spec!r}")
    for name in names:
        if (folder := kept(repository, name, spec)) is not None:
            return folder / name
    repository, _, revision = repository.partition("@")
    need_hub(spec, f"{repository}/{names[0]}")
    try:
        for name in names:
            with suppress(hub.errors.EntryNotFoundError):
                return Path(hub.hf_hub_download(repository, name, revision=revision or None))
    except (OSError, ValueError) as error:  # the hub's errors are of these kinds
        raise refused(spec, repository, error) from error
    raise ModelError(f"{spec!r}: {repository} on the Hugging Face hub has none of {', '.join(names)}.")


def kept(repository: str, name: str, spec: str) -> Path | None:
    """The folder on this machine in which the Hugging Face cache has a repository with this file, if it has."""
    hub = optional("huggingface_hub", "hf", f"{spec!r}")
    repository, _, revision = repository.partition("@")
    try:
        found = hub.try_to_load_from_cache(repository, name, revision=revision or None)
    except ValueError as error:  # no name that a repository can have
        raise ModelError(f"{spec!r}: {first_line(error)}") from error
    return Path(found).parent if isinstance(found, str) else None


def need_hub(spec: str, wanted: str, *, instead: str = "") -> None:
    """As `need`, of the Hugging Face hub or of the mirror that is set in its place."""
    constants = optional("huggingface_hub", "hf", f"{spec!r}").constants
    offline = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else ""
    need(constants.ENDPOINT, spec, wanted, offline=offline, instead=instead)


def refused(spec: str, repository: str, error: Exception) -> WhycamError:
    """The error for a hub that answered, but not with what was asked for."""
    return ModelError(f"{spec!r}: {repository} could not be had from the Hugging Face hub: {first_line(error)}")
