"""`score`: a model over a tile set, a folder of pictures, or imagery -> scores, resumable.

Each part of the source becomes one part of the scores, written whole in one step; a rerun skips the
parts that exist. It does not know which engine runs it.

    task     what is done to one part
    work     `score`
    scores   scores on disk
"""

from quadrat.scoring.scores import SYNTHETIC, Scores, is_synthetic, open_scores
from quadrat.scoring.task import ScoreResult, ScoreTask
from quadrat.scoring.work import ScoresSummary, open_source, score

__all__ = [
    "SYNTHETIC",
    "ScoreResult",
    "ScoreTask",
    "Scores",
    "ScoresSummary",
    "is_synthetic",
    "open_scores",
    "open_source",
    "score",
]
