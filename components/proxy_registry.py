"""ProxyRegistry: the pull-through cache of one registry, its namespaces and its login."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_volcengine as volcengine

from components import PACKAGE
from components.inputs import inputs
from components.types import DOCKER_HUB, Access, Edition, settings_of

_REPLACES = (
    "name",
    "type",
    "proxyCache",
    "proxyCache.password",
    "proxyCacheEnabled",
    "resourceTags",
)
"""What the provider (0.0.47) can only change by replacing the registry."""


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """The registry that is proxied, and the account the proxy pulls with. Docker Hub by default."""

    host: str = DOCKER_HUB
    """Its host, as images name it."""
    type: str = "DockerHub"
    """The API's word for its kind: `DockerHub`, or `DockerRegistry` for any other."""
    endpoint: str | None = None
    """Its URL, `https://ghcr.io`; None for a kind whose endpoint is fixed."""
    username: pulumi.Input[str] | None = None
    """The account to pull with; None pulls anonymously."""
    password: pulumi.Input[str] | None = None
    """That account's password or access token; secret."""


@dataclass(frozen=True, kw_only=True)
class ProxyRegistryArgs:
    """The settings of a proxy registry."""

    registry_name: str
    """The registry's name, unique in the account and region; part of its domain."""
    edition: Edition
    """Its edition; an Enterprise registry is reached from the VPCs let in alone."""
    namespaces: Mapping[str, Access]
    """The upstream's namespaces to serve, each with who may pull from it."""
    upstream: Upstream = field(default_factory=Upstream)
    """What it is a proxy of."""
    project: str
    """The Volcengine project the registry belongs to."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Resource tags; the API takes them only when the registry is created."""
    login_password: pulumi.Input[str] | None = None
    """The registry user's password, set in place when it changes; secret."""
    protection: bool = True
    """Whether Pulumi refuses to delete the registry."""
    replacement_allowed: bool = False
    """Whether a change may replace the registry in this update, which loses its cache."""


class ProxyRegistry(pulumi.ComponentResource):
    """A Container Registry instance that is a proxy, with the namespaces it serves.

    The provider replaces a registry whenever its name, type, tags, upstream or credentials there
    change, and sees a changed password on every run because the API never returns it. Unless
    `replacement_allowed`, such changes are not passed on; those that can be seen stop the update
    with a message that says how to go on, before anything that depends on the registry.
    """

    domain: pulumi.Output[str]
    """The registry's domain, for example `dockerhub-cn-beijing.cr.volces.com`."""
    registry_name: pulumi.Output[str]
    """The registry's name, known once it is Running."""
    username: pulumi.Output[str]
    """The registry user's name."""
    served: pulumi.Output[list[str]]
    """The namespaces served, sorted, known once all of them exist."""

    def __init__(
        self,
        name: str,
        args: ProxyRegistryArgs,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(f"{PACKAGE}:index:ProxyRegistry", name, inputs(args), opts)
        registry = volcengine.cr.Registry(
            f"{name}-registry",
            name=args.registry_name,
            type=args.edition,
            project=args.project,
            proxy_cache_enabled=True,
            proxy_cache=volcengine.cr.RegistryProxyCacheArgs(
                type=args.upstream.type,
                endpoint=args.upstream.endpoint,
                username=args.upstream.username,
                password=args.upstream.password,
            ),
            password=args.login_password,
            resource_tags=[
                volcengine.cr.RegistryResourceTagArgs(key=key, value=value)
                for key, value in sorted(args.tags.items())
            ]
            or None,
            delete_immediately=True,
            opts=pulumi.ResourceOptions(
                parent=self,
                protect=args.protection and not args.replacement_allowed,
                delete_before_replace=True,
                ignore_changes=None if args.replacement_allowed else list(_REPLACES),
            ),
        )
        self.registry_name = pulumi.Output.unsecret(
            pulumi.Output.all(
                name=registry.name,
                edition=registry.type,
                tags=registry.resource_tags,
                cache=registry.proxy_cache,
                wanted_username=args.upstream.username,
            ).apply(lambda created: _confirmed(created, args))
        )
        namespaces = [
            volcengine.cr.Namespace(
                f"{name}-namespace-{namespace}",
                registry=self.registry_name,
                name=namespace,
                project=args.project,
                repository_default_access_level=access,
                opts=pulumi.ResourceOptions(parent=self, delete_before_replace=True),
            )
            for namespace, access in sorted(args.namespaces.items())
        ]
        self.domain = pulumi.Output.all(self.registry_name, registry.domains).apply(
            lambda known: _domain(*known)
        )
        self.username = registry.username
        self.served = pulumi.Output.all(*(each.name for each in namespaces)).apply(sorted)
        self.register_outputs(
            {
                "domain": self.domain,
                "registry_name": self.registry_name,
                "username": self.username,
                "served": self.served,
            }
        )


def _confirmed(created: Mapping[str, Any], args: ProxyRegistryArgs) -> str:
    """The registry's name, if it is as the stack's config has it.

    Raises:
        pulumi.RunError: when the registry differs from what the stack says, which only a
            replacement could change.
    """
    tags = {tag["key"]: tag["value"] for tag in created["tags"] or []}
    missing_tags = {key: value for key, value in args.tags.items() if tags.get(key) != value}
    cache = created["cache"] or {}
    upstream = args.upstream
    setting, account = settings_of(upstream.host)
    comparisons = [
        (f"{setting}.name", args.registry_name, created["name"]),
        (f"{setting}.edition", args.edition.value, created["edition"]),
        (f"{setting}.tags", dict(args.tags), tags if missing_tags else dict(args.tags)),
        (f"{account}.username", created["wanted_username"] or None, cache.get("username") or None),
    ]
    if upstream.host != DOCKER_HUB:
        comparisons += [
            (f"{setting}.type", upstream.type, cache.get("type") or upstream.type),
            (f"{setting}.endpoint", upstream.endpoint, cache.get("endpoint") or upstream.endpoint),
        ]
    differing = [
        f"{setting}: the stack says {wanted!r}, the registry has {found!r}"
        for setting, wanted, found in comparisons
        if wanted != found
    ]
    if differing:
        listing = "\n  ".join(differing)
        raise pulumi.RunError(
            f"registry {created['name']!r} differs from the stack's config and was left as it is\n"
            f"  {listing}\n"
            "  allowed: no change; the provider can only replace the registry, and its cache is"
            " lost\n"
            "  do:      put the old value back; or, to replace it, set"
            f" {setting}.allowReplacementOn to today's date (UTC) for one `pulumi up`"
        )
    if surplus := sorted(set(tags) - set(args.tags)):
        pulumi.log.warn(
            f"{setting}.tags: registry {created['name']!r} also has {', '.join(surplus)};"
            " left alone, because the provider can only replace the registry"
        )
    return str(created["name"])


def _domain(registry_name: str, domains: Sequence[Mapping[str, Any]]) -> str:
    """The domain to pull from: the registry's system domain, else the first by name.

    Raises:
        pulumi.RunError: when the registry has no domain.
    """
    names = sorted(str(each["domain"]) for each in domains)
    if not names:
        raise pulumi.RunError(
            f"registry {registry_name!r} has no domain\n"
            "  do: look at the registry's overview page, then run `pulumi up` again"
        )
    return next((name for name in names if name.endswith(".cr.volces.com")), names[0])
