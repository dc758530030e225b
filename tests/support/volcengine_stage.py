"""What tests of the Volcengine emulator and its data plane share, beside fixtures."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import volcenginesdkcore
from pydantic import SecretStr
from volcenginesdkcore.rest import ApiException

from rehearsal import wait
from rehearsal.cloud.api.config import Delays, EmulatorConfig
from rehearsal.cloud.api.run import Ready, emulator
from rehearsal.cloud.registries import upstream
from rehearsal.cloud.registries.access_log import AccessRecord, log_file, read_log
from rehearsal.cloud.registries.certificates import Authority
from rehearsal.cloud.registries.client import PullClient, RegistryLogin
from rehearsal.cloud.registries.images import DOCKER_HUB, SAMPLE_IMAGES
from rehearsal.cloud.registries.plane import DataPlaneConfig
from rehearsal.parts.build import obtain
from rehearsal.processes import Processes
from rehearsal.progress import Progress

ACCESS_KEY = "AKrehearsal"
SECRET_KEY = "not-a-real-secret-key"
PASSWORD = "Passw0rd-1"
"""Of the proxy registries of tests."""
NO_DELAYS = Delays(
    registry_creating=0,
    registry_deleting=0,
    user_setting=0,
    vpc_enabling=0,
    vpc_disabling=0,
    addon_changing=0,
)
VERSIONS = {"cr": "2022-05-12", "vke": "2022-05-12", "vpc": "2020-04-01"}
MICRO_PROXY: dict[str, Any] = {
    "Type": "Micro",
    "ProxyCacheEnabled": True,
    "ProxyCache": {"Type": "DockerHub", "Username": "hub-user", "Password": "hub-secret"},
}


def proxy_of(host: str) -> dict[str, Any]:
    """`ProxyCache` of a proxy of another upstream than Docker Hub."""
    return {"Type": "DockerRegistry", "Endpoint": f"https://{host}"}


@dataclass(frozen=True, kw_only=True)
class Refused:
    """An answer with an error."""

    status: int
    code: str


class RunningEmulator:
    """An emulator that answers, and the official SDK pointed at it."""

    def __init__(self, ready: Ready) -> None:
        self.url = ready.url
        self.names_url = ready.names_url
        self._own_side = httpx.Client(base_url=f"{ready.url}/-/", trust_env=False)

    @property
    def environment(self) -> dict[str, str]:
        """What points a provider, or the embedded applier, at it."""
        return {
            "VOLCENGINE_ACCESS_KEY": ACCESS_KEY,
            "VOLCENGINE_SECRET_KEY": SECRET_KEY,
            "VOLCENGINE_REGION": "cn-beijing",
            "VOLCENGINE_ENDPOINT": self.url.removeprefix("http://"),
        }

    def client(self, region: str = "cn-beijing", **settings: str) -> Any:
        """The SDK's own client, without its retries."""
        configuration = volcenginesdkcore.Configuration()
        configuration.ak, configuration.sk = ACCESS_KEY, SECRET_KEY
        configuration.region = region
        configuration.host = self.url.removeprefix("http://")
        configuration.scheme = "http"
        configuration.auto_retry = False
        for name, value in settings.items():
            setattr(configuration, name, value)
        return volcenginesdkcore.ApiClient(configuration)

    def call(
        self,
        action: str,
        *,
        service: str = "cr",
        region: str = "cn-beijing",
        method: str = "POST",
        client: Any = None,
        **body: Any,
    ) -> Any:
        """Call an action by the SDK's universal API; its Result."""
        info = volcenginesdkcore.UniversalInfo(
            method=method,
            service=service,
            version=VERSIONS[service],
            action=action,
            content_type="application/json" if method == "POST" else "text/plain",
        )
        return volcenginesdkcore.UniversalApi(client or self.client(region)).do_call(info, body)

    def refusal(self, action: str, **settings: Any) -> Refused:
        """Call an action that must fail."""
        with pytest.raises(ApiException) as raised:
            self.call(action, **settings)
        answer = json.loads(raised.value.body)["ResponseMetadata"]
        assert set(answer) == {"RequestId", "Action", "Version", "Service", "Region", "Error"}
        return Refused(status=raised.value.status, code=answer["Error"]["Code"])

    def administer(self, method: str, path: str, body: object = None) -> Any:
        """Use the rehearsal's own side of the emulator."""
        answer = self._own_side.request(method, path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def phase(self, name: str, region: str = "cn-beijing") -> str | None:
        """The phase of a registry; None when there is none."""
        found = self.call("ListRegistries", region=region, Filter={"Names": [name]})["Items"]
        return str(found[0]["Status"]["Phase"]) if found else None

    def make_registry(self, name: str, *, password: str | None = None, **settings: Any) -> str:
        """Make a registry, wait until it runs, set its password; its domain."""
        self.call("CreateRegistry", Name=name, **settings)
        wait.until(lambda: self.phase(name) == "Running", f"registry {name} runs")
        if password is not None:
            self.set_password(name, password)
        return str(self.call("ListDomains", Registry=name)["Items"][0]["Domain"])

    def make_proxy(
        self,
        name: str,
        namespaces: Mapping[str, str],
        *,
        password: str = PASSWORD,
        **settings: Any,
    ) -> RegistryLogin:
        """Make a proxy registry, of Docker Hub unless `settings` say otherwise; its login.

        `namespaces` has the access level of each.
        """
        domain = self.make_registry(name, password=password, **{**MICRO_PROXY, **settings})
        for namespace, level in namespaces.items():
            self.call(
                "CreateNamespace",
                Registry=name,
                Name=namespace,
                RepositoryDefaultAccessLevel=level,
            )
        return self.login(name, domain, password)

    def fault(self, domain: str, **fault: Any) -> None:
        """Put a fault of a proxy registry in force; nothing heals it."""
        self.administer("PUT" if fault else "DELETE", f"registries/{domain}/fault", fault or None)

    def set_password(self, name: str, password: str) -> None:
        """Set a registry's password and wait until it is in force."""
        self.call("SetUser", Registry=name, Password=base64.b64encode(password.encode()).decode())
        wait.until(
            lambda: self.call("GetUser", Registry=name)["Status"] == "Active",
            f"the user of registry {name} is active",
        )

    def login(self, name: str, domain: str, password: str) -> RegistryLogin:
        """The login of a registry, its user as the API says."""
        user = self.call("GetUser", Registry=name)["Username"]
        return RegistryLogin(domain=domain, username=user, password=password)

    def vpcs(self, registry: str) -> dict[str, str]:
        """The status of each VPC of a registry."""
        found = self.call("GetVpcEndpoint", Registry=registry)["Vpcs"]
        return {vpc["VpcId"]: vpc["Status"] for vpc in found}


@contextmanager
def run_emulator(config: EmulatorConfig) -> Iterator[RunningEmulator]:
    """Run an emulator in a thread with an event loop of its own."""
    ready: Future[tuple[Ready, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        ended = asyncio.Event()
        async with emulator(config) as answer:
            ready.set_result((answer, asyncio.get_running_loop(), ended))
            await ended.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        answer, loop, ended = ready.result(timeout=30)
        try:
            yield RunningEmulator(answer)
        finally:
            loop.call_soon_threadsafe(ended.set)
    finally:
        thread.join()


def config_of(**settings: Any) -> EmulatorConfig:
    """An emulator config with the tests' keys and, unless set, no delays."""
    return EmulatorConfig(
        access_key=ACCESS_KEY,
        secret_key=SecretStr(SECRET_KEY),
        **{"delays": NO_DELAYS, **settings},
    )


@dataclass(frozen=True, kw_only=True)
class Upstreams:
    """The registries that play upstreams, with the sample images in them."""

    by_host: Mapping[str, upstream.Upstream]
    authority: Authority
    crane: Path
    registry: Path

    @classmethod
    def start(
        cls, processes: Processes, folder: Path, authority: Authority, hosts: Mapping[str, str]
    ) -> Upstreams:
        """Start them, each at an address IP:port."""
        parts = obtain(upstream.PARTS, Progress())
        return cls(
            by_host={
                host: upstream.start(
                    processes, parts, folder, authority, SAMPLE_IMAGES, host=host, address=address
                )
                for host, address in hosts.items()
            },
            authority=authority,
            crane=parts["crane"],
            registry=parts["registry"],
        )

    @property
    def url(self) -> str:
        """Docker Hub's."""
        return self.by_host[DOCKER_HUB].url

    @property
    def log(self) -> Path:
        """Docker Hub's."""
        return self.by_host[DOCKER_HUB].log

    @property
    def digests(self) -> Mapping[str, str]:
        """Docker Hub's: the digest of each `repository:tag`."""
        return self.by_host[DOCKER_HUB].digests

    def data_plane(self, folder: Path, **settings: Any) -> DataPlaneConfig:
        """Settings for proxy registries in front of them, with what they store in `folder`."""
        return DataPlaneConfig(
            registry_binary=self.registry,
            work_dir=folder,
            upstreams={host: each.url for host, each in self.by_host.items()},
            authority=self.authority,
            **settings,
        )

    def content_requests(self, repository: str) -> list[str]:
        """The GET requests for content of a repository that came so far, in its own log's words."""
        return [
            line.split('"')[1].rsplit(" ", 1)[0]
            for line in self.log.read_text().splitlines()
            if f'"GET /v2/{repository}/' in line
        ]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """An emulator with a data plane in front of the upstream registry."""

    api: RunningEmulator
    upstream: Upstreams
    proxies: Path

    @property
    def client(self) -> PullClient:
        """crane, pointed at the names proxy."""
        assert self.api.names_url is not None
        return PullClient(
            crane=self.upstream.crane,
            names_url=self.api.names_url,
            ca_certificate=self.upstream.authority.certificate,
            timeout=20,
        )

    def access_log(self, domain: str) -> list[AccessRecord]:
        """What a proxy registry logged so far."""
        return read_log(log_file(self.proxies, domain))

    def http(self, domain: str) -> httpx.Client:
        """A plain HTTP client for one registry's domain, on one connection."""
        return httpx.Client(
            base_url=f"https://{domain}",
            proxy=self.api.names_url,
            verify=self.upstream.authority.context(),
            trust_env=False,
            timeout=10,
        )
