"""Results in words for a terminal: tables, figures with intervals, lists. It knows no verb."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows in aligned columns; columns of numbers to the right."""
    lines = [list(heads), *map(list, rows)] if heads else [list(r) for r in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    body = [list(r) for r in rows]
    right = [all(re.fullmatch(r"[-+]?[\d,.%]*", r[i]) for r in body) for i in range(len(widths))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def number_text(value: float | None) -> str:
    """A figure between 0 and 1 with three digits; a dash where it is not defined."""
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def figure_text(figure: Mapping[str, Any]) -> str:
    """A figure with its interval: `0.912 (0.880 to 0.940)`."""
    text = number_text(figure["value"])
    low, high = figure.get("low"), figure.get("high")
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return text
    return f"{text} ({number_text(low)} to {number_text(high)})"


def skipped_text(listed: Sequence[Sequence[str]], count: int) -> list[str]:
    """Lines that list what could not be read."""
    if not count:
        return []
    lines = [f"skipped: {count:,} that could not be read"]
    lines += [f"  {name}: {reason}" for name, reason in listed[:10]]
    return [*lines, f"  and {count - 10:,} more"] if count > 10 else lines


def counts_text(counts: Mapping[str, int]) -> str:
    """`Developed 120, Forest 88`."""
    return ", ".join(f"{name} {n:,}" for name, n in counts.items())


# Figures of a whole map that are printed after its overall accuracy.
BESIDE = {
    "kappa": "kappa",
    "quantity": "quantity disagreement",
    "allocation": "allocation disagreement",
}


def ground_text(what: str, metrics: Any) -> list[str]:
    """Accuracy of all plots; where shares are known, that of pure plots and by purity."""
    blocks = f" in {metrics['blocks']} blocks" if metrics["blocks"] else ""
    lines = [
        f"{what}: overall accuracy {figure_text(metrics['overall'])} of "
        f"{metrics['tiles']:,} plots{blocks}, macro F1 {figure_text(metrics['macro_f1'])}"
    ]
    beside = [f"{n} {number_text(metrics[k]['value'])}" for k, n in BESIDE.items() if k in metrics]
    lines += [f"  {', '.join(beside)}"] if beside else []
    bands: Sequence[Mapping[str, Any]] = metrics.get("purity") or ()
    if len(bands) < 2:  # labels alone: every plot counts as pure
        return lines
    if metrics.get("pure"):  # the last band
        part = bands[-1]["tiles"] / sum(b["tiles"] for b in bands)
        lines.append(
            f"  pure plots alone ({part:.0%} of them, one class has {bands[-1]['low']:.0%} or "
            f"more): overall accuracy {figure_text(metrics['pure'])}"
        )
    curve = (
        f"{b['low']:.0%} to {b['high']:.0%} {number_text(b['accuracy']['value'])}" for b in bands
    )
    lines.append(f"  by the main class's share: {', '.join(curve)}")
    if metrics.get("shares"):
        error = figure_text(metrics["shares"]["error"])
        lines.append(f"  shares give {error} of the ground to a wrong class")
    return lines


def accuracy_text(metrics: Any, ground: Any = None) -> str:
    """Accuracy of all plots first, of pure ones second, then each class's recall and precision.

    Args:
        metrics: figures of validation tiles. ground: of all held-out ground, where it is known.
    """
    measured, what = metrics, "validation plots"
    if ground is not None:
        measured, what = ground, "all held-out ground, pure and mixed plots"
    lines = ground_text(what, measured)
    lines.append("  right means as the labels say, which have errors of their own")
    after = [] if ground is None else ground_text("validation plots alone", metrics)[:1]
    rows = [
        [
            row["name"],
            f"{row['tiles']:,}",
            *(number_text(row[key]["value"]) for key in ("producers", "users", "f1")),
        ]
        for row in measured["classes"]
    ]
    heads = ["class", "tiles", "producer's", "user's", "F1"]
    return "\n".join([*lines, table(heads, rows), *after])


def training_end(result: Any, run: str) -> list[str]:
    """The last lines on a training: what was skipped, warnings, and its run."""
    return [
        *skipped_text(result.skipped, len(result.skipped)),
        *(f"warning: {text}" for text in result.warnings),
        f"run: {run} (quadrat runs show {run[:12]})",
    ]
