"""Webhooks of others that add containers to Pods, or fill in an image, at admission."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from rehearsal.cloud.registries.certificates import Authority
from tests.support.servers import serving

SELECTED = {"mesh": "yes"}
"""The label of the Pods they are called for."""
ISTIO = "istio-sidecar-injector"
"""Is called before Kyverno: webhook configurations are called by name."""
VAULT = "vault-agent-injector-cfg"
"""Is called after Kyverno."""
SIDECARS: Mapping[str, Mapping[str, str]] = {
    ISTIO: {"name": "istio-proxy", "image": "docker.io/istio/proxyv2:1.27.1"},
    VAULT: {"name": "vault-agent", "image": "hashicorp/vault:1.20.0"},
}
"""What each adds to a Pod, unless the Pod has it."""


class _Answers(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = review["request"]
        patch = _patch(self.path.partition("?")[0].strip("/"), request["object"])
        response = {
            "uid": request["uid"],
            "allowed": True,
            "patchType": "JSONPatch",
            "patch": base64.b64encode(json.dumps(patch).encode()).decode(),
        }
        body = json.dumps({**review, "request": None, "response": response}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing is logged."""


def _patch(injector: str, pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Its sidecar, or its image where a container of that name has the image `auto`."""
    sidecar = SIDECARS[injector]
    for at, container in enumerate(pod["spec"]["containers"]):
        if container["name"] == sidecar["name"]:
            path = f"/spec/containers/{at}/image"
            auto = container["image"] == "auto"
            return [{"op": "replace", "path": path, "value": sidecar["image"]}] if auto else []
    return [{"op": "add", "path": "/spec/containers/-", "value": dict(sidecar)}]


@contextmanager
def injectors(folder: Path) -> Iterator[dict[str, dict[str, Any]]]:
    """Serve them on loopback; the webhook configuration of each, by its name."""
    authority = Authority.create(folder)
    issued = authority.issue(["127.0.0.1"], folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    with serving(server, issued):
        yield {name: _configuration(name, server.server_address[1], authority) for name in SIDECARS}


def _configuration(name: str, port: int, authority: Authority) -> dict[str, Any]:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [
            {
                "name": f"{name}.example.com",
                "clientConfig": {
                    "url": f"https://127.0.0.1:{port}/{name}",
                    "caBundle": base64.b64encode(authority.certificate.read_bytes()).decode(),
                },
                "rules": [{**rule, "operations": ["CREATE"]}],
                "objectSelector": {"matchLabels": SELECTED},
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            }
        ],
    }
