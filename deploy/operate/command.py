"""The command line of `deploy/cluster`."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path
from typing import Any

from operate import aws, azure, cost, image, jobs, kubernetes
from operate.steps import ClusterError, Plan, State, say, warn
from quadrat.redaction import redact

PLACES: dict[str, Any] = {"azure": azure, "aws": aws, "kubernetes": kubernetes}

EXAMPLES = """\
examples:
  cluster create azure --region eastus --base-image python@sha256:... --workers 8
  cluster submit county score az://quadrat/model az://quadrat/tiles --out az://quadrat/scores
  cluster watch county
  cluster finetune --nodes 2 trees az://quadrat/tiles --out az://quadrat/network
  cluster scale --workers 0
  cluster delete
"""


def main(arguments: list[str] | None = None) -> int:
    """Do what the arguments say; the exit code."""
    given = parser().parse_args(arguments)
    state = State.read(Path(given.folder))
    plan = Plan(state, dry_run=given.dry_run)
    try:
        return int(given.run(plan, given) or 0)
    except ClusterError as error:
        warn(f"cluster: {error}")
        return 1
    except KeyboardInterrupt:
        warn("cluster: stopped; the same command goes on from here")
        return 130


def parser() -> argparse.ArgumentParser:
    """All verbs and options."""
    top = argparse.ArgumentParser(
        prog="cluster", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="A Spark cluster for quadrat: made, used, and deleted with all that it cost.",
    )  # fmt: skip
    verbs = top.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        made.add_argument("--dry-run", action="store_true", help="show the commands; run none")
        made.add_argument(
            "--folder", default="quadrat-cluster", metavar="FOLDER",
            help="what is remembered of the cluster, without keys [%(default)s]",
        )  # fmt: skip
        return made

    made = verb("create", create, "make a cluster, or bring it up to date; the same again goes on")
    made.add_argument("place", choices=PLACES)
    made.add_argument("--name", default="quadrat", help="of the cluster [%(default)s]")
    made.add_argument("--region", help="azure, aws: where (eastus, us-east-1)")
    made.add_argument("--base-image", metavar="NAME@sha256:...", help="azure, aws: a slim Python")
    made.add_argument("--workers", type=number, help="to start now [0, or as many as there are]")
    made.add_argument("--cpu-nodes", type=number, help="azure, aws: most machines of the pool [40]")
    made.add_argument("--gpu-nodes", type=number, help="azure, aws: most machines of the pool [2]")
    made.add_argument("--on-demand", action="store_true", help="azure: no spot machines")
    made.add_argument("--image", help="kubernetes: an image that its nodes can pull")
    made.add_argument("--finetune-image", help="kubernetes: the one that fine-tunes")
    made.add_argument("--context", help="kubernetes: of kubectl")
    made.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="of pods")
    made.add_argument(
        "--credentials-secret", metavar="SECRET", help="a Secret with AWS_..., AZURE_..."
    )
    made.add_argument("--price", metavar='"0.0125 USD"', help="of one core-hour, with the next two")
    made.add_argument("--price-date", metavar="DATE")
    made.add_argument("--price-source", metavar="TEXT")

    made = verb("submit", submit, "run a verb of quadrat on the cluster")
    made.add_argument("--tiles", type=number, help="how many; for the cost line")
    made.add_argument("--rate", type=float, help="tiles a second on one core; for the cost line")
    made.add_argument("name", help="of the job")
    made.add_argument("verb", nargs=argparse.REMAINDER, help="score MODEL TILES --out URI ...")

    made = verb("watch", watch, "show a job's log until it ends, or all jobs")
    made.add_argument("name", nargs="?")

    made = verb("scale", scale, "change the number of workers; those that leave finish their parts")
    made.add_argument("--workers", type=number)
    made.add_argument("--gpu-nodes", type=number, help="aws: machines with GPUs that run now")

    made = verb("finetune", finetune, "fine-tune a network on several machines")
    made.add_argument("--nodes", type=number, default=2, help="[%(default)s]")
    made.add_argument(
        "--gpus", type=number, help="of a node; 0: the workers' machines [1; kubernetes: 0]"
    )
    made.add_argument("name", help="of the job")
    made.add_argument("verb", nargs=argparse.REMAINDER, help="SOURCE --out URI ...")

    made = verb("delete", delete, "delete the cluster, and list what is left")
    made.add_argument(
        "--data", action="store_true", help="the storage with all that lies in it, too"
    )
    return top


def number(text: str) -> int:
    """A count, from 0."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text} is no count")
    return int(text)


def create(plan: Plan, given: argparse.Namespace) -> None:
    """See `cluster create --help`."""
    state, place = plan.state, PLACES[given.place]
    before = state.values.get("place"), state.values.get("name")
    if state.exists and before != (given.place, given.name):
        raise ClusterError(
            f"{state.folder} is of {before[1]} on {before[0]}; take another --folder"
        )
    state.values |= {"place": given.place, **chosen(given, state)}
    if known := cost.price(given.price, given.price_date, given.price_source):
        state.values["price"] = known
    workers = state.values["workers"]
    cores = place.SYSTEM_CORES + workers * kubernetes.CORES
    what = f"{workers} workers of {kubernetes.CORES} cores"
    if place.SYSTEM_CORES:
        what += f", and {place.SYSTEM_CORES} cores that always run"
    cost.tell(state, what, cores)
    plan.run(place.create(state))
    if "storage" in state.values:
        account = state.values.get("account") if given.place == "azure" else None
        where = f" in the account {account}" if account else ""
        say(f"the jobs' storage is {state['storage']}{where}")


def chosen(given: argparse.Namespace, state: State) -> dict[str, Any]:
    """What `create` was asked for, checked."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{1,14}[a-z0-9]", given.name):
        raise ClusterError(f"{given.name} is no name: 3 to 16 small letters, digits, dashes")
    env = {}
    for pair in given.env:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ClusterError(f"--env {pair} is not NAME=VALUE")
        if redact(pair) != pair:
            raise ClusterError(
                f"{name} looks like a key or password; put it into a Secret and name that with "
                "--credentials-secret"
            )
        env[name] = value
    workers = state.values.get("workers", 0) if given.workers is None else given.workers
    known: dict[str, Any] = {"name": given.name, "workers": workers, "env": env}
    if given.credentials_secret:
        known["credentials_secret"] = given.credentials_secret
    if given.place == "kubernetes":
        refuse(given, "region", "base_image", "on_demand", "cpu_nodes", "gpu_nodes")
        if not given.image or not given.context:
            raise ClusterError("create kubernetes needs --image and --context (see `kubectl config "
                               "get-contexts`)")  # fmt: skip
        return {**known, "image": given.image, "finetune_image": given.finetune_image,
                "context": given.context}  # fmt: skip
    refuse(
        given,
        "image",
        "finetune_image",
        "context",
        *(["on_demand"] if given.place == "aws" else []),
    )
    if not given.region or not given.base_image:
        raise ClusterError(f"create {given.place} needs --region and --base-image")
    if not image.is_pinned(given.base_image):
        raise ClusterError("--base-image must end in @sha256: and 64 digits: a tag may be moved")
    cpus = 40 if given.cpu_nodes is None else given.cpu_nodes
    gpus = 2 if given.gpu_nodes is None else given.gpu_nodes
    if workers > cpus:
        raise ClusterError(f"{workers} workers need as many machines; raise --cpu-nodes")
    server = f"$registry_server{'/$name' if given.place == 'aws' else ''}/quadrat:$tag"
    return {
        **known, "region": given.region, "base_image": given.base_image,
        "tag": image.tag(given.base_image), "cpu_nodes": cpus, "gpu_nodes": gpus,
        "spot": not given.on_demand,
        "kubeconfig": str(state.folder / "kubeconfig"), "image": server,
        "finetune_image": f"{server}-finetune" if gpus else None,
    }  # fmt: skip


def refuse(given: argparse.Namespace, *names: str) -> None:
    """No option is ignored: ClusterError for those that another place has."""
    for name in names:
        if getattr(given, name) not in (None, False):
            raise ClusterError(f"--{name.replace('_', '-')} is not for {given.place}")


def check_order(verb: list[str]) -> None:
    """All that follows a job's name is the job's: options of this program must not get in there."""
    for option in ("--folder", "--dry-run"):
        if option in verb and verb[:1] != ["fetch"]:
            raise ClusterError(f"{option} comes before the job's name: cluster submit {option} ...")


def submit(plan: Plan, given: argparse.Namespace) -> None:
    """See `cluster submit --help`."""
    state = plan.state
    check_order(given.verb)
    workers = int(state["workers"])
    if not given.verb:
        raise ClusterError("say which verb: cluster submit NAME score MODEL TILES --out URI")
    if not workers:
        raise ClusterError("there are no workers; `cluster scale --workers N` starts some")
    if (given.tiles is None) != (given.rate is None):
        raise ClusterError("--tiles and --rate go together")
    cores = workers * kubernetes.CORES
    if given.tiles is None:
        cost.tell(state, f"{given.name} on {workers} workers, while it runs", cores)
    else:
        hours = cost.core_hours(given.tiles, given.rate) / cores
        cost.tell(state, f"{given.name}, about {math.ceil(hours * 60)} minutes", cores, hours)
    jobs.start(plan, "driver", given.name, {"args": given.verb})


def watch(plan: Plan, given: argparse.Namespace) -> int:
    """See `cluster watch --help`."""
    return jobs.watch(plan, given.name)


def scale(plan: Plan, given: argparse.Namespace) -> None:
    """See `cluster scale --help`."""
    state = plan.state
    place = PLACES[state["place"]]
    if given.workers is None and given.gpu_nodes is None:
        raise ClusterError("say how many: cluster scale --workers N")
    if given.gpu_nodes is not None:
        if state["place"] != "aws":
            raise ClusterError(f"--gpu-nodes is for aws; {state['place']} does it by itself")
        plan.run([aws.machines("gpu", given.gpu_nodes, int(state["gpu_nodes"]))])
    if given.workers is not None:
        if given.workers > state.values.get("cpu_nodes", given.workers):
            raise ClusterError(
                f"the pool has at most {state['cpu_nodes']} machines; see create --cpu-nodes"
            )
        cost.tell(state, f"{given.workers} workers", given.workers * kubernetes.CORES)
        jobs.scale(plan, place, given.workers)


def finetune(plan: Plan, given: argparse.Namespace) -> None:
    """See `cluster finetune --help`."""
    state = plan.state
    check_order(given.verb)
    if not state["finetune_image"]:
        raise ClusterError(
            "there is no image that fine-tunes; see create --gpu-nodes, --finetune-image"
        )
    if not given.verb or given.nodes < 1:
        raise ClusterError(
            "say how many and what: cluster finetune --nodes 2 NAME SOURCE --out URI"
        )
    own = state["place"] == "kubernetes"
    gpus = (0 if own else 1) if given.gpus is None else given.gpus
    most = state.values.get("gpu_nodes" if gpus else "cpu_nodes", given.nodes)
    if given.nodes > most:
        raise ClusterError(
            f"the pool has at most {most} machines; see create --gpu-nodes, --cpu-nodes"
        )
    cores = given.nodes * kubernetes.CORES
    what = f"{given.name} on {given.nodes} nodes, while it runs"
    cost.tell(state, what, cores, gpus=given.nodes * gpus)
    asked: dict[str, Any] = {
        "args": given.verb, "nodes": given.nodes, "gpus": gpus, "processes": max(1, gpus),
    }  # fmt: skip
    if not gpus and not own:
        worker = PLACES[state["place"]].values(state)["worker"]
        asked |= {k: worker[k] for k in ("nodeSelector", "tolerations")}
    if state["place"] == "aws":
        pool = "gpu" if gpus else "cpu"
        count = given.nodes if gpus else max(given.nodes, int(state["workers"]))
        plan.run([aws.machines(pool, count, int(most))])
        back = "--gpu-nodes 0" if gpus else f"--workers {state['workers']}"
        say(f"these machines stay on: `cluster scale {back}` when {given.name} is done")
    jobs.start(plan, "finetune", given.name, asked)


def delete(plan: Plan, given: argparse.Namespace) -> None:
    """See `cluster delete --help`."""
    state = plan.state
    if not state.values:
        say(f"{state.folder} knows of no cluster: there is nothing to delete")
        return
    place = PLACES[state["place"]]
    if not plan.dry_run:
        state.values.pop("deployed", None)
    plan.run(place.delete(state, data=given.data))
    left = plan.ask(place.left(state))
    if plan.dry_run:
        return
    if state.exists:
        say(f"left, as this program knows: {', '.join(state.exists)}")
    if left is None:
        say("what is left could not be listed; look at the place's own pages")
    elif left.strip():
        say(f"left, as {state['place']} says:\n{left.rstrip()}")
    elif not state.exists:
        say("nothing is left")
    if not state.exists:
        state.forget()
