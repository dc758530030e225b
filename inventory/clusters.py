"""Live clusters, read through their API in pages; of each object only what counts is kept."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from components.policy import OPT_OUT_LABEL, OPT_OUT_VALUE
from inventory.workloads import Found, Missing, Place, Workload, custom_images, joined, workload

PAGE: Final = 500
"""Objects a request."""
_TIMEOUT: Final = (10, 60)
"""Seconds to connect, and to wait for a page."""
_KINDS: Final = (
    ("apps", "ReplicaSet", "replicasets"),
    ("batch", "Job", "jobs"),
    ("apps", "Deployment", "deployments"),
    ("apps", "StatefulSet", "statefulsets"),
    ("apps", "DaemonSet", "daemonsets"),
    ("batch", "CronJob", "cronjobs"),
    ("", "ReplicationController", "replicationcontrollers"),
    ("", "PodTemplate", "podtemplates"),
    ("", "Pod", "pods"),
)
"""What is read, in this order: what may own Pods, and be owned itself, comes before them."""
PLURALS: Final = tuple((group, plural) for group, _, plural in _KINDS)
"""Group and resource of what is read, beside namespaces."""
_CUSTOM = "customresourcedefinitions"


class ContextError(Exception):
    """The kubeconfig cannot be read, or has no such context; the message says which it has."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What to read of a cluster."""

    label_keys: Collection[str]
    namespaces: tuple[str, ...] = ()
    """Only these; all of the cluster where there are none."""
    custom_resources: bool = False


def contexts(kubeconfig: Path | None) -> tuple[list[str], str]:
    """The contexts of a kubeconfig, and the current one.

    Raises:
        ContextError: when it cannot be read.
    """
    try:
        found, current = config.list_kube_config_contexts(  # type: ignore[no-untyped-call]
            kubeconfig and str(kubeconfig)
        )
    except (config.ConfigException, OSError) as error:
        raise ContextError(f"no cluster to read: {error}") from None
    return [each["name"] for each in found], current["name"]


def read(context: str, kubeconfig: Path | None, reading: Reading) -> Found:
    """Read one cluster; what may not be read is in `missing`.

    Raises:
        ContextError: when the kubeconfig has no such context.
    """
    try:
        api = config.new_client_from_config(  # type: ignore[no-untyped-call]
            kubeconfig and str(kubeconfig), context
        )
    except (config.ConfigException, OSError) as error:
        raise ContextError(str(error)) from None
    found = Found()
    found.sources[context] += 0
    try:
        _Cluster(api, context, reading, found).read()
    finally:
        api.close()
    return found


class _Cluster:
    def __init__(self, api: client.ApiClient, context: str, reading: Reading, found: Found) -> None:
        self._api = api
        self._context = context
        self._reading = reading
        self._found = found
        self._owners: dict[tuple[str, str, str], tuple[str, str] | None] = {}
        """Kind, namespace and name of what was read → kind and name of its controller."""
        self._silent = False
        """Whether it stopped answering; then it is asked no more."""

    def read(self) -> None:
        """Read everything into `found`."""
        for each in self._objects("api/v1", "namespaces", "namespaces", in_namespaces=False):
            labels = each["metadata"].get("labels") or {}
            if labels.get(OPT_OUT_LABEL) == OPT_OUT_VALUE:
                self._found.opted_out.add((self._context, each["metadata"]["name"]))
        self._found.workloads += joined(self._workloads())
        if self._reading.custom_resources:
            self._found.workloads += list(self._custom_resources())

    def _workloads(self) -> Iterator[Workload]:
        merged: dict[Any, Workload] = {}
        for group, kind, plural in _KINDS:
            version = f"{group}/v1" if group else "v1"
            base = f"apis/{version}" if group else "api/v1"
            for each in self._objects(base, plural, f"{plural} ({version})"):
                metadata = each["metadata"]
                owner = _controller(metadata)
                if kind in {"ReplicaSet", "Job"}:
                    self._owners[kind, metadata["namespace"], metadata["name"]] = owner
                if owner is not None and kind != "Pod":
                    continue
                read = workload(
                    {**each, "apiVersion": version, "kind": kind},
                    self._context,
                    is_file=False,
                    label_keys=self._reading.label_keys,
                )
                if read is None or not read.images:
                    continue
                if kind != "Pod":
                    yield read
                    continue
                read.place = self._top(read.place, owner)
                key = (read.place, tuple(read.labels.items()), read.is_static, read.images)
                known = merged.setdefault(key, read)
                known.pods += 1
        yield from merged.values()

    def _top(self, place: Place, owner: tuple[str, str] | None) -> Place:
        """The workload at the top of those that own a Pod."""
        namespace = place.namespace or ""
        while owner is not None and owner[0] != "Node":
            place = Place(place.source, False, place.namespace, *owner)
            owner = self._owners.get((owner[0], namespace, owner[1]))
        return place

    def _custom_resources(self) -> Iterator[Workload]:
        base = "apis/apiextensions.k8s.io/v1"
        for each in list(self._objects(base, _CUSTOM, _CUSTOM, in_namespaces=False)):
            spec = each["spec"]
            version = next(one["name"] for one in spec["versions"] if one["storage"])
            schema = next(one for one in spec["versions"] if one["storage"]).get("schema")
            if '"image' not in json.dumps(schema) and 'Image"' not in json.dumps(schema):
                continue
            path = f"apis/{spec['group']}/{version}"
            namespaced = spec["scope"] == "Namespaced"
            plural, kind = spec["names"]["plural"], spec["names"]["kind"]
            what = f"{plural} ({spec['group']})"
            for one in self._objects(path, plural, what, in_namespaces=namespaced):
                metadata = one["metadata"]
                place = Place(
                    self._context, False, metadata.get("namespace"), kind, metadata["name"]
                )
                images = tuple(custom_images(one.get("spec")))
                if images:
                    yield Workload(place, {}, False, images)

    def _objects(
        self, base: str, plural: str, what: str, *, in_namespaces: bool = True
    ) -> Iterator[dict[str, Any]]:
        """All objects of a kind, or those of the namespaces asked for; none once it is silent."""
        asked = self._reading.namespaces if in_namespaces else ()
        for path in [f"/{base}/namespaces/{each}/{plural}" for each in asked] or [
            f"/{base}/{plural}"
        ]:
            if self._silent:
                return
            try:
                for each in self._pages(path):
                    self._found.sources[self._context] += 1
                    yield each
            except client.ApiException as error:
                self._missing(what, f"{error.status} {error.reason}: {_said(error)}")
            except HTTPError as error:
                self._silent = True
                self._missing(f"{what} and all after", f"no answer: {error}")

    def _pages(self, path: str) -> Iterator[dict[str, Any]]:
        after = ""
        while True:
            query = [("limit", str(PAGE)), *([("continue", after)] if after else [])]
            try:
                page = self._get(path, query)
            except client.ApiException as error:
                # A list that took longer than the API server keeps old versions goes on with newer.
                after = (error.status == 410 and _metadata(error).get("continue")) or ""
                if not after:
                    raise
                continue
            yield from page.get("items") or []
            after = page.get("metadata", {}).get("continue") or ""
            if not after:
                return

    def _get(self, path: str, query: list[tuple[str, str]]) -> dict[str, Any]:
        request = self._api.param_serialize(
            "GET",
            path,
            query_params=query,
            header_params={"Accept": "application/json"},
            auth_settings=["BearerToken"],
        )
        answer = self._api.call_api(*request, _request_timeout=_TIMEOUT)
        body: bytes = answer.read()  # type: ignore[no-untyped-call]
        if answer.status != 200:
            raise client.ApiException.from_response(
                http_resp=answer, body=body.decode(errors="replace"), data=None
            )
        read: dict[str, Any] = json.loads(body)
        return read

    def _missing(self, what: str, why: str) -> None:
        self._found.missing.append(Missing(source=self._context, what=what, why=why))


def _controller(metadata: Mapping[str, Any]) -> tuple[str, str] | None:
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("controller"):
            return owner["kind"], owner["name"]
    return None


def _metadata(error: client.ApiException) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(error.body or "")["metadata"]
    except (TypeError, ValueError, KeyError):
        return {}
    return found


def _said(error: client.ApiException) -> str:
    try:
        return str(json.loads(error.body or "")["message"])
    except (TypeError, ValueError, KeyError):
        return "the API server says no more"
