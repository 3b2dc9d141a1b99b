"""The house rules that no type checker knows: imports, files, pickle, registries, locks."""

import ast
import itertools
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("rlcore", "tuners", "sweeps")

FORBIDDEN = {
    "rlcore": ("ray", "mlflow", "pandas", "pyarrow", "tuners", "sweeps"),
    "tuners": ("sweeps",),
}
# Seconds and hundreds of megabytes each: a process that renders or replays must not pay for them.
HEAVY = ("jax", "jaxlib", "flax", "optax")
LIGHT_FILES = ("rlcore/video.py", "rlcore/policy.py")
# A worker is pinned to its core before JAX starts its threads.
WORKER_FILES = ("tuners/pinning.py", "tuners/trainable.py")

TYPING_ONLY = ("TYPE_CHECKING", "typing.TYPE_CHECKING")

FILE_OWNERS = ("rlcore/files.py", "rlcore/checkpoint.py", "rlcore/video.py", "rlcore/policy.py")
FILE_MODULES = ("safetensors", "imageio", "PIL", "shutil", "tempfile", "zipfile", "tarfile")
FILE_FUNCTIONS = {
    *("open", "io.open", "os.open", "os.fdopen"),
    *("os.mkdir", "os.makedirs", "os.remove", "os.unlink", "os.rename", "os.replace"),
    *(f"{array}.{name}" for array in ("numpy", "jax.numpy") for name in ("load", "save", "savez")),
    *(f"numpy.{name}" for name in ("savez_compressed", "loadtxt", "savetxt", "genfromtxt")),
    *("numpy.fromfile", "numpy.memmap"),
}
FILE_METHODS = {
    *("open", "read_text", "read_bytes", "write_text", "write_bytes"),
    *("mkdir", "rmdir", "touch", "unlink", "tofile"),
}
PICKLES = ("pickle", "_pickle", "cloudpickle", "ray.cloudpickle", "dill", "joblib", "shelve")

# Written in two parts, so that this file does not hold them either.
REGISTRY_HOSTS = (
    *("pypi" + ".org", "python" + "hosted.org", "anaconda" + ".org", "download.py" + "torch.org"),
    *("npm" + "js.org", "npm" + "js.com", "crates" + ".io"),
    *("deb." + "debian.org", "archive." + "ubuntu.com"),
)

# Where a package is imported under another name than it is installed by.
MODULES = {
    "pillow": "PIL",
    "pytest-xdist": "xdist",
    "pyyaml": "yaml",
    "types-pyyaml": "yaml",
}


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def is_any_of(module: str, packages: tuple[str, ...]) -> bool:
    return any(is_within(module, package) for package in packages)


def called_name(call: ast.Call) -> str:
    """The dotted name as written: "open", "np.save", or ".mkdir" on anything but a plain name."""
    parts: list[str] = []
    function = call.func
    while isinstance(function, ast.Attribute):
        parts.append(function.attr)
        function = function.value
    parts.append(function.id if isinstance(function, ast.Name) else "")
    return ".".join(reversed(parts))


def imported_by(node: ast.AST, path: Path) -> Iterator[str]:
    """Dotted names that one node imports; `from a import b` gives both "a" and "a.b"."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        package = path.parent.relative_to(ROOT).parts
        above = package[: len(package) - node.level + 1] if node.level else ()
        base = ".".join((*above, *filter(None, [node.module])))
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        name = called_name(node).rpartition(".")[2]
        if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
            yield node.args[0].value


def imports_anywhere(tree: ast.AST, path: Path) -> set[str]:
    return {module for node in ast.walk(tree) for module in imported_by(node, path)}


def imports_at_load(tree: ast.AST, path: Path) -> set[str]:
    """What importing the file imports: not inside functions, not under TYPE_CHECKING."""
    if isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return set()
    found = set(imported_by(tree, path))
    children = list(ast.iter_child_nodes(tree))
    if isinstance(tree, ast.If) and ast.unparse(tree.test) in TYPING_ONLY:
        children = [*tree.orelse]
    return found.union(*(imports_at_load(child, path) for child in children))


def files_of(module: str) -> list[Path]:
    """The project's files that run when `module` is imported: its own and its parents' __init__."""
    files = []
    parts = module.split(".")
    if parts[0] not in PACKAGES:
        return []
    for end in range(1, len(parts) + 1):
        at = ROOT.joinpath(*parts[:end])
        files += [path for path in (at / "__init__.py", at.with_suffix(".py")) if path.is_file()]
    return files


def chains_of_imports(start: Path) -> dict[str, str]:
    """Every module loaded by importing `start`, with the chain of files that leads to it."""
    module = ".".join(start.relative_to(ROOT).with_suffix("").parts)
    chains: dict[str, str] = {}
    pending = [(path, name_of(path)) for path in files_of(module)]
    seen = {path for path, _ in pending}
    while pending:
        path, chain = pending.pop(0)
        for imported in imports_at_load(parse(path), path):
            chains.setdefault(imported, chain)
            for further in files_of(imported):
                if further not in seen:
                    seen.add(further)
                    pending.append((further, f"{chain} -> {name_of(further)}"))
    return chains


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def sources(*folders: str) -> list[Path]:
    files = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    assert files, f"no Python file below {folders}"
    return files


def fails_to_import(modules: list[str], blocked: tuple[str, ...]) -> str:
    """Imports the modules in a fresh process that lacks the blocked ones; returns its complaint."""
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked!r})); "
        f"import importlib; [importlib.import_module(name) for name in {modules!r}]"
    )
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    return process.stderr if process.returncode else ""


@pytest.mark.parametrize(
    ("source", "anywhere", "at_load"),
    [
        ("import jax.numpy as jnp", {"jax.numpy"}, {"jax.numpy"}),
        ("from ray import tune", {"ray", "ray.tune"}, {"ray", "ray.tune"}),
        ("from .. import types", {"rlcore", "rlcore.types"}, {"rlcore", "rlcore.types"}),
        ("from .gae import a", {"rlcore.ppo.gae", "rlcore.ppo.gae.a"}, None),
        ("def f():\n import jax", {"jax"}, set()),
        ("class A:\n import jax", {"jax"}, {"jax"}),
        ("try:\n import jax\nexcept ImportError:\n pass", {"jax"}, {"jax"}),
        ("if TYPE_CHECKING:\n import jax\nelse:\n import os", {"jax", "os"}, {"os"}),
        ("if typing.TYPE_CHECKING:\n import jax", {"jax"}, set()),
        ("if not TYPE_CHECKING:\n import jax", {"jax"}, {"jax"}),
        ("importlib.import_module('jax')", {"jax"}, {"jax"}),
    ],
)
def test_imports_are_read_as_python_reads_them(source, anywhere, at_load):
    path = ROOT / "rlcore/ppo/example.py"
    tree = ast.parse(source)
    assert imports_anywhere(tree, path) == anywhere
    assert imports_at_load(tree, path) == (anywhere if at_load is None else at_load)


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_import_only_downwards(package):
    wrong = [
        f"{name_of(path)} imports {module}"
        for path in sources(package)
        for module in sorted(imports_anywhere(parse(path), path))
        if is_any_of(module, FORBIDDEN[package])
    ]
    assert not wrong


@pytest.mark.parametrize("name", LIGHT_FILES + WORKER_FILES)
def test_no_chain_of_imports_leads_to_jax(name):
    chains = chains_of_imports(ROOT / name)
    wrong = {module: chain for module, chain in chains.items() if is_any_of(module, HEAVY)}
    assert not wrong


@pytest.mark.parametrize("name", WORKER_FILES)
def test_worker_files_do_not_load_rlcore(name):
    modules = imports_at_load(parse(ROOT / name), ROOT / name)
    assert not [module for module in modules if is_any_of(module, (*HEAVY, "rlcore"))]


@pytest.mark.parametrize("files", [LIGHT_FILES, WORKER_FILES], ids=["light", "worker"])
def test_light_files_import_where_jax_is_absent(files):
    modules = [name.removesuffix(".py").replace("/", ".") for name in files]
    assert not fails_to_import(modules, HEAVY)


def test_an_import_of_jax_is_noticed_where_jax_is_absent():
    assert "halted; None in sys.modules" in fails_to_import(["jax"], HEAVY)


def aliases(tree: ast.AST) -> dict[str, str]:
    """What each imported name stands for: {"np": "numpy", "save": "numpy.save"}."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update({alias.asname: alias.name for alias in node.names if alias.asname})
        elif isinstance(node, ast.ImportFrom):
            names.update({a.asname or a.name: f"{node.module}.{a.name}" for a in node.names})
    return names


def file_accesses(tree: ast.AST, path: Path) -> Iterator[str]:
    for module in imports_anywhere(tree, path):
        if is_any_of(module, FILE_MODULES):
            yield f"{name_of(path)}: import of {module}"
    known = aliases(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        first, dot, rest = called_name(node).partition(".")
        function = known.get(first, first) + dot + rest
        if function in FILE_FUNCTIONS or (dot and rest.rpartition(".")[2] in FILE_METHODS):
            yield f"{name_of(path)}:{node.lineno}: call of {function}"


@pytest.mark.parametrize(
    "source",
    [
        "open('a')",
        "import numpy as np\nnp.save('a', x)",
        "from numpy import load\nload('a')",
        "import jax.numpy as jnp\njnp.load('a')",
        "import os\nos.replace(a, b)",
        "Path('a').write_text('b')",
        "(folder / 'a').open()",
        "self.folder.mkdir()",
        "from safetensors.numpy import save_file",
    ],
)
def test_file_accesses_are_noticed(source):
    assert list(file_accesses(ast.parse(source), ROOT / "rlcore/example.py"))


@pytest.mark.parametrize("source", ["state.replace(x=1)", "np.sqrt(x)", "optimizer.load(x)"])
def test_other_calls_are_not_file_accesses(source):
    assert not list(file_accesses(ast.parse(source), ROOT / "rlcore/example.py"))


def test_rlcore_touches_files_in_three_places_only():
    others = [path for path in sources("rlcore") if name_of(path) not in FILE_OWNERS]
    assert not [access for path in others for access in file_accesses(parse(path), path)]


def test_nothing_imports_pickle():
    wrong = [
        f"{name_of(path)} imports {module}"
        for path in sources(*PACKAGES)
        for module in imports_anywhere(parse(path), path)
        if is_any_of(module, PICKLES)
    ]
    assert not wrong


def test_nothing_allows_numpy_to_unpickle():
    wrong = [
        f"{name_of(path)}:{keyword.value.lineno}"
        for path in sources(*PACKAGES)
        for keyword in ast.walk(parse(path))
        if isinstance(keyword, ast.keyword) and keyword.arg == "allow_pickle"
        if not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
    ]
    assert not wrong


def committed_files() -> list[Path]:
    """Files that are, or may yet be, committed; outside a repository all but what tools write."""
    if shutil.which("git") and (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
        folders = {".git", *(name.rstrip("/") for name in ignored if name.endswith("/"))}
        paths = [p for p in ROOT.rglob("*") if not folders & set(p.relative_to(ROOT).parts)]
    files = [path for path in paths if path.is_file()]
    assert ROOT / "pyproject.toml" in files
    return files


def test_no_committed_file_names_a_package_registry():
    wrong = [
        f"{name_of(path)} names {host}"
        for path in committed_files()
        for host in REGISTRY_HOSTS
        if host.encode() in path.read_bytes().lower()
    ]
    assert not wrong


def test_the_locks_are_the_only_locks():
    assert not [name_of(path) for path in committed_files() if path.name == "uv.lock"]


def read_project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


PROJECT = read_project()
RUNTIME: list[str] = PROJECT["dependencies"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
LOCKS = ("requirements.lock", "requirements-cuda12.lock")


def module_of(requirement: str) -> str:
    name = canonicalize_name(Requirement(requirement).name)
    return MODULES.get(name, name.replace("-", "_"))


def comment_above(requirement: str) -> str:
    lines = [line.strip() for line in (ROOT / "pyproject.toml").read_text("utf-8").splitlines()]
    return lines[lines.index(f'"{requirement}",') - 1]


def names_module(path: Path, module: str) -> bool:
    """Whether the file imports the module, or hands its name to something that will."""
    tree = parse(path)
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return any(is_within(name, module) for name in imports_anywhere(tree, path)) or any(
        isinstance(text, str) and is_within(text, module) for text in texts
    )


@pytest.mark.parametrize("requirement", RUNTIME + EXTRAS["dev"])
def test_each_dependency_names_a_file_that_uses_it(requirement):
    comment = comment_above(requirement)
    assert re.match(r"# \S+", comment), f"no comment above {requirement}"
    user = ROOT / comment.removeprefix("# ").split(":")[0].strip()
    assert user.exists(), f"{comment!r} names no file or folder"
    if user.is_dir() or user.suffix == ".py":
        files = sorted(user.rglob("*.py")) if user.is_dir() else [user]
        module = module_of(requirement)
        assert any(names_module(path, module) for path in files if path != Path(__file__).resolve())
    else:
        assert Requirement(requirement).name in user.read_text(encoding="utf-8")


def test_every_imported_package_is_a_dependency():
    known = {*PACKAGES, *sys.stdlib_module_names, *map(module_of, RUNTIME)}
    optional = {
        "tuners/simulators.py": set(map(module_of, EXTRAS["simulators"])),
        "tuners/cluster/cluster_file.py": set(map(module_of, EXTRAS["aws"])),
    }
    wrong = {
        f"{name_of(path)} imports {module}"
        for path in sources(*PACKAGES)
        for module in imports_anywhere(parse(path), path)
        if module.partition(".")[0] not in known | optional.get(name_of(path), set())
    }
    assert not wrong


@pytest.mark.parametrize("requirement", RUNTIME + [r for extra in EXTRAS.values() for r in extra])
def test_each_dependency_is_bounded_on_both_sides(requirement):
    operators = {bound.operator for bound in Requirement(requirement).specifier}
    assert operators == {">=", "<"}


@pytest.mark.parametrize(
    ("lock", "extra"),
    [
        *itertools.product(LOCKS, ("dev", "simulators", "cluster", "aws")),
        ("requirements-cuda12.lock", "cuda12"),
    ],
)
def test_locks_agree_with_pyproject(lock, extra):
    """Fails where pyproject.toml was edited without `make lock`."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    pins = re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==([^\s;]+)(.*)$", text, flags=re.MULTILINE)
    for requirement in map(Requirement, RUNTIME + EXTRAS[extra]):
        name = canonicalize_name(requirement.name)
        versions = [version for pinned, version, _ in pins if canonicalize_name(pinned) == name]
        assert versions, f"{lock} lacks {requirement}: run make lock"
        assert all(requirement.specifier.contains(version) for version in versions), requirement
    entries = re.split(r"^(?=[\w.-]+(?:\[[^]]*\])?==)", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(pins)
    assert all("--hash=sha256:" in entry for entry in entries)
