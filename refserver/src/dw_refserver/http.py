"""From ASGI to a handler and back: the order of checks, the envelopes, one log line per request."""

from __future__ import annotations

import asyncio
import re
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dw_refserver import auth, protocol
from dw_refserver.engine import Refused
from dw_refserver.logs import log
from dw_refserver.node import Node
from dw_refserver.protocol import CONTROL_HEADER, CONTROL_VERSION, WORKER_HEADER
from dw_refserver.store.database import BackendUnavailableError
from dw_refserver.ulid import new_ulid

_PROBES = ("/api/health", "/api/ready")
_BODY_SECONDS = 15.0
_DEEPEST = 200
_JSON = re.compile(r"application/([\w.-]+\+)?json", re.IGNORECASE)
_NAMESPACE = re.compile(r"[a-z0-9._-]{1,128}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_REQUEST_ID = re.compile(r"[\w.:-]{1,128}")


@dataclass
class Call:
    """One request that has passed every check up to its fields."""

    node: Node
    request: Request
    path: Mapping[str, str]
    role: str
    namespace: str
    body: Mapping[str, Any]

    @cached_property
    def gone(self) -> asyncio.Future[Any]:
        """Done when the client has hung up; only for handlers that wait."""
        return asyncio.ensure_future(self.request.receive())


@dataclass(frozen=True)
class Answer:
    """What a handler says; the envelope adds the rest."""

    body: Mapping[str, Any]
    status: int = 200


@dataclass(frozen=True)
class Endpoint:
    """One method of one route. No roles means open to all.

    `operation` is the protocol's name for it: a workflow operation's envelope and a lost worker call's answer say it;
    `lost` is what else such an answer says. `inside` means that the request's namespace must be there.
    """

    method: str
    path: str
    handle: Callable[[Call], Awaitable[Answer]]
    roles: Sequence[str] = ()
    operation: str | None = None
    versioned: bool = True
    inside: bool = True
    lost: Mapping[str, Any] = field(default_factory=dict)


class Path:
    """All methods of one path, or of none, as an ASGI application."""

    def __init__(self, node: Node, endpoints: Sequence[Endpoint] = ()) -> None:
        self.node = node
        self.by_method = {endpoint.method: endpoint for endpoint in endpoints}
        if "GET" in self.by_method:
            self.by_method["HEAD"] = self.by_method["GET"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request, started = Request(scope, receive), time.perf_counter()
        endpoint = self.by_method.get(request.method)
        try:
            if endpoint is None:
                answer, operation = _refused(request, self._no_endpoint(request)), None
            else:
                answer, operation = await _answer(self.node, endpoint, request), endpoint.operation
        except ClientDisconnect:
            return
        await _finish(request, _response(self.node, request, answer, operation), send, started)

    def _no_endpoint(self, request: Request) -> Refused:
        if not self.by_method:
            return _no_route(request)
        methods, route = ", ".join(sorted(self.by_method)), request.scope["path"].strip("/")
        text = f"The {request.method} method is not supported for route {route}. Supported methods: {methods}."
        return Refused(405, "method_not_allowed", text)


def _no_route(request: Request) -> Refused:
    return Refused(404, "not_found", f"The route {request.scope['path'].strip('/')} could not be found.")


async def _answer(node: Node, endpoint: Endpoint, request: Request) -> Answer:
    """What the handler says, or why it was not asked; never raises for a fault of the client or of ours."""
    body: Mapping[str, Any] = {}
    try:
        raw = await _read(request, node.settings.max_payload_bytes)
        body = _parse(request, raw)
        return await endpoint.handle(await _admit(node, endpoint, request, raw, body))
    except Refused as refused:
        return _refused(request, refused)
    except BackendUnavailableError:
        return _refused(request, _backend_lost(endpoint, request.path_params, body))
    except ClientDisconnect:
        raise
    except Exception as error:  # the last line: a bug must not become a traceback on the wire
        log("request_failed", "error", error=type(error).__name__, where=_where(error), path=request.scope["path"])
        return _refused(request, Refused(500, "server_error", "The server failed to handle the request."))


def _where(error: BaseException) -> str:
    """The innermost line of our own code, without any value of it."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "dw_refserver" in frame.filename]
    return f"{ours[-1].filename.rsplit('/', 1)[-1]}:{ours[-1].lineno}"


async def _read(request: Request, limit: int) -> bytes:
    """The body, bounded in size and time."""
    text = f"Request payload exceeds the maximum allowed size of {limit} bytes."
    too_large = Refused(413, "payload_too_large", text, limit=limit)
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise too_large
    raw = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                raw += chunk
                if len(raw) > limit:
                    raise too_large
    except TimeoutError:
        raise Refused(408, "request_timeout", "The request body did not arrive in time.") from None
    return bytes(raw)


def _parse(request: Request, raw: bytes) -> Mapping[str, Any]:
    if not raw:
        return {}
    if not _JSON.fullmatch(request.headers.get("content-type", "").split(";")[0].strip()):
        accepted = ["application/json", "application/*+json"]
        text = "Request bodies must use a JSON media type."
        raise Refused(415, "unsupported_media_type", text, accepted_content_types=accepted)
    found = "Syntax error"
    try:
        body = orjson.loads(raw)
        if raw.count(b"[") + raw.count(b"{") <= _DEEPEST or not _deeper(body, _DEEPEST):
            return body if isinstance(body, dict) else {}
        found = "Maximum stack depth exceeded"
    except orjson.JSONDecodeError:
        pass
    raise Refused(400, "malformed_json", "Request bodies must contain valid JSON.", json_error=found)


def _deeper(value: Any, levels: int) -> bool:
    """Whether arrays and objects stand in one another more than so many levels deep; what is can't be encoded again."""
    layer = [value]
    for _ in range(levels):
        lists = [part.values() if isinstance(part, dict) else part for part in layer if isinstance(part, dict | list)]
        layer = list(chain.from_iterable(lists))
    return any(isinstance(part, dict | list) for part in layer)


async def _admit(node: Node, endpoint: Endpoint, request: Request, raw: bytes, body: Mapping[str, Any]) -> Call:
    """Authentication, role, version, namespace: in this order, so that no one learns what is not for them."""
    role, path = "", request.path_params
    if endpoint.roles:
        role = auth.check(node.settings.auth, request.headers, raw, endpoint.roles)
    if endpoint.versioned and _is_worker(request):
        protocol.check_worker_version(request.headers.get(WORKER_HEADER), node.settings.protocol_version)
    elif endpoint.versioned:
        protocol.check_control_version(request.headers.get(CONTROL_HEADER))
    if any(_CONTROL.search(value) for value in path.values()):  # no id holds one, and PostgreSQL takes no NUL
        raise _no_route(request)
    named = request.headers.get("x-namespace") or request.query_params.get("namespace")
    namespace = (named or node.settings.default_namespace).lower()
    if not _NAMESPACE.fullmatch(namespace) or (endpoint.inside and not await node.knows_namespace(namespace)):
        raise protocol.namespace_missing(namespace)
    return Call(node, request, path, role, namespace, body)


def _backend_lost(endpoint: Endpoint, path: Mapping[str, str], body: Mapping[str, Any]) -> Refused:
    """503 with all that a client needs to send the same request again."""
    known = ("worker_id", "task_queue", "poll_request_id", "lease_owner", "workflow_task_attempt",
             "activity_attempt_id")  # fmt: skip
    fields = {name: body[name] for name in known if name in body} | dict(path) | dict(endpoint.lost)
    if "lease_owner" in fields:  # clients look for themselves under the one name or the other
        fields.setdefault("worker_id", fields["lease_owner"])
    text = "The durable backend is unavailable; whether the request took effect is unknown."
    return Refused(503, "backend_unavailable", text, operation=endpoint.operation, outcome="unknown", retryable=True,
                   retry_after_seconds=1, **fields)  # fmt: skip


def _refused(request: Request, refused: Refused) -> Answer:
    """An error in its plane's words."""
    return Answer(protocol.error_body(refused, worker=_is_worker(request)), refused.status)


def _is_worker(request: Request) -> bool:
    return str(request.scope["path"]).startswith("/api/worker/")


def _response(node: Node, request: Request, answer: Answer, operation: str | None) -> Response:
    """The answer with its plane's envelope and headers."""
    body, own = answer.body, {"cache-control": "no-cache, private"}
    if answer.status == 503:
        own["retry-after"] = "1"
    if _is_worker(request):
        own[WORKER_HEADER] = node.settings.protocol_version
        body = protocol.worker_body(body, node.settings)
    elif request.scope["path"] not in _PROBES:
        own[CONTROL_HEADER] = CONTROL_VERSION
        body = protocol.control_body(body, operation, request.path_params)
    return Response(orjson.dumps(body), answer.status, own, "application/json")


async def _finish(request: Request, response: Response, send: Send, started: float) -> None:
    given = request.headers.get("x-request-id", "")
    request_id = given if _REQUEST_ID.fullmatch(given) else new_ulid()
    response.headers["x-request-id"] = request_id
    await response(request.scope, request.receive, send)
    took = round((time.perf_counter() - started) * 1000, 1)
    if request.scope["path"] not in _PROBES or response.status_code >= 400:
        log("request", request_id=request_id, method=request.method, path=request.scope["path"],
            status=response.status_code, ms=took)  # fmt: skip
