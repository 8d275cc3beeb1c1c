"""What is the same in every Kubernetes: namespace, secret, chart."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from operate.image import ROOT
from operate.steps import ClusterError, State, Step

CHART = ROOT / "deploy" / "chart"
NAMESPACE = RELEASE = "quadrat"  # also the service account that clouds give their rights to
SECRET = "quadrat-spark"
CORES = 4  # of a worker
SYSTEM_CORES = 0  # the machines are there anyway

INSIDE = (f"namespace {NAMESPACE}", f"secret {SECRET}", f"release {RELEASE}")  # of a cluster

Values = Callable[[], Mapping[str, Any]]  # of the chart


def kubectl(state: State, *arguments: str) -> list[str]:
    """A call of kubectl for this cluster and namespace."""
    return ["kubectl", *_where(state, "--context"), "--namespace", NAMESPACE, *arguments]


def helm(state: State, *arguments: str) -> list[str]:
    """A call of Helm for this cluster and namespace."""
    return ["helm", *arguments, *_where(state, "--kube-context"), "--namespace", NAMESPACE]


def _where(state: State, option: str) -> list[str]:
    return ["--kubeconfig", "$kubeconfig"] if "kubeconfig" in state.values else [option, "$context"]


def create(state: State) -> list[Step]:
    """Spark in a Kubernetes that is there; the storage is the user's own."""
    return [
        Step(
            "look whether the cluster answers",
            ["kubectl", "--context", "$context", "version", "--output", "yaml"],
            keep=lambda text: {},
        ),
        *install(state, lambda: values(state)),
    ]


def install(state: State, chosen: Values) -> list[Step]:
    """Namespace, Spark's secret, the chart; the same again changes what differs."""
    return [
        Step(
            "make the namespace, in which only unprivileged pods may run",
            kubectl(state, "apply", "--filename", "-"),
            stdin=json.dumps(namespace()),
            unless=kubectl(
                state, "get", "namespace", NAMESPACE, "--output", "name", "--ignore-not-found"
            ),
            makes=[f"namespace {NAMESPACE}"],
            tries=8,  # a right that was just given holds after some minutes
        ),
        Step(
            "make Spark's shared secret, which nobody needs to know",
            kubectl(state, "create", "--filename", "-"),
            stdin=lambda: json.dumps(spark_secret()),
            unless=kubectl(
                state, "get", "secret", SECRET, "--output", "name", "--ignore-not-found"
            ),
            makes=[f"secret {SECRET}"],
        ),
        *chart(state, chosen),
    ]


def chart(state: State, chosen: Values) -> list[Step]:
    """The chart with the values that hold when its turn comes."""
    file = str(state.folder / "values.json")
    return [
        Step(
            "install Spark, or bring it up to date",
            helm(state, "upgrade", "--install", RELEASE, str(CHART), "--values", file),
            files=lambda: {"values.json": chosen()},
            makes=[f"release {RELEASE}"],
        ),
        Step(
            "wait for Spark's master",
            kubectl(state, "rollout", "status", f"deployment/{RELEASE}-master", "--timeout", "15m"),
        ),
    ]


def namespace() -> dict[str, Any]:
    """The namespace's manifest."""
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    meta = {"name": NAMESPACE, "labels": {"app.kubernetes.io/name": "quadrat", **level}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": meta}


def spark_secret() -> dict[str, Any]:
    """A new secret's manifest; it goes to kubectl's standard input, and nowhere else."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET, "labels": {"app.kubernetes.io/name": "quadrat"}},
        "stringData": {"secret": secrets.token_urlsafe(48)},
    }


def values(state: State) -> dict[str, Any]:
    """The chart's values that every place has."""
    known = state.values
    most, gpus = known.get("cpu_nodes") or known["workers"], known.get("gpu_nodes") or 0
    found: dict[str, Any] = {
        "image": state.text(known["image"]),
        "env": dict(known.get("env", {})),
        "worker": {"replicas": known["workers"], "cores": CORES},
        "finetune": {},
        "quota": {
            "pods": most + gpus + 10,
            "cpu": str(CORES * (most + gpus + 4)),
            "memory": f"{10 * (most + gpus) + 32}Gi",
            "gpus": gpus,
        },
    }
    if known.get("finetune_image"):
        found["finetune"]["image"] = state.text(known["finetune_image"])
    if known.get("credentials_secret"):
        found["credentialsSecret"] = known["credentials_secret"]
    return found


def scale(state: State, workers: int) -> tuple[list[Step], list[Step]]:
    """Steps before and after the chart's: none, the machines are the user's own."""
    return [], []


def left(state: State) -> list[str]:
    """The command that lists what there still is."""
    kinds = "deployments,jobs,pods,services,configmaps,secrets,serviceaccounts"
    mine = "app.kubernetes.io/name=quadrat"
    return kubectl(state, "get", kinds, "--selector", mine, "--ignore-not-found")


def delete(state: State, *, data: bool) -> list[Step]:
    """All that `create` makes, in a cluster that stays."""
    if data:
        raise ClusterError("the storage is your own here; `delete` without --data removes the rest")
    mine = f"app.kubernetes.io/instance={RELEASE}"
    steps = [
        Step(
            "end and remove the jobs",
            kubectl(state, "delete", "jobs", "--selector", mine, "--ignore-not-found"),
        ),
        Step(
            "remove Spark",
            helm(state, "uninstall", RELEASE, "--ignore-not-found", "--wait"),
            removes=[f"release {RELEASE}"],
        ),
        Step(
            "remove Spark's shared secret",
            kubectl(state, "delete", "secret", SECRET, "--ignore-not-found"),
            removes=[f"secret {SECRET}"],
        ),
    ]
    if f"namespace {NAMESPACE}" in state.exists:  # it was not there before
        steps.append(
            Step(
                "remove the namespace",
                kubectl(state, "delete", "namespace", NAMESPACE, "--ignore-not-found"),
                removes=[f"namespace {NAMESPACE}"],
            )
        )
    return steps
