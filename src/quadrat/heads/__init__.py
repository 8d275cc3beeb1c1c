"""Heads: from a frozen backbone's features to class shares, and the models that they become.

    export      any head's numbers -> ONNX
    regression  softmax regression to class shares
    fit         logistic heads and random forests; the only home of scikit-learn
    calibrate   from logits to shares and probabilities
    distance    how unlike the training tiles a tile is
    reviewed    labels that people gave
    samples     which tiles train, which validate
    learning    features of one precision -> a head, calibrated and measured
    forms       which precision a model is scored in
    worth       figures of the validation tiles, and of all held-out ground
    spark       heads that Spark ML trains
    training    features -> head -> model bundle
    result      what `train` returns

It does not know imagery, engines' insides, or the run history.
"""

from __future__ import annotations

from quadrat.heads.calibrate import fit_temperature
from quadrat.heads.export import Tree, export_forest, export_logistic
from quadrat.heads.fit import Settings
from quadrat.heads.result import TrainResult
from quadrat.heads.training import train

__all__ = [
    "Settings",
    "TrainResult",
    "Tree",
    "export_forest",
    "export_logistic",
    "fit_temperature",
    "train",
]
