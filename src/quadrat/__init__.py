"""Quadrat: land use and its change from aerial imagery.

    import quadrat as qd

    qd.tile(["imagery.tif"], "tiles", labels="nlcd.tif")
    qd.train("tiles", "model")
    qd.score("model", "tiles", "scores")
    qd.open_scores("scores").table()

Every verb of the command line is a function of the same name with the same words. Names are loaded
when they are first asked for, so that `import quadrat` is quick.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Verb of the command line -> the room of its function ("" for a group of commands, whose functions
# are in NAMES) and one line of help, in the order of the work. Its command is quadrat.cli.<verb>.
VERBS: dict[str, tuple[str, str]] = {
    "demo": ("walkthrough", "Run the whole job on a synthetic county, offline."),
    "run": ("jobs", "Make a county from one file: imagery and labels to a report."),
    "fetch": ("", "Get NAIP imagery and NLCD labels for a place."),
    "tile": ("tiles", "Cut imagery into a tile set, with labels and splits."),
    "pack": ("tiles", "Turn a folder of images per class into a tile set."),
    "unpack": ("tiles", "Turn a tile set into a folder of images per class."),
    "train": ("heads", "Train a head on a pretrained network's features."),
    "finetune": ("finetuning", "Retrain a pretrained network to a chosen depth."),
    "runs": ("", "List, show and compare training runs."),
    "score": ("scoring", "Score tiles, images or rasters with a model."),
    "map": ("maps", "Draw scores as GeoTIFF, GeoPackage, PNG and GeoJSON."),
    "change": ("changes", "Find land-use change between dates."),
    "sample": ("sampling", "Draw a probability sample of plots to interpret."),
    "review": ("reviews", "Interpret plots on a page of this machine."),
    "area": ("areas", "Estimate error-adjusted areas with intervals."),
    "report": ("reports", "Write a self-contained HTML report."),
    "stac": ("catalogues", "Write a static STAC catalogue of products."),
    "clean": ("workspace", "List and delete what a workspace's runs made."),
}

# Further public name -> its room.
NAMES: dict[str, str] = {
    # what exists is opened
    "open_tiles": "tiles",
    "open_model": "model",
    "open_scores": "scores",
    "open_sample": "sampling",
    "load_legend": "legend",
    # the commands of `fetch` and `runs`
    "find_place": "fetching",
    "fetch_naip": "fetching",
    "fetch_nlcd": "fetching",
    "list_runs": "runs",
    "show_run": "runs",
    "compare_runs": "runs",
    # where work is done
    "get_engine": "engines",
    "predict_udf": "spark",
    # what users hold
    "TileSet": "tiles",
    "Model": "model",
    "Scores": "scores",
    "PlotSample": "sampling",
    "Legend": "legend",
    "FinetuneSettings": "finetuning",
    "Machine": "finetuning",
    "Grid": "grid",
    "TileId": "grid",
    "QuadratError": "errors",
}

if TYPE_CHECKING:
    from quadrat.areas import area as area
    from quadrat.catalogues import stac as stac
    from quadrat.changes import change as change
    from quadrat.engines import get_engine as get_engine
    from quadrat.errors import QuadratError as QuadratError
    from quadrat.fetching import fetch_naip as fetch_naip
    from quadrat.fetching import fetch_nlcd as fetch_nlcd
    from quadrat.fetching import find_place as find_place
    from quadrat.finetuning import FinetuneSettings as FinetuneSettings
    from quadrat.finetuning import Machine as Machine
    from quadrat.finetuning import finetune as finetune
    from quadrat.grid import Grid as Grid
    from quadrat.grid import TileId as TileId
    from quadrat.heads import train as train
    from quadrat.jobs import run as run
    from quadrat.legend import Legend as Legend
    from quadrat.legend import load_legend as load_legend
    from quadrat.maps import map as map
    from quadrat.model import Model as Model
    from quadrat.model import open_model as open_model
    from quadrat.reports import report as report
    from quadrat.reviews import review as review
    from quadrat.runs import compare_runs as compare_runs
    from quadrat.runs import list_runs as list_runs
    from quadrat.runs import show_run as show_run
    from quadrat.sampling import PlotSample as PlotSample
    from quadrat.sampling import open_sample as open_sample
    from quadrat.sampling import sample as sample
    from quadrat.scores import Scores as Scores
    from quadrat.scores import open_scores as open_scores
    from quadrat.scoring import score as score
    from quadrat.spark import predict_udf as predict_udf
    from quadrat.tiles import TileSet as TileSet
    from quadrat.tiles import open_tiles as open_tiles
    from quadrat.tiles import pack as pack
    from quadrat.tiles import tile as tile
    from quadrat.tiles import unpack as unpack
    from quadrat.walkthrough import demo as demo
    from quadrat.workspace import clean as clean
else:  # for a type checker there is no __getattr__: a mistyped name is told

    def __getattr__(name: str) -> object:
        import importlib

        room = VERBS[name][0] if name in VERBS else NAMES.get(name)
        if not room:
            raise AttributeError(f"module 'quadrat' has no attribute {name!r}")
        found = globals()[name] = getattr(importlib.import_module(f"quadrat.{room}"), name)
        return found


def __dir__() -> list[str]:
    """The public names, for completion."""
    verbs = [verb for verb, (room, _) in VERBS.items() if room]
    return sorted(["__version__", *verbs, *NAMES])
