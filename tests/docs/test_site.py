"""The documentation's texts are true, and the site is built without warnings and without outside assets."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rlexp
from rlexp.envs.inspection import inspect
from rlexp.jobs.runner import compose
from tests.browser import Browser
from tests.texts import inline_commands, missing_links

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
TEXTS = sorted(path for folder in ("students", "researchers") for path in (DOCS / folder).glob("*.md"))
STUDENTS = [path for path in TEXTS if path.parent.name == "students" and path.stem not in ("index", "reproduction")]
PARTS = ("Theory", "Command", "What you see", "Try next")


@pytest.fixture
def on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules of docs/_ext, docs/examples and scripts can be imported."""
    for folder in (DOCS / "_ext", DOCS / "examples", ROOT / "scripts"):
        monkeypatch.syspath_prepend(str(folder))


@pytest.mark.slow
def test_commands_within_sentences_compose() -> None:
    """Those in blocks of code: tests/test_snippets.py."""
    from tests.test_snippets import check

    found = [command for path in TEXTS for command in inline_commands(path.read_text())]
    assert len(found) > 40
    for command in found:
        check(shlex.split(command))


def test_links_are_files() -> None:
    """But for pages that are written at each build."""
    missing = [f"{path.name}: {link}" for path in TEXTS for link in missing_links(path) if "/generated/" not in link]
    assert missing == []


def test_included_files_are_there() -> None:
    included = [
        (path, name)
        for path in TEXTS
        for name in re.findall(r"^```\{(?:literal)?include\} (\S+)", path.read_text(), re.M)
    ]
    assert len(included) > 5 and [name for path, name in included if not (path.parent / name).is_file()] == []


@pytest.mark.parametrize("path", STUDENTS, ids=lambda path: path.stem)
def test_a_section_has_theory_in_three_sentences_command_picture_and_what_next(path: Path) -> None:
    parts = re.split(r"^## (.+)\n", path.read_text(), flags=re.M)
    assert tuple(parts[1::2]) == PARTS
    theory, command, seen, following = parts[2::2]
    assert len(re.findall(r"[.!?](?=\s|$)", theory)) == 3
    assert "```\nrlexp " in command and following.count("\n- ") >= 2
    assert seen.strip()


def test_every_picture_is_made_by_the_command_beside_it(on_path: None) -> None:
    from docs_pictures import PICTURES

    shown = {}
    for path in TEXTS:
        for name in re.findall(r"!\[[^\]]*\]\(\.\./images/([\w.]+)\)", path.read_text()):
            shown[name] = path.read_text()
    others = {"families.png": "python scripts/families_picture.py", "speed.png": "python scripts/benchmark.py speed"}
    for name, text in shown.items():
        assert (DOCS / "images" / name).stat().st_size < 600_000
        assert (others[name] if name in others else PICTURES[name].command) in text, name
    assert {path.name for path in (DOCS / "images").iterdir()} == set(shown)


def test_the_example_of_an_environment(on_path: None) -> None:
    info = inspect(compose("algo=ddqn", "env.id=corridor:Corridor-v0", "env.kwargs.length=12").env)
    assert (info.observation_shape, info.num_actions, info.max_episode_steps) == ((1,), 2, 100)


@pytest.mark.slow
@pytest.mark.parametrize("example", ["env.id=corridor:Corridor-v0", "network.name=two_branches:build"])
def test_the_examples_train(example: str, on_path: None, tmp_path: Path) -> None:
    job = rlexp.run(
        "algo=ddqn", example, "trials=2", "budget.steps=2000", "algo.learn_start=100", "evaluation.final_episodes=10",
        "tracking=files", "animation.enabled=false", f"output_dir={tmp_path}", quiet=True,
    )  # fmt: skip
    assert job["status"] == "done" and job["steps"] == 2_000


def test_docstrings_become_restructuredtext(on_path: None) -> None:
    import docstrings

    lines = ["Say *args and V_ of `a*b`.", "", "    y = a * b", "", "Returns:", "    A figure: a file."]
    assert docstrings.as_rst(lines) == [
        "Say \\*args and V\\_ of `a*b`.", "", "::", "", "    y = a * b", "", "Returns:", "    : A figure: a file.",
    ]  # fmt: skip
    found = ["Alias for field number 0"]
    docstrings.process(None, "attribute", "x", None, None, found)
    assert found == []


def test_outside_assets_are_found(tmp_path: Path, on_path: None) -> None:
    import assets

    (tmp_path / "a.html").write_text(
        '<script src="https://cdn.example/x.js"></script><a href="https://example.org">a link</a>'
        "<link rel=stylesheet href='//cdn.example/x.css'><img src=own.png>"
    )
    (tmp_path / "b.css").write_text(
        "@import 'http://fonts.example/f.css'; p { background: url(https://x.example/p.png) }"
    )
    assert assets.outside(tmp_path) == [
        "a.html: https://cdn.example/x.js",
        "a.html: //cdn.example/x.css",
        "b.css: http://fonts.example/f.css",
        "b.css: https://x.example/p.png",
    ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; built in a process without a network, where the system has a command for it."""
    apart = ["unshare", "-rn"] if shutil.which("unshare") else []
    if apart and subprocess.run([*apart, "true"], capture_output=True).returncode:
        apart = []
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [*apart, "bash", str(ROOT / "scripts" / "docs.sh"), str(folder)],
        env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    return folder


@pytest.mark.slow
def test_the_site_is_built_without_warnings(site: Path) -> None:
    assert "algo.clip_ratio" in (site / "generated" / "algorithms" / "ppo.html").read_text()
    assert "rlexp.run" in (site / "researchers" / "api.html").read_text()


@pytest.mark.slow
@pytest.mark.browser
def test_pages_fit_a_phone_and_ask_for_nothing_outside(site: Path, browser: Browser) -> None:
    pages = [path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]
    assert len(pages) > 60
    for path in pages:
        browser.open(path.as_uri(), 390)
        assert browser.evaluate("document.documentElement.scrollWidth") <= 390, path
        assert [url for url in browser.requests if not url.startswith(("file:", "data:"))] == [], path
