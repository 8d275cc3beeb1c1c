"""`python -m quadrat.cli`: the same as `quadrat`, where the script is not on the path."""

from quadrat.cli import main

main()
