"""What the clouds are asked for: pools, sizes, and who may do what.

The Bicep files are parsed by a parser of that language, not compiled: the compiler cannot be had
here. The CloudFormation templates are checked by cfn-lint, AWS's own.
"""

from __future__ import annotations

import json
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT

AZURE, AWS = ROOT / "deploy" / "azure", ROOT / "deploy" / "aws"


@pytest.fixture(scope="module")
def bicep() -> dict[str, Any]:
    """Each Bicep file, parsed."""
    pycep = pytest.importorskip("pycep", reason="the Bicep files are parsed by pycep-parser")
    parser = pycep.BicepParser()
    return {p.stem: parser.parse(text=p.read_text()) for p in AZURE.glob("*.bicep")}


def config(bicep: dict[str, Any], file: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = bicep[file]["resources"][name]["config"]
    return dict(found.get("config", found))  # of a resource with a condition


def test_azure_modules_get_just_what_they_ask_for(bicep: dict[str, Any]) -> None:
    assert set(bicep) == {"main", "cluster", "data"}
    assert bicep["main"]["globals"]["scope"]["value"] == "subscription"
    for name, module in bicep["main"]["modules"].items():
        given = set(module["config"]["params"])
        asked = bicep[name]["parameters"]
        assert given == set(asked)


def test_azures_pools_start_with_no_machine(bicep: dict[str, Any]) -> None:
    pools = {name: config(bicep, "cluster", name)["properties"] for name in ("cpu", "gpu")}
    for name, pool in pools.items():
        assert (pool["count"], pool["minCount"]) == (0, 0)
        assert pool["enableAutoScaling"] is True and pool["mode"] == "User"
        assert pool["nodeLabels"]["'quadrat-pool'"] == name  # quoted, as it is written
    most = {n: bicep["main"]["parameters"][n]["default"] for n in ("cpuNodes", "gpuNodes")}
    assert most == {"cpuNodes": 40, "gpuNodes": 2}
    assert "Spot" in json.dumps(pools["cpu"]["scaleSetPriority"])
    (system,) = config(bicep, "cluster", "aks")["properties"]["agentPoolProfiles"]
    assert system["mode"] == "System" and system["count"] == 1


def test_azure_has_no_keys_and_one_identity_that_reaches_one_container(
    bicep: dict[str, Any],
) -> None:
    aks = config(bicep, "cluster", "aks")["properties"]
    assert aks["disableLocalAccounts"] is True and aks["enableRBAC"] is True
    assert aks["securityProfile"]["workloadIdentity"]["enabled"] is True
    assert aks["oidcIssuerProfile"]["enabled"] is True
    assert aks["networkProfile"]["networkPolicy"] == "cilium"
    account = config(bicep, "data", "account")["properties"]
    assert account["allowSharedKeyAccess"] is False and account["allowBlobPublicAccess"] is False
    assert account["supportsHttpsTrafficOnly"] is True
    assert config(bicep, "cluster", "registry")["properties"]["adminUserEnabled"] is False
    roles = {
        (file, name): each["config"]
        for file in bicep
        for name, each in bicep[file]["resources"].items()
        if each["type"] == "Microsoft.Authorization/roleAssignments"
    }
    assert {key: role["scope"] for key, role in roles.items()} == {
        ("data", "worker"): "container", ("data", "owner"): "container",
        ("cluster", "pull"): "registry", ("cluster", "admin"): "aks",
    }  # fmt: skip
    identities = [
        n for n, r in bicep["cluster"]["resources"].items()
        if r["type"] == "Microsoft.ManagedIdentity/userAssignedIdentities"
    ]  # fmt: skip
    assert identities == ["identity"]
    text = "".join(p.read_text() for p in AZURE.glob("*.bicep"))
    assert not any(word in text for word in ("listKeys", "listSecrets", "@secure", "password"))


def test_azure_tells_what_the_program_asks_it(
    bicep: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "deploy"))
    from operate import azure, kubernetes

    told = {name: {"value": name} for name in bicep["main"]["outputs"]}
    assert azure.outputs(json.dumps(told))["storage"] == "az://container"
    variables = bicep["cluster"]["variables"]
    assert variables["namespace"]["value"] == kubernetes.NAMESPACE
    assert variables["serviceAccount"]["value"] == kubernetes.RELEASE


@pytest.fixture(scope="module")
def eksctl() -> Any:
    text = (AWS / "cluster.yaml").read_text()
    names = {"NAME": "quadrat", "REGION": "us-east-1", "BUCKET": "the-bucket",
             "CPU_NODES": "40", "GPU_NODES": "2"}  # fmt: skip
    return yaml.safe_load(string.Template(text).substitute(names))


def test_awss_pools_start_with_no_machine(eksctl: Any) -> None:
    pools = {p["name"]: p for p in eksctl["managedNodeGroups"]}
    assert {n: (p["minSize"], p["desiredCapacity"], p["maxSize"]) for n, p in pools.items()} == {
        "system": (1, 1, 2), "cpu": (0, 0, 40), "gpu": (0, 0, 2),
    }  # fmt: skip
    assert pools["cpu"]["spot"] is True
    for pool in pools.values():
        assert pool["privateNetworking"] is True and pool["disablePodIMDS"] is True
    addons = {a["name"]: a for a in eksctl["addons"]}
    assert "eks-pod-identity-agent" in addons
    assert json.loads(addons["vpc-cni"]["configurationValues"]) == {"enableNetworkPolicy": "true"}


def test_aws_pods_reach_one_bucket_and_nothing_else(eksctl: Any) -> None:
    (association,) = eksctl["iam"]["podIdentityAssociations"]
    assert (association["namespace"], association["serviceAccountName"]) == ("quadrat", "quadrat")
    statements = association["permissionPolicy"]["Statement"]
    assert {s["Resource"] for s in statements} == {
        "arn:aws:s3:::the-bucket", "arn:aws:s3:::the-bucket/*",
    }  # fmt: skip
    for statement in statements:
        assert statement["Effect"] == "Allow"
        assert all(a.startswith("s3:") and "*" not in a for a in statement["Action"])


def test_the_bucket_is_private_and_encrypted() -> None:
    class Loader(yaml.SafeLoader):
        """CloudFormation's tags, as plain values."""

    Loader.add_multi_constructor("!", lambda loader, tag, node: f"{tag} {node.value}")
    found = yaml.load((AWS / "data.yaml").read_text(), Loader)["Resources"]
    bucket = found["Bucket"]["Properties"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert "BucketEncryption" in bucket
    (statement,) = found["BucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


@pytest.mark.slow
def test_cloudformation_finds_no_fault_with_the_templates() -> None:
    program = Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run(
        [program, "--regions", "us-east-1", "--", AWS / "data.yaml", AWS / "registry.yaml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
