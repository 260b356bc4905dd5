"""The tuned presets' table: its figures, what stands beside them, and what is generated from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlexp.book import tuned_page, tuned_rows
from rlexp.book.tuned_page import BEGIN, END
from rlexp.book.tuned_rows import Row
from rlexp.jobs.runner import compose
from rlexp.system.errors import Refusal
from rlexp.system.stored_files import Damaged

ROOT = Path(__file__).resolve().parents[2]
ACROBOT = Row(
    "qr_dqn_acrobot", 20_000, 10, environment="acrobot", env_id="Acrobot-v1", algorithm="qr_dqn",
    published_as=("QR-DQN",), group_id="abc", steps=100_000, missing="", iqm=-71.25, low=-72.5, high=-70.125,
    smallest=-75.0, largest=-69.0, seconds=432.0, cores=2,
)  # fmt: skip
LAKE = Row(
    "q_learning_frozen_lake_8x8", 20_000, 10, environment="frozen_lake_8x8", env_id="FrozenLake8x8-v1",
    algorithm="q_learning", group_id="abc", steps=800_000, missing="", iqm=0.91234, low=0.9101, high=0.9127,
    smallest=0.90712, largest=0.91301, exact=True, optimum=0.91324, seconds=30.0, cores=2,
)  # fmt: skip


def test_only_chooses_by_name_or_part() -> None:
    known = ["ddqn_acrobot", "dueling_ddqn_acrobot", "ppo_cartpole"]
    assert tuned_rows.chosen(["ddqn_acrobot"], known) == ["ddqn_acrobot"]
    assert tuned_rows.chosen(["acrobot"], known) == known[:2]
    assert tuned_rows.chosen(["cartpole", "dueling"], known) == known[1:]
    assert tuned_rows.chosen([], known) == known
    with pytest.raises(
        Refusal, match=r"received 'ddqn_acrobat'\.\nDid you mean ddqn_acrobot or dueling_ddqn_acrobot\?"
    ):
        tuned_rows.chosen(["ddqn_acrobat"], known)
    with pytest.raises(Refusal, match="--list shows them"):
        tuned_rows.chosen([""], known)


def test_figures_of_a_summary() -> None:
    played = {"per_trial": [1.0, 3.0], "iqm": 2.0, "min": 1.0, "max": 3.0, "ci95": [1.5, 2.5]}
    summary = {"steps": 7, "wall_seconds": 60.0, "final/return": played}
    row = tuned_rows.measured(Row("a", 0, 2), summary)
    assert (row.iqm, row.low, row.high, row.smallest, row.largest) == (2.0, 1.5, 2.5, 1.0, 3.0)
    assert (row.measured, row.exact, row.steps, row.seconds) == (True, False, 7, 60.0)
    exact = tuned_rows.measured(Row("a", 0, 2), summary | {"final/value": played | {"iqm": 2.1}, "optimum": 4.0})
    assert (exact.iqm, exact.exact, exact.optimum) == (2.1, True, 4.0)
    assert tuned_rows.measured(Row("a", 0, 2), {"final/return": played | {"per_trial": [1.0, None]}}).missing == (
        "failed: not every trial has a final return"
    )


def test_cells_of_played_and_exact_figures() -> None:
    assert tuned_page.cells(ACROBOT) == [
        "qr_dqn", "100,000", "10, seeds from 20000", "-71.2 [-72.5, -70.1]", "-75, -69",
        "QR-DQN -69.1 (rl-baselines3-zoo: 100k steps, one run, greedy evaluation); 1 other below", "7.2",
        "rlexp +experiment=tuned/qr_dqn_acrobot trials=10 seed=20000",
    ]  # fmt: skip
    assert tuned_page.cells(LAKE)[3:6] == [
        "0.9123 [0.9101, 0.9127], exact", "0.9071, 0.913", "best of all policies: 0.9132, exact",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"steps": 200_000}, "QR-DQN -69.1 (rl-baselines3-zoo: 100k steps, one run, greedy evaluation; not comparable); 1 other below"),
        ({"published_as": ("double DQN with prioritised replay",), "differences": ("3-step returns",)},
         "double DQN with prioritised replay -84 (SLM-Lab: 300k steps, mean of 4 seeds, moving average of training returns; not "
         "comparable); here with 3-step returns"),
        ({"published_as": ()}, "none; the highest of others: QR-DQN -69.1 (rl-baselines3-zoo), below"),
        ({"changed": True}, "none"),
        ({"env_id": "Own-v0"}, "none"),
    ],
)  # fmt: skip
def test_what_stands_beside_a_row(changes: dict[str, Any], text: str) -> None:
    assert tuned_page.beside(replace(ACROBOT, **changes)) == text


def test_a_further_range_of_seeds_is_one_more_line() -> None:
    made = tuned_page.page([ACROBOT, replace(ACROBOT, seed=30_000, iqm=-74.0), LAKE], "c").markdown(Path())
    lines = [line for line in made.splitlines() if line.startswith("| qr_dqn | ")]
    assert ["| QR-DQN -69.1 (" in line for line in lines] == [True, False]
    assert "| 10, seeds from 30000 | -74 \\[-72.5, -70.1\\] | -75, -69 | as above | 7.2 |" in lines[1]
    assert made.count("| as above |") == 1


def test_published_figures_say_whether_they_can_be_compared() -> None:
    cells = tuned_page.published_cells([ACROBOT])
    assert cells[0] == ["QR-DQN", "-69.1", "100,000", "1", "greedy evaluation", "rl-baselines3-zoo", "yes, but one run"]
    assert ["DQN", "-74 +- 2", "not stated", "5", "not stated", "sb3-contrib",
            "no: steps not stated, kind of return not stated"] in cells  # fmt: skip
    assert [cell[-1] for cell in cells if cell[5] == "CleanRL"] == ["no: other steps, training returns"] * 3


def test_prioritised_replay_has_its_own_published_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        tuned_rows, "compose",
        lambda *words: compose("algo=ddqn", "env=acrobot", "algo.n_step=3", "algo.replay=prioritized"),
    )  # fmt: skip
    row = tuned_rows.Jobs("s", tmp_path).look("ddqn_prioritized_acrobot", 5, 3)
    assert row.published_as == ("double DQN with prioritised replay",) and row.differences == ("3-step returns",)
    assert (row.environment, row.env_id, row.name, row.steps) == ("acrobot", "Acrobot-v1", "ddqn_prioritized", 100_000)


def test_texts_are_escaped(tmp_path: Path) -> None:
    row = replace(ACROBOT, preset="<b>", missing="failed: <script>alert(1)</script> | [x](y)")
    tuned_page.page([row], "x<y", ["a=<i>"]).write(tmp_path / "page.html")
    text, markdown = (tmp_path / "page.html").read_text(), (tmp_path / "page.md").read_text()
    assert "<script>alert" not in text and "<b>" not in text and "<i>" not in text and "&lt;script&gt;" in text
    assert "missing: failed: \\<script\\>alert(1)\\</script\\> \\| \\[x\\](y)" in markdown


def test_lines_of_the_table() -> None:
    again, second = replace(ACROBOT, trials=5), replace(ACROBOT, seed=30_000, missing="failed: x", iqm=None)
    waiting = replace(ACROBOT, seed=40_000, missing="not run yet", iqm=None)
    other = Row("b", 20_000, 10)
    assert tuned_rows.shown([again, waiting, LAKE, ACROBOT, second, other, replace(other, seed=30_000)]) == [
        ACROBOT, second, LAKE, replace(other, seed=30_000),
    ]  # fmt: skip


def test_documentation_keeps_what_was_measured_elsewhere() -> None:
    old = [ACROBOT, replace(ACROBOT, seed=30_000), LAKE, replace(LAKE, preset="gone")]
    missing = replace(LAKE, missing="not run yet", iqm=None)
    here = [replace(ACROBOT, iqm=-70.0), missing]
    assert tuned_rows.documented(here, old) == ([here[0], old[1], LAKE], [])
    # The preset has changed: its old figures are replaced where it was measured, and else kept and named.
    changed = [replace(here[0], group_id="new"), replace(missing, group_id="new")]
    assert tuned_rows.documented(changed, old) == ([changed[0], LAKE], ["q_learning_frozen_lake_8x8"])


SUMMARY = """\
The best presets, 10 trials on fresh seeds. Published figures have other protocols: \
[every tuned preset, with protocols](docs/researchers/tuned.md).

|environment|preset, steps|IQM [95 %]|best published|
|---|---|---|---|
|Acrobot-v1|`qr_dqn`, 100k|-71.2 [-72.5, -70.1]|-69.1 QR-DQN, 100k, rl-baselines3-zoo|
|FrozenLake8x8-v1|`q_learning`, 800k|0.9123 [0.9101, 0.9127], exact|optimum 0.9132|
"""


def test_the_summary_has_the_best_preset_of_each_environment() -> None:
    """A preset with two ranges counts with its lower one; one that is not measured does not count; equals are counted."""
    lucky = [replace(ACROBOT, preset="a_acrobot", iqm=-60.0), replace(ACROBOT, preset="a_acrobot", seed=3, iqm=-80.0)]
    missing = replace(ACROBOT, preset="b_acrobot", missing="not run yet", iqm=-1.0)
    assert tuned_page.summary([*lucky, ACROBOT, missing, LAKE]) == SUMMARY
    equal = [replace(ACROBOT, preset=f"{name}_acrobot") for name in "cd"]
    slower = replace(ACROBOT, preset="e_acrobot", steps=200_000)
    assert "|Acrobot-v1|`c` and 2 others, 100k|-71.2 [" in tuned_page.summary([slower, *equal, ACROBOT])
    assert tuned_page.summary([]) == "See [every tuned preset, with protocols](docs/researchers/tuned.md).\n"
    assert tuned_page.documentation([missing]) == "Not measured yet.\n"


def test_an_environment_with_arguments_of_its_own_has_a_table_of_its_own() -> None:
    """LunarLander with continuous throttles is no LunarLander-v3 of others."""
    own = replace(ACROBOT, preset="sac_hanging", environment="hanging", changed=True, iqm=-1.0, low=-1.0, high=-1.0)
    lines = tuned_page.summary([ACROBOT, own]).splitlines()[-2:]
    assert [line.split("|")[1] for line in lines] == ["Acrobot-v1", "Acrobot-v1, hanging"]
    made = tuned_page.documentation([ACROBOT, own])
    assert [line for line in made.splitlines() if line.startswith("## ")] == ["## Acrobot-v1", "## Acrobot-v1, hanging"]


def test_the_summary_of_eight_environments_leaves_readme_its_one_page() -> None:
    classic = ("CartPole-v1", "Acrobot-v1", "MountainCar-v0", "LunarLander-v3")
    tables = ("FrozenLake-v1", "FrozenLake8x8-v1", "CliffWalking-v1", "Taxi-v4")
    rows = [replace(ACROBOT, env_id=env, preset=f"dueling_ddqn_{env}") for env in classic]
    rows += [replace(LAKE, env_id=env, preset=f"q_learning_{env}") for env in tables]
    readme = (ROOT / "README.md").read_text()
    other = readme.split(BEGIN)[0] + BEGIN + END + readme.split(END)[1]
    assert len(tuned_page.summary(rows).split()) <= 90 and len(other.split()) <= 900 - 90


def test_readme_and_documentation_show_what_the_data_gives() -> None:
    """Written by `python scripts/reproduce_results.py --write-docs`."""
    rows = tuned_rows.read(ROOT / "docs" / "tuned.json")
    for path, text in (
        (ROOT / "README.md", tuned_page.summary(rows)),
        (ROOT / "docs" / "researchers" / "tuned.md", tuned_page.documentation(rows)),
    ):
        assert f"{BEGIN}\n\n{text}\n{END}" in path.read_text(), path.name


def test_a_file_of_rows_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    tuned_rows.write(path, [ACROBOT, LAKE], "c")
    assert tuned_rows.read(path) == [ACROBOT, LAKE]
    path.write_text(path.read_text().replace("-71.25", '"much"'))
    with pytest.raises(Damaged, match=r"rows\[0\].iqm"):
        tuned_rows.read(path)
