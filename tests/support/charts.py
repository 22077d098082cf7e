"""The Helm chart, rendered by the real Helm, and the schemas that judge what comes out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from tests.support.real_parts import ROOT, missing
from tests.support.yaml_texts import load_all_yaml, load_yaml

CHART = ROOT / "deploy" / "helm" / "dcs-task-exporter"
CASES = tuple(sorted(path.name for path in CHART.glob("ci/*-values.yaml")))
OLDEST, NEWEST = "1.25", "1.37"
"""The versions of Kubernetes that objects are checked for; the chart needs the first."""

OPERATOR = {
    "monitoring.coreos.com/v1": "cloudcoil.models.prometheus_operator.v1",
    "monitoring.coreos.com/v1alpha1": "cloudcoil.models.prometheus_operator.v1alpha1",
}
"""The modules with the Prometheus operator's types."""

UNCHECKED = ("gateway.networking.k8s.io/v1",)
"""API groups without types that could be installed: the tests look at their fields instead."""

Object = Mapping[str, Any]


def tool(name: str) -> Any:
    """Return a Python package that only these tests need."""
    try:
        return import_module(name)
    except ImportError:
        missing(f"{name} is not here: run make tools")


@dataclass(frozen=True)
class Release:
    """What Helm makes of the chart and some values: objects, and words for the user."""

    objects: Sequence[Object]
    notes: str

    def all(self, kind: str) -> Sequence[Object]:
        """Return the objects of a kind."""
        return [item for item in self.objects if item["kind"] == kind]

    def one(self, kind: str, ending: str = "") -> Any:
        """Return the only object of a kind whose name has this ending."""
        (found,) = (item for item in self.all(kind) if item["metadata"]["name"].endswith(ending))
        return found

    def workload(self) -> Any:
        """Return the StatefulSet or Deployment."""
        (found,) = (*self.all("StatefulSet"), *self.all("Deployment"))
        return found

    def pod(self) -> Any:
        """Return the specification of the exporter's pods."""
        return self.workload()["spec"]["template"]["spec"]

    def container(self) -> Any:
        """Return the exporter's container."""
        (found,) = self.pod()["containers"]
        return found


def values_of(case: str) -> dict[str, Any]:
    """Return the values of a file in ``ci``."""
    values: dict[str, Any] = load_yaml((CHART / "ci" / case).read_text())
    return values


def minimal(**more: Any) -> dict[str, Any]:
    """Return the values that everybody must set, and more."""
    return {**values_of("minimal-values.yaml"), **more}


def render(values: Mapping[str, Any]) -> Release:
    """Render the chart; raises Helm's errors."""
    return _render(json.dumps(values, sort_keys=True))


@cache
def _render(values: str) -> Release:
    with tool("helm_python").Chart.load(CHART) as chart:
        rendered = chart.render(json.loads(values), name="dcs", namespace="monitoring")
    objects: list[Object] = []
    for path in sorted(rendered):
        if path.endswith(".yaml"):
            objects += [item for item in load_all_yaml(rendered[path]) if item]
    notes = [text for path, text in rendered.items() if path.endswith("NOTES.txt")]
    return Release(objects, "".join(notes))


def refusal(values: Mapping[str, Any]) -> str:
    """Return why Helm refuses these values; nothing where it takes them."""
    try:
        render(values)
    except tool("helm_python").HelmError as error:
        return str(error)
    return ""


def problems_of(item: Object) -> Iterator[str]:
    """Yield what the strict schemas have against an object: types, and fields that do not exist."""
    if item["apiVersion"] in UNCHECKED:
        return
    if item["apiVersion"] in OPERATOR:
        yield from _problems_of_operator(item)
        return
    judge = tool("kubernetes_validate")
    for version in (OLDEST, NEWEST):
        try:
            judge.validate(item, version, strict=True)
        except judge.ValidationError as error:
            yield f"Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message}"


def _problems_of_operator(item: Object) -> Iterator[str]:
    model = getattr(tool(OPERATOR[item["apiVersion"]]), item["kind"])
    try:
        taken = model.model_validate(item).model_dump(by_alias=True, exclude_unset=True)
    except ValueError as error:
        yield str(error)
        return
    # The types drop a field that they do not know.
    yield from _lost(item, json.loads(json.dumps(taken, default=str)), item["kind"])


def _lost(given: Any, taken: Any, where: str) -> Iterator[str]:
    """Yield the place of each part of `given` that is not in `taken`."""
    if isinstance(given, Mapping) and isinstance(taken, Mapping):
        for key, value in given.items():
            if key not in taken:
                yield f"{where}.{key} is no field"
            else:
                yield from _lost(value, taken[key], f"{where}.{key}")
    elif isinstance(given, list) and isinstance(taken, list) and len(given) == len(taken):
        for at, (one, other) in enumerate(zip(given, taken, strict=True)):
            yield from _lost(one, other, f"{where}[{at}]")
    elif given != taken:
        yield f"{where} is {given!r}, and was taken as {taken!r}"
