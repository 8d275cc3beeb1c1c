"""`score`: a model over a tile set, a folder of pictures, or imagery -> scores, resumable.

Each part of the source becomes one part of the scores, written whole in one step; a rerun skips the
parts that exist. It does not know which engine runs it.

    task     what is done to one part
    once     no tile twice
    work     `score`

What it writes is read by `quadrat.scores`.
"""

from quadrat.scoring.task import ScoreResult, ScoreTask
from quadrat.scoring.work import ScoresSummary, open_source, score

__all__ = [
    "ScoreResult",
    "ScoreTask",
    "ScoresSummary",
    "open_source",
    "score",
]
