"""The gate of a proxy registry: TLS, namespaces, login, faults and the access log.

Why a gate of our own in front of a plain distribution, and not distribution's own TLS and token
authentication: distribution reads users, and the token issuer's keys, at start and knows no
namespaces with access levels, so every CreateNamespace and SetUser would need a restart and pulls
would break; it cannot take Basic and Bearer at once as the real service does; in proxy mode it
does not say whether an answer came from its cache; and it cannot fail on demand. The gate decides
each request from the emulator's live state and streams the body, so that cache, manifests, ranges
and digests remain the real registry's.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Literal, Protocol

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from rehearsal.cloud.registries.access_log import AccessLog, AccessRecord, Cache
from rehearsal.cloud.registries.faults import DataFault, FaultKind, FaultState
from rehearsal.cloud.registries.forwarding import forward
from rehearsal.cloud.registries.login import AuthMode, Identity, Login, LoginCheck, LoginError
from rehearsal.cloud.registries.recorder import Content, UpstreamRecorder, content_of
from rehearsal.cloud.registries.serving import drop_connection

TOKEN_PATH = "/service/token"  # noqa: S105 - a path
AccessLevel = Literal["Private", "Public"]


class Registry(Login, Protocol):
    """The live state of an emulated registry that its gate decides by."""

    @property
    def domain(self) -> str:
        """The registry's host name."""
        ...

    @property
    def upstream(self) -> str:
        """The host it is a proxy of, as images name it."""
        ...

    @property
    def reachable(self) -> bool:
        """Whether the network lets clients in (VPC access of an Enterprise registry)."""
        ...

    def access_level(self, namespace: str) -> AccessLevel | None:
        """The access level of a namespace; None when there is no such namespace."""
        ...


class RefusalError(Exception):
    """An answer other than content, as the OCI distribution specification words errors."""

    def __init__(self, status: int, code: str, message: str, challenge: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.challenge = challenge

    def response(self) -> Response:
        """Return it as an HTTP response."""
        headers = {"Docker-Distribution-Api-Version": "registry/2.0"}
        if self.challenge:
            headers["WWW-Authenticate"] = self.challenge
        content = {"errors": [{"code": self.code, "message": self.message}]}
        return JSONResponse(content, self.status, headers)


_STATUS_FAULTS = {401: "UNAUTHORIZED", 403: "DENIED", 404: "NAME_UNKNOWN", 429: "TOOMANYREQUESTS"}


class Gate:
    """The ASGI application of one proxy registry's domain."""

    def __init__(
        self,
        registry: Registry,
        *,
        cache_url: str,
        recorder: UpstreamRecorder,
        log: AccessLog,
        mode: AuthMode,
        faults: FaultState,
    ) -> None:
        self._registry = registry
        self._client = httpx.AsyncClient(
            base_url=cache_url, trust_env=False, timeout=httpx.Timeout(60.0)
        )
        self._recorder = recorder
        self._log = log
        self._mode = mode
        self._login = LoginCheck(registry, mode)
        self._faults = faults

    async def close(self) -> None:
        """Close the connections to the cache."""
        await self._client.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request and log it: whoever has the whole answer finds it in the log."""
        request = Request(scope, receive)
        came = dt.datetime.now(dt.UTC)
        started = time.monotonic()
        handling = _Handling(self._recorder.mark, content_of(request.url.path))

        def log() -> None:
            if handling.logged:
                return
            handling.logged = True
            asked = handling.asked_upstream(self._recorder)
            self._log.append(
                AccessRecord(
                    time=came,
                    method=request.method,
                    path=_target(scope),
                    status=handling.status,
                    user=handling.user,
                    agent=request.headers.get("user-agent", ""),
                    cache=handling.cache(asked),
                    upstream=asked,
                    milliseconds=round((time.monotonic() - started) * 1000),
                )
            )

        fault = self._faults.fault
        try:
            if not self._registry.reachable or (fault and fault.kind is FaultKind.DROP):
                log()
                await drop_connection(receive, send)
            else:
                await self._answer(request, _LastHeld(send, handling, log), handling, fault)
        finally:
            log()

    async def _answer(
        self, request: Request, send: Send, handling: _Handling, fault: DataFault | None
    ) -> None:
        try:
            if fault and fault.kind is FaultKind.STATUS:
                raise self._status_refusal(fault.status)
            if request.url.path == TOKEN_PATH and self._mode is not AuthMode.BASIC:
                response = self._token(request, handling)
            elif request.url.path in ("/v2", "/v2/"):
                response = self._ping(request, handling)
            else:
                content = self._allowed_content(request, handling)
                corrupt = (
                    fault is not None
                    and fault.kind is FaultKind.WRONG_DIGEST
                    and content is not None
                    and content.kind == "blobs"
                )
                handling.forwarded = content is not None
                await forward(self._client, request, send, corrupt=corrupt)
                return
        except RefusalError as refusal:
            response = refusal.response()
        await response(request.scope, request.receive, send)

    def _status_refusal(self, status: int) -> RefusalError:
        return RefusalError(
            status,
            _STATUS_FAULTS.get(status, "UNKNOWN"),
            "fault on demand",
            self._challenge() if status == 401 else None,
        )

    def _ping(self, request: Request, handling: _Handling) -> Response:
        identity = self._identify(request, handling)
        if identity.user is None and identity.repositories is None:
            raise self._unauthorized("authentication required")
        return JSONResponse({}, 200, {"Docker-Distribution-Api-Version": "registry/2.0"})

    def _token(self, request: Request, handling: _Handling) -> Response:
        if request.method != "GET":
            raise RefusalError(405, "UNSUPPORTED", "tokens are issued by GET")
        try:
            identity = self._login.identify_for_token(request.headers.get("authorization"))
        except LoginError as error:
            raise RefusalError(401, "UNAUTHORIZED", str(error)) from None
        handling.user = identity.user
        granted = frozenset(
            repository
            for scope in request.query_params.getlist("scope")
            for part in scope.split()
            if (repository := _pull_scope(part)) and self._may_pull(identity.user, repository)
        )
        value = self._login.issue(identity.user, granted)
        return JSONResponse({"token": value, "access_token": value, "expires_in": 300})

    def _allowed_content(self, request: Request, handling: _Handling) -> Content | None:
        """Return what may be forwarded. Raises RefusalError for everything else."""
        identity = self._identify(request, handling)
        repository = _repository(request.url.path)
        if repository is None:
            raise RefusalError(404, "NAME_UNKNOWN", "no such path")
        if request.method not in ("GET", "HEAD"):
            raise RefusalError(405, "UNSUPPORTED", "a proxy registry can only be pulled from")
        namespace = repository.split("/")[0]
        if not self._may_pull(identity.user, repository) or not identity.may_pull(repository):
            if identity.user is None or self._registry.access_level(namespace) is not None:
                raise self._unauthorized("authentication required", repository)
            raise RefusalError(
                404,
                "NAME_UNKNOWN",
                f"namespace {namespace} does not exist in {self._registry.domain}",
            )
        return content_of(request.url.path)

    def _may_pull(self, user: str | None, repository: str) -> bool:
        namespace, separator, _ = repository.partition("/")
        level = self._registry.access_level(namespace) if separator else None
        return level == "Public" or (level == "Private" and user is not None)

    def _identify(self, request: Request, handling: _Handling) -> Identity:
        try:
            identity = self._login.identify(request.headers.get("authorization"))
        except LoginError as error:
            raise self._unauthorized(str(error), _repository(request.url.path)) from None
        handling.user = identity.user
        return identity

    def _unauthorized(self, message: str, repository: str | None = None) -> RefusalError:
        return RefusalError(401, "UNAUTHORIZED", message, self._challenge(repository))

    def _challenge(self, repository: str | None = None) -> str:
        if self._mode is AuthMode.BASIC:
            return f'Basic realm="{self._registry.domain}"'
        challenge = (
            f'Bearer realm="https://{self._registry.domain}{TOKEN_PATH}",'
            f'service="{self._registry.domain}"'
        )
        if repository:
            challenge += f',scope="repository:{repository}:pull"'
        return challenge


class _Handling:
    """What becomes known about a request while it is answered."""

    def __init__(self, mark: int, content: Content | None) -> None:
        self.status = 0
        self.user: str | None = None
        self.forwarded = False
        self.logged = False
        self._mark = mark
        self._content = content

    def asked_upstream(self, recorder: UpstreamRecorder) -> tuple[str, ...]:
        if not self.forwarded or self._content is None:
            return ()
        return recorder.since(self._mark, self._content)

    def cache(self, asked: tuple[str, ...]) -> Cache:
        if not self.forwarded or self.status not in (200, 206, 304):
            return Cache.NONE
        return Cache.MISS if "GET" in asked else Cache.HIT


class _LastHeld:
    """A `send` that keeps each message until the next, to log before the last ones go out.

    A client may have its whole answer with any of them: with the start of one to HEAD, with the
    chunk that fills the content length.
    """

    def __init__(self, send: Send, handling: _Handling, log: Callable[[], None]) -> None:
        self._send = send
        self._handling = handling
        self._log = log
        self._held: Message | None = None

    async def __call__(self, message: Message) -> None:
        """Take one message of an answer."""
        if message["type"] == "http.response.start":
            self._handling.status = message["status"]
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if last:
            self._log()
        if self._held is not None:
            await self._send(self._held)
        self._held = message
        if last:
            await self._send(message)


def _repository(path: str) -> str | None:
    """Return the repository of /v2/<repository>/<manifests|blobs|tags|referrers>/<rest>."""
    if not path.startswith("/v2/"):
        return None
    parts = path.removeprefix("/v2/").split("/")
    if len(parts) < 3 or parts[-2] not in ("manifests", "blobs", "tags", "referrers"):
        return None
    return "/".join(parts[:-2])


def _pull_scope(scope: str) -> str | None:
    """Return the repository of a scope such as `repository:library/nginx:pull`."""
    kind, _, rest = scope.partition(":")
    repository, _, actions = rest.rpartition(":")
    return repository if kind == "repository" and "pull" in actions.split(",") else None


def _target(scope: Scope) -> str:
    path = str(scope["raw_path"].decode("ascii", errors="backslashreplace"))
    query = str(scope["query_string"].decode("ascii", errors="backslashreplace"))
    return f"{path}?{query}" if query else path
