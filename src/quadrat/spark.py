"""A model for Spark users' own DataFrames and SQL: `predict_udf`.

It knows models and Spark's functions; reading, writing and jobs are the engine's (`engines.spark`).
Scores and tile sets need nothing from here: they are Parquet, `spark.read.parquet(".../parts")`.
"""

from __future__ import annotations

import functools
from typing import Any

from quadrat.errors import ModelError

BATCH = 64
RESULTS = ("label", "probabilities", "shares")


def predict_udf(
    model: str, result: str = "label", *, precision: str = "auto", encoding: str | None = None
) -> Any:
    """A pandas UDF that scores a column of pictures.

        predict = quadrat.spark.predict_udf("s3://bucket/model")
        frame = spark.read.format("binaryFile").load("s3://bucket/tiles/*.png")
        frame.select("path", predict("content").alias("label"))

    and in SQL after `spark.udf.register("land_use", predict)`. The model is read once on the driver
    (so that what is wrong with it is told at once) and once in each Python process of a worker.

    Args:
        model: the bundle's URI, as the workers see it.
        result: `label` (the class name, a string; null for ground that the legend has no class
            for), or `probabilities` of the main class or `shares` of the ground (`array<float>`, in
            the legend's order).
        precision: `auto`, `fp32`, `bf16`, `int8` or `fp16`.
        encoding: None for picture files (PNG, JPEG, ...: any size, resized as for folders of
            pictures); a tile set's encoding for its column `image`.

    A null gives a null; so does a picture that cannot be read.

    Raises:
        ModelError: the model cannot be used, or gives no shares. ImageError: no such encoding.
        EngineError: there is no Spark session, or its workers lack a library.
        MissingExtraError: no pyspark.
    """
    from quadrat import codec, storage
    from quadrat import model as models
    from quadrat.engines.spark import pandas_udf

    if result not in RESULTS:
        raise ModelError(f"no result {result!r} of predict_udf; choose {', '.join(RESULTS)}")
    if encoding is not None:
        codec.get_encoding(encoding)
    bundle = models.open_model(storage.normalise(model))
    if result == "shares" and "shares" not in bundle.info.outputs:
        raise ModelError(f"{storage.redact(bundle.uri)} gives no shares; train it again")
    chosen = models.resolve_precision(bundle, precision)
    scorer = _Scorer(bundle.uri, bundle.digest, chosen, encoding, result)

    def predict(column: Any) -> Any:
        import pandas

        return pandas.Series(scorer(column), index=column.index, dtype=object)

    # pyspark reads the kind of UDF off these
    series = _pandas_series()
    predict.__annotations__ = {"column": series, "return": series}
    return pandas_udf(predict, "string" if result == "label" else "array<float>")


def _pandas_series() -> Any:
    import pandas

    return pandas.Series


@functools.lru_cache(maxsize=4)
def _opened(uri: str, digest: str, precision: str) -> tuple[Any, Any]:
    """The model and its network: read, verified and compiled once in a process."""
    from quadrat import model as models

    bundle = models.open_model(uri)
    if bundle.digest != digest:
        raise ModelError(f"{uri} was changed while it was scoring; make the UDF again")
    return bundle, models.runner(bundle, precision, workers=1)


class _Scorer:
    """Pictures -> results, on a worker."""

    def __init__(
        self, uri: str, digest: str, precision: str, encoding: str | None, result: str
    ) -> None:
        self.uri, self.digest, self.precision = uri, digest, precision
        self.encoding, self.result = encoding, result

    def __call__(self, column: Any) -> list[Any]:
        import numpy as np

        bundle, network = _opened(self.uri, self.digest, self.precision)
        values = list(column)
        out: list[Any] = [None] * len(values)
        for start in range(0, len(values), BATCH):
            chips, places = self._decode(values[start : start + BATCH], bundle.size_px, start)
            if not places:
                continue
            said = network.predict(np.stack(chips))
            for place, value in zip(places, self._values(said, bundle.legend.names), strict=True):
                out[place] = value
        return out

    def _values(self, said: Any, names: tuple[str, ...]) -> list[Any]:
        """The result of each picture of a prediction."""
        if self.result != "label":
            rows: list[Any] = getattr(said, self.result).tolist()
            return rows
        best = said.probabilities.argmax(axis=1).tolist()
        return [names[k] if kept else None for k, kept in zip(best, said.mapped, strict=True)]

    def _decode(self, values: list[Any], size_px: int, start: int) -> tuple[list[Any], list[int]]:
        from quadrat import codec
        from quadrat.errors import ImageError

        chips, places = [], []
        for i, value in enumerate(values):
            if value is None:
                continue
            try:
                if self.encoding is None:
                    chip = codec.resize(codec.read_image(bytes(value)), size_px)
                else:
                    chip = codec.decode(bytes(value), self.encoding, size_px)
            except ImageError:
                continue
            chips.append(chip)
            places.append(start + i)
        return chips, places
