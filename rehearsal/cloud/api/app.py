"""The emulator's HTTP side: checks signatures, routes actions, words answers, and is administered.

Everything a client of the real API sends goes to `/`. Paths below `/-/` are the rehearsal's own,
unsigned, and never show a secret:

    GET    /-/healthy                    200 once it answers
    GET    /-/names                      host name -> {host, port}: running registries, upstreams
    GET    /-/registries                 each registry: name, domain, address, access log
    PUT    /-/registries/<domain>/fault  put a DataFault in force (data_plane/faults.py)
    DELETE /-/registries/<domain>/fault  heal it
    PUT    /-/upstreams/<host>/fault     the same for what proxies ask of an upstream (recorder.py)
    DELETE /-/upstreams/<host>/fault     heal it
    POST   /-/faults                     add a CallFault (faults.py)
    POST   /-/outcomes                   add an OutcomeFault (faults.py)
    DELETE /-/faults                     forget call and outcome faults
    GET    /-/calls                      API calls so far: service, action, subject, status, code
"""

from __future__ import annotations

import datetime as dt
import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from rehearsal.cloud.api import addons, cr, vke
from rehearsal.cloud.api.config import EmulatorConfig
from rehearsal.cloud.api.errors import ApiError
from rehearsal.cloud.api.faults import CallFault, Faults, OutcomeFault
from rehearsal.cloud.api.parameters import parse
from rehearsal.cloud.api.signature import Caller, SignedRequest, verify
from rehearsal.cloud.api.state import Account
from rehearsal.cloud.registries.faults import DataFault
from rehearsal.cloud.registries.plane import DataPlane
from rehearsal.cloud.registries.serving import drop_connection

MAX_CALLS = 10_000
_SUBJECTS = ("ClusterId", "Registry", "Name")
Model = TypeVar("Model", bound=BaseModel)


class DroppedError(Exception):
    """The answer of this call is to be lost."""


class Emulator:
    """The ASGI application."""

    def __init__(
        self,
        config: EmulatorConfig,
        account: Account,
        faults: Faults,
        cr_api: cr.CrApi,
        data_plane: DataPlane | None,
    ) -> None:
        vke_api = vke.VkeApi(config)
        addon_api = addons.AddonApi(config)
        self._config = config
        self._account = account
        self._faults = faults
        self._data_plane = data_plane
        self._calls: list[dict[str, Any]] = []
        self._actions: dict[str, tuple[str, Mapping[str, cr.Action]]] = {
            cr.SERVICE: (cr.VERSION, cr_api.actions),
            vke.SERVICE: (
                vke.VERSION,
                {
                    "ListClusters": vke_api.list_clusters,
                    "ListKubeconfigs": vke_api.list_kubeconfigs,
                    "ListAddons": addon_api.list_addons,
                    "CreateAddon": addon_api.create_addon,
                    "UpdateAddonConfig": addon_api.update_addon_config,
                    "UpdateAddonVersion": addon_api.update_addon_version,
                    "DeleteAddon": addon_api.delete_addon,
                },
            ),
            vke.VPC_SERVICE: (
                vke.VPC_VERSION,
                {"DescribeEipAddresses": vke_api.describe_eip_addresses},
            ),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            if request.url.path.startswith("/-/"):
                response = await self._administer(request)
            else:
                response = await self._call(request)
        except DroppedError:
            await drop_connection(receive, send)
            return
        await response(scope, receive, send)

    # The API

    async def _call(self, request: Request) -> Response:
        body = await request.body()
        action = request.query_params.get("Action", "")
        version = request.query_params.get("Version", "")
        metadata: dict[str, Any] = {
            "RequestId": f"{dt.datetime.now(dt.UTC):%Y%m%d%H%M%S}" + secrets.token_hex(9).upper(),
            "Action": action,
            "Version": version,
            "Service": "",
            "Region": self._config.region,
        }
        call: dict[str, Any] = {"Action": action, "Subject": "", "Status": 0, "Code": ""}
        self._calls = [*self._calls[-MAX_CALLS:], call]
        try:
            fault = self._faults.meet_call(action)
            if fault is not None and fault.moment == "before":
                _fail(fault)
            caller = self._verified(request, body)
            metadata |= {"Service": caller.service, "Region": caller.region}
            call["Service"] = caller.service
            run = self._find(caller, action, version)
            parameters = parse(request.url.query, request.headers.get("content-type", ""), body)
            call["Subject"] = _subject(parameters)
            result = run(caller.region, parameters)
            if fault is not None:
                _fail(fault)
        except ApiError as error:
            metadata["Error"] = error.body()
            call |= {"Status": error.status, "Code": error.code}
            return JSONResponse({"ResponseMetadata": metadata}, status_code=error.status)
        call["Status"] = 200
        return JSONResponse({"ResponseMetadata": metadata, "Result": result})

    def _verified(self, request: Request, body: bytes) -> Caller:
        caller = verify(
            SignedRequest(
                method=request.method,
                path=request.url.path,
                query=request.url.query,
                headers=dict(request.headers),
                body=body,
            ),
            access_key=self._config.access_key,
            secret_key=self._config.secret_key.get_secret_value(),
            now=dt.datetime.now(dt.UTC),
        )
        if caller.region not in self._config.quota:
            raise ApiError(
                400, "InvalidRegion", f"The specified region {caller.region} is invalid."
            )
        return caller

    def _find(self, caller: Caller, action: str, version: str) -> cr.Action:
        for name, value in (("Action", action), ("Version", version)):
            if not value:
                raise ApiError(
                    400, "MissingParameter", f"The request is missing {name} parameter.", 100002
                )
        if caller.service not in self._actions:
            raise ApiError(
                404, "ServiceNotFound", f"This service[{caller.service}] not found.", 100007
            )
        served, actions = self._actions[caller.service]
        if version != served or action not in actions:
            raise ApiError(
                404,
                "InvalidActionOrVersion",
                f"Could not find operation {action} for version {version}.",
                100008,
            )
        return actions[action]

    # The rehearsal's own side

    async def _administer(self, request: Request) -> Response:
        path = request.url.path.removeprefix("/-/")
        parts = path.split("/")
        if len(parts) == 3 and parts[0] in ("registries", "upstreams") and parts[2] == "fault":
            return await self._fault(request, parts[0], parts[1])
        routes: dict[tuple[str, str], Callable[[bytes], object]] = {
            ("GET", "healthy"): lambda _: {"status": "ok"},
            ("GET", "names"): lambda _: self._names(),
            ("GET", "registries"): lambda _: self._registries(),
            ("GET", "calls"): lambda _: self._calls,
            ("POST", "faults"): lambda body: self._faults.add_call(_read(CallFault, body)),
            ("POST", "outcomes"): lambda body: self._faults.add_outcome(_read(OutcomeFault, body)),
            ("DELETE", "faults"): lambda _: self._faults.clear(),
        }
        run = routes.get((request.method, path))
        if run is None:
            return JSONResponse({"error": f"no {request.method} /-/{path}"}, status_code=404)
        try:
            return JSONResponse(run(await request.body()))
        except ValidationError as error:
            return _invalid(error)

    async def _fault(self, request: Request, kind: str, name: str) -> Response:
        """Put a fault of a proxy registry or an upstream in force, or heal it."""
        plane = self._data_plane
        if request.method not in ("PUT", "DELETE"):
            return JSONResponse({"error": "PUT or DELETE"}, status_code=405)
        try:
            body = await request.body()
            fault = _read(DataFault, body) if request.method == "PUT" else None
        except ValidationError as error:
            return _invalid(error)
        if kind == "registries" and plane and (proxy := plane.registry(name)):
            await proxy.set_fault(fault)
        elif kind == "upstreams" and plane and (faults := plane.upstream_faults(name)):
            faults.set(fault)
        else:
            return JSONResponse({"error": f"{name} is not served"}, status_code=404)
        return JSONResponse(None)

    def _names(self) -> dict[str, object]:
        if self._data_plane is None:
            return {}
        return {
            name: {"host": endpoint.host, "port": endpoint.port}
            for name, endpoint in self._data_plane.names().items()
        }

    def _registries(self) -> list[dict[str, object]]:
        shown: list[dict[str, object]] = []
        for registry in self._account.registries():
            proxy = self._data_plane.registry(registry.domain) if self._data_plane else None
            shown.append(
                {
                    "name": registry.name,
                    "domain": registry.domain,
                    "host": proxy.endpoint.host if proxy else None,
                    "port": proxy.endpoint.port if proxy else None,
                    "access_log": str(proxy.access_log) if proxy else None,
                }
            )
        return shown


def _read(model: type[Model], body: bytes) -> Model:
    return model.model_validate_json(body)


def _invalid(error: ValidationError) -> Response:
    content = json.loads(error.json(include_url=False, include_context=False))
    return JSONResponse({"error": content}, status_code=400)


def _fail(fault: CallFault) -> None:
    if fault.drop:
        raise DroppedError
    raise ApiError(fault.status, fault.code, fault.message)


def _subject(parameters: Mapping[str, Any]) -> str:
    """Return what a call is about, for the list of calls: never a secret."""
    return "/".join(value for name in _SUBJECTS if isinstance(value := parameters.get(name), str))
