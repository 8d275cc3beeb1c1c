"""Drivers and trainings: started as Jobs of the chart, watched to their end."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from typing import Any

from operate import kubernetes
from operate.kubernetes import CHART, RELEASE, helm, kubectl
from operate.steps import ClusterError, Plan, Step, say
from quadrat.redaction import redact

NAME = r"[a-z]([-a-z0-9]{0,28}[a-z0-9])?"


def start(plan: Plan, kind: str, name: str, values: dict[str, Any]) -> None:
    """Start a job; one of that name that has ended is replaced, one that runs is left alone.

    Args:
        kind: `driver` or `finetune`, the chart's words.
        values: of that part of the chart.
    """
    state = plan.state
    if not re.fullmatch(NAME, name):
        raise ClusterError(f"{name} is no name of a job; use small letters, digits and dashes")
    for argument in values["args"]:
        if redact(argument) != argument:
            raise ClusterError(
                f"{redact(argument)} holds a key or password, which everybody who may look at jobs "
                "would see; the pods have rights of their own"
            )
    job = f"{RELEASE}-{name}"
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    found = look(plan, name)
    if found and not ended(found):
        if state.values.get("jobs", {}).get(name) == digest:
            say(f"{name} runs already; `cluster watch {name}` shows it")
            return
        raise ClusterError(f"another job of the name {name} runs; take another name, or wait")
    file = str(state.folder / f"job-{name}.json")
    if not plan.dry_run:
        state.write_file(f"job-{name}.json", {kind: {"name": name, **values}})
        state.values.setdefault("jobs", {})[name] = digest
        state.write()
    steps = []
    if found or plan.dry_run:
        again = kubectl(state, "delete", "job", job, "--ignore-not-found", "--wait")
        steps.append(Step("remove what is left of an earlier job of that name", again))
    base = str(state.folder / "values.json")
    steps.append(
        Step(
            f"start {name}",
            kubectl(state, "apply", "--filename", "-"),
            feed=[
                *helm(state, "template", RELEASE, str(CHART), "--values", base, "--values", file),
                "--show-only", f"templates/{kind}.yaml",
            ],
        )
    )  # fmt: skip
    plan.run(steps)
    say(f"`cluster watch {name}` shows how it goes")


def look(plan: Plan, name: str) -> dict[str, Any] | None:
    """The job as Kubernetes knows it, or None."""
    job = f"{RELEASE}-{name}"
    text = plan.ask(
        kubectl(plan.state, "get", "job", job, "--ignore-not-found", "--output", "json")
    )
    if text is None and not plan.dry_run:
        raise ClusterError("the cluster does not answer; is it there, and are you signed in?")
    found: dict[str, Any] | None = json.loads(text) if text and text.strip() else None
    return found


def ended(job: dict[str, Any]) -> str | None:
    """`Complete` or `Failed` with the reason, once it is; None before."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition.get("status") == "True" and condition["type"] in ("Complete", "Failed"):
            reason = f": {condition['reason']}" if condition.get("reason") else ""
            return str(condition["type"]) + (reason if condition["type"] == "Failed" else "")
    return None


def watch(plan: Plan, name: str | None) -> int:
    """Show a job's log until it ends, or all pods and jobs; the exit code."""
    state = plan.state
    if name is None:
        return plan.follow(kubectl(state, "get", "pods,jobs", "--output", "wide"))
    log = ["--follow", "--pod-running-timeout", "20m", "--ignore-errors"]
    while True:
        plan.follow(kubectl(state, "logs", f"job/{RELEASE}-{name}", *log))
        found = look(plan, name)
        if plan.dry_run:
            return 0
        if found is None:
            raise ClusterError(f"there is no job {name}; `cluster watch` shows which there are")
        if end := ended(found):
            say(f"{name}: {end}")
            return 0 if end == "Complete" else 1
        time.sleep(float(os.environ.get("CLUSTER_PAUSE_S", "5")))


def scale(plan: Plan, place: Any, workers: int) -> None:
    """Change the number of workers; those that leave finish their parts first."""
    state = plan.state
    before, after = place.scale(state, workers)
    state.values["workers"] = workers
    chart = kubernetes.chart(state, lambda: place.values(state))
    plan.run([*before, *chart[:1], *after])
