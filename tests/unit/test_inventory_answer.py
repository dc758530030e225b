"""What the inventory says will happen, what it proposes, and how it writes that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from components.types import Access, Proxy
from inventory.answer import Answer, Share, answer
from inventory.cli import PARTIAL, UNSERVED, app
from inventory.formats import json_format, markdown, page, table
from inventory.prediction import Outcome, Prediction, predict
from inventory.proposal import propose
from inventory.stack import Stack, load_stack, no_stack
from inventory.workloads import Found, Image, Missing, Place, Workload
from settings import SettingsError, parse
from tests.support.configs import STACK_FILES

DOMAIN = "dockerhub-dev-cn-beijing.cr.volces.com"
PUBLIC, PRIVATE = Access.PUBLIC, Access.PRIVATE
HUB = Proxy(host="docker.io", domain=DOMAIN, namespaces={"library": PUBLIC, "bitnami": PRIVATE})
GHCR = Proxy(host="ghcr.io", domain="ghcr-proxy.example.com", namespaces={"kyverno": PUBLIC})
STACK = Stack(
    name="dev",
    proxies=[HUB, GHCR],
    excluded_pod_labels=frozenset({"example.com/operated"}),
    sections={"registry": {"name": "dockerhub-dev", "namespaces": ["library", "bitnami"]}},
    has_account=True,
)


def workload(
    *references: str, namespace: str | None = "default", name: str = "x", **fields: Any
) -> Workload:
    place = Place("m.yaml", True, namespace, "Pod", name)
    images = tuple(Image(each, f"c{at}", line=at + 1) for at, each in enumerate(references))
    return Workload(place, fields.pop("labels", {}), fields.pop("is_static", False), images)


@pytest.mark.parametrize(
    ("reference", "to"),
    [
        ("nginx", "library/nginx"),
        ("docker.io/nginx:1", "library/nginx:1"),
        ("index.docker.io/bitnami/redis", "bitnami/redis"),
        ("registry-1.docker.io/bitnami/redis", "bitnami/redis"),
        ("registry.hub.docker.com/library/a/b:1", "library/a/b:1"),
        ("bitnami/redis:1@sha256:" + "0" * 64, "bitnami/redis:1@sha256:" + "0" * 64),
    ],
)
def test_an_image_of_a_namespace_served_is_redirected(reference: str, to: str) -> None:
    found = predict(Image(reference, "c"), workload(), STACK, opted_out=False)
    assert found == Prediction(Outcome.REDIRECTED, f"{DOMAIN}/{to}")


@pytest.mark.parametrize(
    ("reference", "outcome"),
    [
        ("ghcr.io/kyverno/kyverno:1", Outcome.REDIRECTED),
        ("grafana/grafana", Outcome.NOT_SERVED),
        ("ghcr.io/other/x", Outcome.NOT_SERVED),
        ("ghcr.io/x", Outcome.NO_NAMESPACE),
        ("quay.io/library/nginx", Outcome.OTHER_REGISTRY),
        ("docker.io.evil.example/library/nginx", Outcome.OTHER_REGISTRY),
        ("localhost/library/nginx", Outcome.OTHER_REGISTRY),
        ("docker.io:443/library/nginx", Outcome.OTHER_REGISTRY),
        (f"{DOMAIN}/library/nginx", Outcome.NAMES_THE_PROXY),
        ("auto", Outcome.PLACEHOLDER),
        ("NGINX", Outcome.INVALID),
    ],
)
def test_every_other_image_is_left_alone_for_its_reason(reference: str, outcome: Outcome) -> None:
    assert predict(Image(reference, "c"), workload(), STACK, opted_out=False).outcome is outcome


@pytest.mark.parametrize(
    ("fields", "opted_out", "outcome"),
    [
        ({"is_static": True}, False, Outcome.STATIC_POD),
        ({"namespace": "kube-system"}, False, Outcome.EXCLUDED),
        ({"labels": {"vke-dockerhub-proxy/redirect": "disabled"}}, False, Outcome.OPTED_OUT),
        ({"labels": {"vke-dockerhub-proxy/redirect": "enabled"}}, False, Outcome.REDIRECTED),
        ({"labels": {"cnpg.io/cluster": "db"}}, False, Outcome.OPERATOR),
        ({"labels": {"example.com/operated": ""}}, False, Outcome.EXCLUDED),
        ({"labels": {"application": "spilo"}}, False, Outcome.OPERATOR),
        ({"labels": {"application": "mine"}}, False, Outcome.REDIRECTED),
        ({}, True, Outcome.OPTED_OUT),
        ({"namespace": None}, False, Outcome.REDIRECTED),
    ],
)
def test_a_pod_that_is_left_alone_says_why(
    fields: dict[str, Any], opted_out: bool, outcome: Outcome
) -> None:
    found = predict(Image("nginx", "c"), workload(**fields), STACK, opted_out=opted_out)
    assert found.outcome is outcome


def test_an_image_that_is_never_pulled_is_left_alone() -> None:
    found = predict(Image("nginx", "c", True), workload(), STACK, opted_out=False)
    assert found.outcome is Outcome.NEVER_PULLED


@pytest.fixture
def said() -> Answer:
    found = Found(
        workloads=[
            workload("nginx:1", "grafana/grafana", "quay.io/a/b:1", name="web"),
            workload("grafana/loki:3", "registry.k8s.io/pause:3.9", name="log"),
            workload("grafana/agent:1", namespace="kube-system", name="agent"),
            workload("<b>&|`x`", name="<i>odd</i>"),
        ],
        missing=[Missing(source="prod", what="pods (v1)", why="403 Forbidden")],
    )
    found.sources.update({"m.yaml": 4})
    return answer(found, STACK)


def test_the_answer_counts_what_is_served_now_and_after_the_proposal(said: Answer) -> None:
    assert said.image_share == Share(total=6, now=1, after=4)
    assert said.container_share == Share(total=6, now=1, after=3)
    most_used = said.namespaces[0]
    assert (most_used.name, len(most_used.workloads)) == ("docker.io/grafana", 3)
    assert said.mutable == ["grafana/grafana"]
    assert [use.location for use in said.unserved] == ["m.yaml:1", "m.yaml:2"]


def test_every_format_says_what_is_missing_and_what_to_add(said: Answer) -> None:
    console = Console(record=True, width=200)
    table.write(said, console)
    texts = (console.export_text(), markdown.write(said), json_format.write(said), page.write(said))
    for text in texts:
        assert "docker.io/grafana" in text or '"grafana"' in text
        assert "403 Forbidden" in text
        assert "- {name: grafana, access: Public}" in text
    assert json.loads(texts[2])["complete"] is False


def test_text_of_manifests_is_nothing_but_text_in_html_and_markdown(said: Answer) -> None:
    assert "<b>" not in page.write(said)
    written = markdown.write(said)
    assert "<b>" not in written
    assert "`x`" not in written
    rows = [line for line in written.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {4, 6}


def test_a_long_answer_fits_into_a_comment() -> None:
    found = Found(workloads=[workload(f"n{at}/x{at}", name=f"p{at}") for at in range(3000)])
    said = answer(found, STACK)
    assert len(markdown.write(said)) < 65_536


def test_the_proposed_section_is_the_whole_section_and_can_be_loaded() -> None:
    raw = {
        "name": "dockerhub-dev",
        "tags": {"a": "b"},
        "namespaces": ["library", {"name": "bitnami", "access": "Public"}],
    }
    hub = Proxy(host="docker.io", domain=DOMAIN, namespaces={"library": PRIVATE, "bitnami": PUBLIC})
    given = Stack(name="dev", proxies=[hub], sections={"registry": raw}, has_account=True)
    proposal = propose([("docker.io", "grafana"), ("docker.io", "prom")], given)
    section = yaml.safe_load(proposal.yaml)["config"]["vke-dockerhub-proxy:registry"]
    assert section == {
        **raw,
        "namespaces": [
            *raw["namespaces"],
            {"name": "grafana", "access": "Public"},
            {"name": "prom", "access": "Public"},
        ],
    }
    settings = {"registry": section, "dockerhub": {"username": "a", "password": "b"}}
    assert len(parse(settings, region="cn-beijing").registry.namespaces) == 4


def test_registries_for_everyone_are_proposed_as_upstreams_that_the_settings_take() -> None:
    wanted = [("ghcr.io", "kyverno"), ("quay.io", "prometheus"), ("quay.io", None),
              ("registry.example.com", "x"), ("docker.io", "library")]  # fmt: skip
    stack = no_stack()
    proposal = propose(wanted, stack)
    sections = yaml.safe_load(proposal.yaml)["config"]
    assert sections["vke-dockerhub-proxy:upstreams"] == [
        {"host": "ghcr.io", "name": "ghcr-dev",
         "namespaces": [{"name": "kyverno", "access": "Public"}]},
        {"host": "quay.io", "name": "quay-dev",
         "namespaces": [{"name": "prometheus", "access": "Public"}]},
    ]  # fmt: skip
    given = {name.partition(":")[2]: section for name, section in sections.items()}
    proxies = parse(given, region="cn-beijing").proxies
    assert [each.host for each in proxies] == ["docker.io", "ghcr.io", "quay.io"]
    assert "No proxy of registry.example.com" in "".join(proposal.notes)


def test_a_further_registry_that_is_there_gets_its_namespaces() -> None:
    before = [{"host": "ghcr.io", "name": "g", "namespaces": [{"name": "a", "access": "Private"}]}]
    ghcr = Proxy(host="ghcr.io", domain="g", namespaces={"a": PRIVATE})
    given = Stack(name="x", proxies=[HUB, ghcr], sections={"upstreams": before})
    made = yaml.safe_load(propose([("ghcr.io", "bb")], given).yaml)["config"]
    assert made == {
        "vke-dockerhub-proxy:upstreams": [
            {**before[0], "namespaces": [{"name": "a", "access": "Private"},
                                         {"name": "bb", "access": "Private"}]}
        ]
    }  # fmt: skip


def test_a_namespace_that_no_registry_can_have_is_said_and_not_proposed() -> None:
    proposal = propose([("docker.io", "a"), ("ghcr.io", "library")], STACK)
    assert (proposal.namespaces, proposal.yaml) == ({}, "")
    assert "docker.io/a cannot be served" in proposal.notes[0]
    assert "ghcr.io/library cannot be served" in proposal.notes[1]


def test_without_an_account_the_command_for_one_is_given() -> None:
    assert "dockerhub.username" in "".join(propose([("docker.io", "grafana")], no_stack()).notes)
    assert propose([("docker.io", "library")], no_stack()).notes == []


@pytest.mark.parametrize(
    ("stack", "served"),
    [
        ("dev", {"docker.io": {"library"}}),
        (
            "prod-cn-beijing",
            {"docker.io": {"library", "bitnami", "grafana", "prom"}, "ghcr.io": {"kyverno"}},
        ),
        ("rehearsal", None),
    ],
)
def test_every_stack_of_the_repository_can_be_read(
    stack: str, served: dict[str, set[str]] | None
) -> None:
    loaded = load_stack(stack, STACK_FILES[stack].parent)
    assert served in (None, {each.host: set(each.namespaces) for each in loaded.proxies})
    assert loaded.redirects


def test_a_stack_file_is_read_without_its_secrets(tmp_path: Path) -> None:
    text = """\
config:
  volcengine:region: cn-beijing
  vke-dockerhub-proxy:registry: {name: dockerhub-dev, namespaces: [library]}
  vke-dockerhub-proxy:login: {password: {secure: v1:abc}}
  vke-dockerhub-proxy:clusters:
    - {name: a, kubeconfig: {secure: v1:def}, ways: [nodes]}
  vke-dockerhub-proxy:kyverno: {namespace: policies}
  vke-dockerhub-proxy:redirect: '{"exclude": {"namespaces": ["ci"], "podLabels": ["a/b"]}}'
"""
    (tmp_path / "Pulumi.x.yaml").write_text(text)
    loaded = load_stack("x", tmp_path)
    assert not loaded.redirects
    assert {"kube-system", "policies", "ci"} <= loaded.excluded_namespaces
    assert loaded.excluded_pod_labels == {"a/b"}


def test_a_stack_file_with_a_mistake_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.x.yaml").write_text(
        "config: {vke-dockerhub-proxy:registry: {name: 1dev, namespaces: [library]}}"
    )
    with pytest.raises(SettingsError, match=r"(?s)volcengine:region.*registry.name"):
        load_stack("x", tmp_path)


MANIFEST = """\
apiVersion: v1
kind: Pod
metadata: {name: x}
spec:
  containers:
    - {name: a, image: nginx}
    - name: b
      image: %s
"""


@pytest.fixture
def run(tmp_path: Path) -> Any:
    def run(image: str, *options: str) -> Any:
        (tmp_path / "m.yaml").write_text(MANIFEST % image)
        return CliRunner().invoke(app, [str(tmp_path / "m.yaml"), *options])

    return run


def test_check_names_file_and_line_and_the_setting(run: Any, tmp_path: Path) -> None:
    done = run("grafana/grafana", "--check", "--stack", "dev")
    assert done.exit_code == UNSERVED
    assert done.stdout == (
        f"{tmp_path}/m.yaml:8: grafana/grafana is of docker.io/grafana, which is not served:"
        " add grafana to registry.namespaces\n"
    )


@pytest.mark.parametrize("image", ["busybox", "quay.io/a/b", "ghcr.io/a/b"])
def test_check_is_silent_where_nothing_is_missing(run: Any, image: str) -> None:
    done = run(image, "--check", "--stack", "dev")
    assert (done.exit_code, done.stdout) == (0, "")


def test_a_partial_answer_has_an_exit_status_of_its_own(run: Any) -> None:
    done = run("{{ image }}", "--format", "json")
    assert done.exit_code == PARTIAL
    assert "not read" in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [(("--check",), "--stack"), (("--stack", "no"), "Pulumi.no.yaml"),
     (("--kubeconfig", "/no/where", "--context", "x"), "no cluster")],
)  # fmt: skip
def test_a_wrong_command_line_is_an_error_of_one_line(
    run: Any, options: tuple[str, ...], said: str
) -> None:
    done = run("nginx", *options)
    assert done.exit_code == 2
    assert said in done.stderr


@pytest.mark.parametrize("output", ["table", "json", "markdown", "html"])
def test_every_format_can_be_asked_for(run: Any, output: str) -> None:
    done = run("grafana/grafana", "--stack", "dev", "--format", output)
    assert done.exit_code == 0
    assert "grafana/grafana" in done.stdout


def test_the_permissions_are_to_list_and_nothing_else() -> None:
    done = CliRunner().invoke(app, ["--rbac", "--crds"])
    role = yaml.safe_load(done.stdout)
    assert role["kind"] == "ClusterRole"
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"list"}
    resources = {name for rule in role["rules"] for name in rule["resources"]}
    assert {"pods", "cronjobs", "namespaces", "customresourcedefinitions"} <= resources
    assert not resources & {"secrets", "*"}
