"""What AWS is asked for: an EKS cluster by eksctl, a registry and a bucket by CloudFormation."""

from __future__ import annotations

import string
from typing import Any

from operate import image, kubernetes
from operate.azure import pool
from operate.image import ROOT
from operate.steps import State, Step

FILES = ROOT / "deploy" / "aws"
SYSTEM_CORES = 4
POD_IDENTITY = "169.254.170.23/32"  # where pods get their role's credentials


def create(state: State) -> list[Step]:
    """From a signed-in account to a cluster with Spark."""
    config = str(state.folder / "eksctl.yaml")
    targets = list(image.TARGETS) if state.values["gpu_nodes"] else ["base"]
    return [
        Step(
            "look whether you are signed in",
            ["aws", "sts", "get-caller-identity", "--query", "Account", "--output", "text"],
            keep=lambda text: account(text, state.values["region"]),
        ),
        *_stack("data", "bucket"),
        *_stack("registry", "registry"),
        *_images(state.values["base_image"], targets),
        Step(
            "make the cluster and its pools (about 20 minutes)",
            ["eksctl", "create", "cluster", "--config-file", config, "--write-kubeconfig=false"],
            files=lambda: _config(state),
            unless=[
                "eksctl", "get", "cluster", "--name", "$name", "--region", "$region",
                "--output", "json",
            ],
            makes=["cluster $name"],
        ),
        Step(
            "make the pools that are missing",
            ["eksctl", "create", "nodegroup", "--config-file", config],
            files=lambda: _config(state),
        ),
        Step(
            "give the pods the right to the bucket",
            ["eksctl", "create", "podidentityassociation", "--config-file", config],
            unless=[
                "eksctl", "get", "podidentityassociation", "--cluster", "$name", "--region",
                "$region", "--namespace", kubernetes.NAMESPACE, "--service-account-name",
                kubernetes.RELEASE, "--output", "json",
            ],
        ),
        Step(
            "get the cluster's address",
            [
                "eksctl", "utils", "write-kubeconfig", "--cluster", "$name", "--region", "$region",
                "--kubeconfig", "$kubeconfig",
            ],
        ),
        *_started(state),
        *kubernetes.install(state, lambda: values(state)),
    ]  # fmt: skip


def _started(state: State) -> list[Step]:
    workers = int(state.values["workers"])
    return [machines("cpu", workers, state.values["cpu_nodes"])] if workers else []


def account(text: str, region: str) -> dict[str, Any]:
    """What follows from the account's number."""
    number = text.strip()
    return {"account": number, "registry_server": f"{number}.dkr.ecr.{region}.amazonaws.com"}


def _stack(name: str, what: str) -> list[Step]:
    stack = f"$name-{name}"
    steps = [
        Step(
            f"make the {what}",
            [
                "aws", "cloudformation", "deploy", "--region", "$region", "--stack-name", stack,
                "--template-file", str(FILES / f"{name}.yaml"), "--parameter-overrides",
                "Name=$name", "--no-fail-on-empty-changeset", "--tags", "quadrat=$name",
            ],
            makes=[f"stack {stack}"],
        )
    ]  # fmt: skip
    if name == "data":
        steps.append(
            Step(
                "ask for the bucket's name",
                [
                    "aws", "cloudformation", "describe-stacks", "--region", "$region",
                    "--stack-name", stack, "--query", "Stacks[0].Outputs[0].OutputValue",
                    "--output", "text",
                ],
                keep=lambda text: {"bucket": text.strip(), "storage": f"s3://{text.strip()}"},
            )
        )  # fmt: skip
    return steps


def _images(base: str, targets: list[str]) -> list[Step]:
    steps, program = [], image.builder()
    for target in targets:
        tag = f"$tag{image.TARGETS[target]}"
        name = f"$registry_server/$name/quadrat:{tag}"
        there = [
            "aws", "ecr", "describe-images", "--region", "$region", "--repository-name",
            "$name/quadrat", "--image-ids", f"imageTag={tag}",
            "--query", "imageDetails[0].imageDigest", "--output", "text",
        ]  # fmt: skip
        sign_in = ["aws", "ecr", "get-login-password", "--region", "$region"]
        steps += [
            Step(
                f"build the image ({target})",
                [program, "build", *image.build(base, target), "--tag", name, str(ROOT)],
                unless=there,
            ),
            Step(
                "sign in to the registry",
                [program, "login", "--username", "AWS", "--password-stdin", "$registry_server"],
                feed=sign_in,
                unless=there,
            ),
            Step(f"push the image ({target})", [program, "push", name], unless=there),
        ]
    return steps


def _config(state: State) -> dict[str, str]:
    """The file for eksctl, with this cluster's names."""
    known = state.values
    text = (FILES / "cluster.yaml").read_text("utf-8")
    names = {
        "NAME": known["name"],
        "REGION": known["region"],
        "BUCKET": known["bucket"],
        "CPU_NODES": known["cpu_nodes"],
        "GPU_NODES": max(1, known["gpu_nodes"]),
    }
    return {"eksctl.yaml": string.Template(text).substitute(names)}


def values(state: State) -> dict[str, Any]:
    """The chart's values here: pods find their role by themselves, and go to the pools."""
    found = kubernetes.values(state)
    found["env"]["AWS_DEFAULT_REGION"] = state.values["region"]
    found["network"] = {
        "egress": [
            {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"], "ports": [443]},
            {"cidr": POD_IDENTITY, "ports": [80]},
        ]
    }
    found["worker"] |= pool("cpu", {"quadrat-pool": "cpu"})
    found["finetune"] |= {"gpus": 1, **pool("gpu", {"nvidia.com/gpu": "present"})}
    return found


def scale(state: State, workers: int) -> tuple[list[Step], list[Step]]:
    """Machines before the workers that need them; after the workers that leave them."""
    steps = [machines("cpu", workers, state.values["cpu_nodes"])]
    return (steps, []) if workers > state.values["workers"] else ([], steps)


def machines(group: str, count: int, most: int) -> Step:
    """A pool's machines, one a worker; the ones that leave are drained."""
    return Step(
        f"have {count} machines in the pool {group}",
        [
            "eksctl", "scale", "nodegroup", "--cluster", "$name", "--region", "$region", "--name",
            group, "--nodes", str(count), "--nodes-min", "0",
            "--nodes-max", str(max(1, count, most)),
        ],
    )  # fmt: skip


def delete(state: State, *, data: bool) -> list[Step]:
    """Cluster and registry, and with `data` the bucket."""
    steps = [
        Step(
            "delete the cluster and its pools",
            [
                "eksctl", "delete", "cluster", "--name", "$name", "--region", "$region", "--wait",
                "--disable-nodegroup-eviction",
            ],
            needs=[
                "aws", "cloudformation", "list-stacks", "--region", "$region", "--output", "text",
                "--query", "StackSummaries[?starts_with(StackName, 'eksctl-$name-') && "
                "StackStatus != 'DELETE_COMPLETE'].StackName",
            ],
            removes=["cluster $name", *kubernetes.INSIDE],
        ),
        *_unstack("registry", "the registry"),
    ]  # fmt: skip
    if data:
        if "bucket" in state.values:
            steps.append(
                Step(
                    "empty the bucket",
                    ["aws", "s3", "rm", "s3://$bucket", "--recursive", "--only-show-errors"],
                )
            )
        steps += _unstack("data", "the bucket")
    return steps


def _unstack(name: str, what: str) -> list[Step]:
    call = ["aws", "cloudformation"]
    where = ["--region", "$region", "--stack-name", f"$name-{name}"]
    return [
        Step(f"delete {what}", [*call, "delete-stack", *where]),
        Step(
            f"wait until {what} is deleted",
            [*call, "wait", "stack-delete-complete", *where],
            removes=[f"stack $name-{name}"],
        ),
    ]


def left(state: State) -> list[str]:
    """The command that lists what there still is by the tag of all that was made."""
    return [
        "aws", "resourcegroupstaggingapi", "get-resources", "--region", "$region",
        "--tag-filters", "Key=quadrat,Values=$name",
        "--query", "ResourceTagMappingList[].ResourceARN", "--output", "text",
    ]  # fmt: skip
