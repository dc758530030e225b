"""The inventory of a deployed stack: what it proposes is deployed, and nothing is missing then."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from inventory import clusters
from inventory.answer import Answer, answer
from inventory.stack import load_stack
from rehearsal import wait
from rehearsal.admit import admit
from rehearsal.deploy.stack import STACK, STACK_FILE, Runner, deploy
from rehearsal.progress import Progress
from rehearsal.stage import Run, api_client
from tests.support.harness import kubectl
from tests.support.rehearsals import DOMAIN, GHCR_DOMAIN

NAMESPACE = "shop"
IMAGES = {
    "web": "nginx:1.29",
    "cache": "bitnami/redis:7.2",
    "charts": "grafana/grafana:12.1.0",
    "metrics": "docker.io/prom/prometheus:v3.5.0",
    "exporter": "registry.example.com/prometheus/node-exporter:v1.9.1",
}


def inventory(run: Run) -> Answer:
    """What the cluster uses, and what the stack as last deployed serves of it."""
    stack = load_stack(STACK, run.folder)
    kubeconfig = Path(run.kubeconfig)
    _, current = clusters.contexts(kubeconfig)
    reading = clusters.Reading(label_keys=stack.label_keys, namespaces=(NAMESPACE,))
    return answer(clusters.read(current, kubeconfig, reading), stack)


def pods(run: Run) -> list[str]:
    """The images of the Pods there are."""
    text = kubectl(run.kubeconfig, "get", "pods", "-n", NAMESPACE, "-o", "json").stdout
    return [each["spec"]["containers"][0]["image"] for each in json.loads(text)["items"]]


def test_what_the_inventory_proposes_is_deployed_and_then_nothing_is_missing(deployed: Run) -> None:
    kubectl(deployed.kubeconfig, "create", "namespace", NAMESPACE)
    try:
        for name, image in IMAGES.items():
            words = ("create", "deployment", name, f"--image={image}", "-n", NAMESPACE)
            kubectl(deployed.kubeconfig, *words)
        wait.until(lambda: len(pods(deployed)) == len(IMAGES), "all Pods are there")
        before = inventory(deployed)
        assert before.complete
        assert {each.image.reference for each in before.unserved} == {
            IMAGES["charts"],
            IMAGES["metrics"],
        }
        assert before.image_share.now == 2
        section = yaml.safe_load(before.proposal.yaml)["config"]["vke-dockerhub-proxy:registry"]
        pasted = {
            "registry": yaml.safe_dump(section),
            "clusters[0].kubernetesVersion": "'1.37'",  # so that the warning is on by default
        }
        outputs = deploy(deployed, Runner.EMBEDDED, Progress(), pasted)
        assert outputs["namespaces"] == ["bitnami", "grafana", "library", "prom"]
        after = inventory(deployed)
        assert (after.unserved, after.proposal.yaml) == ([], "")
        assert after.image_share.now == before.image_share.after == 4
        (admitted,) = admit(api_client(deployed), [IMAGES["charts"]])
        assert admitted.admitted == f"{DOMAIN}/{IMAGES['charts']}"
        _warns(deployed)
    finally:
        kubectl(deployed.kubeconfig, "delete", "namespace", NAMESPACE, "--wait=false")
        deploy(deployed, Runner.EMBEDDED, Progress())
    left = kubectl(deployed.kubeconfig, "get", "validatingadmissionpolicies", "-o", "name")
    assert left.stdout == ""


def _warns(run: Run) -> None:
    """kubectl warns of an image that is not served, and of no other."""

    def said(image: str) -> str:
        command = ("create", "deployment", "x", f"--image={image}", "--dry-run=server")
        return kubectl(run.kubeconfig, *command).stderr

    wanted = "no proxy serves curlimages/curl:8 (add curlimages to registry.namespaces)"
    wait.until(lambda: wanted in said("curlimages/curl:8"), "the warning is there")
    for image in IMAGES.values():
        assert said(image) == ""


def test_the_stack_file_that_was_deployed_is_the_one_that_is_read(deployed: Run) -> None:
    assert (deployed.folder / STACK_FILE).is_file()
    proxies = load_stack(STACK, deployed.folder).proxies
    assert [(each.domain, set(each.namespaces)) for each in proxies] == [
        (DOMAIN, {"library", "bitnami"}),
        (GHCR_DOMAIN, {"kyverno", "stefanprodan"}),
    ]
