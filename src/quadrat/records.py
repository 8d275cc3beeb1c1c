"""Results and records as plain JSON values: what `--json` prints and what manifests hold."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar


def plain(value: Any) -> Any:
    """A value as JSON has it.

    Records become what their `to_dict` gives, tuples and arrays become lists, numbers of numpy
    become Python's, and numbers that are not finite become None.
    """
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class Record:
    """A dataclass whose fields are plain JSON values, or become them.

    Attributes:
        computed: names of properties that `to_dict` gives too.
    """

    computed: ClassVar[tuple[str, ...]] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values by field name."""
        fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(self)  # type: ignore[arg-type]
        names = (*(f.name for f in fields), *self.computed)
        return {name: plain(getattr(self, name)) for name in names}
