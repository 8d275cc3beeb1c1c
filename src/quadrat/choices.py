"""The choices of options: what the command line offers is what the library takes. Imports nothing.

A choice with code of its own has a row "module:name" in a registry; the module is loaded when the
choice is taken. A further row is a further choice everywhere.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection
from typing import Any

# Where parts are worked on.
ENGINES: dict[str, str] = {
    "local": "quadrat.engines.local:LocalEngine",
    "spark": "quadrat.engines.spark:SparkEngine",
}
# Legends that ship; the first is the default.
LEGENDS = ("nlcd8", "nlcd6", "nlcd3")
# How the points of a tile become its label; the first is the default.
LABEL_RULES: dict[str, str] = {
    "largest": "quadrat.labels:largest",
    "nine-point": "quadrat.labels:nine_points_agree",
    "majority": "quadrat.labels:majority",
}

# Imagery and tile sets
RESAMPLINGS = ("bilinear", "cubic")  # kernels where imagery is not on the grid
ENCODINGS = ("zstd", "png", "raw")  # how tiles are kept
SPLITS = ("block", "source", "random")  # how held-out tiles are chosen; None or none: not at all

# Training
HEADS = ("logistic", "forest")
CLASS_WEIGHTS = ("none", "balanced")
PRECISIONS = ("auto", "fp32", "bf16", "int8", "fp16")  # auto: what the model was accepted in
POOLINGS = ("token", "mean", "both")  # of networks that give tokens: the first, the others' mean
OPTIMIZERS = ("adamw", "sgd")
BATCH_NORMS = ("auto", "frozen", "batch")
KEPT_EPOCHS = ("best", "last")
TRAINING_PRECISIONS = ("auto", "fp32", "bf16")
DEVICES = ("auto", "cpu", "cuda")

# Accuracy, area and change
LABELLED = ("auto", "test", "validation", "all")  # which labelled tiles are the reference
NORMALISATIONS = ("none", "linear", "histogram")  # of later imagery to the first date's colours
EVIDENCE = ("auto", "cells", "probabilities", "labels")  # what changes are judged by

# Samples of plots to interpret
PURPOSES = ("estimation", "training")  # plots of one are never used for the other
DESIGNS = ("stratified", "random", "systematic", "clusters")
STRATA = ("class", "certainty", "change", "transition", "region")
ALLOCATIONS = ("proportional", "equal", "neyman")
EXPORTS = ("ceo", "kml", "template")
ESTIMANDS = ("ground", "plots")  # shares of ground, or plots by main class
ESTIMATORS = ("regression", "difference", "ratio", "post-stratified", "direct")

# Kinds of output folders, and what else a working folder notes of what was made.
PRODUCTS = ("tiles", "models", "scores", "county", "change", "sample", "catalogue", "imagery")
MADE = (*PRODUCTS, "files", "runs", "cache")

# Addresses of public data
STAC = "https://planetarycomputer.microsoft.com/api/stac/v1"
NLCD_SERVICE = "https://dmsdata.cr.usgs.gov/geoserver/mrlc_Land-Cover-Native_conus_year_data/wcs"
NLCD_COVERAGE = "mrlc_Land-Cover-Native_conus_year_data:Land-Cover-Native_conus_year_data"


def load(place: str) -> Any:
    """What a registry's row "module:name" means."""
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)


def check(what: str, value: str, known: Collection[str], error: type[Exception]) -> None:
    """Raise `error` when a value is none of the choices, with these as the cure.

    Args:
        what: the choice in words ("label rule").
    """
    if value not in known:
        raise error(f"no {what} {value!r}; choose one of {', '.join(known)}")
