"""ONNX graphs as data: what may be loaded, how they are made, joined and cut.

    operators  which operators a graph may use
    sizes      every tensor's size and the work, before a runtime sees a graph
    check      the graph in a file, checked
    build      graphs from arrays
    join       graphs put together, cut and written

The only home of onnx. Knows no files, no networks and no runtime.
"""

from __future__ import annotations

from quadrat.graphs.build import KINDS, assemble, constant, node, tensor
from quadrat.graphs.check import MAX_BYTES, GraphInfo, checked, describe, fix_size, opset, parse
from quadrat.graphs.join import (
    KEPT,
    add_head,
    append,
    before_head,
    before_pooling,
    cut_after,
    enclose,
    join_graphs,
    kept,
    linear_head,
    put_before,
    serialise,
    with_output,
)
from quadrat.graphs.sizes import check_sizes, printable

__all__ = [
    "KEPT",
    "KINDS",
    "MAX_BYTES",
    "GraphInfo",
    "add_head",
    "append",
    "assemble",
    "before_head",
    "before_pooling",
    "check_sizes",
    "checked",
    "constant",
    "cut_after",
    "describe",
    "enclose",
    "fix_size",
    "join_graphs",
    "kept",
    "linear_head",
    "node",
    "opset",
    "parse",
    "printable",
    "put_before",
    "serialise",
    "tensor",
    "with_output",
]
