"""The page's addresses, and what each of them answers."""

import asyncio
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, get_args
from urllib.parse import quote

import anyio
import numpy as np
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import whycam
from whycam.checkup.layers import layers
from whycam.errors import OptionError, WhycamError
from whycam.kit.arrays import Enlarge
from whycam.kit.files import for_json
from whycam.kit.regions import around_parts
from whycam.kit.registry import list_methods
from whycam.kit.words import first_line
from whycam.page import describing
from whycam.page.asking import Question
from whycam.page.jobs import Job, Jobs
from whycam.page.kept import Kept, KeptMap
from whycam.page.networks import Served
from whycam.page.refusals import Refused, unknown
from whycam.page.uploads import MOST_BYTES, MOST_PIXELS, MOST_WORDS, body, decoded
from whycam.pictures.blends import OPACITY, Blend
from whycam.pictures.colormaps import DEFAULT, DEFAULT_SIGNED, palette
from whycam.pictures.encoding import encoded
from whycam.pictures.photos import safe_name
from whycam.results.drawing import overlay
from whycam.results.heat import color_scale, heat_of
from whycam.results.look import Look
from whycam.results.reproduce import Lines

T = TypeVar("T")

#: Pictures that are read or drawn at once: each may take a few hundred megabytes.
_AT_ONCE = 2
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass
class Page:
    """What is behind the addresses: networks, photos, maps, and work that waits."""

    networks: Sequence[Served]
    kept: Kept
    jobs: Jobs = field(default_factory=Jobs)
    possible: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def app(self) -> Starlette:
        """The application, without its guard."""
        made = Starlette(
            routes=[
                Route("/", _static),
                Route("/static/{name}", _static),
                *(
                    Route(f"/api/{path}", self._answers(each), methods=[method])
                    for method, path, each in self._routes()
                ),
            ],
            exception_handlers={WhycamError: _sentence, HTTPException: _sentence, Exception: _sentence},
        )
        return made

    def _routes(self) -> list[tuple[str, str, Callable[[Request], Any]]]:
        return [
            ("GET", "about", self.about),
            ("POST", "photos", self.add_photo),
            ("GET", "photos/{photo}", self.photo),
            ("GET", "photos/{photo}/picture.png", self.picture),
            ("GET", "models/{model}/layers", self.layers),
            ("GET", "models/{model}/methods", self.methods),
            ("POST", "predictions", self.predictions),
            ("POST", "jobs", self.ask),
            ("GET", "jobs/{job}", self.job),
            ("DELETE", "jobs/{job}", self.cancel),
            ("GET", "maps/{map}/heat.f32", self.heat),
            ("GET", "maps/{map}/level.f32", self.level),
            ("GET", "maps/{map}/overlay.png", self.overlay),
            ("GET", "maps/{map}/raw.npy", self.raw),
            ("GET", "maps/{map}/record.json", self.record),
            ("POST", "maps/{map}/share", self.share),
            ("GET", "maps/{map}/boxes", self.boxes),
        ]

    def _answers(self, answer: Callable[[Request], Any]) -> Callable[[Request], Any]:
        """What is no response yet is JSON, without NaN."""

        async def answered(request: Request) -> Response:
            made = await answer(request)
            return made if isinstance(made, Response) else _Json(made)

        return answered

    async def about(self, request: Request) -> dict[str, Any]:
        """What there is to choose from."""
        networks = await self._quickly(lambda _: [describing.network(each) for each in self.networks])
        return {
            "version": whycam.__version__,
            "models": networks,
            "samples": [{"id": name, "name": shown} for name, (shown, _) in self.kept.samples.items()],
            "methods": describing.methods(),
            "colormaps": describing.colormaps(),
            "opacity": OPACITY,
            "default_colormap": DEFAULT,
            "default_signed_colormap": DEFAULT_SIGNED,
            "limits": {"bytes": MOST_BYTES, "pixels": MOST_PIXELS, "waiting": self.jobs.most},
        }

    async def add_photo(self, request: Request) -> dict[str, Any]:
        """Keep a photo."""
        name = request.query_params.get("name") or "photo"
        data = await body(request.stream(), request.headers.get("content-length"), MOST_BYTES)
        kept = await self._aside(lambda: self.kept.add(data, name, name, lambda: decoded(data, name)))
        return describing.photo(kept)

    async def photo(self, request: Request) -> dict[str, Any]:
        """What is known of a photo, such as a sample."""
        return describing.photo(await self._photo(request.path_params["photo"]))

    async def picture(self, request: Request) -> Response:
        """The picture that is drawn of a photo."""
        return _png(await self._aside(lambda: _as_png(self.kept.photo(request.path_params["photo"]).drawn.image)))

    async def layers(self, request: Request) -> list[dict[str, Any]]:
        """Where in a network maps can be made."""
        served, photo = self._network(request.path_params["model"]), request.query_params.get("photo", "")

        def listed(_: Job) -> list[dict[str, Any]]:
            kept = self.kept.photo(photo)
            with served.session.tree():
                return [describing.layer(each) for each in layers(served.session, kept.photo)]

        made: list[dict[str, Any]] = await self._quickly(listed)
        return made

    async def methods(self, request: Request) -> list[dict[str, Any]]:
        """Which methods can be asked of a network, found out once."""
        served, photo = self._network(request.path_params["model"]), request.query_params.get("photo", "")

        def listed(job: Job) -> list[dict[str, Any]]:
            if served.id not in self.possible:
                refused = served.refusals(self.kept.photo(photo))
                self.possible[served.id] = [describing.possible(each, refused) for each in list_methods()]
            return self.possible[served.id]

        made: list[dict[str, Any]] = await self._quickly(listed)
        return made

    async def predictions(self, request: Request) -> dict[str, Any]:
        """What a network says of a photo."""
        asked = await _question(request)
        served, photo, point = self._network(asked.get("model")), asked.get("photo"), asked.get("point")
        if point is not None:
            point = _numbers(point, 2, "point")
        made: dict[str, Any] = await self._quickly(lambda _: served.says(self.kept.photo(str(photo)), point))
        return made

    async def ask(self, request: Request) -> dict[str, Any]:
        """Let a question wait for its turn."""
        asked = await _question(request)
        served, kept = self._network(asked.get("model")), await self._photo(asked.get("photo"))
        question = Question.from_json(asked)
        aims = question.aims(self.kept)
        lines = Lines(
            served.spec,
            kept.source,
            list(question.methods),
            question.layers,
            {each.words: each.spec for each in aims.values()},
            question.methods,
            {name: value for name in ("smoothing", "fusion") if (value := getattr(question, name))},
            served.loading,
        )

        def explained(job: Job) -> dict[str, Any]:
            session = served.session
            asked = question.request(session, aims, job)
            with session.tree():
                made = session.run(session.batch(kept.photo, asked), asked)
            words = {name: each.text for name, each in aims.items()}
            told = {"command": lines.shell, "weights": served.weights}
            maps = self.kept.keep([replace(one, provenance=told) for one in made.values()], kept.drawn)
            return {
                "maps": [
                    describing.one_map(one, text)
                    for one, text in zip(maps, describing.target_texts(made, words), strict=True)
                ],
                "failures": describing.failures(made, words),
                "python": lines.python,
                "shell": lines.shell,
            }

        return {"job": self.jobs.submit(explained, "slow" if question.slow else "quick").id}

    async def job(self, request: Request) -> dict[str, Any]:
        """How far a question is."""
        return self._state(self.jobs.find(request.path_params["job"]))

    async def cancel(self, request: Request) -> dict[str, Any]:
        """Nobody waits for it any more."""
        job = self.jobs.find(request.path_params["job"])
        self.jobs.cancel(job)
        return self._state(job)

    def _state(self, job: Job) -> dict[str, Any]:
        return {
            "state": job.state,
            "ahead": self.jobs.ahead(job),
            "done": job.done,
            "total": job.total,
            "seconds": job.seconds,
            "about_seconds": job.about_seconds,
            "error": str(job.error) if job.error is not None else None,
            "result": job.future.result() if job.state == "done" else None,
        }

    async def heat(self, request: Request) -> Response:
        """The map at the input's size, scaled for colors, and in a header the raw value at which these end."""
        kept, look = self._map(request), _look(request.query_params)
        heat, end = await self._aside(lambda: (heat_of(kept.one, look)[0].numpy(), color_scale(kept.one, look).high))
        return _floats(heat, {"color-end": repr(end)})

    async def level(self, request: Request) -> Response:
        """The map that masks and boxes go by, from 0 to 1."""
        kept = self._map(request)
        return _floats(await self._aside(lambda: kept.one.heatmaps(normalize="max").cpu()[0].clamp(min=0).numpy()))

    async def overlay(self, request: Request) -> Response:
        """The overlay as whycam draws it."""
        kept, look = self._map(request), _look(request.query_params)
        data = await self._aside(lambda: _as_png(overlay(kept.one, look)))
        return _png(data, _file(kept, "overlay.png"))

    async def raw(self, request: Request) -> Response:
        """The raw map."""
        kept, data = self._map(request), io.BytesIO()
        np.save(data, kept.one.maps[0].cpu().numpy())
        return Response(
            data.getvalue(), media_type="application/octet-stream", headers=_attached(_file(kept, "map.npy"))
        )

    async def record(self, request: Request) -> Response:
        """How a map came about."""
        kept = self._map(request)
        return _Json(kept.record, headers=_attached(_file(kept, "json")))

    async def share(self, request: Request) -> dict[str, Any]:
        """How much of a map's evidence lies in a box."""
        kept = self._map(request)
        box = _numbers((await _question(request)).get("box"), 4, "box")
        return {"share": float(await self._aside(lambda: kept.one.share(box)[0]))}

    async def boxes(self, request: Request) -> dict[str, Any]:
        """Boxes around the bright parts of a map."""
        kept, level = self._map(request), _number(request.query_params.get("level", "0.2"), "level")
        mask = await self._aside(lambda: kept.one.mask(level)[0])
        found = await self._aside(lambda: around_parts(mask))
        return {"boxes": found.tolist(), "share_of_area": float(mask.float().mean())}

    def _network(self, name: Any) -> Served:
        found = next((each for each in self.networks if each.id == name), None)
        if found is None:
            raise unknown("model", str(name))
        return found

    def _map(self, request: Request) -> KeptMap:
        return self.kept.map(request.path_params["map"])

    async def _photo(self, name: Any) -> Any:
        return await self._aside(lambda: self.kept.photo(str(name)))

    async def _quickly(self, work: Callable[[Job], Any]) -> Any:
        """What the quick lane makes of it; its thread is the one that runs networks for such questions."""
        return await asyncio.shield(asyncio.wrap_future(self.jobs.submit(work, "quick").future))

    async def _aside(self, work: Callable[[], T]) -> T:
        """What a thread makes of it that runs no network, a few at a time."""
        return await run_sync(work, limiter=self._limiter)

    @cached_property
    def _limiter(self) -> anyio.CapacityLimiter:
        """Made when it is first asked for, since it belongs to the loop that is running then."""
        return anyio.CapacityLimiter(_AT_ONCE)


class _Json(JSONResponse):
    """JSON, null in place of NaN and infinity."""

    def render(self, content: Any) -> bytes:
        return json.dumps(for_json(content), ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")


async def _static(request: Request) -> Response:
    """A file of the page, from among those there are: no path is made of what was asked."""
    name = request.path_params.get("name", "index.html")
    found = next((each for each in files("whycam.page").joinpath("static").iterdir() if each.name == name), None)
    kind = _TYPES.get(Path(name).suffix)
    if found is None or kind is None:
        raise Refused(404, f"the page has no file {name!r}.")
    return Response(found.read_bytes(), media_type=f"{kind}; charset=utf-8")


async def _sentence(request: Request, error: Exception) -> Response:
    """What went wrong, as JSON; of a mistake of ours the traceback goes to who runs the server."""
    status, said, headers = 400, str(error), {}
    if isinstance(error, Refused):
        status = error.status
        headers = {"retry-after": str(error.again)} if error.again is not None else {}
    elif isinstance(error, HTTPException):
        status, said = error.status_code, f"{request.method} {request.url.path}: {error.detail}."
    elif not isinstance(error, WhycamError):
        status, said = 500, f"{type(error).__name__}: {first_line(error)}"
    return _Json({"error": said}, status_code=status, headers=headers)


async def _question(request: Request) -> dict[str, Any]:
    """What was sent in JSON."""
    data = await body(request.stream(), request.headers.get("content-length"), MOST_WORDS)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise OptionError("a question is an object in JSON.")
    return found


def _look(query: Mapping[str, str]) -> Look:
    look = Look(
        query.get("colormap") or None,
        _number(query.get("opacity", str(OPACITY)), "opacity"),
        query.get("signed") == "1",
        _one_of(Enlarge, query.get("enlarge", "cubic"), "enlarge"),
        caption=False,
        blend=_one_of(Blend, query.get("blend", "map"), "blend"),
        contour=_number(level, "contour") if (level := query.get("contour")) else None,
    )
    palette(look.colormap, look.signed)  # a name that does not exist is said
    return look


def _one_of(kind: Any, text: str, name: str) -> Any:
    """A word of a `Literal`."""
    if text not in get_args(kind):
        raise OptionError(f"{name} is {' or '.join(get_args(kind))}, not {text!r}.")
    return text


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise OptionError(f"{name} is a number, not {text!r}.") from None


def _numbers(given: Any, count: int, name: str) -> list[float]:
    if not isinstance(given, list) or len(given) != count or not all(type(each) in (int, float) for each in given):
        raise OptionError(f"{name} is {count} numbers, not {given!r}.")
    return [float(each) for each in given]


def _as_png(image: Any) -> bytes:
    return encoded(image, "png", compress_level=1)


def _png(data: bytes, name: str | None = None) -> Response:
    return Response(data, media_type="image/png", headers=_attached(name) if name is not None else None)


def _floats(values: np.ndarray, headers: dict[str, str] | None = None) -> Response:
    return Response(values.astype("<f4").tobytes(), media_type="application/octet-stream", headers=headers)


def _file(kept: KeptMap, ending: str) -> str:
    assert kept.one.context is not None  # photos are explained here
    return f"{safe_name(kept.one.context.name(0)) or 'photo'}.{kept.one.method}.{ending}"


def _attached(name: str) -> dict[str, str]:
    return {"content-disposition": f"attachment; filename*=UTF-8''{quote(name)}"}
