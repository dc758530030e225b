"""The emulator's HTTP side: checks signatures, routes actions, words answers, and is administered.

Everything a client of the real API sends goes to `/`. Paths below `/-/` are the rehearsal's own,
unsigned, and never show a secret:

    GET    /-/names                      host name -> {host, port}: running registries, upstreams
    GET    /-/registries                 each registry: domain, address, access log
    PUT    /-/registries/<domain>/fault  put a DataFault in force (registries/faults.py)
    DELETE /-/registries/<domain>/fault  heal it
    PUT    /-/upstreams/<host>/fault     the same for what proxies ask of an upstream (recorder.py)
    DELETE /-/upstreams/<host>/fault     heal it
    POST   /-/faults                     have the next calls of an action fail (CallFault)
    DELETE /-/faults                     forget all of these
    GET    /-/calls                      API calls so far: service, action, subject, status, code
"""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from rehearsal.cloud.api import addons, cr, vke
from rehearsal.cloud.api.config import EmulatorConfig
from rehearsal.cloud.api.errors import ApiError
from rehearsal.cloud.api.parameters import parse
from rehearsal.cloud.api.signature import Caller, verify
from rehearsal.cloud.registries.faults import DataFault
from rehearsal.cloud.registries.plane import DataPlane

_SUBJECTS = ("ClusterId", "Registry", "Name")


class CallFault(BaseModel):
    """Makes the next calls of an action fail."""

    model_config = ConfigDict(extra="forbid")

    action: str
    times: int = Field(default=1, ge=1)
    status: int = Field(default=500, ge=400, le=599)
    code: str = "InternalError"


class Emulator:
    """The ASGI application."""

    def __init__(
        self, config: EmulatorConfig, cr_api: cr.CrApi, data_plane: DataPlane | None
    ) -> None:
        vke_api = vke.VkeApi(config)
        self._config = config
        self._cr = cr_api
        self._data_plane = data_plane
        self._faults: list[CallFault] = []
        self._calls: list[dict[str, Any]] = []
        self._actions: dict[tuple[str, str], Mapping[str, cr.Action]] = {
            (cr.SERVICE, cr.VERSION): cr_api.actions,
            (vke.SERVICE, vke.VERSION): {**vke_api.actions, **addons.AddonApi(config).actions},
            (vke.VPC_SERVICE, vke.VPC_VERSION): vke_api.vpc_actions,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        own = request.url.path.startswith("/-/")
        response = await (self._administer(request) if own else self._call(request))
        await response(scope, receive, send)

    # The API

    async def _call(self, request: Request) -> Response:
        body = await request.body()
        action, version = (request.query_params.get(name, "") for name in ("Action", "Version"))
        metadata: dict[str, Any] = {
            "RequestId": secrets.token_hex(16).upper(),
            "Action": action,
            "Version": version,
            "Service": "",
            "Region": self._config.region,
        }
        call: dict[str, Any] = {"Action": action, "Subject": "", "Status": 200, "Code": ""}
        self._calls.append(call)
        try:
            self._meet_fault(action)
            caller = self._verified(request, body)
            metadata |= {"Service": caller.service, "Region": caller.region}
            call["Service"] = caller.service
            parameters = parse(request.url.query, body)
            call["Subject"] = _subject(parameters)
            result = self._result(caller, action, version, parameters)
        except ApiError as error:
            metadata["Error"] = {"Code": error.code, "Message": error.message}
            call |= {"Status": error.status, "Code": error.code}
            return JSONResponse({"ResponseMetadata": metadata}, status_code=error.status)
        return JSONResponse({"ResponseMetadata": metadata, "Result": result})

    def _meet_fault(self, action: str) -> None:
        for fault in self._faults:
            if fault.action == action:
                fault.times -= 1
                if fault.times == 0:
                    self._faults.remove(fault)
                raise ApiError(fault.status, fault.code, "fault on demand")

    def _verified(self, request: Request, body: bytes) -> Caller:
        caller = verify(
            request,
            body,
            access_key=self._config.access_key,
            secret_key=self._config.secret_key.get_secret_value(),
        )
        if caller.region not in self._config.quota:
            message = f"The specified region {caller.region} is invalid."
            raise ApiError(400, "InvalidRegion", message)
        return caller

    def _result(
        self, caller: Caller, action: str, version: str, parameters: Mapping[str, Any]
    ) -> dict[str, Any]:
        found = self._actions.get((caller.service, version), {}).get(action)
        if found is None:
            message = f"Could not find operation {action} for version {version}."
            raise ApiError(404, "InvalidActionOrVersion", message)
        model, run = found
        return run(caller.region, model.read(parameters))

    # The rehearsal's own side

    async def _administer(self, request: Request) -> Response:
        path = request.url.path.removeprefix("/-/")
        body = await request.body()
        routes: dict[tuple[str, str], Callable[[], object]] = {
            ("GET", "names"): self._names,
            ("GET", "registries"): self._registries,
            ("GET", "calls"): lambda: self._calls,
            ("POST", "faults"): lambda: self._faults.append(CallFault.model_validate_json(body)),
            ("DELETE", "faults"): self._faults.clear,
        }
        try:
            if path.endswith("/fault") and request.method in ("PUT", "DELETE"):
                kind, _, name = path.removesuffix("/fault").partition("/")
                put = request.method == "PUT"
                return await self._set_fault(
                    kind, name, DataFault.model_validate_json(body) if put else None
                )
            run = routes.get((request.method, path))
            if run is None:
                return JSONResponse({"error": f"no {request.method} /-/{path}"}, status_code=404)
            return JSONResponse(run())
        except ValidationError as error:
            content = json.loads(error.json(include_url=False, include_context=False))
            return JSONResponse({"error": content}, status_code=400)

    async def _set_fault(self, kind: str, name: str, fault: DataFault | None) -> Response:
        """Put a fault of a proxy registry or an upstream in force, or heal it."""
        plane = self._data_plane
        if kind == "registries" and plane and (proxy := plane.registry(name)):
            await proxy.set_fault(fault)
        elif kind == "upstreams" and plane and (faults := plane.upstream_faults(name)):
            faults.fault = fault
        else:
            return JSONResponse({"error": f"{name} is not served"}, status_code=404)
        return JSONResponse(None)

    def _names(self) -> dict[str, object]:
        names = self._data_plane.names() if self._data_plane else {}
        return {name: dataclasses.asdict(endpoint) for name, endpoint in names.items()}

    def _registries(self) -> list[dict[str, object]]:
        shown: list[dict[str, object]] = []
        for registry in self._cr.registries.values():
            proxy = self._data_plane.registry(registry.domain) if self._data_plane else None
            served = dataclasses.asdict(proxy.endpoint) if proxy else {"host": None, "port": None}
            log = str(proxy.access_log) if proxy else None
            shown.append({"domain": registry.domain, **served, "access_log": log})
        return shown


def _subject(parameters: Mapping[str, Any]) -> str:
    """Return what a call is about, for the list of calls: never a secret."""
    return "/".join(value for name in _SUBJECTS if isinstance(value := parameters.get(name), str))
