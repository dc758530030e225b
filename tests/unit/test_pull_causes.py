"""What a failed pull check says, from what kubelets and Kubernetes write."""

from __future__ import annotations

from typing import Any

import pytest

from components.pull_causes import cause

DOMAIN = "hub-dev-cn-beijing.cr.volces.com"
IMAGE = f"{DOMAIN}/library/busybox:latest"
PULLING = f'Failed to pull image "{IMAGE}": '
RESOLVING = f'{PULLING}failed to resolve reference "{IMAGE}": '
REQUEST = f"{RESOLVING}failed to do request: Head: "


def pod(**status: Any) -> dict[str, Any]:
    metadata = {"uid": "pod", "creationTimestamp": "2026-11-27T08:00:00Z"}
    spec = {"nodeName": "node-1", "containers": [{"command": ["true"]}]}
    return {"metadata": metadata, "spec": spec, "status": status}


def event(reason: str, message: str, uid: str = "pod") -> dict[str, Any]:
    return {"reason": reason, "message": message, "involvedObject": {"uid": uid}}


@pytest.mark.parametrize(
    ("message", "meaning"),
    [
        pytest.param(
            f"{REQUEST}dial tcp: lookup {DOMAIN} on 100.96.0.2:53: no such host",
            f"nodes find no address of {DOMAIN}",
            id="no such host",
        ),
        pytest.param(
            f"{REQUEST}dial tcp 10.0.0.1:443: connect: connection refused",
            "nodes are refused a connection",
            id="refused",
        ),
        pytest.param(
            f"{REQUEST}dial tcp 10.0.0.1:443: i/o timeout",
            "nodes get no answer",
            id="timeout",
        ),
        pytest.param(
            f"{REQUEST}tls: failed to verify certificate: x509:"
            " certificate signed by unknown authority",
            "do not trust the certificate",
            id="certificate",
        ),
        pytest.param(
            f"{RESOLVING}failed to authorize: failed to fetch oauth token: unexpected status from"
            f" GET request to https://{DOMAIN}/service/token: 401 Unauthorized",
            "refused the login",
            id="401",
        ),
        pytest.param(
            f"{RESOLVING}unexpected status from HEAD request to https://{DOMAIN}: 403 Forbidden",
            "denied access",
            id="403",
        ),
        pytest.param(
            f"{RESOLVING}pull access denied, repository does not exist or may require"
            " authorization: server message: insufficient_scope: authorization failed",
            "denied access",
            id="denied",
        ),
        pytest.param(
            f"rpc error: code = NotFound desc = {RESOLVING}{IMAGE}: not found",
            "has no such image",
            id="404",
        ),
        pytest.param(
            f"{PULLING}httpReadSeeker: failed open: unexpected status code: 429 Too Many Requests",
            "a rate limit",
            id="429",
        ),
        pytest.param(f"{PULLING}something new", f"nodes cannot pull from {DOMAIN}", id="unknown"),
    ],
)
def test_what_the_kubelet_writes_is_said_with_what_it_means(message: str, meaning: str) -> None:
    events = [event("Failed", message), event("Failed", "Error: ImagePullBackOff")]
    found = cause(IMAGE, [pod(phase="Pending")], events)
    assert found is not None
    assert found.startswith(meaning) or meaning in found.splitlines()[0]
    assert message in found


@pytest.mark.parametrize(
    ("host", "message", "wanted"),
    [
        ("docker.io", "429 Too Many Requests", "set dockerhub.username and dockerhub.password"),
        ("ghcr.io", "429 Too Many Requests", "set upstreams[ghcr.io].username and upstreams[ghcr"),
        ("docker.io", "401 Unauthorized", "the Docker Hub account it pulls with"),
        ("ghcr.io", "401 Unauthorized", "the ghcr.io account it pulls with"),
        ("docker.io", "403 Forbidden", "(registry.namespaces)"),
        ("ghcr.io", "403 Forbidden", "(upstreams[ghcr.io].namespaces)"),
        ("docker.io", "not found", "pullCheck.image and registry.namespaces"),
        ("ghcr.io", "not found", "upstreams[ghcr.io].pullCheckImage and upstreams[ghcr.io].names"),
        ("docker.io", "i/o timeout", "none from Docker Hub"),
        ("ghcr.io", "i/o timeout", "none from ghcr.io"),
    ],
)
def test_what_to_do_names_the_settings_of_the_proxy_that_was_checked(
    host: str, message: str, wanted: str
) -> None:
    events = [event("Failed", f"{RESOLVING}{message}")]
    assert wanted in (cause(IMAGE, [pod(phase="Pending")], events, host) or "")


@pytest.mark.parametrize("tag", ["401", "404", "denied", "x509"])
def test_the_image_s_own_name_is_no_cause(tag: str) -> None:
    image = f"{DOMAIN}/library/busybox:{tag}"
    events = [
        event("Failed", f'Failed to pull image "{image}": dial tcp 10.0.0.1:443: i/o timeout')
    ]
    assert (cause(image, [pod()], events) or "").startswith("nodes get no answer")


def test_without_events_the_containers_state_says_it() -> None:
    waiting = {"reason": "ErrImagePull", "message": f"{RESOLVING}403 Forbidden"}
    status = {"containerStatuses": [{"state": {"waiting": waiting}}]}
    assert "denied access" in (cause(IMAGE, [pod(**status)], []) or "")


def test_a_pod_that_no_node_takes_is_said_with_the_schedulers_words() -> None:
    message = "0/3 nodes are available: 3 node(s) had untolerated taint {gpu: only}."
    condition = {"type": "PodScheduled", "status": "False", "message": message}
    found = cause(IMAGE, [pod(phase="Pending", conditions=[condition])], [])
    assert found == f"there is no node for the check's Pod to run on: {message}"


def test_a_pod_the_cluster_does_not_let_in_is_said_with_the_refusal() -> None:
    refusal = 'Error creating: pods "pull-check-" is forbidden: violates PodSecurity "restricted"'
    found = cause(IMAGE, [], [event("FailedCreate", refusal, uid="job")])
    assert found == f"the cluster lets no Pod of the check be created: {refusal}"


def test_only_the_newest_pod_counts() -> None:
    older, newer = pod(phase="Pending"), pod(phase="Pending")
    newer["metadata"] = {"uid": "newer", "creationTimestamp": "2026-11-27T08:05:00Z"}
    events = [event("Failed", f"{RESOLVING}403 Forbidden")]
    assert "has not started" in (cause(IMAGE, [newer, older], events) or "")


def test_an_image_without_true_is_said() -> None:
    status = {"containerStatuses": [{"state": {"terminated": {"exitCode": 127}}}]}
    assert "`true` ended with 127" in (cause(IMAGE, [pod(**status)], []) or "")
