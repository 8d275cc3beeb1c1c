"""The Helm chart: what Kubernetes would be given, and what it may never be given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from deploy_tools import refused, template
from quadrat import config

kubernetes_validate = pytest.importorskip("kubernetes_validate")

JOBS = ["--set-json", 'driver={"name":"score","args":["score","az://c/m","az://c/t"]}']
JOBS += ["--set-json", 'finetune={"name":"tune","nodes":2,"gpus":1,"args":["az://c/t"]}']
VERSIONS = ("1.30.0", "1.37.0")  # two Kubernetes versions: an old one and the newest that is known


def rendered(workers: int, *options: str) -> list[dict[str, Any]]:
    return template("--set", f"worker.replicas={workers}", *JOBS, *options)


@pytest.fixture(scope="module")
def resources() -> list[dict[str, Any]]:
    return rendered(2)


def of_kind(resources: list[dict[str, Any]], kind: str, end: str = "") -> dict[str, Any]:
    (found,) = [
        r for r in resources if r["kind"] == kind and r["metadata"]["name"].endswith(end)
    ]  # fmt: skip
    return found


def pods(resources: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for resource in resources:
        if resource["kind"] in ("Deployment", "Job"):
            yield resource["spec"]["template"]["spec"]


@pytest.mark.parametrize("workers", [0, 1, 40])
def test_it_is_strictly_valid_for_kubernetes(workers: int) -> None:
    made = rendered(workers)
    assert of_kind(made, "Deployment", "-worker")["spec"]["replicas"] == workers
    for version in VERSIONS:
        for resource in made:
            kubernetes_validate.validate(resource, version, strict=True)


def test_the_check_itself_refuses_a_wrong_field(resources: list[dict[str, Any]]) -> None:
    wrong = json.loads(json.dumps(of_kind(resources, "Deployment", "-worker")))
    wrong["spec"]["template"]["spec"]["runAsNonRoot"] = True  # it belongs into securityContext
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_nothing_has_rights_in_the_cluster(resources: list[dict[str, Any]]) -> None:
    kinds = {r["kind"] for r in resources}
    assert kinds == {
        "ConfigMap", "Deployment", "Job", "NetworkPolicy", "ResourceQuota", "Service",
        "ServiceAccount",
    }  # fmt: skip
    assert of_kind(resources, "ServiceAccount")["automountServiceAccountToken"] is False
    for pod in pods(resources):
        assert pod["serviceAccountName"] == "quadrat"
        assert pod["automountServiceAccountToken"] is False


def test_every_container_is_unprivileged_and_bounded(resources: list[dict[str, Any]]) -> None:
    found = list(pods(resources))
    assert len(found) == 4
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 9999
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod)
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= set(container["resources"]["limits"])
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])


def test_no_path_of_a_host_and_one_secret_that_is_named(resources: list[dict[str, Any]]) -> None:
    secrets = set()
    for pod in pods(resources):
        for volume in pod["volumes"]:
            assert set(volume) - {"name"} <= {"emptyDir", "configMap", "secret"}
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"]
            if "secret" in volume:
                secrets.add(volume["secret"]["secretName"])
        (container,) = pod["containers"]
        assert "envFrom" not in container
        assert all(set(entry) == {"name", "value"} for entry in container["env"])
    assert secrets == {"quadrat-spark"}


def test_keys_have_no_place_in_values() -> None:
    for wrong in (
        "env.AWS_SECRET_ACCESS_KEY=x", "env.AZURE_STORAGE_SAS_TOKEN=x",
        "env.AZURE_STORAGE_CONNECTION_STRING=x", "env.QUADRAT_TRACKING_URI=https://me:pw@host",
        "sparkConf.spark\\.authenticate\\.secret=x",
    ):  # fmt: skip
        assert "'not' failed" in refused("--set", wrong)
    assert "not allowed" in refused("--set", "workers=3")
    assert "maximum" in refused("--set", "worker.replicas=100000")
    made = rendered(1, "--set", "credentialsSecret=mine")
    for pod in pods(made):
        assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "mine"}}]


def test_quadrat_takes_the_variables_that_pods_have(resources: list[dict[str, Any]]) -> None:
    for pod in pods(resources):
        (container,) = pod["containers"]
        environ = {entry["name"]: entry["value"] for entry in container["env"]}
        config.load("/", environ)  # an unknown QUADRAT_ variable is an error
        assert pod["enableServiceLinks"] is False  # Kubernetes would add QUADRAT_MASTER_PORT


def test_pods_are_reached_by_each_other_alone(resources: list[dict[str, Any]]) -> None:
    policy = of_kind(resources, "NetworkPolicy")["spec"]
    own = policy["podSelector"]["matchLabels"]
    for resource in resources:
        if resource["kind"] in ("Deployment", "Job"):
            labels = resource["spec"]["template"]["metadata"]["labels"]
            assert own.items() <= labels.items()
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"from": [{"podSelector": {"matchLabels": own}}]}]
    outside = [to for rule in policy["egress"] for to in rule["to"] if "ipBlock" in to]
    assert [to["ipBlock"]["except"] for to in outside] == [["169.254.0.0/16"]]
    services = [r["spec"] for r in resources if r["kind"] == "Service"]
    assert all(s.get("type", "ClusterIP") == "ClusterIP" for s in services)
    hard = of_kind(resources, "ResourceQuota")["spec"]["hard"]
    assert hard["services.loadbalancers"] == hard["services.nodeports"] == "0"


def test_a_worker_that_is_stopped_drains_first(resources: list[dict[str, Any]]) -> None:
    pod = of_kind(resources, "Deployment", "-worker")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["lifecycle"]["preStop"] == {"exec": {"command": ["quadrat-node", "drain"]}}
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    assert pod["terminationGracePeriodSeconds"] > int(variables["NODE_DRAIN_S"])
    conf = of_kind(resources, "ConfigMap")["data"]["spark-defaults.conf"]
    assert "spark.decommission.enabled true" in conf.splitlines()


def test_a_driver_goes_on_after_it_was_killed_but_not_after_a_wrong_command(
    resources: list[dict[str, Any]],
) -> None:
    job = of_kind(resources, "Job", "-score")["spec"]
    assert job["template"]["spec"]["restartPolicy"] == "Never" and job["backoffLimit"] == 3
    fail, ignore = job["podFailurePolicy"]["rules"]
    assert fail["action"] == "FailJob" and fail["onExitCodes"]["values"] == [2]
    assert ignore["action"] == "Ignore"
    (container,) = job["template"]["spec"]["containers"]
    assert container["args"] == ["driver", "score", "az://c/m", "az://c/t"]


def test_the_nodes_of_a_training_find_each_other(resources: list[dict[str, Any]]) -> None:
    job = of_kind(resources, "Job", "-tune")
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == 2
    service = of_kind(resources, "Service", "-finetune")
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    labels = spec["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    (container,) = pod["containers"]
    first = f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert container["args"] == ["finetune", "2", "1", first, "az://c/t", "--resume"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    without = of_kind(rendered(1, "--set", "finetune.gpus=0"), "Job", "-tune")
    (container,) = without["spec"]["template"]["spec"]["containers"]
    assert "nvidia.com/gpu" not in container["resources"]["limits"]
