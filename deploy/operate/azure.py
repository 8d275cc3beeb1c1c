"""What Azure is asked for: two resource groups, one with the cluster and one with the data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from operate import image, kubernetes
from operate.image import ROOT
from operate.steps import State, Step

TEMPLATE = ROOT / "deploy" / "azure" / "main.bicep"
SYSTEM_CORES = 4  # of the one machine that always runs
SPOT = "kubernetes.azure.com/scalesetpriority"

# NVIDIA's device plugin tells Kubernetes of the GPUs; AKS installs the driver, not the plugin.
PLUGIN_REPOSITORY, PLUGIN_VERSION = "https://nvidia.github.io/k8s-device-plugin", "0.17.1"


def create(state: State) -> list[Step]:
    """From a signed-in account to a cluster with Spark."""
    known = state.values
    return [
        Step(
            "look whether you are signed in",
            ["az", "account", "show", "--query", "name", "--output", "tsv"],
        ),
        *([] if known.get("deployed") == _digest(state) else [_deployment(state)]),
        *[_build(known["base_image"], target) for target in _targets(state)],
        Step(
            "get the cluster's address",
            [
                "az", "aks", "get-credentials", "--resource-group", "$name-cluster", "--name",
                "$name", "--file", "$kubeconfig", "--overwrite-existing", "--only-show-errors",
            ],
        ),
        Step(
            "sign in to it as you do to Azure, without a key",
            [
                "kubelogin", "convert-kubeconfig", "--login", "azurecli",
                "--kubeconfig", "$kubeconfig",
            ],
        ),
        *(_device_plugin() if known["gpu_nodes"] else []),
        *kubernetes.install(state, lambda: values(state)),
    ]  # fmt: skip


def _deployment(state: State) -> Step:
    digest = _digest(state)
    spot = str(state.values["spot"]).lower()
    return Step(
        "make the cluster, the registry, the storage and the identity",
        [
            "az", "deployment", "sub", "create", "--name", "$name", "--location", "$region",
            "--template-file", str(TEMPLATE),
            "--parameters", "name=$name", "location=$region", "cpuNodes=$cpu_nodes",
            "gpuNodes=$gpu_nodes", f"spot={spot}",
            "--query", "properties.outputs", "--output", "json",
        ],
        keep=lambda text: {**outputs(text), "deployed": digest},
        makes=["resource group $name-cluster", "resource group $name-data", "deployment $name"],
    )  # fmt: skip


def _digest(state: State) -> str:
    """Of templates and parameters; what is deployed already is not deployed again.

    That would take the machines from workers that run: in the template pools start with none.
    """
    total = hashlib.sha256()
    for path in sorted(TEMPLATE.parent.glob("*.bicep")):
        total.update(path.read_bytes())
    asked = [state.values[k] for k in ("name", "region", "cpu_nodes", "gpu_nodes", "spot")]
    total.update(json.dumps(asked).encode())
    return total.hexdigest()[:16]


def outputs(text: str) -> dict[str, Any]:
    """What the deployment says: names of what it made."""
    found = {name: each["value"] for name, each in json.loads(text).items()}
    return {
        "registry": found["registry"],
        "registry_server": found["registryServer"],
        "client_id": found["clientId"],
        "account": found["account"],
        "container": found["container"],
        "storage": f"az://{found['container']}",
    }


def _targets(state: State) -> list[str]:
    return list(image.TARGETS) if state.values["gpu_nodes"] else ["base"]


def _build(base: str, target: str) -> Step:
    name = f"quadrat:$tag{image.TARGETS[target]}"
    return Step(
        f"build the image ({target}) in the registry",
        [
            "az", "acr", "build", "--registry", "$registry", "--image", name,
            *image.build(base, target), "--only-show-errors", str(ROOT),
        ],
        unless=[
            "az", "acr", "repository", "show", "--name", "$registry", "--image", name,
            "--output", "json",
        ],
    )  # fmt: skip


def _device_plugin() -> list[Step]:
    return [
        Step(
            "tell Kubernetes of GPUs",
            [
                "helm", "upgrade", "--install", "nvidia-device-plugin", "nvidia-device-plugin",
                "--repo", PLUGIN_REPOSITORY, "--version", PLUGIN_VERSION,
                "--kubeconfig", "$kubeconfig", "--namespace", "nvidia-device-plugin",
                "--create-namespace",
            ],
            tries=8,
        )
    ]  # fmt: skip


def values(state: State) -> dict[str, Any]:
    """The chart's values here: pods are the one identity, and go to the pools."""
    known = state.values
    found = kubernetes.values(state)
    found["env"]["AZURE_STORAGE_ACCOUNT_NAME"] = known["account"]
    found["serviceAccount"] = {
        "annotations": {"azure.workload.identity/client-id": known["client_id"]}
    }
    found["podLabels"] = {"azure.workload.identity/use": "true"}
    found["worker"] |= pool("cpu", {SPOT: "spot"} if known["spot"] else {})
    found["finetune"] |= {"gpus": 1, **pool("gpu", {"nvidia.com/gpu": "present"})}
    return found


def pool(name: str, taints: Mapping[str, str]) -> dict[str, Any]:
    """Where pods go: machines of a pool, whose taints they bear."""
    return {
        "nodeSelector": {"quadrat-pool": name},
        "tolerations": [
            {"key": k, "operator": "Equal", "value": v, "effect": "NoSchedule"}
            for k, v in taints.items()
        ],
    }


def scale(state: State, workers: int) -> tuple[list[Step], list[Step]]:
    """Steps before and after the chart's: none, since AKS adds and removes machines by itself."""
    return [], []


def delete(state: State, *, data: bool) -> list[Step]:
    """The cluster's group, and with `data` the other one."""
    groups = ["$name-cluster", *(["$name-data"] if data else [])]
    steps = [
        Step(
            f"delete the resource group {group.replace('$name', state.values['name'])}",
            ["az", "group", "delete", "--name", group, "--yes"],
            needs=["az", "group", "exists", "--name", group],
            removes=[f"resource group {group}", *kubernetes.INSIDE],
        )
        for group in groups
    ]
    steps.append(
        Step(
            "forget the deployment",
            ["az", "deployment", "sub", "delete", "--name", "$name"],
            needs=["az", "deployment", "sub", "show", "--name", "$name", "--query", "id"],
            removes=["deployment $name"],
        )
    )
    return steps


def left(state: State) -> list[str]:
    """The command that lists what there still is by the tag of all that was made."""
    return [
        "az", "resource", "list", "--tag", "quadrat=$name",
        "--query", "[].{name:name, type:type, group:resourceGroup}", "--output", "table",
    ]  # fmt: skip
