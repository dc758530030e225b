"""The actions of CR (Container Registry), Version 2022-05-12."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from rehearsal.cloud.api.config import EmulatorConfig
from rehearsal.cloud.api.errors import ApiError
from rehearsal.cloud.api.parameters import Page, Parameters
from rehearsal.cloud.api.rules import Password
from rehearsal.cloud.api.state import Change, Namespace, Registry, RegistrySpec, VpcAccess
from rehearsal.cloud.registries.plane import DataPlane
from rehearsal.processes import ProcessError

SERVICE = "cr"
VERSION = "2022-05-12"
logger = logging.getLogger(__name__)

Result = dict[str, Any]
Action = tuple[type[Parameters], Callable[[str, Any], Result]]
"""The parameters of an action, and what answers it for a region and these."""


class _Names(Parameters):
    names: Annotated[Sequence[str], Field(max_length=20)] = ()


class _ListRegistries(Page):
    filter: _Names = _Names()


class _DeleteRegistry(Parameters):
    name: str
    delete_immediately: bool = False


class _OfRegistry(Parameters):
    registry: str


class _SetUser(_OfRegistry):
    password: Password


class _ListDomains(_OfRegistry, Page):
    pass


class _CreateNamespace(Namespace, _OfRegistry):
    pass


class _ListNamespaces(_ListRegistries, _OfRegistry):
    pass


class _DeleteNamespace(_OfRegistry):
    name: str


class _Vpc(Parameters):
    vpc_id: str
    subnet_id: str = ""
    account_id: int = 0


def _each_vpc_once(vpcs: Sequence[_Vpc]) -> Sequence[_Vpc]:
    if len({vpc.vpc_id for vpc in vpcs}) != len(vpcs):
        raise ValueError("a VPC must not be there twice")
    return vpcs


class _UpdateVpcEndpoint(_OfRegistry):
    vpcs: Annotated[Sequence[_Vpc], AfterValidator(_each_vpc_once)] = ()


class CrApi:
    """Registries, namespaces, users, domains and VPC access of one account."""

    def __init__(self, config: EmulatorConfig, data_plane: DataPlane | None) -> None:
        self._config = config
        self._data_plane = data_plane
        self._changes: set[asyncio.Task[None]] = set()
        self.registries: dict[tuple[str, str], Registry] = {}
        """By region and name, oldest first."""

    @property
    def actions(self) -> Mapping[str, Action]:
        """The actions by name."""
        return {
            "CreateRegistry": (RegistrySpec, self._create_registry),
            "ListRegistries": (_ListRegistries, self._list_registries),
            "DeleteRegistry": (_DeleteRegistry, self._delete_registry),
            "GetUser": (_OfRegistry, self._get_user),
            "SetUser": (_SetUser, self._set_user),
            "ListDomains": (_ListDomains, self._list_domains),
            "CreateNamespace": (_CreateNamespace, self._create_namespace),
            "ListNamespaces": (_ListNamespaces, self._list_namespaces),
            "DeleteNamespace": (_DeleteNamespace, self._delete_namespace),
            "UpdateVpcEndpoint": (_UpdateVpcEndpoint, self._update_vpc_endpoint),
            "GetVpcEndpoint": (_OfRegistry, self._get_vpc_endpoint),
        }

    async def close(self) -> None:
        """End all changes that are under way."""
        for change in self._changes:
            change.cancel()
        await asyncio.gather(*self._changes, return_exceptions=True)

    # Registries

    def _create_registry(self, region: str, spec: RegistrySpec) -> Result:
        cache = spec.proxy_cache
        if spec.proxy_cache_enabled and cache is None:
            raise ApiError.missing("ProxyCache")
        if cache and cache.type == "DockerRegistry" and "endpoint" not in cache.model_fields_set:
            raise ApiError.missing("ProxyCache.Endpoint")
        if (region, spec.name) in self.registries:
            raise ApiError.exists("Registry", spec.name)
        if spec.type == "Enterprise":
            self._check_quota(region)
        username = f"rehearsal@{self._config.account_id}"
        registry = Registry(spec=spec, region=region, username=username)
        self.registries[region, spec.name] = registry
        self._start(self._launch(registry))
        return {}

    def _check_quota(self, region: str) -> None:
        """The page (docs 6420/113745) gives the limits but no code."""
        limit = self._config.quota[region]
        types = [each.spec.type for (there, _), each in self.registries.items() if there == region]
        if types.count("Enterprise") >= limit:
            message = f"The quota of {limit} Registry in {region} is exceeded."
            raise ApiError(400, "QuotaExceeded.Registry", message)

    async def _launch(self, registry: Registry) -> None:
        """Take a registry from Creating to Running, or Failed."""
        await asyncio.sleep(self._config.delays.registry_creating)
        if self._data_plane and registry.spec.proxy_cache:
            try:
                await self._data_plane.start_registry(registry)
            except (OSError, ProcessError) as error:
                logger.warning("registry %s cannot be served: %s", registry.domain, error)
                registry.phase = "Failed"
                return
        registry.phase = "Running"

    def _list_registries(self, region: str, asked: _ListRegistries) -> Result:
        names = asked.filter.names
        return asked.of(
            [
                registry.describe()
                for (there, name), registry in self.registries.items()
                if there == region and (not names or name in names)
            ]
        )

    def _delete_registry(self, region: str, asked: _DeleteRegistry) -> Result:
        """Delete at once, as the stack does. Otherwise it would stay for seven days, stopped and
        its name taken (docs 6420/113747), which is not played here.
        """
        registry = self._registry(region, asked.name)
        if not asked.delete_immediately:
            raise ApiError.invalid("DeleteImmediately", "The rehearsal deletes at once only.")
        if registry.phase in ("Creating", "Deleting"):
            raise ApiError.wrong_status("Status", registry.phase)
        registry.phase = "Deleting"
        self._start(self._remove(registry))
        return {}

    async def _remove(self, registry: Registry) -> None:
        if self._data_plane:
            await self._data_plane.stop_registry(registry.domain)
        await asyncio.sleep(self._config.delays.registry_deleting)
        del self.registries[registry.region, registry.spec.name]

    # The user and the domain

    def _get_user(self, region: str, asked: _OfRegistry) -> Result:
        registry = self._running(region, asked)
        return {"Username": registry.username, "Status": registry.user.state}

    def _set_user(self, region: str, asked: _SetUser) -> Result:
        registry = self._running(region, asked)
        registry.password = asked.password
        registry.user = Change("Inactive", "Active", self._config.delays.user_setting)
        return {}

    def _list_domains(self, region: str, asked: _ListDomains) -> Result:
        domain = {"Domain": self._running(region, asked).domain, "Type": "Default", "Default": True}
        return asked.of([domain])

    # Namespaces

    def _create_namespace(self, region: str, asked: _CreateNamespace) -> Result:
        """Create a namespace. A Docker Hub proxy without credentials allows only `library` (the
        vendor's page, step 1.2; the API's code for it is not documented).
        """
        registry = self._running(region, asked)
        cache = registry.spec.proxy_cache
        if cache and cache.is_anonymous_docker_hub and asked.name != "library":
            raise ApiError.invalid(
                "Name",
                "A DockerHub proxy registry without username and password only allows the "
                "namespace library.",
            )
        if asked.name in registry.namespaces:
            raise ApiError.exists("Namespace", asked.name)
        registry.namespaces[asked.name] = asked
        return {}

    def _list_namespaces(self, region: str, asked: _ListNamespaces) -> Result:
        names = asked.filter.names
        return asked.of(
            [
                namespace.model_dump(by_alias=True, exclude={"registry"})
                for name, namespace in self._registry(region, asked.registry).namespaces.items()
                if not names or name in names
            ]
        )

    def _delete_namespace(self, region: str, asked: _DeleteNamespace) -> Result:
        if self._running(region, asked).namespaces.pop(asked.name, None) is None:
            raise ApiError.not_found("Namespace", asked.name)
        return {}

    # VPC access

    def _update_vpc_endpoint(self, region: str, asked: _UpdateVpcEndpoint) -> Result:
        """Let exactly these VPCs in: the list is always the full one (docs 6420/181402).

        The merge with VPCs already there at a first create is the provider's doing: it reads them
        with GetVpcEndpoint and sends both.
        """
        registry = self._running(region, asked)
        if registry.spec.type == "Micro":
            raise ApiError(
                400,
                "OperationDenied.RegistryType",
                "A Micro registry is reachable within its region and takes no VPC.",
            )
        delays, present = self._config.delays, registry.vpcs
        wanted = {vpc.vpc_id: vpc for vpc in asked.vpcs}
        for vpc_id, access in present.items():
            if vpc_id not in wanted and access.change.state != "Disabling":
                access.change = Change("Disabling", "", delays.vpc_disabling)
        for vpc_id, vpc in wanted.items():
            if vpc_id not in present or present[vpc_id].change.state == "Disabling":
                present[vpc_id] = VpcAccess(
                    subnet_id=vpc.subnet_id or self._subnet_of(vpc_id),
                    account_id=vpc.account_id or self._config.account_id,
                    change=Change("Enabling", "Enabled", delays.vpc_enabling),
                )
        return {}

    def _subnet_of(self, vpc_id: str) -> str:
        subnets = (each.subnet_ids[0] for each in self._config.clusters if each.vpc_id == vpc_id)
        return next(subnets, f"subnet-of-{vpc_id}")

    def _get_vpc_endpoint(self, region: str, asked: _OfRegistry) -> Result:
        vpcs = self._running(region, asked).vpcs
        return {
            "Registry": asked.registry,
            "Vpcs": [
                {
                    "VpcId": vpc_id,
                    "SubnetId": access.subnet_id,
                    "AccountId": access.account_id,
                    "Region": region,
                    "Status": access.change.state,
                }
                for vpc_id, access in vpcs.items()
            ],
        }

    # What all of them need

    def _registry(self, region: str, name: str) -> Registry:
        registry = self.registries.get((region, name))
        if registry is None:
            raise ApiError.not_found("Registry", name)
        return registry

    def _running(self, region: str, asked: _OfRegistry) -> Registry:
        registry = self._registry(region, asked.registry)
        if registry.phase != "Running":
            raise ApiError.wrong_status("RegistryStatus", registry.phase)
        return registry

    def _start(self, change: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
