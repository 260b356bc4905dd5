"""Files that jobs have left: what is wrong with one is a sentence with its name, and the others are read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rlexp.cli import best, ls
from rlexp.sweeps.outcome import Outcome
from rlexp.system.stored_files import Damaged, folders_with, read_bytes, read_job, read_json, seal
from rlexp.system.stored_schemas import JOB, SUMMARY
from tests.studies import make_job


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "expected JSON, received nothing"),
        (b"{", "expected JSON, received Expecting property name"),
        (b"\xff{}", "expected JSON, received 'utf-8' codec can't decode"),
        (b"[1]", "expected a mapping, received a list of 1"),
        (b"[" * 100_000, "received values that are nested too deeply"),
        (b'{"a": ' * 500 + b"1" + b"}" * 500, "expected the key seeds"),
        (b'{"seeds": 1' + b"0" * 5000 + b"}", "expected JSON, received Exceeds the limit"),
        (b"{}", "expected the key seeds, received none"),
        (b'{"seeds": null}', "expected a list of different seeds as seeds, received None"),
        (b'{"seeds": [1, 1]}', "expected a list of different seeds as seeds, received a list of 2"),
        (b'{"seeds": [-1]}', "expected a list of different seeds as seeds"),
        (b'{"seeds": [1], "started": NaN}', "expected seconds since 1970 as started, received nan"),
        (b'{"seeds": [1], "started": 1e300}', "expected seconds since 1970 as started, received 1e+300"),
        (b'{"seeds": [1], "tags": {"a": 1}}', "expected a mapping to a string as tags, received a mapping of 1"),
        (b'{"seeds": [1], "sweep": {"id": 3}}', "expected a string as sweep.id, received 3"),
        (
            b'{"seeds": [1], "digest": "0"}',
            "expected content that matches its digest, received content that has changed",
        ),
    ],
)
def test_what_is_no_job_is_said(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_bytes(content)
    with pytest.raises(Damaged) as raised:
        read_json(path, JOB, "seeds")
    assert str(raised.value).startswith(f"{path}: expected ") and said in str(raised.value)
    assert raised.value.path == path and len(str(raised.value)) < len(str(path)) + 200


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "link to nothing", "link to itself"])
def test_only_regular_files_are_read_and_none_waited_for(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"device": "/dev/zero", "link to nothing": "nothing", "link to itself": "summary.json"}[kind])
    with pytest.raises(Damaged, match=r"summary\.json: expected a file"):
        read_bytes(path)


def test_what_was_sealed_is_read_and_a_changed_digit_is_noticed(tmp_path: Path) -> None:
    path, summary = tmp_path / "summary.json", {"status": "done", "final/return": {"iqm": 12.5, "per_trial": [1 / 3]}}
    path.write_text(json.dumps(seal(summary)))
    assert read_json(path, SUMMARY) == summary
    path.write_text(path.read_text().replace("12.5", "12.6"))
    with pytest.raises(Damaged, match="changed since"):
        read_json(path, SUMMARY)
    path.write_text(json.dumps(summary))  # of an earlier version
    assert read_json(path, SUMMARY) == summary


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seeds": [7]}, "expected the job's seeds 0, 1, received a list of 1"),
        ({"final/return": {"per_trial": [1.0]}}, "expected 2 numbers as final/return.per_trial, received 1"),
        ({"trials": [{"status": "done"}]}, "expected 2 trials, received 1"),
        ({"trials": [{"seed": 1}, {"seed": 0}]}, "expected trials of the seeds 0, 1, received a list of 2"),
        ({"status": "perhaps"}, "expected one of done, failed, killed, pruned as status, received 'perhaps'"),
    ],
)
def test_a_summary_is_of_its_jobs_trials(change: dict, said: str, tmp_path: Path) -> None:
    folder = make_job(tmp_path / "s", "dqn", [1.0, 2.0])
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | change))
    with pytest.raises(Damaged, match=r"summary\.json: ") as raised:
        read_job(folder)
    assert said in str(raised.value)


def test_damaged_jobs_are_named_and_the_others_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, cut = (make_job(tmp_path / "s", algo, [1.0, 2.0]) for algo in ("dqn", "ddqn"))
    link, pipe = (make_job(tmp_path / "s", algo, [1.0, 2.0]) for algo in ("pg", "sarsa"))
    (cut / "summary.json").write_text("{")
    for folder in (link, pipe):
        (folder / "job.json").unlink()
    (link / "job.json").symlink_to("nothing")
    os.mkfifo(pipe / "job.json")
    assert ls.main(["s", "--output-dir", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert [line.split()[-1] for line in said.out.splitlines()] == ["folder", whole.name]
    warnings = said.err.splitlines()
    assert len(warnings) == 3 and all(line.startswith("warning: ") for line in warnings)
    assert f"warning: {cut}/summary.json: expected JSON, received Expecting" in said.err
    assert f"warning: {link}/job.json: expected a file, received a symbolic link to nothing" in warnings
    assert f"warning: {pipe}/job.json: expected a file, received a pipe" in warnings
    (whole / "job.json").write_text("[]")
    assert ls.main(["s", "--output-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("refused: ")
    assert best.main(["s", "--output-dir", str(tmp_path)]) == 2
    assert f"warning: {whole}/job.json: expected a mapping, received an empty list" in capsys.readouterr().err


def test_an_outcome_that_says_nothing_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = Outcome("done", 1.5, "folder", "", 2.0)
    outcome.write(tmp_path)
    assert Outcome.read(tmp_path) == outcome
    for text in ('{"status": "done", "score": "good"}', '{"score": 1.0}', "[" * 10_000):
        (tmp_path / "outcome.json").write_text(text)
        assert Outcome.read(tmp_path) is None
        assert capsys.readouterr().err.startswith(f"warning: {tmp_path}/outcome.json: expected ")


def test_a_damaged_journal_is_set_aside_and_half_a_line_cut_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna")
    from rlexp.sweeps.search.candidates import JOURNAL, Candidates

    journal = tmp_path / JOURNAL
    Candidates(tmp_path, [], 0, 1, False)
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 4, "wor')
    Candidates(tmp_path, [], 0, 1, False)
    lines = journal.read_bytes().splitlines()
    assert journal.read_bytes().startswith(whole) and all(json.loads(line) for line in lines)
    assert "half of one at the end" in capsys.readouterr().err
    journal.write_bytes(b"x\n" + whole)
    Candidates(tmp_path, [], 0, 1, False)
    assert (tmp_path / f"{JOURNAL}.damaged").read_bytes() == b"x\n" + whole
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {journal}: expected an Optuna journal, received JSONDecodeError")
    assert "the search starts again" in said and journal.is_file()


def test_a_folder_counts_once_whatever_links_to_it(tmp_path: Path) -> None:
    job, elsewhere = tmp_path / "study" / "job", tmp_path / "elsewhere" / "other"
    for folder in (job, elsewhere):
        folder.mkdir(parents=True)
        (folder / "job.json").write_text("{}")
    (job / "episodes.npz").symlink_to(job)  # in place of a file
    (tmp_path / "study" / "again").symlink_to(job)
    (tmp_path / "study" / "linked").symlink_to(elsewhere)
    for path in (tmp_path / "study", job):
        found = folders_with(path, "job.json", "*", "*/*")
        assert found == ([job, tmp_path / "study" / "linked"] if path != job else [job])
