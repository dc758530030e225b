"""The emulator's config file, as a model."""

from __future__ import annotations

import stat
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from rehearsal.cloud.api.rules import DEFAULT_QUOTA
from rehearsal.cloud.registries.plane import DataPlaneConfig


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


class Delays(_Model):
    """How long asynchronous changes take, in seconds."""

    registry_creating: float = Field(default=0.3, ge=0)
    registry_deleting: float = Field(default=0.3, ge=0)
    user_setting: float = Field(default=0.2, ge=0)
    vpc_enabling: float = Field(default=0.3, ge=0)
    vpc_disabling: float = Field(default=0.3, ge=0)
    addon_changing: float = Field(default=1.0, ge=0)


class EmulatorConfig(_Model):
    """All of the config file."""

    access_key: str
    secret_key: SecretStr
    region: str = "cn-beijing"
    account_id: int = 2100000001
    ready_file: Path | None = None
    """Gets the ready line too, when all is up."""
    clusters: list[Cluster] = []
    delays: Delays = Delays()
    quota: dict[str, int] = DEFAULT_QUOTA
    """Enterprise registries per region; its keys are the regions there are."""
    data_plane: DataPlaneConfig | None = None
    """None: registries have phases and domains, but nothing serves the domains."""

    def clusters_in(self, region: str) -> list[Cluster]:
        """The clusters of a region."""
        return [each for each in self.clusters if (each.region or self.region) == region]

    @classmethod
    def load(cls, path: Path) -> EmulatorConfig:
        """Read a config file.

        Raises PermissionError when others than its owner may read it (it holds the secret key),
        pydantic.ValidationError when it is not right.
        """
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise PermissionError(f"{path} holds a secret key; make it private: chmod 600 {path}")
        return cls.model_validate_json(path.read_bytes())
