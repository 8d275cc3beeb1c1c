"""A date's table: places, main classes, their probabilities and shares, labels, split, date.

What `score` writes, and what maps, areas, changes and reports read. It does not know models,
imagery or engines.

    columns   names and types of the columns, and what they are as arrays
    files     `scores.json` and its parts
    likeness  where imagery is unlike the training ground
    table     one date as arrays: read, folded into a coarser legend, matched with other dates
"""

from quadrat.scores.files import SYNTHETIC, Scores, is_synthetic, open_scores
from quadrat.scores.table import DateScores, match, read, read_features, synthetic_note

__all__ = [
    "SYNTHETIC",
    "DateScores",
    "Scores",
    "is_synthetic",
    "match",
    "open_scores",
    "read",
    "read_features",
    "synthetic_note",
]
