"""`python -m quadrat.cli`, and the file for `spark-submit`: the same as `quadrat`."""

import sys
from pathlib import Path

# a script's own folder comes first on the path, where `map` or `train` would be these verbs' files
sys.path[:] = [p for p in sys.path if not p or Path(p).resolve() != Path(__file__).resolve().parent]

from quadrat.cli import main  # noqa: E402

main()
