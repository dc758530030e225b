"""What is read of files and streams of manifests."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from inventory import manifests
from inventory.workloads import Found

POD = {"containers": [{"name": "c", "image": "nginx"}]}
TEMPLATE = {"template": {"spec": POD}}


def read(text: str, folder: Path, name: str = "m.yaml", **options: Any) -> Found:
    (folder / name).write_text(text)
    return manifests.read([str(folder)], label_keys={"team"}, **options)


def images(found: Found) -> list[tuple[str, str, int | None]]:
    return [(i.reference, i.container, i.line) for each in found.workloads for i in each.images]


@pytest.mark.parametrize(
    ("version", "kind", "spec"),
    [
        ("v1", "Pod", POD),
        ("apps/v1", "Deployment", TEMPLATE),
        ("apps/v1", "ReplicaSet", TEMPLATE),
        ("apps/v1", "StatefulSet", TEMPLATE),
        ("apps/v1", "DaemonSet", TEMPLATE),
        ("extensions/v1beta1", "Deployment", TEMPLATE),
        ("v1", "ReplicationController", TEMPLATE),
        ("batch/v1", "Job", TEMPLATE),
        ("batch/v1beta1", "CronJob", {"jobTemplate": {"spec": TEMPLATE}}),
    ],
)
def test_every_kind_that_makes_pods_is_read(
    version: str, kind: str, spec: Any, tmp_path: Path
) -> None:
    document = {"apiVersion": version, "kind": kind, "metadata": {"name": "x"}, "spec": spec}
    (found,) = read(json.dumps(document), tmp_path).workloads
    assert (found.place.kind, [each.reference for each in found.images]) == (kind, ["nginx"])


def test_a_kind_of_the_same_name_in_another_group_is_not_taken_for_one(tmp_path: Path) -> None:
    text = json.dumps({"apiVersion": "batch.volcano.sh/v1alpha1", "kind": "Job", "spec": TEMPLATE})
    assert read(text, tmp_path).workloads == []


PODS = """\
# an image, in a comment
%s
apiVersion: v1
kind: Pod
metadata: {name: one, namespace: team-a, labels: {team: a, other: b}}
spec:
  initContainers:
    - name: init
      image: "busybox:1"
  containers:
    - name: app
      imagePullPolicy: Never
      image: >-
        app:local
    - {name: side, image: ghcr.io/a/b:1}
  ephemeralContainers:
    - {name: debug, image: alpine}
  volumes:
    - name: data
      image:
        reference: acme/data:1
        pullPolicy: Never
    - {name: none, emptyDir: {}}
"""


@pytest.mark.parametrize("start", ["---", "--- # one", "%YAML 1.1\n---", ""])
def test_images_of_all_containers_and_volumes_are_read_with_their_lines(
    start: str, tmp_path: Path
) -> None:
    found = read(PODS % start, tmp_path)
    more = start.count("\n")
    assert images(found) == [
        ("app:local", "app", 13 + more),
        ("ghcr.io/a/b:1", "side", 15 + more),
        ("busybox:1", "init", 9 + more),
        ("alpine", "debug", 17 + more),
        ("acme/data:1", "volumes/data", 21 + more),
    ]
    (pod,) = found.workloads
    assert pod.labels == {"team": "a"}
    assert (pod.place.namespace, str(pod.place)) == ("team-a", "Pod team-a/one")
    assert [each.never_pulled for each in pod.images] == [True, False, False, False, True]
    assert found.missing == []


def test_lines_are_those_of_the_file_in_a_later_document_and_behind_windows_line_ends(
    tmp_path: Path,
) -> None:
    text = PODS % "---" + "---\n" + PODS % "---"
    lines = text.splitlines()
    (tmp_path / "m.yaml").write_bytes(text.replace("\n", "\r\n").encode())
    found = manifests.read([str(tmp_path / "m.yaml")], label_keys=())
    assert len(images(found)) == 10
    for reference, _, line in images(found):
        assert line is not None
        assert reference in lines[line - 1] or ">-" in lines[line - 1]


def test_json_is_read_with_its_lines(tmp_path: Path) -> None:
    pods = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "image": "odd"}, "spec": POD}
        for name in ("a", "b")
    ]
    text = json.dumps({"kind": "List", "apiVersion": "v1", "items": pods}, indent=1)
    lines = text.splitlines()
    found = read(text, tmp_path, "m.json")
    assert [lines[(line or 0) - 1].strip() for _, _, line in images(found)] == [
        '"image": "nginx"'
    ] * 2
    assert images(found)[0] != images(found)[1]


def test_anchors_and_merge_keys_are_followed(tmp_path: Path) -> None:
    text = """\
apiVersion: v1
kind: Pod
metadata: {name: x}
spec:
  containers:
    - &c {name: a, image: nginx}
    - {<<: *c, name: b}
    - *c
"""
    assert images(read(text, tmp_path)) == [
        ("nginx", "a", 6), ("nginx", "b", 6), ("nginx", "a", 6)
    ]  # fmt: skip


def test_a_document_that_cannot_be_read_is_missing_and_the_rest_of_its_file_is_not(
    tmp_path: Path,
) -> None:
    text = PODS % "---" + "---\nimage: {{ .Values.image }}\n" + PODS % "---"
    found = read(text, tmp_path)
    assert len(found.workloads) == 2
    (missing,) = found.missing
    assert missing.source == f"{tmp_path}/m.yaml:25"


@pytest.mark.parametrize(
    "text",
    ["", "# an image\n", "just text with an image", "- image\n- nginx", "kind: Pod\nimage: 1",
     "apiVersion: v1\nkind: Pod\nspec: image", "a: &a [*a, image]", "kind: [image]",
     "apiVersion: v1\nkind: Pod\nspec: {containers: [image, {image: 3}, {image: null}]}",
     '{"kind": "List", "items": [1, null, {"image": "x"}]}'],
)  # fmt: skip
def test_what_is_no_manifest_does_no_harm(text: str, tmp_path: Path) -> None:
    found = read(text, tmp_path)
    assert (found.workloads, found.missing) == ([], [])


def test_a_chart_is_said_to_be_read_as_rendered(tmp_path: Path) -> None:
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("name: x")
    (chart / "templates" / "a.yaml").write_text("image: {{ .Values.image }}")
    found = manifests.read([str(tmp_path)], label_keys=())
    (missing,) = found.missing
    assert missing.source == str(chart)
    assert "helm template" in missing.why


def test_a_namespace_that_is_opted_out_is_known_wherever_its_manifest_is(tmp_path: Path) -> None:
    text = """\
apiVersion: v1
kind: Namespace
metadata: {name: quiet, labels: {vke-dockerhub-proxy/redirect: disabled}}
---
apiVersion: v1
kind: Namespace
metadata: {name: other, labels: {vke-dockerhub-proxy/redirect: enabled}}
"""
    assert read(text, tmp_path).opted_out == {(None, "quiet")}


def test_many_files_are_read_as_few_are(tmp_path: Path) -> None:
    for index in range(manifests.SEVERAL + 1):
        (tmp_path / f"{index}.yaml").write_text(PODS % "---")
    found = manifests.read([str(tmp_path)], label_keys=())
    assert len(found.workloads) == len(found.sources) == manifests.SEVERAL + 1


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(PODS % "---"))
    (found,) = manifests.read(["-"], label_keys=()).workloads
    assert found.place.source == "standard input"


def test_custom_resources_are_read_when_asked_for(tmp_path: Path) -> None:
    document = {
        "apiVersion": "example.com/v1",
        "kind": "Database",
        "metadata": {"name": "db", "namespace": "data"},
        "spec": {
            "imageName": "ghcr.io/x/db:1",
            "sidecar": {"image": {"registry": "docker.io", "repository": "a/b", "tag": 2}},
            "containers": [{"name": "c", "image": "busybox"}],
            "imagePullPolicy": "Always",
        },
    }
    text = json.dumps(document)
    assert read(text, tmp_path).workloads == []
    found = read(text, tmp_path, custom_resources=True)
    assert [(reference, at) for reference, at, _ in images(found)] == [
        ("ghcr.io/x/db:1", "spec.imageName"),
        ("docker.io/a/b:2", "spec.sidecar.image"),
        ("busybox", "spec.containers[0].image"),
    ]


def test_what_a_redirected_pod_had_written_counts(tmp_path: Path) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "x",
            "annotations": {
                "original.vke-dockerhub-proxy/c": "nginx:1",
                "original-volume.vke-dockerhub-proxy/v": "acme/data",
            },
        },
        "spec": {
            "containers": [{"name": "c", "image": "proxy.example/library/nginx:1"}],
            "volumes": [{"name": "v", "image": {"reference": "proxy.example/acme/data"}}],
        },
    }
    found = read(json.dumps(pod), tmp_path)
    assert [reference for reference, _, _ in images(found)] == ["nginx:1", "acme/data"]


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such"):
        manifests.read([str(tmp_path / "no")], label_keys=())
