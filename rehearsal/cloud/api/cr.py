"""The actions of CR (Container Registry), Version 2022-05-12."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from rehearsal.cloud.api.config import EmulatorConfig
from rehearsal.cloud.api.errors import ApiError
from rehearsal.cloud.api.faults import Faults
from rehearsal.cloud.api.idempotency import ClientTokens
from rehearsal.cloud.api.parameters import Parameters
from rehearsal.cloud.api.rules import (
    check_namespace_name,
    check_password,
    check_registry_name,
    check_upstream_endpoint,
)
from rehearsal.cloud.api.state import (
    AccessLevel,
    Account,
    Edition,
    Namespace,
    Phase,
    ProxyCache,
    ProxyType,
    Registry,
    VpcAccess,
    VpcStatus,
)
from rehearsal.cloud.registries.plane import DataPlane

SERVICE = "cr"
VERSION = "2022-05-12"
DOCKER_HUB_ENDPOINT = "https://registry-1.docker.io"
EDITIONS: tuple[Edition, ...] = ("Enterprise", "Micro")
PROXY_TYPES: tuple[ProxyType, ...] = ("DockerHub", "DockerRegistry")
ACCESS_LEVELS: tuple[AccessLevel, ...] = ("Private", "Public")
logger = logging.getLogger(__name__)

Word = TypeVar("Word", bound=str)
Result = dict[str, Any]
Action = Callable[[str, Mapping[str, Any]], Result]


class CrApi:
    """Registries, namespaces, users, domains and VPC access of one account."""

    def __init__(
        self,
        config: EmulatorConfig,
        account: Account,
        faults: Faults,
        data_plane: DataPlane | None,
    ) -> None:
        self._config = config
        self._account = account
        self._faults = faults
        self._data_plane = data_plane
        self._tokens = ClientTokens()
        self._changes: set[asyncio.Task[None]] = set()

    @property
    def actions(self) -> Mapping[str, Action]:
        """The actions by name; each takes the region and the parameters."""
        return {
            "CreateRegistry": self._once("CreateRegistry", self._create_registry),
            "ListRegistries": self._list_registries,
            "DeleteRegistry": self._delete_registry,
            "GetUser": self._get_user,
            "SetUser": self._set_user,
            "ListDomains": self._list_domains,
            "CreateNamespace": self._once("CreateNamespace", self._create_namespace),
            "ListNamespaces": self._list_namespaces,
            "DeleteNamespace": self._delete_namespace,
            "UpdateVpcEndpoint": self._update_vpc_endpoint,
            "GetVpcEndpoint": self._get_vpc_endpoint,
        }

    async def close(self) -> None:
        """End all changes that are under way."""
        for change in self._changes:
            change.cancel()
        await asyncio.gather(*self._changes, return_exceptions=True)

    def _once(self, name: str, action: Action) -> Action:
        def call(region: str, values: Mapping[str, Any]) -> Result:
            answer = self._tokens.answer(name, values)
            if answer is None:
                answer = action(region, values)
                self._tokens.remember(name, values, answer)
            return answer

        return call

    # Registries

    def _create_registry(self, region: str, values: Mapping[str, Any]) -> Result:
        parameters = Parameters(values)
        name = parameters.text("Name")
        check_registry_name(name)
        kind = _one_of(EDITIONS, parameters.text("Type", "Enterprise"), "Type")
        proxy_cache = _proxy_cache(parameters)
        tags = _tags(parameters)
        if self._account.find(region, name) is not None:
            raise ApiError.exists("Registry", name)
        if kind == "Enterprise":
            self._check_quota(region)
        registry = Registry(
            name=name,
            region=region,
            type=kind,
            project=parameters.text("Project", "default"),
            tags=tags,
            proxy_cache=proxy_cache,
            username=f"rehearsal@{self._config.account_id}",
        )
        self._account.add(registry)
        self._change(self._launch(registry))
        return {}

    def _check_quota(self, region: str) -> None:
        limit = self._config.quota[region]
        used = sum(found.type == "Enterprise" for found in self._account.registries(region))
        if used >= limit:
            raise ApiError.quota("Registry", limit, region)

    async def _launch(self, registry: Registry) -> None:
        """Take a registry from Creating to Running, or Failed."""
        await asyncio.sleep(self._config.delays.registry_creating)
        if self._faults.meet_outcome("registry", registry.name):
            registry.phase = Phase.FAILED
            return
        if self._data_plane and registry.proxy_cache:
            try:
                await self._data_plane.start_registry(registry)
            except (OSError, RuntimeError) as error:
                logger.warning("registry %s cannot be served: %s", registry.name, error)
                registry.phase = Phase.FAILED
                return
        registry.phase = Phase.RUNNING

    def _list_registries(self, region: str, values: Mapping[str, Any]) -> Result:
        parameters = Parameters(values)
        wanted = parameters.group("Filter")
        names = wanted.texts("Names")
        if len(names) > 20:
            raise ApiError.invalid("Filter.Names", "It must have at most 20 names.")
        found = [
            registry.describe()
            for registry in self._account.registries(region)
            if not names or registry.name in names
        ]
        return parameters.page(found)

    def _delete_registry(self, region: str, values: Mapping[str, Any]) -> Result:
        """Delete at once, as the stack does. Otherwise it would stay for seven days, stopped and
        its name taken (docs 6420/113747), which is not played here.
        """
        parameters = Parameters(values)
        registry = self._registry(region, parameters.text("Name"))
        if not parameters.flag("DeleteImmediately"):
            raise ApiError.invalid("DeleteImmediately", "The rehearsal deletes at once only.")
        if registry.phase in (Phase.CREATING, Phase.DELETING):
            raise ApiError(
                400,
                "OperationDenied.Status",
                f"The action has been denied due to wrong status {registry.phase}.",
            )
        registry.phase = Phase.DELETING
        self._change(self._remove(registry))
        return {}

    async def _remove(self, registry: Registry) -> None:
        if self._data_plane:
            await self._data_plane.stop_registry(registry.domain)
        await asyncio.sleep(self._config.delays.registry_deleting)
        self._account.remove(registry)

    # The user

    def _get_user(self, region: str, values: Mapping[str, Any]) -> Result:
        registry = self._usable(region, Parameters(values).text("Registry"))
        return {
            "Username": registry.username,
            "Status": "Active" if registry.user_active else "Inactive",
        }

    def _set_user(self, region: str, values: Mapping[str, Any]) -> Result:
        parameters = Parameters(values)
        registry = self._running(region, parameters.text("Registry"))
        encoded = parameters.text("Password")
        try:
            password = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise ApiError.invalid("Password", "It must be Base64.") from None
        check_password(password)
        registry.user_active = False
        self._change(self._activate_user(registry, password))
        return {}

    async def _activate_user(self, registry: Registry, password: str) -> None:
        await asyncio.sleep(self._config.delays.user_setting)
        registry.password = password
        registry.user_active = True

    def _list_domains(self, region: str, values: Mapping[str, Any]) -> Result:
        parameters = Parameters(values)
        registry = self._usable(region, parameters.text("Registry"))
        domain = {
            "Domain": registry.domain,
            "Type": "Default",
            "Default": True,
            "CreateTime": registry.created,
        }
        return {"Registry": registry.name, **parameters.page([domain])}

    # Namespaces

    def _create_namespace(self, region: str, values: Mapping[str, Any]) -> Result:
        """Make a namespace. A Docker Hub proxy without credentials allows only `library` (the
        vendor's page, step 1.2; the API's code for it is not documented).
        """
        parameters = Parameters(values)
        registry = self._running(region, parameters.text("Registry"))
        name = parameters.text("Name")
        check_namespace_name(name)
        level = _one_of(
            ACCESS_LEVELS,
            parameters.text("RepositoryDefaultAccessLevel", "Private"),
            "RepositoryDefaultAccessLevel",
        )
        cache = registry.proxy_cache
        if cache is not None and cache.is_anonymous_docker_hub and name != "library":
            raise ApiError.invalid(
                "Name",
                "A DockerHub proxy registry without username and password only allows the "
                "namespace library.",
            )
        if name in registry.namespaces:
            raise ApiError.exists("Namespace", name)
        registry.namespaces[name] = Namespace(
            name=name, project=parameters.text("Project", "default"), access_level=level
        )
        return {}

    def _list_namespaces(self, region: str, values: Mapping[str, Any]) -> Result:
        parameters = Parameters(values)
        registry = self._registry(region, parameters.text("Registry"))
        names = parameters.group("Filter").texts("Names")
        found = [
            {
                "Name": namespace.name,
                "Project": namespace.project,
                "CreateTime": namespace.created,
                "RepositoryDefaultAccessLevel": namespace.access_level,
            }
            for namespace in registry.namespaces.values()
            if not names or namespace.name in names
        ]
        return {"Registry": registry.name, **parameters.page(found)}

    def _delete_namespace(self, region: str, values: Mapping[str, Any]) -> Result:
        parameters = Parameters(values)
        registry = self._running(region, parameters.text("Registry"))
        name = parameters.text("Name")
        if registry.namespaces.pop(name, None) is None:
            raise ApiError.not_found("Namespace", name)
        return {}

    # VPC access

    def _update_vpc_endpoint(self, region: str, values: Mapping[str, Any]) -> Result:
        """Let exactly these VPCs in: the list is always the full one (docs 6420/181402).

        The merge with VPCs already there at a first create is the provider's doing: it reads them
        with GetVpcEndpoint and sends both.
        """
        parameters = Parameters(values)
        registry = self._running(region, parameters.text("Registry"))
        if registry.type == "Micro":
            raise ApiError(
                400,
                "OperationDenied.RegistryType",
                "A Micro registry is reachable within its region and takes no VPC.",
            )
        wanted = self._wanted_vpcs(region, parameters)
        for vpc_id, access in registry.vpcs.items():
            if vpc_id not in wanted and access.status is not VpcStatus.DISABLING:
                access.status = VpcStatus.DISABLING
                access.turn += 1
                self._change(self._disable_vpc(registry, access, access.turn))
        for vpc_id, new in wanted.items():
            access = registry.vpcs.setdefault(vpc_id, new)
            if access is new or access.status in (VpcStatus.DISABLING, VpcStatus.FAILED):
                access.status = VpcStatus.ENABLING
                access.turn += 1
                self._change(self._enable_vpc(access, access.turn))
        return {}

    def _wanted_vpcs(self, region: str, parameters: Parameters) -> dict[str, VpcAccess]:
        wanted: dict[str, VpcAccess] = {}
        for vpc in parameters.groups("Vpcs"):
            vpc_id = vpc.text("VpcId")
            if vpc_id in wanted:
                raise ApiError.invalid("Vpcs", f"{vpc_id} is there twice.")
            digest = hashlib.sha256(vpc_id.encode()).digest()
            wanted[vpc_id] = VpcAccess(
                vpc_id=vpc_id,
                subnet_id=vpc.text("SubnetId", self._subnet_of(vpc_id)),
                account_id=vpc.number("AccountId", self._config.account_id, 0, 2**63 - 1)
                or self._config.account_id,
                ip=f"192.168.{digest[0]}.{digest[1] % 254 + 1}",
                region=region,
            )
        return wanted

    def _subnet_of(self, vpc_id: str) -> str:
        for cluster in self._config.clusters:
            if cluster.vpc_id == vpc_id:
                return cluster.subnet_ids[0]
        return f"subnet-{hashlib.sha256(vpc_id.encode()).hexdigest()[:18]}"

    async def _enable_vpc(self, access: VpcAccess, turn: int) -> None:
        await asyncio.sleep(self._config.delays.vpc_enabling)
        if access.turn == turn:
            failed = self._faults.meet_outcome("vpc", access.vpc_id)
            access.status = VpcStatus.FAILED if failed else VpcStatus.ENABLED

    async def _disable_vpc(self, registry: Registry, access: VpcAccess, turn: int) -> None:
        await asyncio.sleep(self._config.delays.vpc_disabling)
        if access.turn == turn:
            del registry.vpcs[access.vpc_id]

    def _get_vpc_endpoint(self, region: str, values: Mapping[str, Any]) -> Result:
        parameters = Parameters(values)
        registry = self._usable(region, parameters.text("Registry"))
        return {
            "Registry": registry.name,
            "Vpcs": [
                {
                    "VpcId": access.vpc_id,
                    "SubnetId": access.subnet_id,
                    "AccountId": access.account_id,
                    "Region": access.region,
                    "Ip": access.ip if access.status is VpcStatus.ENABLED else "",
                    "Status": access.status.value,
                    "CreateTime": access.created,
                }
                for access in registry.vpcs.values()
            ],
        }

    # What all of them need

    def _registry(self, region: str, name: str) -> Registry:
        registry = self._account.find(region, name)
        if registry is None:
            raise ApiError.not_found("Registry", name)
        return registry

    def _usable(self, region: str, name: str) -> Registry:
        """Return a registry that exists and is not being deleted."""
        registry = self._registry(region, name)
        if registry.phase in (Phase.CREATING, Phase.DELETING, Phase.FAILED):
            raise ApiError.wrong_status(registry.phase)
        return registry

    def _running(self, region: str, name: str) -> Registry:
        registry = self._registry(region, name)
        if registry.phase is not Phase.RUNNING:
            raise ApiError.wrong_status(registry.phase)
        return registry

    def _change(self, change: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)


def _proxy_cache(parameters: Parameters) -> ProxyCache | None:
    """Return what the registry is to be a proxy of (ProxyCacheSpec, docs 6420/113745)."""
    if not parameters.flag("ProxyCacheEnabled"):
        return None
    if not parameters.has("ProxyCache"):
        raise ApiError.missing("ProxyCache")
    spec = parameters.group("ProxyCache")
    kind = _one_of(PROXY_TYPES, spec.text("Type"), "ProxyCache.Type")
    if kind == "DockerHub":
        endpoint = DOCKER_HUB_ENDPOINT
    else:
        endpoint = spec.text("Endpoint")
        check_upstream_endpoint(endpoint)
    username = spec.text("Username", "")
    password = spec.text("Password", "")
    if bool(username) != bool(password):
        raise ApiError.invalid(
            "ProxyCache", "Username and Password must be given together or not at all."
        )
    return ProxyCache(
        type=kind,
        endpoint=endpoint,
        username=username,
        skip_ssl_verify=spec.flag("SkipSSLVerify"),
    )


def _tags(parameters: Parameters) -> list[dict[str, str]]:
    tags = [
        {"Key": tag.text("Key"), "Value": tag.text("Value", "")}
        for tag in parameters.groups("ResourceTags")
    ]
    if len({tag["Key"] for tag in tags}) != len(tags):
        raise ApiError.invalid("ResourceTags", "A key must not be there twice.")
    return tags


def _one_of(known: Sequence[Word], value: str, parameter: str) -> Word:
    """Return the one of `known` that is `value`. Raises ApiError."""
    for word in known:
        if word == value:
            return word
    raise ApiError.invalid(parameter, f"It must be {' or '.join(known)}.")
