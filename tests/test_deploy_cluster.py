"""`deploy/cluster` against stand-ins of the clouds' programs, which record how they are called."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from deploy_tools import StandIns

BASE = "docker.io/library/python:3.12-slim-bookworm@sha256:" + "0123456789abcdef" * 4
NAMES = ["az", "aws", "eksctl", "helm", "kubectl", "kubelogin", "podman"]
AZURE = {
    "clientId": "11111111-2222-3333-4444-555555555555", "registry": "quadratabc",
    "registryServer": "quadratabc.azurecr.io", "account": "quadratdata", "container": "quadrat",
}  # fmt: skip
ANSWERS = {
    "az deployment sub create": json.dumps({k: {"value": v} for k, v in AZURE.items()}),
    "az group exists": "true",
    "az deployment sub show": "/subscriptions/1",
    "aws sts": "123456789012\n",
    "aws cloudformation describe-stacks": "quadrat-quadrat-123456789012-us-east-1\n",
    "aws cloudformation list-stacks": "eksctl-quadrat-cluster",
    "aws ecr get-login-password": "password-of-the-registry",
    "helm template": "kind: Job",
}
CREATE = {
    "azure": ["create", "azure", "--region", "eastus", "--base-image", BASE, "--workers", "8"],
    "aws": ["create", "aws", "--region", "us-east-1", "--base-image", BASE, "--workers", "8"],
    "kubernetes": [
        "create", "kubernetes", "--context", "here", "--image", "r/quadrat:1",
        "--finetune-image", "r/quadrat:1-finetune", "--workers", "8",
        "--env", "AWS_ENDPOINT_URL=http://minio:9000", "--credentials-secret", "mine",
    ],
}  # fmt: skip

Cluster = Callable[..., int]


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIns:
    made = StandIns(tmp_path / "stand-ins", NAMES, ANSWERS)
    monkeypatch.setenv("PATH", str(made.path))
    monkeypatch.setenv("CLUSTER_PAUSE_S", "0")
    return made


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The program, in a folder of its own."""
    monkeypatch.syspath_prepend(str(ROOT / "deploy"))
    from operate.command import main

    def run(verb: str, *arguments: str) -> int:
        return main([verb, "--folder", str(tmp_path / "cluster"), *arguments])

    return run


def exists(tmp_path: Path) -> set[str]:
    path = tmp_path / "cluster" / "state.json"
    return set(json.loads(path.read_text())["exists"]) if path.exists() else set()


def starts(lines: list[str], *wanted: str) -> None:
    """Each of the wanted starts is that of a line, in this order."""
    left = iter(lines)
    for start in wanted:
        assert any(line.startswith(start) for line in left), f"{start} is missing in {lines}"


ORDER = {
    "azure": [
        "az account show", "az deployment sub create --name quadrat --location eastus",
        "az acr build --registry quadratabc --image quadrat:0.1.0-",
        "az acr build --registry quadratabc --image quadrat:0.1.0-", "az aks get-credentials",
        "kubelogin convert-kubeconfig --login azurecli",
        "helm upgrade --install nvidia-device-plugin",
    ],
    "aws": [
        "aws sts get-caller-identity", "aws cloudformation deploy", "aws cloudformation deploy",
        "podman build", "podman login --username AWS --password-stdin 123456789012.dkr.ecr.us-east",
        "podman push 123456789012.dkr.ecr.us-east-1.amazonaws.com/quadrat/quadrat:0.1.0-",
        "podman build", "podman push", "eksctl create cluster", "eksctl create nodegroup",
        "eksctl create podidentityassociation", "eksctl utils write-kubeconfig",
        "eksctl scale nodegroup --cluster quadrat --region us-east-1 --name cpu --nodes 8",
    ],
    "kubernetes": ["kubectl --context here version"],
}  # fmt: skip
THEN = ["apply --filename", "create --filename", "upgrade --install quadrat", "rollout status"]


@pytest.mark.parametrize("place", CREATE)
def test_create_makes_things_in_an_order_that_works(
    place: str, cluster: Cluster, stand_ins: StandIns, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cluster(*CREATE[place]) == 0
    lines = stand_ins.lines()
    starts(lines, *ORDER[place])
    found = [lines.index(x) for part in THEN for x in lines if part in x and "nvidia" not in x]
    assert found == sorted(found) and len(found) == 4
    said = capsys.readouterr().out
    assert said.index("cost: 8 workers of 4 cores") < said.index("[1/")


@pytest.mark.parametrize("place", CREATE)
def test_after_a_failure_at_any_step_the_same_command_goes_on(
    place: str, cluster: Cluster, stand_ins: StandIns, tmp_path: Path
) -> None:
    asked = [*CREATE[place], *(["--gpu-nodes", "0"] if place == "aws" else [])]
    assert cluster(*asked) == 0
    whole, made = stand_ins.lines(), exists(tmp_path)
    changes = {x for x in whole if is_change(x)}
    for number, line in enumerate(whole):
        if not is_change(line) and place != "kubernetes":
            continue  # a look that fails: the step is done
        for file in (tmp_path / "cluster").iterdir():
            file.unlink()
        stand_ins.forget()
        stand_ins.fail_at(number)
        failed = cluster(*asked)
        assert failed in (0, 1)
        if failed:
            assert exists(tmp_path) <= made  # what was begun is known, for `delete`
            stand_ins.fail_at(None)
            assert cluster(*asked) == 0
        assert exists(tmp_path) == made
        assert changes <= set(stand_ins.lines())


def is_change(line: str) -> bool:
    words = set(line.split())
    return not words & {"show", "get", "describe-images", "describe-stacks", "get-caller-identity"}


@pytest.mark.parametrize("place", ["azure", "aws"])
def test_what_was_done_is_not_done_again(place: str, cluster: Cluster, stand_ins: StandIns) -> None:
    done = {
        "az acr repository show": "{}x", "aws ecr describe-images": "sha256:1",
        "eksctl get": "[1]", "kubectl": "secret/quadrat-spark",
    }  # fmt: skip
    assert cluster(*CREATE[place]) == 0
    stand_ins.forget()
    stand_ins.answer({**done, **ANSWERS})
    assert cluster(*CREATE[place]) == 0
    text = "\n".join(stand_ins.lines())
    for part in (
        "deployment sub",
        "acr build",
        "podman",
        "create cluster",
        "create podid",
        "--filename -",
    ):
        assert part not in text
    assert "helm upgrade --install quadrat" in text


@pytest.mark.parametrize("place", ["azure", "aws", "kubernetes"])
def test_delete_removes_all_that_create_made(
    place: str, cluster: Cluster, stand_ins: StandIns, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert cluster(*CREATE[place]) == 0
    made = exists(tmp_path)
    assert made
    stand_ins.forget()
    assert cluster("delete") == 0
    said, text = capsys.readouterr().out, "\n".join(stand_ins.lines())
    data = {x for x in made if "-data" in x}
    assert exists(tmp_path) == data
    if place == "kubernetes":
        assert cluster("delete") == 0
        assert "nothing to delete" in capsys.readouterr().out
        assert {"namespace quadrat", "secret quadrat-spark", "release quadrat"} == made
        starts(stand_ins.lines(), "kubectl --context here --namespace quadrat delete jobs",
               "helm uninstall quadrat")  # fmt: skip
        return
    (kept,) = data
    assert f"left, as this program knows: {kept}" in said
    assert {"azure": "az resource list --tag quadrat=quadrat",
            "aws": "aws resourcegroupstaggingapi"}[place] in text  # fmt: skip
    for name in made - data:
        if name.split()[0] not in ("namespace", "secret", "release"):  # they go with the cluster
            assert name.split()[-1] in text
    assert not any("-data" in line and "delete" in line for line in stand_ins.lines())
    if place == "azure":
        stand_ins.forget()
        assert cluster(*CREATE[place]) == 0  # what was deleted is made again
        assert exists(tmp_path) == made and "deployment sub create" in "\n".join(stand_ins.lines())
    assert cluster("delete", "--data") == 0
    assert exists(tmp_path) == set() and kept.split()[-1] in "\n".join(stand_ins.lines())
    assert "nothing is left" in capsys.readouterr().out


def test_a_namespace_that_was_there_before_is_left_there(
    cluster: Cluster, stand_ins: StandIns, tmp_path: Path
) -> None:
    there = {"kubectl --context here --namespace quadrat get namespace": "namespace/quadrat"}
    stand_ins.answer({**there, **ANSWERS})
    assert cluster(*CREATE["kubernetes"]) == 0
    assert "namespace quadrat" not in exists(tmp_path)
    assert cluster("delete") == 0
    assert not any("delete namespace" in line for line in stand_ins.lines())


@pytest.mark.parametrize("place", CREATE)
def test_a_dry_run_shows_all_and_runs_nothing(
    place: str, cluster: Cluster, stand_ins: StandIns, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    verb, *rest = CREATE[place]
    assert cluster(verb, "--dry-run", *rest) == 0
    assert stand_ins.calls() == [] and not (tmp_path / "cluster").exists()
    shown = [x[6:] for x in capsys.readouterr().out.splitlines() if x.startswith("    $ ")]
    assert cluster(*CREATE[place]) == 0
    ran = [x for x in stand_ins.lines() if is_change(x)]
    assert len([x for x in shown if is_change(x)]) == len(ran) - (place == "aws") * 2  # a password
    stand_ins.forget()
    for arguments in (["scale", "--dry-run", "--workers", "0"], ["delete", "--dry-run"],
                      ["submit", "--dry-run", "a", "score", "b"], ["watch", "--dry-run", "a"],
                      ["finetune", "--dry-run", "a", "b"]):  # fmt: skip
        before = (tmp_path / "cluster" / "state.json").read_text()
        assert cluster(*arguments) == 0
        assert stand_ins.calls() == []
        assert (tmp_path / "cluster" / "state.json").read_text() == before


def test_no_key_is_in_an_argument_a_file_or_the_output(
    cluster: Cluster, stand_ins: StandIns, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in CREATE:
        for file in (tmp_path / "cluster").glob("*"):
            file.unlink()
        stand_ins.forget()
        assert cluster(*CREATE[place]) == 0
        (secret,) = [
            json.loads(text)["stringData"]["secret"]
            for text in stand_ins.inputs() if '"kind": "Secret"' in text
        ]  # fmt: skip
        assert len(secret) >= 48
        seen = "\n".join(stand_ins.lines()) + capsys.readouterr().out
        seen += "".join(p.read_text() for p in (tmp_path / "cluster").iterdir())
        assert secret not in seen and "password-of-the-registry" not in seen


def test_keys_are_refused(
    cluster: Cluster, stand_ins: StandIns, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cluster(*CREATE["kubernetes"], "--env", "AWS_SECRET_ACCESS_KEY=hunter2-and-more") == 1
    assert cluster(*CREATE["kubernetes"]) == 0
    stand_ins.forget()
    assert cluster("submit", "a", "score", "https://me:hunter2@host/model", "t") == 1
    said = capsys.readouterr()
    assert "--credentials-secret" in said.err and "key or password" in said.err
    assert "hunter2" not in said.out + said.err
    assert stand_ins.calls() == []


def job(kind: str | None) -> str:
    status = {"conditions": [{"type": kind, "status": "True"}]} if kind else {}
    return json.dumps({"status": status})


def job_values(tmp_path: Path, name: str) -> Any:
    return json.loads((tmp_path / "cluster" / f"job-{name}.json").read_text())


def test_submit_starts_a_driver_and_the_same_again_does_no_harm(
    cluster: Cluster, stand_ins: StandIns, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cluster(*CREATE["azure"]) == 0
    stand_ins.forget()
    command = ["county", "score", "az://quadrat/model", "az://quadrat/tiles", "--out",
               "az://quadrat/scores"]  # fmt: skip
    assert cluster("submit", "--tiles", "2200000", "--rate", "150", *command) == 0
    assert "core-hours" in capsys.readouterr().out
    starts(stand_ins.lines(), "kubectl", "helm template quadrat", "kubectl")
    assert "--show-only templates/driver.yaml" in stand_ins.lines()[1]
    assert stand_ins.inputs()[2] == "kind: Job"
    assert job_values(tmp_path, "county") == {"driver": {"name": "county", "args": command[1:]}}
    for state, expected, deletes in ((None, 0, False), ("Complete", 0, True), ("Failed", 0, True)):
        stand_ins.forget()
        stand_ins.answer({"kubectl": job(state), **ANSWERS})
        assert cluster("submit", *command) == expected
        assert any("delete job" in x for x in stand_ins.lines()) is deletes
    stand_ins.answer({"kubectl": job(None), **ANSWERS})
    assert cluster("submit", "county", "map", "other") == 1  # another job of that name runs
    assert "another job of the name county runs" in capsys.readouterr().err


def test_watch_follows_a_job_to_its_end(
    cluster: Cluster, stand_ins: StandIns, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cluster(*CREATE["kubernetes"]) == 0
    for state, code in (("Complete", 0), ("Failed", 1)):
        stand_ins.forget()
        stand_ins.answer({"kubectl --context here --namespace quadrat get": job(state)})
        assert cluster("watch", "county") == code
        logs, looked = stand_ins.lines()
        assert "logs job/quadrat-county --follow" in logs and "get job quadrat-county" in looked
        assert f"county: {state}" in capsys.readouterr().out
    stand_ins.answer({})
    assert cluster("watch", "other") == 1
    assert "there is no job other" in capsys.readouterr().err
    assert cluster("watch") == 0
    assert "get pods,jobs" in stand_ins.lines()[-1]


@pytest.mark.parametrize("place", CREATE)
def test_scale_and_finetune_take_machines_and_say_what_they_take(
    place: str, cluster: Cluster, stand_ins: StandIns, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert cluster(*CREATE[place]) == 0
    for workers in (40, 0):
        stand_ins.forget()
        assert cluster("scale", "--workers", str(workers)) == 0
        values = json.loads((tmp_path / "cluster" / "values.json").read_text())
        assert values["worker"]["replicas"] == workers
        assert f"cost: {workers} workers: {4 * workers} core-hours" in capsys.readouterr().out
        first = stand_ins.calls()[0][0]
        assert first == ("eksctl" if place == "aws" and workers else "helm")
        assert len(stand_ins.calls()) == (2 if place == "aws" else 1)
    assert cluster("submit", "a", "score", "b") == 1
    assert "there are no workers" in capsys.readouterr().err
    stand_ins.forget()
    assert cluster("finetune", "--nodes", "2", "trees", "az://c/tiles", "--out", "az://c/m") == 0
    asked = job_values(tmp_path, "trees")["finetune"]
    assert asked["nodes"] == 2 and asked["args"] == ["az://c/tiles", "--out", "az://c/m"]
    said = capsys.readouterr().out
    if place == "kubernetes":
        assert asked["gpus"] == 0
    else:
        assert asked["gpus"] == 1 and "2 GPU-hours an hour" in said
        assert cluster("finetune", "--nodes", "3", "trees", "t") == 1
        assert "at most 2 machines" in capsys.readouterr().err
    assert ("cluster scale --gpu-nodes 0" in said) is (place == "aws")


def test_money_is_told_with_its_date_region_and_source(
    cluster: Cluster, stand_ins: StandIns, capsys: pytest.CaptureFixture[str]
) -> None:
    price = [
        "--price",
        "0.0125 USD",
        "--price-date",
        "2026-11-01",
        "--price-source",
        "our contract",
    ]
    assert cluster(*CREATE["azure"], "--price", "0.0125 USD") == 1
    assert "--price, --price-date and --price-source together" in capsys.readouterr().err
    assert cluster(*CREATE["azure"], *price[:3], "yesterday", *price[4:]) == 1
    capsys.readouterr()
    assert cluster(*CREATE["azure"]) == 0
    assert "USD" not in capsys.readouterr().out
    assert cluster(*CREATE["azure"], *price) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert "36 core-hours an hour, 0.45 USD an hour at 0.0125 USD a core-hour" in line
    assert "(eastus, 2026-11-01, our contract)" in line
    assert cluster("scale", "--workers", "40") == 0
    assert "160 core-hours an hour, 2.00 USD an hour" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["create", "azure", "--region", "r", "--base-image", "python:3.12"], "end in @sha256:"),
        (["create", "azure", "--region", "r"], "needs --region and --base-image"),
        (["create", "kubernetes", "--image", "a"], "needs --image and --context"),
        ([*CREATE["kubernetes"], "--region", "r"], "--region is not for kubernetes"),
        ([*CREATE["azure"], "--image", "a"], "--image is not for azure"),
        ([*CREATE["aws"], "--on-demand"], "--on-demand is not for aws"),
        ([*CREATE["azure"], "--cpu-nodes", "4"], "8 workers need as many machines"),
        ([*CREATE["azure"], "--name", "A"], "A is no name"),
        (["submit", "a", "score", "b"], "`cluster create` comes first"),
        (["submit", "a", "score", "b", "--dry-run"], "--dry-run comes before the job's name"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line_before_anything_runs(
    arguments: list[str], says: str, cluster: Cluster, stand_ins: StandIns,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert cluster(*arguments) == 1
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1
    assert stand_ins.calls() == []


def test_a_folder_is_of_one_cluster(
    cluster: Cluster, stand_ins: StandIns, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cluster(*CREATE["azure"]) == 0
    stand_ins.forget()
    assert cluster(*CREATE["aws"]) == 1
    assert "take another --folder" in capsys.readouterr().err and stand_ins.calls() == []


def test_it_needs_nothing_but_python() -> None:
    allowed = {*sys.stdlib_module_names, "operate", "quadrat"}
    for path in [*(ROOT / "deploy" / "operate").glob("*.py"), ROOT / "deploy" / "cluster"]:
        for name in re.findall(r"^(?:import|from) ([\w.]+)", path.read_text(), re.M):
            assert name.split(".")[0] in allowed, f"{path.name}: {name}"
            assert not name.startswith("quadrat") or name == "quadrat.redaction"
