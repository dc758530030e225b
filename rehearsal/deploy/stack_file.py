"""Reading and changing a stack file as the Pulumi CLI does, secrets by passphrase included."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HIDDEN = "Hidden-password-1"
"""In place of a secret that is not decrypted; every rule for passwords takes it."""
_HIDDEN_KUBECONFIG = """\
{current-context: c, contexts: [{name: c, context: {cluster: c, user: c}}],
 clusters: [{name: c, cluster: {server: "https://hidden.example"}}],
 users: [{name: c, user: {token: hidden}}]}
"""


@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """A stack's config as a program gets it."""

    values: Mapping[str, str]
    """Every key with its value, structures as JSON, secrets decrypted."""
    secret_keys: frozenset[str]
    """The keys that are, or hold, a secret."""


def changed(text: str, project: str, config: Mapping[str, str]) -> str:
    """A stack file's text with other values, as `pulumi config set --path` puts them.

    `config` has a value, as YAML, for each path: `redirect.engine`, `clusters[0].ways`.
    """
    document = yaml.safe_load(text)
    for path, value in config.items():
        namespace, _, inner = path.rpartition(":")
        first, *words = re.findall(r"[^.[\]]+", inner)
        node: Any = document["config"]
        keys = [f"{namespace or project}:{first}", *words]
        for key in keys[:-1]:
            node = node[int(key)] if isinstance(node, list) else node.setdefault(key, {})
        node[keys[-1]] = yaml.safe_load(value)
    return yaml.safe_dump(document, sort_keys=False)


def read(path: Path, passphrase: str | None) -> StackConfig:
    """Read `Pulumi.<stack>.yaml`; without a passphrase its secrets are replaced, not decrypted.

    Raises:
        cryptography.exceptions.InvalidTag: when the passphrase is not the file's.
    """
    document = yaml.safe_load(path.read_text())
    if passphrase is None or "encryptionsalt" not in document:
        key = None
    else:
        key = _key(document["encryptionsalt"], passphrase)
    values: dict[str, str] = {}
    secret_keys: set[str] = set()
    for name, value in document.get("config", {}).items():
        plain = _decrypted(value, key)
        if plain != value:
            secret_keys.add(name)
        values[name] = plain if isinstance(plain, str) else json.dumps(plain, default=str)
    return StackConfig(values=values, secret_keys=frozenset(secret_keys))


def _decrypted(value: Any, key: bytes | None, name: str = "") -> Any:
    """`value` with every `secure: …` in it replaced by what it hides."""
    if isinstance(value, dict):
        if set(value) == {"secure"}:
            if key is None:
                return _HIDDEN_KUBECONFIG if name == "kubeconfig" else HIDDEN
            _, nonce, sealed = str(value["secure"]).split(":")
            opened = AESGCM(key).decrypt(base64.b64decode(nonce), base64.b64decode(sealed), None)
            return opened.decode()
        return {name: _decrypted(child, key, name) for name, child in value.items()}
    if isinstance(value, list):
        return [_decrypted(child, key) for child in value]
    return value


def _key(encryption_salt: str, passphrase: str) -> bytes:
    """The passphrase provider's key: PBKDF2 of SHA-256, 1,000,000 rounds."""
    salt = base64.b64decode(encryption_salt.split(":")[1])
    return hashlib.pbkdf2_hmac("sha256", passphrase.encode(), salt, 1_000_000, dklen=32)
