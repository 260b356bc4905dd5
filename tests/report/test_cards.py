"""The cards of contenders: the animation and the command of each."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rlexp.jobs.results import load_study
from rlexp.report.analysis import analyse
from rlexp.report.draft import Draft, Origin
from rlexp.report.page import Page
from rlexp.report.sections.contenders import add_contenders
from tests.studies import make_job


def gif(width: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("P", (width, 8)).save(file, "GIF")
    return file.getvalue()


def change(folder: Path, **facts: object) -> None:
    path = folder / "job.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def written(study: Path, room: int = 10**6, has_files: bool = True) -> tuple[str, str]:
    """HTML and Markdown of the cards of a study's only environment."""
    page = Page("T")
    origin = Origin("T", "", has_files=has_files)
    draft = Draft(page, study / "report", {}, np.random.default_rng(0), origin, animation_bytes=room)
    (analysis,) = analyse(load_study(study), np.random.default_rng(0)).tasks
    add_contenders(draft, analysis)
    page.write(study / "report" / "index.html")
    return (study / "report" / "index.html").read_text(), (study / "report" / "index.md").read_text()


def test_each_contender_has_its_animation_and_its_own_command(tmp_path: Path) -> None:
    folder = make_job(tmp_path / "s", "ddqn", [5.0, 6.0])
    (folder / "animation.gif").write_bytes(gif())
    overrides = ["algo=ddqn", "algo.epsilon={kind: linear}", "+sweep=dqn_ladder"]
    change(folder, command="rlexp -m algo=dqn,ddqn", overrides=overrides, sweep={"name": "sweep"})
    text, markdown = written(tmp_path / "s")
    assert '<h4>ddqn</h4><p>Final return: 5.5 [5, 6], 2 trials.</p><img src="data:image/gif;base64,R0lGOD' in text
    command = "rlexp algo=ddqn 'algo.epsilon={kind: linear}' +sweep=dqn_ladder hydra.mode=RUN"
    assert f"<code>{command.replace(chr(39), '&#x27;')}</code><button" in text and f"`{command}`" in markdown
    assert f"[Animation](../{folder.name}/animation.gif)" in markdown


def test_replications_share_a_card_and_show_the_best_trial(tmp_path: Path) -> None:
    for first, final in ((0, [1.0, 2.0]), (10, [1.0, 9.0]), (20, [3.0, 3.0]), (30, [4.0, 4.0])):
        folder = make_job(tmp_path / "s", "ddqn", final, first_seed=first)
        (folder / "animation.gif").write_bytes(gif(8 + first))
        change(folder, command=f"rlexp algo=ddqn seed={first}")
    text, markdown = written(tmp_path / "s")
    assert text.count("<article") == 1 and text.count('class="command"') == 3 and "3 of 4 commands." in text
    assert markdown.count("animation.gif") == 1 and "10/animation.gif" in markdown  # the trial with 9


def test_animations_beyond_the_budget_are_links(tmp_path: Path) -> None:
    for algo, final in (("ddqn", 9.0), ("dqn", 5.0)):
        (make_job(tmp_path / "s", algo, [final] * 5) / "animation.gif").write_bytes(gif())
    text, _ = written(tmp_path / "s", room=len(gif()))
    assert text.count("data:image/gif") == 1  # the better one
    assert (
        text.count(">Animation of dqn</a>") == 1 and "too large with its animation: this is a link to its file." in text
    )
    text, _ = written(tmp_path / "s", room=0, has_files=False)
    assert "data:image/gif" not in text and '<a href="../' not in text and text.count("look at it in MLflow.") == 2


@pytest.mark.parametrize("data", [b"<svg onload=alert(1)>", b""])
def test_what_is_no_gif_is_left_out_and_said(data: bytes, tmp_path: Path) -> None:
    (make_job(tmp_path / "s", "ddqn", [1.0]) / "animation.gif").write_bytes(data)
    text, _ = written(tmp_path / "s")
    assert (
        "Its animation cannot be used: expected a GIF, received another file." in text
        and "data:" not in text.split("<main>")[1]
    )


def test_odd_names_of_folders_stay_in_their_address(tmp_path: Path) -> None:
    folder = make_job(tmp_path / "s", "ddqn", [1.0])
    (folder / "animation.gif").write_bytes(gif())
    folder.rename(folder.with_name('javascript:a)b<c> "d'))
    text, markdown = written(tmp_path / "s", room=0)
    address = "../javascript%3Aa%29b%3Cc%3E%20%22d/animation.gif"
    assert f'href="{address}"' in text and f"({address})" in markdown
