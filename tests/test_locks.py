"""Installing resolves nothing: the lock files are complete, and whatever an index offers that day changes nothing."""

import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256, sha512
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from shutil import copy, which
from threading import Thread
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
LOCKS = [
    "requirements.lock",
    "requirements-dev.lock",
    "bench/peers.txt",
    "examples/python/requirements.lock",
    "tests/clients/generators/requirements.lock",
    "deploy/barman.lock",
    "deploy/barman-build.lock",
]
NPM_LOCKS = [
    "examples/package-lock.json",
    "examples/typescript/package-lock.json",
    "tests/clients/generators/package-lock.json",
]
FLAGS = "--no-deps --only-binary :all: --require-hashes"

Requires = dict[str, list[str]]  # what each installed distribution says that it needs


def lines_of(lock: Path) -> list[str]:
    """One line for each package, with its hashes."""
    text = lock.read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def versions_in(lock: Path) -> dict[str, str]:
    """The version of each package that the lock file names."""
    pinned = [Requirement(line.partition(" --hash=")[0]) for line in lines_of(lock)]
    return {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in pinned}


def installed(path: Iterable[str] = sys.path) -> tuple[dict[str, str], Requires]:
    """The version of each distribution that lies there, and what each of them needs."""
    found = {canonicalize_name(one.name): one for one in metadata.distributions(path=list(path))}
    return {name: one.version for name, one in found.items()}, {name: one.requires or [] for name, one in found.items()}


def missing(locked: dict[str, str], requires: Requires, asked: Iterable[str], machine: str = "x86_64") -> list[str]:
    """What is needed, by whom asks and by what is locked, and is not locked at a fitting version."""
    waiting = [("", requirement) for requirement in asked] + [("", name) for name in locked]
    seen, gaps = set(waiting), []
    while waiting:
        extra, text = waiting.pop()
        requirement = Requirement(text)
        environment: dict[str, Any] = {**default_environment(), "platform_machine": machine, "extra": extra}
        if requirement.marker is not None and not requirement.marker.evaluate(environment):
            continue
        name = canonicalize_name(requirement.name)
        if not requirement.specifier.contains(locked.get(name, "0"), prereleases=True) or name not in locked:
            gaps.append(text)
            continue
        needs = {(extra, need) for extra in {"", *requirement.extras} for need in requires[name]}
        waiting += needs - seen
        seen |= needs
    return gaps


def project() -> tuple[list[str], list[str]]:
    """What pyproject.toml asks for, to serve and to develop."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    serving = pyproject["project"]["dependencies"]
    return serving, [
        *serving,
        *pyproject["project"]["optional-dependencies"]["dev"],
        *pyproject["build-system"]["requires"],
    ]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_is_locked_at_one_version_and_by_its_hashes(lock: str) -> None:
    assert [
        line
        for line in lines_of(ROOT / lock)
        if not re.match(r"[a-z0-9-]+==[\w.]+( ;.*?)?( +--hash=sha256:[0-9a-f]{64})+ *$", line)
    ] == []


def test_what_serves_is_locked_at_the_version_that_is_tested() -> None:
    assert versions_in(ROOT / "requirements.lock").items() <= versions_in(ROOT / "requirements-dev.lock").items()


def test_what_is_installed_is_what_is_locked() -> None:
    versions, _ = installed()
    locked = versions_in(ROOT / "requirements-dev.lock")
    assert {name: versions.get(name) for name in locked} == locked


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize(("lock", "asked"), list(zip(LOCKS[:2], project(), strict=True)), ids=LOCKS[:2])
def test_whatever_a_locked_package_needs_is_locked_too(lock: str, asked: list[str], machine: str) -> None:
    _, requires = installed()
    assert missing(versions_in(ROOT / lock), requires, asked, machine) == []


def test_a_gap_in_a_lock_is_found() -> None:
    requires = {
        "plugin": ["core[fast]>=2"],
        "core": ['speedups; extra == "fast"', 'old; python_version < "3"', 'more; extra == "slow"'],
        "speedups": [],
    }
    whole = {"plugin": "1", "core": "2", "speedups": "1"}
    assert missing(whole, requires, ["plugin"]) == []
    assert missing({"plugin": "1", "core": "2"}, requires, ["plugin"]) == ['speedups; extra == "fast"']
    assert missing(whole | {"core": "1.9"}, requires, ["plugin"]) == ["core[fast]>=2"]
    assert missing(whole, requires, ["other"]) == ["other"]


INSTALLS = re.compile(r"^INSTALL := .*$|^.*\b(?:pip3? install|npm (?:ci|i|install)) .*$|^npm \w+$", re.MULTILINE)


@pytest.mark.parametrize("path", ["Makefile", "Dockerfile", "docs/integrate.md", "docs/backup.md", "docs/operate.md"])
def test_every_documented_installation_is_one_from_a_lock(path: str) -> None:
    text = (ROOT / path).read_text()
    found = list(INSTALLS.finditer(text))
    assert found
    for command in found:
        if "npm" in command[0]:
            assert command[0] in ("npm ci", "npm start")
        elif "--no-index" in command[0]:  # a wheel that lies there
            assert "--no-deps" in command[0]
        elif re.search(r" \.( |$)", command[0]):  # the project itself, by what is installed already
            assert "--no-deps --no-build-isolation" in command[0]
        else:
            assert FLAGS in command[0]
            assert "pip check" in text[command.end() :]


def test_nothing_else_installs_anything() -> None:
    others = [
        ROOT / ".ci" / "run",
        ROOT / "compose.yaml",
        *sorted(ROOT.glob("docs/*.md")),
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
    ]
    assert [path.name for path in others if INSTALLS.search(path.read_text())] == [
        "backup.md",
        "integrate.md",
        "operate.md",
    ]


def test_what_the_benchmark_is_compared_with_is_installed_by_the_same_recipe() -> None:
    assert "$(call environment,build/peers,bench/peers.txt)" in (ROOT / "Makefile").read_text()


# An index that offers newer releases than the lock; one package needs an extra of another, as pytest-cov of coverage.
PLUGIN = {"1.0": ["core[fast]>=1.0"], "2.0": ["core[fast]>=2.0"]}
CORE = {"1.0": ['speedups>=1.0; extra == "fast"'], "1.1": ['speedups>=1.0; extra == "fast"'], "2.0": []}
SPEEDUPS: dict[str, list[str]] = {"1.0": [], "3.0": []}
RELEASES = {"plugin": PLUGIN, "core": CORE, "speedups": SPEEDUPS}


def wheel(directory: Path, name: str, version: str, needs: Iterable[str]) -> str:
    """Makes a wheel with nothing in it but what it needs; its hash."""
    information = f"{name}-{version}.dist-info"
    described = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", "Provides-Extra: fast"]
    texts = {
        f"{name}.py": "",
        f"{information}/METADATA": "\n".join([*described, *(f"Requires-Dist: {need}" for need in needs), ""]),
        f"{information}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    texts[f"{information}/RECORD"] = "".join(f"{path},,\n" for path in (*texts, f"{information}/RECORD"))
    path = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in texts.items():
            archive.writestr(inside, text)
    return sha256(path.read_bytes()).hexdigest()


def index_of(directory: Path, releases: dict[str, dict[str, list[str]]]) -> dict[str, str]:
    """Makes a simple index (PEP 503) of these releases; a lock line for each."""
    lines = {}
    for name, versions in releases.items():
        page = directory / name
        page.mkdir(parents=True)
        for version, needs in versions.items():
            lines[f"{name}=={version}"] = f"{name}=={version} --hash=sha256:{wheel(page, name, version, needs)}\n"
        links = [f'<a href="{path.name}">{path.name}</a>' for path in page.glob("*.whl")]
        (page / "index.html").write_text("\n".join(links))
    return lines


@pytest.fixture
def lock(tmp_path: Path) -> dict[str, str]:
    """The lines of a lock from the day when 1.0 was the newest; the indexes offer more by now."""
    newest: dict[str, dict[str, list[str]]] = {name: {"9.0": []} for name in RELEASES}
    index_of(tmp_path / "more", newest)
    return index_of(tmp_path / "index", RELEASES)


def alone(directory: Path) -> dict[str, str]:
    """An environment in which pip knows the two indexes of the directory and nothing of this machine."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "MAKE", "MFLAGS", "COV_"))
    }
    pip = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_CACHE_DIR": "1",
        "PIP_INDEX_URL": (directory / "index").as_uri(),
        "PIP_EXTRA_INDEX_URL": (directory / "more").as_uri(),
    }
    return kept | pip | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


def run(*command: str | Path, directory: Path, environment: dict[str, str]) -> tuple[int, str]:
    """The exit code of a command, and what it printed."""
    done = subprocess.run(
        command, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.returncode, done.stdout


@pytest.mark.long
def test_make_installs_what_is_locked_while_the_index_has_moved_on(tmp_path: Path, lock: dict[str, str]) -> None:
    checkout = tmp_path / "a checkout"
    checkout.mkdir()
    copy(ROOT / "Makefile", checkout)
    make = partial(run, "make", ".venv/locked", directory=checkout, environment=alone(tmp_path))

    (checkout / "requirements-dev.lock").write_text(lock["plugin==1.0"] + lock["speedups==1.0"])
    code, said = make()
    assert code != 0
    assert "plugin 1.0 requires core, which is not installed." in said

    (checkout / "requirements-dev.lock").write_text(lock["plugin==1.0"] + lock["core==1.0"] + lock["speedups==1.0"])
    code, said = make()  # what the run before left half-made is in nobody's way
    assert code == 0, said
    assert "3 of 3 packages are here" in said
    [site_packages] = checkout.glob(".venv/lib/*/site-packages")
    versions, _ = installed([str(site_packages)])
    assert {name: versions[name] for name in RELEASES} == {"plugin": "1.0", "core": "1.0", "speedups": "1.0"}
    assert make() == (0, "make: '.venv/locked' is up to date.\n")

    resolving = (".venv/bin/python", "-m", "pip", "install", "--ignore-installed", "--dry-run", "--require-hashes")
    code, said = run(*resolving, "-r", "requirements-dev.lock", directory=checkout, environment=alone(tmp_path))
    assert code != 0
    assert "all requirements must have their versions pinned" in said
    assert "core[fast]>=1.0" in said


def programs(directory: Path, **scripts: str) -> dict[str, str]:
    """An environment that finds these programs, and `dirname`, and no others."""
    directory.mkdir()
    (directory / "dirname").symlink_to("/usr/bin/dirname")
    for name, script in scripts.items():
        (directory / name).write_text(f"#!/bin/sh\n{script}\n")
        (directory / name).chmod(0o755)
    return {"PATH": str(directory)}


def test_who_is_not_root_and_lacks_a_package_of_debian_is_told_which(tmp_path: Path) -> None:
    copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements-dev.lock").touch()
    lacking = programs(tmp_path / "bin", id="echo 1000", python3='test "$2" != "import ensurepip"')
    make = which("make")
    assert make is not None
    code, said = run(make, ".venv/locked", directory=tmp_path, environment=lacking)
    assert code != 0
    assert said.startswith("As root, once: apt-get install python3-venv\n")
    code, said = run("/bin/bash", ROOT / ".ci" / "run", directory=tmp_path, environment=lacking)
    assert (code, said) == (1, "As root, once: apt-get install make git curl\n")


@pytest.mark.long
def test_the_image_installs_what_is_locked_while_the_index_has_moved_on(tmp_path: Path, lock: dict[str, str]) -> None:
    [build] = re.findall(r"^RUN (python -m venv(?:.*\\\n)*.*)", (ROOT / "Dockerfile").read_text(), re.M)
    releases = index_of(tmp_path / "index" / "build", {"setuptools": {"80.0": []}})
    (tmp_path / "index" / "build" / "setuptools").rename(tmp_path / "index" / "setuptools")
    (tmp_path / "requirements.lock").write_text(lock["core==1.0"])
    (tmp_path / "requirements-dev.lock").write_text(
        lock["core==1.0"] + lock["speedups==1.0"] + releases["setuptools==80.0"]
    )
    code, said = run("sh", "-c", build, directory=tmp_path, environment=alone(tmp_path))
    assert code == 0, said
    [site_packages] = tmp_path.glob(".venv/lib/*/site-packages")
    versions, _ = installed([str(site_packages)])
    assert versions.keys() >= {"core", "setuptools"}
    assert (versions["core"], versions["setuptools"], versions.get("speedups")) == ("1.0", "80.0", None)


def packages_of(lock: Path) -> dict[str, Any]:
    """Each locked package by its place under the folder; the folder's own has none."""
    packages: dict[str, Any] = json.loads(lock.read_text())["packages"]
    return packages


def found_from(place: str, name: str, packages: dict[str, Any]) -> bool:
    """Whether Node finds the package from there: beside it, or in a folder above."""
    above = [place, *(place[: match.start()] for match in re.finditer("/?node_modules/", place))]
    return any(f"{folder}/node_modules/{name}".lstrip("/") in packages for folder in above)


def npm(*arguments: str, directory: Path, **settings: str) -> tuple[int, str]:
    """npm as the tests use it, with nothing of this machine's settings."""
    own = settings | {name: str(directory / f".{name}") for name in ("userconfig", "globalconfig", "cache")}
    kept = {name: value for name, value in os.environ.items() if not name.lower().startswith("npm_config_")}
    environment = kept | {f"npm_config_{name}": value for name, value in own.items()}
    environment |= {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    return run("npm", *arguments, directory=directory, environment=environment)


def test_all_npm_locks_are_known_here() -> None:
    places = [path for root in ("examples", "tests") for path in (ROOT / root).glob("**/package-lock.json")]
    found = {str(path.relative_to(ROOT)) for path in places}
    assert {path for path in found if "node_modules" not in path} == set(NPM_LOCKS)


@pytest.mark.parametrize("lock", NPM_LOCKS)
def test_an_npm_lock_names_whatever_its_packages_need(lock: str, tmp_path: Path) -> None:
    packages = packages_of(ROOT / lock)
    for place, package in packages.items():
        optional = {name for name, more in package.get("peerDependenciesMeta", {}).items() if more.get("optional")}
        needed = [*package.get("dependencies", {}), *package.get("optionalDependencies", {})]
        needed += package.get("peerDependencies", {}).keys() - optional
        assert [name for name in needed if not found_from(place, name, packages)] == [], place
        assert bool(package.get("integrity", "").startswith("sha512-")) == bool(place), place
        assert "resolved" not in package, place
    copy(ROOT / lock, tmp_path)
    copy(ROOT / lock.replace("-lock", ""), tmp_path)
    code, said = npm("ls", "--all", "--package-lock-only", "--offline", directory=tmp_path)  # are the versions fitting?
    assert code == 0, said

    document = json.loads((tmp_path / "package-lock.json").read_text())
    last = list(packages)[-1]
    document["packages"][last]["version"] = "0.0.1"
    (tmp_path / "package-lock.json").write_text(json.dumps(document))
    code, said = npm("ls", "--all", "--package-lock-only", "--offline", directory=tmp_path)
    assert code != 0
    assert "invalid" in said


def publish(registry: Path, address: str, name: str, versions: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Publishes packages with nothing in them but what they need; by version, what a lock holds of each."""
    page, locked = {}, {}
    for version, needs in versions.items():
        manifest = {"name": name, "version": version, "dependencies": needs}
        content = json.dumps(manifest).encode()
        path = registry / f"{name}-{version}.tgz"
        with tarfile.open(path, "w:gz") as archive:
            entry = tarfile.TarInfo("package/package.json")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        integrity = f"sha512-{b64encode(sha512(path.read_bytes()).digest()).decode()}"
        page[version] = manifest | {"dist": {"tarball": f"{address}/{path.name}", "integrity": integrity}}
        locked[version] = {"version": version, "integrity": integrity, "dependencies": needs}
    document = {"name": name, "dist-tags": {"latest": list(versions)[-1]}, "versions": page}
    (registry / name).write_text(json.dumps(document))
    return locked


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """The address of a web server that hands out the files of the directory."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(directory))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_npm_installs_what_is_locked_while_the_registry_has_moved_on(tmp_path: Path) -> None:
    registry, folder = tmp_path / "registry", tmp_path / "folder"
    registry.mkdir()
    folder.mkdir()
    wanted = {"name": "folder", "version": "1.0.0", "dependencies": {"plugin": "^1.0.0"}}
    (folder / "package.json").write_text(json.dumps(wanted))
    with served(registry) as address:
        plugin = publish(registry, address, "plugin", {"1.0.0": {"core": "^1.0.0"}, "1.1.0": {"core": "^1.1.0"}})
        core = publish(registry, address, "core", {"1.0.0": {}, "1.1.0": {}})
        packages = {"": wanted, "node_modules/plugin": plugin["1.0.0"], "node_modules/core": core["1.0.0"]}
        lock = {"name": "folder", "lockfileVersion": 3, "requires": True, "packages": packages}
        (folder / "package-lock.json").write_text(json.dumps(lock))

        def versions_after(*command: str) -> dict[str, str]:
            code, said = npm(*command, "--ignore-scripts", "--no-audit", directory=folder, registry=address)
            assert code == 0, said
            paths = folder.glob("node_modules/*/package.json")
            return {path.parent.name: json.loads(path.read_text())["version"] for path in paths}

        assert versions_after("ci") == {"plugin": "1.0.0", "core": "1.0.0"}
        (folder / "package-lock.json").unlink()
        (folder / "node_modules" / ".package-lock.json").unlink()
        assert versions_after("update") == {"plugin": "1.1.0", "core": "1.1.0"}  # without the lock it would be these
