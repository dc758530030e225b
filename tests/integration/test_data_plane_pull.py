"""Pulls through proxy registries, by an unmodified OCI client, on real registries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rehearsal import wait
from rehearsal.cloud.registries.access_log import AccessRecord, Cache
from rehearsal.cloud.registries.client import PullError, RegistryLogin
from rehearsal.cloud.registries.login import AuthMode
from tests.support.volcengine_stage import MICRO_PROXY, PASSWORD, Stage

pytest_plugins = ("tests.support.volcengine_fixtures",)

PRIVATE = "library"
PUBLIC = "bitnami"


def make_mirror(stage: Stage, name: str = "mirror", **settings: Any) -> tuple[str, RegistryLogin]:
    """A registry with a private and a public namespace; its domain and login."""
    namespaces = {PRIVATE: "Private", PUBLIC: "Public"}
    login = stage.api.make_proxy(name, namespaces, **settings)
    return login.domain, login


def content(log: list[AccessRecord]) -> list[AccessRecord]:
    return [record for record in log if "/manifests/" in record.path or "/blobs/" in record.path]


@pytest.mark.parametrize("mode", list(AuthMode))
def test_the_second_pull_is_served_from_the_cache(
    start_stage: Callable[..., Stage], mode: AuthMode
) -> None:
    stage = start_stage(auth=mode)
    domain, login = make_mirror(stage)
    image = f"{domain}/library/nginx:latest"
    before = stage.upstream.content_requests("library/nginx")

    assert stage.client.pull(image, login) == stage.upstream.digests["library/nginx:latest"]
    first = content(stage.access_log(domain))
    after_first = stage.upstream.content_requests("library/nginx")
    assert len(after_first) > len(before)
    assert {record.cache for record in first} == {Cache.MISS}
    assert {record.user for record in first} == {login.username}

    assert stage.client.pull(image, login) == stage.upstream.digests["library/nginx:latest"]
    second = content(stage.access_log(domain))[len(first) :]
    assert stage.upstream.content_requests("library/nginx") == after_first
    assert [record.path for record in second] == [record.path for record in first]
    assert {record.cache for record in second} == {Cache.HIT}
    assert {method for record in second for method in record.upstream} == {"HEAD"}


def test_every_sample_image_is_pulled_with_its_digest(stage: Stage) -> None:
    domain, login = make_mirror(stage)
    stage.api.call("CreateNamespace", Registry="mirror", Name="rehearsal")
    for image, digest in stage.upstream.digests.items():
        assert stage.client.pull(f"{domain}/{image}", login) == digest
        assert stage.client.pull(f"{domain}/{image.split(':')[0]}@{digest}", login) == digest


@pytest.mark.parametrize("mode", list(AuthMode))
def test_a_private_namespace_needs_the_login_and_a_public_one_does_not(
    start_stage: Callable[..., Stage], mode: AuthMode
) -> None:
    stage = start_stage(auth=mode)
    domain, login = make_mirror(stage)
    digest = stage.upstream.digests["bitnami/redis:7.2"]
    assert stage.client.pull(f"{domain}/{PUBLIC}/redis:7.2") == digest
    assert stage.client.pull(f"{domain}/{PUBLIC}/redis:7.2", login) == digest
    with pytest.raises(PullError, match="UNAUTHORIZED"):
        stage.client.pull(f"{domain}/{PRIVATE}/nginx:latest")
    assert {record.user for record in content(stage.access_log(domain))} == {None, login.username}


def test_a_namespace_that_does_not_exist_is_refused(stage: Stage) -> None:
    domain, login = make_mirror(stage)
    stage.api.call("DeleteNamespace", Registry="mirror", Name=PRIVATE)
    with pytest.raises(PullError, match="NAME_UNKNOWN"):
        stage.client.pull(f"{domain}/{PRIVATE}/nginx:latest", login)
    with pytest.raises(PullError, match="UNAUTHORIZED"):
        stage.client.pull(f"{domain}/{PRIVATE}/nginx:latest")
    assert [record.status for record in content(stage.access_log(domain))] == [404, 401, 401]


def test_a_namespace_made_later_is_served_at_once(stage: Stage) -> None:
    login = stage.api.make_proxy("mirror", {})
    image = f"{login.domain}/library/busybox:latest"
    with pytest.raises(PullError, match="NAME_UNKNOWN"):
        stage.client.pull(image, login)
    stage.api.call("CreateNamespace", Registry="mirror", Name="library")
    assert stage.client.pull(image, login) == stage.upstream.digests["library/busybox:latest"]


@pytest.mark.parametrize("mode", list(AuthMode))
def test_after_a_change_the_old_password_fails_and_the_new_one_works(
    start_stage: Callable[..., Stage], mode: AuthMode
) -> None:
    stage = start_stage(auth=mode)
    domain, old = make_mirror(stage)
    image = f"{domain}/library/nginx:1.27"
    digest = stage.client.pull(image, old)
    stage.api.set_password("mirror", "Passw0rd-2")
    with pytest.raises(PullError, match=r"UNAUTHORIZED|401"):
        stage.client.pull(image, old)
    assert stage.client.pull(image, stage.api.login("mirror", domain, "Passw0rd-2")) == digest


def test_nobody_can_log_in_before_a_password_is_set(stage: Stage) -> None:
    domain = stage.api.make_registry("mirror", **MICRO_PROXY)
    stage.api.call("CreateNamespace", Registry="mirror", Name="library")
    for password in ("", "None", PASSWORD):
        login = stage.api.login("mirror", domain, password)
        with pytest.raises(PullError, match=r"UNAUTHORIZED|401"):
            stage.client.pull(f"{domain}/library/nginx:latest", login)


def test_an_image_that_upstream_does_not_have_is_unknown(stage: Stage) -> None:
    domain, login = make_mirror(stage)
    with pytest.raises(PullError, match="MANIFEST_UNKNOWN"):
        stage.client.pull(f"{domain}/library/nginx:none", login)


def test_an_enterprise_registry_answers_only_while_a_vpc_is_let_in(stage: Stage) -> None:
    domain, login = make_mirror(stage, Type="Enterprise")
    image = f"{domain}/library/nginx:latest"
    with stage.http(domain) as client, pytest.raises(Exception, match="disconnected"):
        client.get("/v2/")
    stage.api.call("UpdateVpcEndpoint", Registry="mirror", Vpcs=[{"VpcId": "vpc-1"}])
    wait.until(lambda: stage.api.vpcs("mirror") == {"vpc-1": "Enabled"}, "the VPC is let in")
    assert stage.client.pull(image, login) == stage.upstream.digests["library/nginx:latest"]
    stage.api.call("UpdateVpcEndpoint", Registry="mirror", Vpcs=[])
    wait.until(lambda: stage.api.vpcs("mirror") == {}, "no VPC is let in")
    with stage.http(domain) as client, pytest.raises(Exception, match="disconnected"):
        client.get("/v2/")


def test_a_deleted_registry_is_gone_and_a_new_one_of_its_name_starts_with_an_empty_cache(
    stage: Stage,
) -> None:
    domain, login = make_mirror(stage)
    image = f"{domain}/library/nginx:latest"
    stage.client.pull(image, login)
    stage.api.call("DeleteRegistry", Name="mirror", DeleteImmediately=True)
    wait.until(lambda: stage.api.phase("mirror") is None, "the registry is gone")
    with pytest.raises(PullError, match="Forbidden"):
        stage.client.pull(image, login)
    logged = len(stage.access_log(domain))
    make_mirror(stage)
    stage.client.pull(image, login)
    assert {record.cache for record in content(stage.access_log(domain)[logged:])} == {Cache.MISS}


def test_two_registries_are_served_side_by_side(stage: Stage) -> None:
    first, first_login = make_mirror(stage, "first")
    second, second_login = make_mirror(stage, "second")
    stage.client.pull(f"{first}/library/nginx:latest", first_login)
    stage.client.pull(f"{second}/library/busybox:latest", second_login)
    assert all("nginx" in record.path for record in content(stage.access_log(first)))
    assert all("busybox" in record.path for record in content(stage.access_log(second)))


def test_a_registry_that_cannot_be_served_fails(
    start_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    stage = start_stage()
    (tmp_path / "proxies" / "mirror-cn-beijing.cr.volces.com").mkdir(parents=True)
    (tmp_path / "proxies" / "mirror-cn-beijing.cr.volces.com" / "cache").write_text("in the way")
    stage.api.call("CreateRegistry", Name="mirror", **MICRO_PROXY)
    wait.until(lambda: stage.api.phase("mirror") == "Failed", "the registry has failed")


def test_the_password_is_neither_in_arguments_nor_in_logs(stage: Stage, tmp_path: Path) -> None:
    domain, login = make_mirror(stage)
    stage.client.pull(f"{domain}/library/nginx:latest", login)
    assert PASSWORD not in repr(login)
    written = [
        path for path in tmp_path.rglob("*") if path.is_file() and "content" not in path.parts
    ]
    assert any(path.name == "access.log" for path in written)
    for path in written:
        assert PASSWORD.encode() not in path.read_bytes(), path
