"""The emulator's config file, as a model; __main__.py shows one."""

from __future__ import annotations

import stat
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from rehearsal.cloud.api.rules import DEFAULT_QUOTA
from rehearsal.cloud.registries.login import AuthMode


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Cluster(_Model):
    """A VKE cluster that exists in the emulated account."""

    id: str
    name: str
    vpc_id: str
    subnet_ids: list[str] = Field(min_length=1)
    kubeconfig_path: Path
    """Read anew for each answer; while it is missing the API has no kubeconfig for the cluster."""
    public: bool = True
    """Whether the API server has a public address too, and so a Public kubeconfig."""
    region: str | None = None
    """None: the emulator's own region."""
    kubernetes_version: str = "v1.32.4-vke.3"
    phase: str = "Running"


class Delays(_Model):
    """How long asynchronous changes take, in seconds."""

    registry_creating: float = Field(default=1.0, ge=0)
    registry_deleting: float = Field(default=0.3, ge=0)
    user_setting: float = Field(default=0.2, ge=0)
    vpc_enabling: float = Field(default=1.0, ge=0)
    vpc_disabling: float = Field(default=0.3, ge=0)
    addon_changing: float = Field(default=1.0, ge=0)


class DataPlaneSettings(_Model):
    """Real pull-through registries behind the emulated ones."""

    registry_binary: Path
    work_dir: Path
    """One folder for each registry is made in it: access.log, cache/, tls/."""
    upstreams: dict[str, str]
    """By upstream host, as images name it, the registry that plays it: https, IP and port."""
    ca_certificate: Path
    ca_key: Path
    addresses: list[str] = Field(default=["127.0.0.1"], min_length=1)
    port: int = Field(default=0, ge=0, le=65535)
    """0: a free port for each registry on addresses[0]; else each registry takes an address."""
    auth: AuthMode = AuthMode.BOTH
    names_port: int = Field(default=0, ge=0, le=65535)
    """Port of the CONNECT proxy on 127.0.0.1; 0 takes a free one."""


class EmulatorConfig(_Model):
    """All of the config file."""

    access_key: str
    secret_key: SecretStr
    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    region: str = "cn-beijing"
    account_id: int = 2100000001
    ready_file: Path | None = None
    """Gets the ready line too, when all is up."""
    clusters: list[Cluster] = []
    delays: Delays = Delays()
    quota: dict[str, int] = DEFAULT_QUOTA
    """Enterprise registries per region; its keys are the regions there are."""
    data_plane: DataPlaneSettings | None = None
    """None: registries have phases and domains, but nothing serves the domains."""

    @classmethod
    def load(cls, path: Path) -> EmulatorConfig:
        """Read a config file.

        Raises PermissionError when others than its owner may read it (it holds the secret key),
        pydantic.ValidationError when it is not right.
        """
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise PermissionError(f"{path} holds a secret key; make it private: chmod 600 {path}")
        return cls.model_validate_json(path.read_bytes())
