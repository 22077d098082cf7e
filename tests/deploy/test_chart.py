"""The Helm chart, as the real Helm renders it."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.support.charts import (
    CASES,
    CHART,
    NEWEST,
    OLDEST,
    Object,
    minimal,
    problems_of,
    refusal,
    render,
    tool,
    values_of,
)
from tests.support.real_parts import ROOT
from tests.support.yaml_texts import load_yaml

pytestmark = pytest.mark.real

RULES = ROOT / "prometheus" / "dcs-tasks-alerts.yml"
BOARDS = sorted((ROOT / "grafana" / "dashboards").glob("*.json"))
PROJECT = {"name": "prod", "region": "cn-north-4", "discovery": {"enabled": True}}

each_case = pytest.mark.parametrize("case", CASES)


OTHER = {"config": {**minimal()["config"], "collector": {"lookback": "3d"}}}
"""Another configuration than the minimal one."""


def with_project(**more: Any) -> dict[str, Any]:
    """Return values with one project; `more` are keys of the project."""
    return {"config": {"projects": [{**PROJECT, **more}]}}


def templates_of(item: Object) -> Iterator[Any]:
    """Yield the specification of the pods that an object makes."""
    if item["kind"] == "Pod":
        yield item["spec"]
    if item["kind"] in ("StatefulSet", "Deployment"):
        yield item["spec"]["template"]["spec"]


def relabelled(labels: Mapping[str, str], rules: list[Any]) -> dict[str, str]:
    """Return the labels after the rules; all shares of a modulus are the first."""
    found = dict(labels)
    for rule in rules:
        source = ";".join(found.get(name, "") for name in rule.get("sourceLabels", ()))
        if rule.get("action") == "HashMod":
            found[rule["targetLabel"]] = "0"
        elif match := re.fullmatch(rule.get("regex", "(.*)"), source):
            template = re.sub(r"\$(\d)", r"\\\1", rule.get("replacement", "$1"))
            found[rule["targetLabel"]] = match.expand(template)
    return found


@each_case
def test_lint(case: str) -> None:
    """Helm's own linter has nothing against the chart with the values."""
    report = tool("helm_python").lint(CHART, values_of(case), strict=True, namespace="monitoring")

    assert report["errors"] is None or report["errors"] == []
    assert [found for found in report["messages"] or () if found["severity"] > 1] == []


@each_case
def test_objects_are_valid(case: str) -> None:
    """Every object is valid in the oldest and the newest version, without unknown fields."""
    objects = render(values_of(case)).objects

    assert [f"{item['kind']}: {told}" for item in objects for told in problems_of(item)] == []


def test_the_oldest_version() -> None:
    """The chart says which Kubernetes it needs: the oldest that its objects are checked for."""
    chart = load_yaml((CHART / "Chart.yaml").read_text())

    assert chart["kubeVersion"] == f">={OLDEST}.0-0"
    assert tool("kubernetes_validate").latest_version().startswith(f"{NEWEST}.")


@pytest.mark.parametrize(
    ("kind", "path", "wrong"),
    [
        ("StatefulSet", ("spec", "template", "spec", "containers", 0), "livenesProbe"),
        ("Service", ("spec",), "publishNotReadyAddreses"),
        ("ServiceMonitor", ("spec", "endpoints", 0), "scrapeTimeOut"),
        ("PrometheusRule", ("spec", "groups", 0, "rules", 0), "keepFiringFor"),
        ("ScrapeConfig", ("spec", "httpSDConfigs", 0), "basic_auth"),
    ],
)
def test_a_misspelt_field_is_refused(kind: str, path: tuple[str | int, ...], wrong: str) -> None:
    """The schemas that judge the objects see a field that does not exist."""
    item = copy.deepcopy(dict(render(values_of("probe-values.yaml")).all(kind)[0]))
    part: Any = item
    for key in path:
        part = part[key]
    part[wrong] = "5m"

    assert wrong in " ".join(problems_of(item))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (minimal(replica=2), "replica"),
        (minimal(image={"tga": "1"}), "tga"),
        (minimal(serviceMonitor={"enable": True}), "enable"),
        (minimal(probes={"liveness": {"periodSecond": 1}}), "periodSecond"),
        (minimal(shards=0), "shards"),
        (minimal(kind="DaemonSet"), "kind"),
        (minimal(image={"digest": "sha256:abc"}), "digest"),
        (minimal(log={"level": "trace"}), "level"),
        (minimal(persistence={"accessModes": ["ReadWriteMany"]}), "accessModes"),
        (with_project(credentials={"type": "environment"}, regoin="cn-north-4"), "regoin"),
        (minimal(config={"collector": {"lookbak": "7d"}}), "lookbak"),
        (minimal(config={"collector": {"lookback": "7 days"}}), "lookback"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_value_is_refused(values: Mapping[str, Any], named: str) -> None:
    """A misspelt or impossible value is refused with its name, inside `config` too."""
    assert named in refusal(values)


@pytest.mark.parametrize(
    "credentials",
    [
        {"type": "access_key", "access_key": "AK", "secret_key_file": "/f"},
        {"type": "access_key", "access_key_file": "/f", "secret_key": "secret"},
        {"type": "access_key", "access_key_file": "/f", "secret_key": "${SK:-secret}"},
        {"type": "token", "token": "secret"},
    ],
)
def test_a_secret_in_the_values_is_refused(credentials: Mapping[str, str]) -> None:
    """Values hold no secret, only the names of files and variables: Helm keeps values readable."""
    told = refusal(with_project(credentials=credentials))

    assert "credentials" in told


def test_a_password_of_a_proxy_is_refused() -> None:
    """A proxy's URL with a password belongs into a variable."""
    project = {"credentials": {"type": "environment"}}

    assert "proxy_url" in refusal(with_project(**project, proxy_url="http://u:p@proxy:3128"))
    assert not refusal(with_project(**project, proxy_url="http://proxy:3128"))
    assert not refusal(with_project(**project, proxy_url="${PROXY}"))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "config.projects is empty"),
        (minimal(webConfig={"tls": True}), "webConfig.tls needs webConfig.existingSecret"),
        (minimal(shards=2, replicas=2), "shards and replicas exclude each other"),
        (minimal(shards=2, kind="Deployment"), "shards needs kind: StatefulSet"),
        (
            minimal(replicas=2, persistence={"existingClaim": "c"}),
            "persistence.existingClaim is for one pod",
        ),
        (
            minimal(
                replicas=2,
                kind="Deployment",
                serviceMonitor={"enabled": True},
                scrapeConfig={"enabled": True},
            ),
            "scrapeConfig needs kind: StatefulSet, or replicas: 1",
        ),
        (minimal(scrapeConfig={"enabled": True}), "scrapeConfig needs serviceMonitor.enabled"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_values_that_do_not_fit_together(values: Mapping[str, Any], told: str) -> None:
    """Values that exclude each other are refused, with the way out."""
    assert told in refusal(values)


def described(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield the path of each key that the schema knows, of the chart's own sections."""
    for key, part in schema.get("properties", {}).items():
        yield f"{path}{key}"
        yield from described(part, f"{path}{key}.")


def given(values: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield the path of each key of the values."""
    for key, part in values.items():
        yield f"{path}{key}"
        if isinstance(part, Mapping):
            yield from given(part, f"{path}{key}.")


def test_every_value_is_described() -> None:
    """values.yaml and the schema have the same keys; Helm itself adds `global`."""
    schema = set(described(json.loads((CHART / "values.schema.json").read_text())))
    values = set(given(load_yaml((CHART / "values.yaml").read_text())))
    free = ("config.", "podSecurityContext.", "securityContext.", "probes.", "dashboards.labels.")
    ours = {path for path in values if not path.startswith(free)}

    assert ours - schema == {"resources.requests.cpu", "resources.requests.memory"} | {
        "resources.limits.memory"
    }
    assert {path for path in schema if not path.startswith(free)} - values == {
        "global",
        "resources.claims",
    }


def test_the_rules_are_ours() -> None:
    """The chart's rules are ours to the byte, and reach Prometheus unchanged."""
    rule = render(values_of("probe-values.yaml")).one("PrometheusRule")

    assert (CHART / "files" / RULES.name).read_bytes() == RULES.read_bytes()
    assert rule["spec"] == load_yaml(RULES.read_text())


def test_the_links_of_the_rules() -> None:
    """The links in the alerts lead to the given addresses, and nothing else changes."""
    rule = render(values_of("shards-values.yaml")).one("PrometheusRule")
    expected = RULES.read_text().replace(
        "https://grafana.example.com", "https://grafana.example.org"
    )
    expected = expected.replace("https://runbooks.example.com", "https://wiki.example.org/dcs")

    assert rule["spec"] == load_yaml(expected)


def test_the_dashboards_are_ours() -> None:
    """The dashboards are those of the repository, to the byte, and reach Grafana unchanged."""
    release = render(values_of("shards-values.yaml"))
    shown = {
        name: text
        for item in release.all("ConfigMap")
        if item["metadata"]["labels"].get("grafana_dashboard") == "1"
        for name, text in item["data"].items()
    }

    assert shown == {path.name: path.read_text() for path in BOARDS}
    for path in BOARDS:
        assert (CHART / "files" / "dashboards" / path.name).read_bytes() == path.read_bytes()


def jobs_of_the_rules() -> set[str]:
    """Return the names of jobs that the alert rules select."""
    found = re.findall(r'job=~?"([^"]+)"', RULES.read_text())
    return {name for names in found for name in names.split("|")}


@pytest.mark.parametrize("case", ["shards-values.yaml", "probe-values.yaml", "guarded-values.yaml"])
def test_the_jobs_are_those_of_the_rules(case: str) -> None:
    """The jobs have the names that the alerts select; else DCSTaskExporterAbsent fires for ever."""
    release = render(values_of(case))
    monitor = release.one("ServiceMonitor")["spec"]["endpoints"][0]
    jobs = {relabelled({"job": "dcs"}, monitor["relabelings"])["job"]}
    for item in release.all("ScrapeConfig"):
        target = {"job": "x", "__address__": "i0", "__meta_url": "http://host:1/sd"}
        jobs.add(relabelled(target, item["spec"]["relabelings"])["job"])
        assert monitor["params"] == {"collect[]": ["exporter"]}

    assert "dcs-tasks" in jobs
    assert jobs == (jobs_of_the_rules() if release.all("ScrapeConfig") else {"dcs-tasks"})


def test_a_probed_instance_stays_with_its_shard() -> None:
    """With shards, the pod that lists an instance reads it, and `instance` names the instance."""
    spec = render(values_of("probe-values.yaml")).one("ScrapeConfig")["spec"]
    urls = [each["url"] for each in spec["httpSDConfigs"]]
    target = {"__address__": "i0", "__meta_url": urls[2]}
    labels = relabelled(target, spec["relabelings"])

    host = "dcs-dcs-task-exporter-{}.dcs-dcs-task-exporter-pods.monitoring.svc:39327"
    assert urls == [f"http://{host.format(number)}/sd" for number in range(3)]
    assert labels["__address__"] == host.format(2)
    assert labels["__param_target"] == labels["instance"] == "i0"


def test_a_probed_instance_stays_with_its_replica() -> None:
    """With replicas, a hash of the instance decides which pod reads it."""
    spec = render(values_of("guarded-values.yaml")).one("ScrapeConfig")["spec"]
    labels = relabelled({"__address__": "i0"}, spec["relabelings"])
    modulus = [rule["modulus"] for rule in spec["relabelings"] if "modulus" in rule]

    assert modulus == [len(spec["httpSDConfigs"])] == [2]
    assert labels["__address__"].startswith("dcs-dcs-task-exporter-0.")
    assert labels["instance"] == "i0"


def test_shards() -> None:
    """Each of n pods gets the total, its own name to take its number from, and its own volume."""
    release = render(values_of("shards-values.yaml"))
    workload, container = release.workload(), release.container()
    (claim,) = workload["spec"]["volumeClaimTemplates"]

    assert (workload["kind"], workload["spec"]["replicas"]) == ("StatefulSet", 4)
    assert "--total-shards=4" in container["args"]
    assert container["env"][0]["name"] == "POD_NAME"
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert [mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")] == [
        claim["metadata"]["name"],
        "tmp",
    ]


def test_no_two_owners_of_a_state_volume() -> None:
    """A claim that exists belongs to one pod, which ends before the next starts."""
    workload = render(values_of("deployment-values.yaml")).workload()

    assert workload["spec"]["replicas"] == 1
    assert workload["spec"]["strategy"] == {"type": "Recreate"}


@each_case
def test_pods_are_restricted(case: str) -> None:
    """Every pod keeps to the restricted standard, has a read-only root, and no token."""
    for item in render(values_of(case)).objects:
        for pod in templates_of(item):
            assert pod["automountServiceAccountToken"] is False
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["runAsUser"] >= 1000
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
            for container in pod["containers"]:
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }
                assert container["resources"]["limits"]["memory"]


@each_case
def test_selectors_find_the_pods(case: str) -> None:
    """Whatever selects pods by labels selects the exporter's; the monitor selects one Service."""
    release = render(values_of(case))
    labels = release.workload()["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        *(item["spec"]["selector"] for item in release.all("Service")),
        *(item["spec"]["podSelector"]["matchLabels"] for item in release.all("NetworkPolicy")),
        *(item["spec"]["selector"]["matchLabels"] for item in release.all("PodDisruptionBudget")),
        release.workload()["spec"]["selector"]["matchLabels"],
    ]
    for monitor in release.all("ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        found = [
            item for item in release.all("Service") if wanted <= item["metadata"]["labels"].items()
        ]
        assert [item["spec"].get("clusterIP") for item in found] == [None]
        assert found[0]["spec"]["ports"][0]["name"] == monitor["spec"]["endpoints"][0]["port"]

    assert selectors
    assert all(selector.items() <= labels for selector in selectors)


def test_the_governing_service() -> None:
    """The StatefulSet's pods have names: its Service exists, and is headless."""
    release = render(minimal())
    service = release.one("Service", "-pods")

    assert release.workload()["spec"]["serviceName"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"


def test_probes_behind_a_password() -> None:
    """Behind a web configuration, the probes run the command that needs no password."""
    release = render(values_of("guarded-values.yaml"))
    container = release.container()
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    file = f"{mounts['web']}/web-config.yml"

    question = ["dcs-task-exporter", "ready", f"--web.config.file={file}"]
    for name, more in (("startup", ["--healthy"]), ("liveness", ["--healthy"]), ("readiness", [])):
        assert container[f"{name}Probe"]["exec"]["command"] == [*question, *more]
    assert f"--web.config.file={file}" in container["args"]
    assert release.one("ServiceMonitor")["spec"]["endpoints"][0]["scheme"] == "https"
    assert release.one("ScrapeConfig")["spec"]["scheme"] == "HTTPS"


def test_probes_without_a_password() -> None:
    """Otherwise the probes ask by HTTP, which starts no process."""
    container = render(minimal()).container()

    assert container["livenessProbe"]["httpGet"] == {"path": "/-/healthy", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/-/ready", "port": "http"}


def test_no_probe_kills_a_pod_that_has_much_to_read() -> None:
    """Only readiness waits until each instance was read once: that may take many minutes."""
    container = render(minimal()).container()

    assert container["startupProbe"]["httpGet"] == {"path": "/-/healthy", "port": "http"}


@pytest.mark.parametrize(
    ("kind", "instance"), [("StatefulSet", "dcs-3"), ("Deployment", "10.0.0.7:1")]
)
def test_the_series_of_a_pod_go_on(kind: str, instance: str) -> None:
    """A pod of a StatefulSet keeps its series when it starts anew: they are named by the pod."""
    values = minimal(kind=kind, serviceMonitor={"enabled": True})
    rules = render(values).one("ServiceMonitor")["spec"]["endpoints"][0]["relabelings"]
    target = {"instance": "10.0.0.7:1", "__meta_kubernetes_pod_name": "dcs-3"}

    assert relabelled(target, rules)["instance"] == instance


def test_an_image_by_digest() -> None:
    """A digest stands in place of the tag; without either, the tag is the chart's version."""
    digest = values_of("deployment-values.yaml")["image"]["digest"]
    by_digest = render(values_of("deployment-values.yaml")).container()["image"]
    version = load_yaml((CHART / "Chart.yaml").read_text())["appVersion"]

    assert by_digest == f"registry.example.org/monitoring/dcs-task-exporter@{digest}"
    assert render(minimal()).container()["image"] == f"dcs-task-exporter:{version}"


def test_a_changed_configuration_is_reloaded() -> None:
    """The exporter reloads a changed ConfigMap; the pods stay as they are."""
    before, after = render(minimal()), render(minimal(**OTHER))

    assert "--config.auto-reload-interval=30s" in before.container()["args"]
    assert before.workload() == after.workload()


def test_a_changed_configuration_may_restart() -> None:
    """Without an interval, a changed configuration restarts the pods."""
    before = render(minimal(reloadInterval="")).workload()
    after = render(minimal(reloadInterval="", **OTHER)).workload()

    assert before != after
    assert "auto-reload" not in str(before)


def test_extra_manifests() -> None:
    """Objects of the user are installed too, and may use the release's name."""
    release = render(values_of("deployment-values.yaml"))

    assert release.one("ConfigMap", "dcs-more")["data"] == {"hello": "world"}


def test_every_scheduling_key_reaches_the_pod() -> None:
    """What decides where a pod runs is handed on as it is."""
    values = values_of("deployment-values.yaml")
    keys = ("nodeSelector", "tolerations", "affinity", "priorityClassName", "runtimeClassName")
    pod = render(values).pod()

    assert {key: pod[key] for key in keys} == {key: values[key] for key in keys}


def test_the_page_of_the_status() -> None:
    """Ingress and HTTPRoute lead to the Service's port."""
    release = render(values_of("deployment-values.yaml"))
    (service,) = release.all("Service")
    rule = release.one("Ingress")["spec"]["rules"][0]
    route = release.one("HTTPRoute")["spec"]

    assert rule["host"] == route["hostnames"][0] == "dcs.example.org"
    assert rule["http"]["paths"][0]["backend"]["service"] == {
        "name": service["metadata"]["name"],
        "port": {"name": service["spec"]["ports"][0]["name"]},
    }
    assert route["rules"][0]["backendRefs"] == [
        {"name": service["metadata"]["name"], "port": service["spec"]["ports"][0]["port"]}
    ]
    assert route["rules"][0]["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (minimal(), "set serviceMonitor.enabled"),
        (minimal(), "set prometheusRule.enabled"),
        (minimal(prometheusRule={"enabled": True}), "DCSTaskExporterAbsent fires"),
        (minimal(credentials={}), "credentials.existingSecret is not set"),
        (values_of("memory-values.yaml"), "The counts live as long as the pod"),
        (
            minimal(config={**minimal()["config"], "state": {"path": None}}),
            "config.state.path is empty",
        ),
    ],
)
def test_notes(values: Mapping[str, Any], told: str) -> None:
    """After the installation, the notes say what is missing."""
    assert told in render(values).notes


def test_notes_without_a_stored_key() -> None:
    """Where the cloud gives the pod its key, the notes ask for no Secret."""
    notes = render(values_of("pod-identity-values.yaml")).notes

    assert "existingSecret" not in notes


def test_notes_without_anything_missing() -> None:
    """With everything set, the notes only say how to look at the exporter."""
    notes = render(values_of("shards-values.yaml")).notes

    assert "check --online" in notes
    assert "\n- " not in notes
