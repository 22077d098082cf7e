"""The chart's pod, run as a process: its command, files and variables, up to a scrape."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import pytest
import requests
import trustme

from tests.support.charts import minimal, render
from tests.support.clouds import ACCESS_KEY, SECRET_KEY, World, samples, value, world_of_today
from tests.support.confined import (
    PATIENCE,
    Running,
    confined,
    confinement,
    need_confinement,
    open_folder,
)
from tests.support.pods import Pod
from tests.support.real_parts import ROOT

pytestmark = [pytest.mark.real, pytest.mark.long(5)]

HASH = "$2b$04$DHkzVzIBvKJFdYVVxTDW5.6Kv4kKyt1tYzYkhzSPwGJkiPGhhJWSe"
"""Of some password: nobody needs it here."""


def of_the_world(here: World, **more: Any) -> dict[str, Any]:
    """Return the minimal values, for the simulated cloud."""
    values: dict[str, Any] = copy.deepcopy(minimal(**more))
    project = values["config"]["projects"][0]
    project |= {"endpoint": here.server.url, "iam_endpoint": here.server.url}
    values["extraArgs"] = ["--web.listen-address=127.0.0.1:0"]
    return values


def run(pod: Pod, name: str) -> Any:
    """Start the pod's program as its user, with the name that the downward API gives."""
    (pod.mount("credentials") / "access-key").write_text(ACCESS_KEY)
    (pod.mount("credentials") / "secret-key").write_text(SECRET_KEY)
    command = [sys.executable, "-m", "dcs_task_exporter", *pod.arguments()]
    environ = {"POD_NAME": name, "PYTHONPATH": str(ROOT)}
    return confined(command, pod.mount("state"), environ)


def scraped(running: Running) -> Any:
    """Return what the exporter shows."""
    return samples(requests.get(f"{running.url}/metrics", timeout=PATIENCE).text)


def test_the_command_of_the_chart() -> None:
    """The pod's command, with the files that the chart mounts, reads the cloud and is scraped."""
    need_confinement()
    with open_folder() as root, world_of_today(2) as here:
        pod = Pod(render(of_the_world(here)), root)
        with run(pod, "dcs-0") as running:
            found = scraped(running)

    assert value(found, "dcs_instance_up", dcs_instance_id="i1") == 1
    assert value(found, "dcs_task_exporter_state_errors_total") == 0


def test_shards_share_the_instances() -> None:
    """Of two pods of a sharded release, each reads its part, and no instance is left out."""
    need_confinement()
    seen: list[set[str]] = []
    with world_of_today(8) as here:
        for number in range(2):
            with open_folder() as root:
                pod = Pod(render(of_the_world(here, shards=2)), root)
                with run(pod, f"dcs-dcs-task-exporter-{number}") as running:
                    names = [
                        dict(labels)
                        for name, labels in scraped(running)
                        if name == "dcs_instance_up"
                    ]
            seen.append({labels["dcs_instance_id"] for labels in names})

    assert seen[0] | seen[1] == {f"i{number}" for number in range(8)}
    assert not seen[0] & seen[1]


def test_probes_work_behind_a_password() -> None:
    """Behind TLS and a password, the probe's command passes without the password."""
    need_confinement()
    with open_folder() as root, world_of_today(1) as here:
        values = of_the_world(here, webConfig={"existingSecret": "web", "tls": True})
        pod = Pod(render(values), root)
        certificate = trustme.CA().issue_cert("exporter.example.org")
        certificate.cert_chain_pems[0].write_to_path(pod.mount("web") / "cert.pem")
        certificate.private_key_pem.write_to_path(pod.mount("web") / "key.pem")
        (pod.mount("web") / "key.pem").chmod(0o644)
        (pod.mount("web") / "web-config.yml").write_text(
            "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"
            f"basic_auth_users: {{prometheus: '{HASH}'}}\n"
        )
        with run(pod, "dcs-0") as running:
            _program, *words = pod.probe("livenessProbe")
            probe = [sys.executable, "-m", "dcs_task_exporter", *words]
            done = subprocess.run(  # noqa: S603 - the chart's
                [
                    *confinement(pod.mount("tmp")),
                    *probe,
                    f"--web.listen-address={running.address}",
                ],
                capture_output=True,
                text=True,
                check=False,
                cwd="/",
                env={"PYTHONPATH": str(ROOT)},
            )

    assert running.url.startswith("https://")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(": healthy, and asks for a password\n")
