"""Fixtures that several test files share."""

from __future__ import annotations

import functools
import gc
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
import venv
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NoReturn

import pytest

pytest_plugins = ["training_fixtures"]

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may need the network
# nbformat asks jsonschema for every check of formats there is, and this one takes seconds to
# import; no schema of a notebook needs it, and jsonschema does without.
sys.modules.setdefault("rfc3987_syntax", None)
ROOT = Path(__file__).resolve().parent.parent

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Chromium must neither call home nor find any host but this one.
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no worker begins one when the others end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """What was imported stays: a training run, which collects garbage, need not walk it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the checkout under test."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real preference pairs that lie beside the checkout and are no part of it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real pairs beside the checkout (../shared/data)")
    return folder


def _missing(what: str) -> NoReturn:
    """Skip a browser test, or fail it where DPO_LAB_REQUIRE_BROWSER=1 says that it must run."""
    if os.environ.get("DPO_LAB_REQUIRE_BROWSER") == "1":
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    """A headless Chromium, as a playwright `Browser`."""
    found = [path for name in CHROMIUM_NAMES if (path := shutil.which(name))]
    if not found:
        _missing("no Chromium on this machine: the built pages are not driven")
    playwright = pytest.importorskip("playwright.sync_api").sync_playwright().start()
    browser = playwright.chromium.launch(executable_path=found[0], args=CHROMIUM_FLAGS)
    yield browser
    browser.close()
    playwright.stop()


@pytest.fixture(scope="session")
def built_site() -> Path:
    """The folder of the built site."""
    folder = ROOT / "book" / "_build" / "html"
    if not (folder / "index.html").is_file():
        _missing("the site is not built: run `make book` first")
    return folder


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *details: object) -> None:
        """Say nothing: a test's output is its assertions."""


@pytest.fixture(scope="session")
def site_addresses(built_site: Path, tmp_path_factory) -> Iterator[dict[str, str]]:
    """The built site's addresses, each ending in a slash: over http, under a sub-path, as files."""
    above = tmp_path_factory.mktemp("server")
    (above / "under").mkdir()
    (above / "under" / "a-path").symlink_to(built_site)
    servers = {
        kind: ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(_QuietHandler, directory=str(folder))
        )
        for kind, folder in {"http": built_site, "sub-path": above}.items()
    }
    for server in servers.values():
        threading.Thread(target=server.serve_forever, daemon=True).start()
    base = {kind: f"http://127.0.0.1:{each.server_port}/" for kind, each in servers.items()}
    yield {
        "http": base["http"],
        "sub-path": base["sub-path"] + "under/a-path/",
        "file": built_site.as_uri() + "/",
    }
    for server in servers.values():
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """The project's wheel, built from a copy with the tools that are installed here."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE", "LICENSE-TEXT"):
        shutil.copy(ROOT / name, source)
    no_caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "dpo_lab", source / "dpo_lab", ignore=no_caches)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--wheel-dir", str(out), str(source)]
    subprocess.run(command, check=True)
    (built,) = out.glob("*.whl")
    return built


def _empty_environment(folder: Path) -> Path:
    """A new virtual environment's Python; nothing is installed there."""
    venv.create(folder, with_pip=False)
    return folder / "bin" / "python"


def _lend_packages(python: Path) -> None:
    """Let an environment import what is installed here, but not this checkout.

    A folder named in a .pth file is searched, and the .pth files inside it are not read:
    the editable installation of the checkout stays behind.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site_packages = python.parent.parent / "lib" / version / "site-packages"
    lent = sysconfig.get_path("purelib")
    (site_packages / "lent.pth").write_text(f"{lent}\n", encoding="utf-8")


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory) -> Path:
    """The Python of an environment with every dependency and without dpo_lab."""
    python = _empty_environment(tmp_path_factory.mktemp("bare"))
    _lend_packages(python)
    return python


@pytest.fixture(scope="session")
def wheel_python(wheel, tmp_path_factory) -> Path:
    """The Python of an environment with every dependency and dpo_lab from its wheel alone."""
    python = _empty_environment(tmp_path_factory.mktemp("installed"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(python)]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True)
    _lend_packages(python)
    return python
