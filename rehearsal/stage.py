"""The stage: every part a rehearsal needs, started, before any stack is deployed on it."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import yaml
from kubernetes import client, utils
from pydantic import BaseModel, ConfigDict

from rehearsal.cloud.registries import upstream
from rehearsal.cloud.registries.certificates import Authority
from rehearsal.cloud.registries.images import DOCKER_HUB, SAMPLE_IMAGES, SampleImage
from rehearsal.cluster import chart, control_plane
from rehearsal.cluster import node as real_node
from rehearsal.locations import CHECKOUT, RUNS, write_private
from rehearsal.parts.build import locked, obtain
from rehearsal.processes import Processes, end_strays
from rehearsal.progress import Progress

PARTS = (*control_plane.PARTS, *upstream.PARTS, "helm", "kyverno")
"""The parts of a stage."""
CLUSTER_ID = "ccrehearsal0000000001"
"""The VKE id of the one cluster, as `Pulumi.rehearsal.yaml` names it."""
CHART = RUNS / "kyverno-chart"
"""Where `Pulumi.rehearsal.yaml` finds the Kyverno chart."""
KWOK_NODES = 3
_PROXIES = "proxies"


class Run(BaseModel):
    """What other commands need to know of a running stage; kept in its folder, mode 0600."""

    model_config = ConfigDict(frozen=True)

    folder: Path
    supervisor: int
    """The process that holds the stage; SIGTERM ends it and everything it started."""
    kubeconfig: Path
    volcengine: str
    """The emulated API's host and port."""
    access_key: str
    secret_key: str
    region: str
    names_proxy: str
    """The HTTP proxy through which registry domains are reached."""
    authority: Path
    """The certificate authority of everything here, PEM."""
    upstreams: dict[str, str]
    """By upstream host, as images name it, the URL of the registry that plays it."""
    node: int | None
    """The first process of the real node (`nsenter --all --target`), None where there is none."""

    def environment(self) -> dict[str, str]:
        """What a shell, or the Pulumi CLI, needs to work on this stage."""
        return {
            "KUBECONFIG": str(self.kubeconfig),
            "VOLCENGINE_ACCESS_KEY": self.access_key,
            "VOLCENGINE_SECRET_KEY": self.secret_key,
            "VOLCENGINE_REGION": self.region,
            "VOLCENGINE_ENDPOINT": self.volcengine,
            "VOLCENGINE_DISABLE_SSL": "true",
            "VOLCENGINE_ENABLE_STANDARD_ENDPOINT": "false",
            "PULUMI_BACKEND_URL": f"file://{self.folder / 'pulumi'}",
            "PULUMI_CONFIG_PASSPHRASE": "rehearsal",
            "PULUMI_STACK": "rehearsal",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "REHEARSAL_RUN": str(self.folder),
        }

    def save(self) -> None:
        """Write it to its folder, all of it or nothing."""
        partial = self.folder / "run.json.partial"
        write_private(partial, self.model_dump_json(indent=1))
        partial.rename(self.folder / "run.json")

    @property
    def proxies(self) -> Path:
        """Where the proxy registries keep what is theirs."""
        return self.folder / _PROXIES

    @classmethod
    def load(cls, folder: Path) -> Run:
        """Read it from its folder.

        Raises FileNotFoundError while the stage is not up.
        """
        return cls.model_validate_json((folder / "run.json").read_text())


def new_folder() -> Path:
    """A folder of its own for a new run."""
    folder = RUNS / secrets.token_hex(4)
    folder.mkdir(mode=0o700, parents=True)
    return folder


@contextmanager
def stage(
    folder: Path, progress: Progress, *, node: real_node.Programs | None = None
) -> Iterator[Run]:
    """Start every part in `folder`, and stop them all at the end.

    With `node` the cluster has a real node of these programs beside kwok's.

    Raises:
        PartError: when a part cannot be had.
        NetworkError: when the real node cannot have a network.
        ProcessError: when a part does not start; the message names its log file.
        PublishError: when an image cannot be put into the upstream registry.
        CgroupError: when a process of the real node does not end.
    """
    parts = obtain(PARTS, progress)
    images = [*SAMPLE_IMAGES, *map(SampleImage.named, prepare_chart(parts))]
    with ExitStack() as stack:
        stack.callback(end_strays, folder)
        network = None
        if node is not None:
            network = real_node.Network.create(folder / "real-node")
            stack.callback(network.remove)
        processes = stack.enter_context(Processes(folder / "logs"))
        authority = Authority.create(folder / "authority")
        thread = stack.enter_context(ThreadPoolExecutor(1))
        with progress.step("starting Kubernetes, and upstream registries with sample images"):
            starting = thread.submit(
                _start_upstreams, processes, parts, folder, authority, images, network
            )
            plane = control_plane.start(
                processes,
                parts,
                folder / "control-plane",
                authority,
                node_selector="type=kwok" if network else "",
                address=network.host if network else "127.0.0.1",
            )
            _add_nodes(plane.kubeconfig)
            upstreams = starting.result()
        with progress.step("starting Volcengine"):
            run = _start_volcengine(processes, parts, folder, authority, plane, upstreams, network)
        if node is not None and network is not None:
            with progress.step(f"starting a real node with containerd {node.version}"):
                joined = stack.enter_context(
                    real_node.start(
                        processes,
                        node,
                        folder / "real-node",
                        plane,
                        network,
                        names_url=f"http://{run.volcengine}/-/names",
                        taints=[real_node.TAINT],
                    )
                )
                run = run.model_copy(update={"node": joined.pid})
        with progress.step("starting a stand-in for Kyverno's Pods"):
            processes.start(
                "kyverno-stand-in",
                [
                    *(sys.executable, "-m", "rehearsal.cluster.kyverno"),
                    *(parts["kyverno"], parts["kyverno-background-controller"]),
                    *(folder / "kyverno", folder / "logs", plane.kubeconfig),
                ],
                environment={"PYTHONPATH": str(CHECKOUT)},
            )
        (folder / "pulumi").mkdir(exist_ok=True)
        run.save()
        try:
            yield run
        finally:
            (folder / "run.json").unlink(missing_ok=True)


def end_on_interrupt() -> None:
    """Have Ctrl-C and SIGTERM raise KeyboardInterrupt and SystemExit in this process from now on.

    Also in a shell's background, where Ctrl-C is ignored, and in a program under asyncio.
    """
    signal.signal(signal.SIGTERM, _interrupted)
    signal.signal(signal.SIGINT, _interrupted)


def _interrupted(number: int, _: object) -> None:
    """End at once: asyncio's own handling of Ctrl-C would only cancel what runs in the program.

    A command that a thread waits for (Helm's can take minutes) is ended too, as a terminal ends it;
    it is in this process's group, while what Processes started is not.
    """
    for child in psutil.Process().children():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(child.pid) == os.getpgrp():
                child.terminate()
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def prepare_chart(parts: Mapping[str, Path]) -> list[str]:
    """Put the Kyverno chart where the rehearsal's stack file says, unless it is there; its images.

    The images are named as `chart.images` does.
    """
    prepared = CHART.with_suffix(".json")
    source = str(parts["chart"])
    with locked("kyverno-chart"):  # rehearsals of a fresh checkout may start together
        with suppress(FileNotFoundError):
            known = json.loads(prepared.read_text())
            if CHART.is_dir() and known["source"] == source:
                return list(known["images"])
        RUNS.mkdir(exist_ok=True)
        prepared.unlink(missing_ok=True)
        chart.of_parts(parts, CHART)
        images = chart.images(parts["helm"], CHART)
        partial = prepared.with_suffix(".partial")
        partial.write_text(json.dumps({"source": source, "images": images}))
        partial.rename(prepared)
    return images


def _add_nodes(kubeconfig: Path) -> None:
    api = control_plane.client_of(kubeconfig)
    for index in range(KWOK_NODES):
        node = control_plane.node(f"kwok-{index}", zone="abc"[index % 3])
        utils.create_from_dict(api, node)  # type: ignore[no-untyped-call]


def _stack_file() -> dict[str, Any]:
    """The config of the rehearsal's stack, by key without its name space."""
    config = yaml.safe_load((CHECKOUT / "Pulumi.rehearsal.yaml").read_text())["config"]
    return {key.partition(":")[2]: value for key, value in config.items()}


def _start_upstreams(
    processes: Processes,
    parts: Mapping[str, Path],
    folder: Path,
    authority: Authority,
    images: Sequence[SampleImage],
    network: real_node.Network | None,
) -> dict[str, str]:
    """Start a registry for each host that there are images of; their URLs by host."""
    hosts = dict.fromkeys(each.host for each in images)
    addresses = network.for_upstreams(hosts) if network else dict.fromkeys(hosts, "127.0.0.1:0")
    urls = {
        host: upstream.start(
            processes, parts, folder, authority, images, host=host, address=address
        ).url
        for host, address in addresses.items()
    }
    if network:
        real_node.publish_busybox(
            registry=urls[DOCKER_HUB].removeprefix("https://"),
            crane=parts["crane"],
            ca_certificate=authority.certificate,
            folder=folder / "images",
            progress=Progress(),
        )
    return urls


def _start_volcengine(
    processes: Processes,
    parts: Mapping[str, Path],
    folder: Path,
    authority: Authority,
    plane: control_plane.ControlPlane,
    upstreams: dict[str, str],
    network: real_node.Network | None,
) -> Run:
    region = _stack_file()["region"]
    ready = folder / "volcengine.ready"
    config = folder / "volcengine.json"
    access_key, secret_key = f"AK{secrets.token_hex(8)}", secrets.token_urlsafe(24)
    document = {
        "access_key": access_key,
        "secret_key": secret_key,
        "region": region,
        "ready_file": str(ready),
        "clusters": [
            {
                "id": CLUSTER_ID,
                "name": "rehearsal",
                "vpc_id": "vpc-rehearsal0001",
                "subnet_ids": ["subnet-rehearsal0001"],
                "kubeconfig_path": str(plane.kubeconfig),
                "kubernetes_version": "v1.37.2-vke.1",
            }
        ],
        "data_plane": {
            "registry_binary": str(parts["registry"]),
            "work_dir": str(folder / _PROXIES),
            "upstreams": upstreams,
            "authority": {"certificate": str(authority.certificate), "key": str(authority.key)},
            **({"addresses": network.registries, "port": 443} if network else {}),
        },
    }
    write_private(config, json.dumps(document))
    processes.start(
        "volcengine",
        [sys.executable, "-m", "rehearsal.cloud.api", "--config", config],
        environment={"PYTHONPATH": str(CHECKOUT)},
        ready=ready.is_file,
    )
    urls = json.loads(ready.read_text())
    return Run(
        folder=folder,
        supervisor=os.getpid(),
        kubeconfig=plane.kubeconfig,
        volcengine=urls["url"].removeprefix("http://"),
        access_key=access_key,
        secret_key=secret_key,
        region=region,
        names_proxy=urls["names_url"],
        authority=authority.certificate,
        upstreams=upstreams,
        node=None,
    )


def api_client(run: Run) -> client.ApiClient:
    """A Kubernetes client with a cluster administrator's rights."""
    return control_plane.client_of(run.kubeconfig)
