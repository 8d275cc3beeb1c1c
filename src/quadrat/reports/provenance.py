"""The last section: imagery and labels with their fetch records, scores, model, run, notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quadrat import storage
from quadrat.reports.content import Content, Day, Origin, imagery_of
from quadrat.reports.markup import last_name, notes, table, text

MOST = 40  # rasters listed a date; the others are counted


def provenance(content: Content, made: Mapping[str, str]) -> str:
    """Where data, model and report come from."""
    body = [f"<h3>Imagery and labels</h3>{_data(content.days)}"] if content.days else []
    for day in content.days:
        body.append(
            f"<h3>Scores of {text(day.date)}</h3>{_pairs(_scores(day), f'Scores of {day.date}')}"
        )
    rows = _model(content)
    body.append(
        f"<h3>Model</h3>{_pairs(rows, 'Model')}"
        if rows
        else "<h3>Model</h3><p>The model is not at hand; give it with --model.</p>"
    )
    if content.run is not None:
        run = content.run
        facts = {"Run": f"{run.name} ({run.id})", "Status": run.status, "Started": run.started}
        settings = {f"Setting {k}": v for k, v in sorted(run.params.items())}
        body.append(f"<h3>Training run</h3>{_pairs(facts | settings, 'Training run')}")
    body.append(f"<h3>This report</h3>{_pairs(made, 'This report')}")
    body.append(notes(content.notes))
    return "".join(body)


def _pairs(values: Mapping[str, str], caption: str) -> str:
    rows = [[text(k), text(v)] for k, v in values.items()]
    return table(["What", "Value"], rows, caption, words=2, kind="pairs")


def _data(days: Sequence[Day]) -> str:
    """The rasters: which, of what day, how fine, on what terms."""
    rows, more = [], 0
    for day in days:
        files = imagery_of(day)
        rows += [_origin(day, "imagery", f) for f in files[:MOST]]
        more += max(len(files) - MOST, 0)
        if day.labels is not None:
            rows.append(_origin(day, "labels", day.labels))
    if not rows:
        return "<p>The scores name no rasters.</p>"
    heads = ["Date", "What", "File", "Item", "Acquired", "Resolution", "Licence", "From"]
    body = table(heads, rows, "Rasters, as their fetch records state them", words=len(heads))
    if more:
        body += f"<p>And {more:,} more files; scores.json lists all.</p>"
    if not any(f.fetched for d in days for f in (*imagery_of(d), *_labels(d))):
        body += (
            "<p>These files have no fetch record, so the terms and, where it is not given, the "
            "day of acquisition are not known: season explains much false change.</p>"
        )
    return body


def _labels(day: Day) -> tuple[Origin, ...]:
    return () if day.labels is None else (day.labels,)


def _origin(day: Day, what: str, file: Origin) -> list[str]:
    known = file.fetched
    gsd = known.get("gsd")
    cells = (
        day.date, what, storage.basename(file.file), known.get("item") or "–",
        file.date or known.get("date") or "not known",
        f"{gsd:g} m" if isinstance(gsd, int | float) else "–",
        known.get("licence") or "–", known.get("source") or "–",
    )  # fmt: skip
    return [text(c) for c in cells]


def _scores(day: Day) -> dict[str, str]:
    model, source = (day.info.get(k) or {} for k in ("model", "source"))
    where = last_name(str(source.get("uri", "unknown")))
    facts = {
        "Scores": last_name(day.uri),
        "Tiles": f"{day.count:,}",
        "Source": f"{where} ({source.get('kind', 'unknown')})",
        "Source’s digest": str(source.get("digest", "unknown")),
        "Model’s digest": str(model.get("digest", "unknown")),
        "Precision": str(day.info.get("precision", "unknown")),
        "Legend": day.legend.title or day.legend.name,
    }
    if day.grid is not None:
        g = day.grid
        facts["Grid"] = f"{g.crs[:60]}, tiles of {g.tile_m:g} m, {g.pixel_m:g} m a pixel"
    if day.info.get("dropped"):
        facts["Dropped for nodata"] = f"{int(day.info['dropped']):,} tiles"
    skipped = (day.info.get("skipped") or {}).get("count")
    if skipped:
        facts["Could not be read"] = f"{int(skipped):,} tiles"
    return facts


def _model(content: Content) -> dict[str, str]:
    model = content.model
    if model is None:
        return {}
    facts = {
        "Backbone": str(model.backbone.get("name", "unknown")),
        "Its weights, SHA-256": str(model.backbone.get("weights_sha256", "unknown")),
        "Their licence": str(model.backbone.get("licence", "unknown")),
        "Head": str(model.head.get("name", model.head.get("head", "unknown"))),
        "Trained on tile set, digest": model.tileset_digest or "unknown",
        "Training run": model.run_id or "none",
        "Made": model.created,
    }
    measured = {"in validation": model.metrics, "on held-out ground": model.metrics.get("ground")}
    for where, figures in measured.items():
        overall = (figures or {}).get("overall") or {}
        if overall.get("value") is not None:
            facts[f"Overall accuracy {where}"] = f"{float(overall['value']):.1%}"
    for i, warning in enumerate(model.warnings, start=1):
        facts[f"Warning {i} of the training"] = str(warning)
    return facts
