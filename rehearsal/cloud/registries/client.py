"""Pulls images with crane, an OCI client, the way a user with a login would."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rehearsal.locations import write_private


class PullError(RuntimeError):
    """crane could not pull an image; the text is what it said."""


@dataclass(frozen=True, kw_only=True)
class RegistryLogin:
    """A login for one registry. Its repr leaves the password out."""

    domain: str
    username: str
    password: str

    def __repr__(self) -> str:
        """Return the login without its password."""
        return f"RegistryLogin(domain={self.domain!r}, username={self.username!r})"

    def docker_config(self) -> str:
        """Return the content of a Docker config.json that holds this login."""
        auth = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return json.dumps({"auths": {self.domain: {"auth": auth}}})


@dataclass(frozen=True, kw_only=True)
class PullClient:
    """How crane reaches the registries of the rehearsal."""

    crane: Path
    names_url: str
    """URL of the names proxy (names.py)."""
    ca_certificate: Path
    timeout: float = 60.0
    """Seconds for one command."""

    def pull(self, image: str, login: RegistryLogin | None = None) -> str:
        """Pull all of an image, config and layers, to a scratch file; return its digest.

        The login goes to crane in a config.json of mode 0600 in a folder of its own, never in
        arguments. Raises PullError.
        """
        with tempfile.TemporaryDirectory(prefix="pull-") as name:
            folder = Path(name)
            self._run(["pull", "--format=oci", image, str(folder / "image")], folder, login)
            index = json.loads((folder / "image" / "index.json").read_text())
            return str(index["manifests"][0]["digest"])

    def _run(self, arguments: list[str], folder: Path, login: RegistryLogin | None) -> str:
        config = folder / "docker"
        config.mkdir(mode=0o700)
        if login is not None:
            write_private(config / "config.json", login.docker_config())
        environment = {
            "HOME": str(folder),
            "PATH": os.defpath,
            "DOCKER_CONFIG": str(config),
            "HTTPS_PROXY": self.names_url,
            "SSL_CERT_FILE": str(self.ca_certificate),
        }
        try:
            done = subprocess.run(
                [str(self.crane), *arguments],
                env=environment,
                capture_output=True,
                text=True,
                timeout=self.timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PullError(f"crane {arguments[0]}: no end after {self.timeout:.0f} s") from None
        if done.returncode != 0:
            raise PullError(f"crane {arguments[0]}: {done.stderr.strip()}")
        return done.stdout
