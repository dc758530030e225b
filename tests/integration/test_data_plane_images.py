"""The sample images: the same ones every time, and a program that really runs."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import httpx
import pytest

from rehearsal import wait
from rehearsal.cloud.registries.images import SAMPLE_IMAGES, SampleImage, write_layout
from rehearsal.processes import free_port

pytest_plugins = ("tests.support.volcengine_fixtures",)


@pytest.mark.parametrize(
    "image", SAMPLE_IMAGES, ids=lambda image: f"{image.repository}-{image.version}"
)
def test_an_image_has_the_same_digest_every_time(
    image: SampleImage, binaries: dict[str, Path], tmp_path: Path
) -> None:
    first = write_layout(image, binaries["nginx"], tmp_path / "first")
    copy = tmp_path / "nginx"
    copy.write_bytes(binaries["nginx"].read_bytes())
    assert write_layout(image, copy, tmp_path / "second") == first


def test_images_share_no_content(binaries: dict[str, Path], tmp_path: Path) -> None:
    digests = {
        write_layout(image, binaries["nginx"], tmp_path / str(index))
        for index, image in enumerate(SAMPLE_IMAGES)
    }
    assert len(digests) == len(SAMPLE_IMAGES)
    layers = set()
    for index in range(len(SAMPLE_IMAGES)):
        for blob in (tmp_path / str(index) / "blobs" / "sha256").iterdir():
            if blob.stat().st_size < 10_000:
                layers |= {
                    layer["digest"] for layer in json.loads(blob.read_text()).get("layers", [])
                }
    assert len(layers) == len(SAMPLE_IMAGES)


def test_the_tags_include_what_the_vendors_page_and_the_proof_pull() -> None:
    tags = {f"{image.repository}:{tag}" for image in SAMPLE_IMAGES for tag in image.tags}
    assert tags >= {"library/nginx:latest", "library/nginx:1.27", "library/busybox:latest"}
    assert "bitnami/redis:7.2" in tags


@pytest.mark.parametrize(
    ("name", "arguments", "status"),
    [
        pytest.param("sh", ["-c", "true"], 0, id="sh-true"),
        pytest.param("sh", ["-c", "exit 3"], 3, id="sh-exit"),
        pytest.param("sh", ["-c", "false && true"], 1, id="sh-and-stops"),
        pytest.param("sh", ["-c", "true; exit 0"], 0, id="sh-sequence"),
        pytest.param("sh", ["-c", "curl x"], 127, id="sh-unknown"),
        pytest.param("sh", [], 0, id="sh-alone"),
        pytest.param("true", [], 0, id="true"),
        pytest.param("false", [], 1, id="false"),
        pytest.param("sleep", ["0.01"], 0, id="sleep"),
        pytest.param("sleep", ["long"], 1, id="sleep-no-number"),
        pytest.param("busybox", ["true"], 0, id="busybox-true"),
        pytest.param("echo", ["hello"], 0, id="echo"),
    ],
)
def test_the_program_does_what_it_is_called_by(
    binaries: dict[str, Path], tmp_path: Path, name: str, arguments: list[str], status: int
) -> None:
    link = tmp_path / name
    link.symlink_to(binaries["nginx"])
    done = subprocess.run([link, *arguments], capture_output=True, timeout=10, check=False)
    assert done.returncode == status


@pytest.mark.parametrize("name", ["pause", "sleep"])
def test_the_program_waits_until_it_is_told_to_end(
    binaries: dict[str, Path], tmp_path: Path, name: str
) -> None:
    link = tmp_path / name
    link.symlink_to(binaries["nginx"])
    arguments = ["infinity"] if name == "sleep" else []
    process = subprocess.Popen([link, *arguments])
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    process.terminate()
    assert process.wait(5) == 0


def test_the_program_serves_http_on_its_port(binaries: dict[str, Path]) -> None:
    port = free_port()
    process = subprocess.Popen(
        [binaries["nginx"]], env={**os.environ, "PORT": str(port)}, stdout=subprocess.PIPE
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"nginx: serving on port {port}\n".encode()

            def answers() -> bool:
                try:
                    return httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).is_success
                except httpx.ConnectError:
                    return False

            wait.until(answers, "the program answers")
        finally:
            process.terminate()
    assert process.returncode == 0
