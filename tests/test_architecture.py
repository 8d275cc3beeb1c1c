"""The rules of docs/design.md that hold the package together: who may import whom, and what."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from quadrat import choices, errors

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "quadrat"
HEAVY = ("torch", "pyspark", "mlflow", "matplotlib")

# The words of docs/design.md for what has one home -> the packages that they mean.
DEPENDENCIES = {
    "fsspec": ("fsspec", "s3fs", "adlfs"),
    "pyarrow.parquet": ("pyarrow.parquet",),
    "rasterio": ("rasterio",),
    "pyogrio": ("pyogrio", "fiona", "osgeo"),
    "geopandas": ("geopandas",),
    "xarray": ("xarray", "rioxarray"),
    "STAC clients": ("pystac", "pystac_client", "planetary_computer"),
    "pyspark": ("pyspark",),
    "onnx": ("onnx",),
    "the inference runtimes": ("onnxruntime", "openvino"),
    "scikit-learn": ("sklearn",),
    "torch": ("torch", "torchvision", "timm", "torchgeo", "huggingface_hub"),
    "mlflow": ("mlflow",),
    "Starlette": ("starlette", "uvicorn"),
}


def layers() -> dict[str, str]:
    """Module -> its line of the list in docs/design.md, in order."""
    text = (ROOT / "docs" / "design.md").read_text("utf-8")
    block = text.split("## Layers", 1)[1].split("\n\n", 2)[1]
    found = {}
    for line in block.splitlines():
        match = re.match(r"    ([a-z0-9_]+)/?\s{2,}(.+)", line)
        assert match, f"docs/design.md: {line!r} is no line of the list of layers"
        found[match[1]] = match[2]
    return found


def homes() -> dict[str, set[str]]:
    """Dependency in the words of docs/design.md -> the modules that may import it."""
    found: dict[str, set[str]] = {}
    for module, line in layers().items():
        for names in re.findall(r"home of ([^;()]+)", line):
            for name in re.split(r",\s*|\s+and\s+", names.strip()):
                found.setdefault(name, set()).add(module)
    return found


def sources() -> Iterator[tuple[str, Path, ast.Module]]:
    """(module at the top of the package, file, its syntax tree)."""
    for path in sorted(PACKAGE.rglob("*.py")):
        inside = path.relative_to(PACKAGE)
        if inside.parts[0] in ("__init__.py", "__main__.py", "data"):
            continue
        yield inside.parts[0].removesuffix(".py"), path, ast.parse(path.read_text("utf-8"))


def imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Every imported name with its line, those inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def test_every_module_has_its_place_in_the_list_of_layers() -> None:
    assert sorted({module for module, _, _ in sources()} - set(layers())) == []


def test_modules_import_only_from_those_above_them() -> None:
    order = list(layers())
    wrong = []
    for module, path, tree in sources():
        for name, line in imports(tree):
            parts = name.split(".")
            if parts[0] != "quadrat" or len(parts) < 2 or not {module, parts[1]} <= set(order):
                continue
            if parts[1] != module and order.index(parts[1]) > order.index(module):
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {parts[1]}, which is below")
    assert wrong == []


def test_heavy_dependencies_have_one_home() -> None:
    found = homes()
    assert set(found) == set(DEPENDENCIES), "docs/design.md and this test name the same"
    wrong = []
    for module, path, tree in sources():
        for name, line in imports(tree):
            for words, packages in DEPENDENCIES.items():
                mine = any(name == p or name.startswith(p + ".") for p in packages)
                if mine and module not in found[words]:
                    wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}: its home is "
                                 f"{' or '.join(sorted(found[words]))}")  # fmt: skip
    assert wrong == []


def test_what_is_imported_is_declared() -> None:
    """A library that another one happens to bring may be gone with that one's next release."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    listed = [*project["dependencies"], *itertools.chain.from_iterable(extras)]
    declared = {re.split(r"[^\w.-]", line)[0].lower() for line in listed}
    distributions = packages_distributions()
    wrong = []
    for _, path, tree in sources():
        for name, line in imports(tree):
            top = name.split(".")[0]
            if top == "quadrat" or top in sys.stdlib_module_names:
                continue
            if declared.isdisjoint(n.lower() for n in distributions.get(top, [top])):
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {top}")
    assert wrong == []


def test_a_class_name_stands_once() -> None:
    places: dict[str, list[str]] = {}
    for _, path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def loaded_at_once(tree: ast.Module) -> Iterator[str]:
    """What a module imports when it is loaded: neither in functions nor for type checkers."""
    waiting: list[ast.AST] = [*tree.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not isinstance(node, ast.FunctionDef) and "TYPE_CHECKING" not in ast.dump(node):
            waiting += ast.iter_child_nodes(node)


def test_no_modules_load_each_other() -> None:
    modules = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): tree
               for _, path, tree in sources()}  # fmt: skip
    modules = {name.removesuffix(".__init__"): tree for name, tree in modules.items()}
    graph = {}
    for module, tree in modules.items():
        names = {n if n in modules else n.rpartition(".")[0] for n in loaded_at_once(tree)}
        graph[module] = names & modules.keys() - {module}
    TopologicalSorter(graph).prepare()  # CycleError names a circle


def test_loading_the_librarys_modules_loads_nothing_heavy() -> None:
    """Torch, pyspark, mlflow and matplotlib come when a function needs them."""
    names = [n for n in layers() if n != "cli" and (PACKAGE / n).with_suffix(".py").exists()]
    names += [n for n in layers() if n != "cli" and (PACKAGE / n / "__init__.py").exists()]
    loads = "; ".join(f"import quadrat.{name}" for name in names)
    loaded = run_python(f"import sys; {loads}; print(*sys.modules)").split()
    assert [n for n in HEAVY if n in loaded] == []


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import quadrat, sys; print(*sys.modules)"
    loaded = run_python(code).split()
    assert [n for n in (*HEAVY, "numpy", "pyarrow", "click") if n in loaded] == []


def test_help_loads_nothing_heavy() -> None:
    code = "import quadrat.cli as c, sys; c.run(['--help']); print(*sys.modules)"
    loaded = run_python(code).split()
    heavy = (*HEAVY, "numpy", "pyarrow", "rasterio", "sklearn", "onnxruntime", "openvino", "fsspec")
    assert [n for n in heavy if n in loaded] == []


def test_no_verbs_help_loads_what_is_heavy() -> None:
    code = (
        "import quadrat.cli as c, sys\n"
        "for verb in c.cli.list_commands(None): assert c.run([verb, '--help']) == 0\n"
        "print(*sys.modules)"
    )
    assert [n for n in HEAVY if n in run_python(code).split()] == []


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_path_of_one_machine_and_no_registry_is_named() -> None:
    roots = ("wor" + "k", "hom" + "e", "roo" + "t", "User" + "s")
    hosts = ("pypi" + ".org", "python" + "hosted", "npmjs" + ".org")
    wanted = re.compile(
        "|".join([rf"(?<![\w./:])/{r}/" for r in roots] + [re.escape(h) for h in hosts])
    )
    files = [p for folder in ("src", "tests", "docs", "benchmarks", "notebooks")
             for p in (ROOT / folder).rglob("*")
             if p.suffix in (".py", ".md", ".toml", ".ipynb", ".sh")]  # fmt: skip
    files += [ROOT / name for name in ("README.md", "Makefile", "pyproject.toml", ".ci/run")]
    found = []
    for path in files:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if wanted.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert found == []


def test_every_error_is_drawn_in_the_tree_under_its_parent() -> None:
    drawn: dict[str, str | None] = {}
    path: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"([\s│├└─]*)([A-Z]\w+Error)\b", line)
        if match and line.startswith("    "):
            depth = len(match[1])
            path = [p for p in path if p[0] < depth]
            drawn[match[2]] = path[-1][1] if path else None
            path.append((depth, match[2]))
    real = {
        name: (None if cls.__base__ is Exception else cls.__base__.__name__)
        for name, cls in vars(errors).items()
        if isinstance(cls, type) and issubclass(cls, errors.QuadratError)
    }
    assert drawn == real


def test_every_error_survives_the_way_between_processes() -> None:
    import pickle

    for cls in vars(errors).values():
        if isinstance(cls, type) and issubclass(cls, errors.QuadratError):
            args = ("the engine", "spark") if cls is errors.MissingExtraError else ("a.tif: why",)
            error = cls(*args)
            again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
            assert (type(again), str(again)) == (cls, str(error))


@pytest.mark.parametrize("name", ["utils", "helpers", "misc", "common_utils"])
def test_there_is_no_drawer_for_everything(name: str) -> None:
    assert not list(PACKAGE.rglob(name)) and not list(PACKAGE.rglob(f"{name}.py"))


def test_no_statement_checks_input_by_assert() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for _, path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
    ]
    assert found == []


def module_names() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def run_imports(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports that are run, in functions too; those for type checkers are not."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            for other in child.orelse:
                yield from run_imports(other)
        elif isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        else:
            yield from run_imports(child)


def test_no_modules_import_each_other_in_a_circle() -> None:
    names = module_names()
    wanted: dict[str, set[str]] = {}
    for name, path in names.items():
        wanted[name] = set()
        for node in run_imports(ast.parse(path.read_text("utf-8"))):
            whole = [a.name for a in node.names]
            if isinstance(node, ast.ImportFrom):
                whole = [f"{node.module}.{a}" for a in whole]
                whole = [w if w in names else str(node.module) for w in whole]
            wanted[name] |= set(whole) & set(names)
    left = dict(wanted)
    while free := [n for n, needs in left.items() if not needs & set(left)]:
        for name in free:
            del left[name]
    # what is left imports a circle, or is imported by one: cut from the other side too
    while idle := [n for n in left if not any(n in left[m] for m in left)]:
        for name in idle:
            del left[name]
    assert {n: sorted(needs & set(left)) for n, needs in left.items()} == {}


def test_nobody_asks_an_engine_for_its_name_or_class() -> None:
    """What it can do is asked: `engines.abilities`, `engines.options`, `SparkHost`."""
    kinds = {place.rpartition(":")[2] for place in choices.ENGINES.values()}
    found = []
    for module, path, tree in sources():
        for node in ast.walk(tree):
            said: set[str] = set()
            if isinstance(node, ast.Compare):
                constants = [c for c in ast.walk(node) if isinstance(c, ast.Constant)]
                said = {str(c.value) for c in constants} & set(choices.ENGINES)
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
                said = {ast.unparse(n) for n in ast.walk(node.args[1])} & kinds
            if said and module not in ("engines", "storage"):  # `local://` is a scheme too
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} asks for {sorted(said)[0]}")
    assert found == []


def functions() -> Iterator[tuple[str, Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """(place and name, file, function) of every function of the package."""
    for _, path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(PACKAGE).as_posix()}:{node.name}", path, node


# More than five positional parameters, and why.
MANY_POSITIONAL = {
    "finetuning/distributed.py:forward": "torch.autograd.Function passes them by position",
}


def test_at_most_five_parameters_are_positional() -> None:
    found = []
    for name, _, node in functions():
        given = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
        given = [a for a in given if a not in ("self", "cls")]
        if len(given) > 5 and name not in MANY_POSITIONAL:
            found.append(f"{name} takes {len(given)} parameters by position; five and a `*` do")
    assert found == []


def body_lines(path: Path, node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of code of a function: without its signature, docstring, comments and blank lines."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    if not body:
        return 0
    lines = path.read_text("utf-8").splitlines()[body[0].lineno - 1 : node.end_lineno]
    return sum(1 for line in lines if line.strip() and not line.strip().startswith("#"))


def test_no_function_has_more_than_60_lines_of_code() -> None:
    """A signature with the options of a verb, and its docstring, are for its readers."""
    found = [(name, n) for name, path, node in functions() if (n := body_lines(path, node)) > 60]
    assert found == []


def test_no_file_has_more_than_400_lines() -> None:
    found = [str(path.relative_to(ROOT)) for _, path, _ in sources()
             if len(path.read_text("utf-8").splitlines()) > 400]  # fmt: skip
    assert found == []


@pytest.mark.parametrize(
    "file", ["README.md", "CONTRIBUTING.md", ".ci/run", ".github/workflows/ci.yml"]
)
def test_there_is_one_gate_and_everybody_names_it(file: str) -> None:
    assert "make check" in (ROOT / file).read_text("utf-8")


def test_every_kind_of_change_has_one_section() -> None:
    """In the coming version of the changelog."""
    text = (ROOT / "CHANGELOG.md").read_text("utf-8").split("## Next", 1)[1]
    heads = re.findall(r"^###? (.+)$", text, re.MULTILINE)
    coming = list(itertools.takewhile(lambda h: not h[0].isdigit(), heads))
    assert coming == [k for k in ("Added", "Changed", "Fixed", "Removed") if k in coming]
    assert len(set(coming)) == len(coming)
