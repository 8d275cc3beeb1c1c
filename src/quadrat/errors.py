"""Every error that Quadrat raises on purpose.

    QuadratError                 one clear line: the thing, and the cure
    ├── InputError               what was given cannot be used
    │   ├── LegendError          a legend file or name
    │   ├── GridError            a grid, CRS or tile size
    │   ├── RasterError          imagery or a label raster
    │   ├── LabelError           labels: codes, fields, overlap
    │   │   └── VectorError      a vector file: layers, fields, geometry, CRS
    │   ├── ImageError           a picture file or an encoded tile
    │   ├── TileSetError         a tile set or folder of images
    │   ├── SplitError           a split that cannot be made or that leaks
    │   ├── ModelError           a model bundle
    │   └── ScoresError          a folder of scores
    ├── BackboneError            weights that cannot be had or do not fit
    ├── TrainError               training that cannot go on
    ├── StorageError             reading, writing, permission, space
    │   └── LockedError          another process works on the same output
    ├── FetchError               a service, a download
    ├── EngineError              a part that failed, an engine that cannot start
    ├── RunError                 the run history
    └── MissingExtraError        an optional dependency that is not installed

Errors of dependencies (rasterio, fsspec, pyarrow, onnxruntime, ...) are translated to these where
they are called; none escapes a public function.
"""

from __future__ import annotations

from quadrat.redaction import redact


class QuadratError(Exception):
    """Base of all: its text is one line that names the thing and says the cure, without secrets."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(redact(a) if isinstance(a, str) else a for a in args))


class InputError(QuadratError):
    """What was given cannot be used."""


class LegendError(InputError):
    """A legend file or name."""


class GridError(InputError):
    """A grid, a CRS or a tile size."""


class RasterError(InputError):
    """Imagery or a label raster."""


class LabelError(InputError):
    """Labels: unknown codes, fields, no overlap."""


class VectorError(LabelError):
    """A vector file: layers, fields, geometry, CRS."""


class ImageError(InputError):
    """A picture file or an encoded tile."""


class TileSetError(InputError):
    """A tile set or a folder of images."""


class SplitError(InputError):
    """A split that cannot be made, or that leaks."""


class ModelError(InputError):
    """A model bundle: missing, corrupt, foreign, or of another tile size."""


class ScoresError(InputError):
    """A folder of scores."""


class BackboneError(QuadratError):
    """Weights that cannot be had or do not fit the network."""


class TrainError(QuadratError):
    """Training that cannot go on."""


class StorageError(QuadratError):
    """Reading or writing failed: missing, no permission, no space."""


class LockedError(StorageError):
    """Another process works on the same output."""


class FetchError(QuadratError):
    """A service or a download failed."""


class EngineError(QuadratError):
    """An engine that cannot start, or a part that failed on it."""


class RunError(QuadratError):
    """The run history."""


class MissingExtraError(QuadratError):
    """An optional dependency is not installed.

    Args:
        what: what needs it, as the subject of a sentence ("the Spark engine").
        extra: the name of the extra that brings it ("spark").
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an extra: pip install 'quadrat[{extra}]'")
        self.extra = extra

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        what = str(self).split(" needs an extra", 1)[0]
        return type(self), (what, self.extra)
