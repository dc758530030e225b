"""Looks at a cluster's API server, for the moments in which Pulumi's provider cannot tell enough.

By the standard library alone: the program has no Kubernetes client of its own. No Pulumi here.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

_SECONDS = 15


class ApiServerError(Exception):
    """The API server does not answer, or refuses; the message says what it said."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status of a refusal; None when there was no answer."""


class ApiServer:
    """The API server that a kubeconfig's current context leads to.

    Every request takes a new connection, so that several API servers behind one address each get
    some of them.
    """

    def __init__(self, kubeconfig: str) -> None:
        document = yaml.safe_load(kubeconfig)
        context = _named(document["contexts"], document["current-context"])["context"]
        cluster = _named(document["clusters"], context["cluster"])["cluster"]
        self._user: Mapping[str, Any] = _named(document["users"], context["user"])["user"] or {}
        if "exec" in self._user:
            self._user = {**self._user, **_executed(self._user["exec"])}
        self._server = str(cluster["server"]).rstrip("/")
        handlers: list[urllib.request.BaseHandler] = []
        if self._server.startswith("https:"):
            handlers.append(urllib.request.HTTPSHandler(context=_tls(cluster, self._user)))
        host = urllib.parse.urlsplit(self._server).hostname or ""
        if cluster.get("proxy-url"):
            proxy = str(cluster["proxy-url"])
            handlers.append(urllib.request.ProxyHandler({"http": proxy, "https": proxy}))
        elif host == "localhost" or host.startswith("127."):  # as Go's clients do
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def get(self, path: str, **query: str) -> Any:
        """What is at this path.

        Raises:
            ApiServerError: when the API server does not answer, or refuses.
        """
        return self._answer(path, query, None)

    def create(self, path: str, manifest: Mapping[str, Any], *, dry_run: bool) -> Any:
        """What the API server makes of a manifest.

        Raises:
            ApiServerError: when the API server does not answer, or refuses.
        """
        return self._answer(path, {"dryRun": "All"} if dry_run else {}, manifest)

    def _answer(self, path: str, query: Mapping[str, str], body: Any) -> Any:
        url = f"{self._server}{path}?{urllib.parse.urlencode(query)}"
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if token := self._token():
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, headers=headers)
        try:
            with self._opener.open(request, timeout=_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            raise ApiServerError(_message(text), error.code) from None
        except OSError as error:
            raise ApiServerError(f"{self._server}: {error}") from None

    def _token(self) -> str | None:
        if self._user.get("tokenFile"):
            return Path(self._user["tokenFile"]).read_text().strip()
        token = self._user.get("token")
        return None if token is None else str(token)


def _named(entries: Any, name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(each for each in entries if each["name"] == name)
    return found


def _executed(command: Mapping[str, Any]) -> dict[str, Any]:
    """The credentials that a kubeconfig's `exec` command prints (ExecCredential)."""
    variables = {each["name"]: each["value"] for each in command.get("env") or []}
    done = subprocess.run(
        [command["command"], *(command.get("args") or [])],
        env={
            **os.environ,
            "KUBERNETES_EXEC_INFO": json.dumps(
                {
                    "apiVersion": command["apiVersion"],
                    "kind": "ExecCredential",
                    "spec": {"interactive": False},
                }
            ),
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ApiServerError(f"{command['command']}: {done.stderr.strip()}")
    status = json.loads(done.stdout)["status"]
    return {
        "token": status.get("token"),
        "client-certificate-data": _encoded(status.get("clientCertificateData")),
        "client-key-data": _encoded(status.get("clientKeyData")),
    }


def _encoded(text: str | None) -> str | None:
    return None if text is None else base64.b64encode(text.encode()).decode()


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any]) -> ssl.SSLContext:
    """TLS as the kubeconfig says: whom to trust, and the certificate to show."""
    authority = _material(cluster, "certificate-authority")
    context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate, key = _material(user, "client-certificate"), _material(user, "client-key")
    if certificate and key:
        with tempfile.NamedTemporaryFile() as file:  # of mode 0600
            file.write(certificate + b"\n" + key)
            file.flush()
            context.load_cert_chain(file.name)
    return context


def _material(entry: Mapping[str, Any], name: str) -> bytes | None:
    """A certificate or key, as base64 in the kubeconfig or as a file's path."""
    if entry.get(f"{name}-data"):
        return base64.b64decode(entry[f"{name}-data"])
    if entry.get(name):
        return Path(entry[name]).read_bytes()
    return None


def _message(text: str) -> str:
    """What a Status object says, or the answer itself."""
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text.strip()[:300]
