"""Hook of the documentation site: pages that lie outside docs/ join it, and links lead to them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
# file of the repository -> page (or file) of the site
OUTSIDE = {
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "SUPPORT.md": "support.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
    "notebooks/model_prediction_analysis.ipynb": "notebook/model_prediction_analysis.ipynb",
}


def on_files(files: Files, config: Any) -> Files:
    """Add the files from outside."""
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links between files of the repository into links between pages of the site."""
    inside = {page_: source for source, page_ in OUTSIDE.items()}
    here = (ROOT / inside.get(page.file.src_uri, f"docs/{page.file.src_uri}")).parent

    def led(match: re.Match[str]) -> str:
        target, _, anchor = match[1].partition("#")
        if not target or "://" in target or target.startswith("mailto:"):
            return match[0]
        file = (here / target).resolve()
        known = file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else ""
        to = OUTSIDE.get(known, known.removeprefix("docs/"))
        return f"]({to}{'#' + anchor if anchor else ''})" if to else match[0]

    return re.sub(r"\]\(([^)\s]+)\)", led, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """An empty corner of a table is a cell, not the heading of nothing."""
    return re.sub(r"<th((?: [^>]*)?)></th>", r"<td\1></td>", html)
