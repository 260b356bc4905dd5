"""The description of a job's run, which MLflow shows on the run's page: score, learning curve, trials, command, folder.

MLflow turns Markdown into HTML and removes what could run. Pictures must have an address: that of an artifact, relative
to the page, works behind any server; `data:` does not. Texts from outside are escaped all the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlexp.system import words
from rlexp.system.text import clean
from rlexp.tracking.mlflow.params import MAX_TAG

NOTE = "mlflow.note.content"
WRITTEN = "rlexp.description"  # digest of the description that rlexp wrote: one that a user has changed stays
MAX_TRIALS = 20  # rows of the table
MAX_COMMAND = 2_000  # characters
CURVE = "learning_curve.png"


def changed_tags(tags: Mapping[str, str], text: str) -> dict[str, str]:
    """The tags to set for a description; none if it is there, or if a user has written another one."""
    present = tags.get(NOTE)
    if present == text or (present and tags.get(WRITTEN) != _digest(present)):
        return {}
    return {NOTE: text, WRITTEN: _digest(text)}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def description(folder: Path, run_id: str, command: str, summary: Mapping[str, Any]) -> str:
    """The description of a job's run, in Markdown.

    Args:
        folder: of the job.
        run_id: of the run.
        command: that started the job.
        summary: the job's `summary.json`; empty while it runs.
    """
    picture = f"![learning curve](get-artifact?path={CURVE}&run_uuid={run_id})" if (folder / CURVE).is_file() else ""
    place = f"**Folder** <code>{escaped(str(folder))}</code>"
    ran = f"**Command**\n\n<pre><code>{escaped(command[:MAX_COMMAND])}</code></pre>"
    parts = [_score(summary), picture, _trials(summary), ran, place]
    text = "\n\n".join(filter(None, parts))
    if len(text) > MAX_TAG:  # a very long folder or command
        text = "\n\n".join(filter(None, parts[:3]))
    return text


def escaped(text: str) -> str:
    """A text on one line, without meaning in Markdown or HTML."""
    return re.sub(r"[^\w ]", lambda found: f"&#{ord(found[0])};", clean(text, newlines=False), flags=re.ASCII)


def _score(summary: Mapping[str, Any]) -> str:
    """The line with the score, its interval, the extremes, the number of trials, env steps and time."""
    final = summary.get("final/return") or {}
    if final.get("iqm") is None:
        return ""
    low, high = interval(summary)
    told = f" [{words.number(low)}, {words.number(high)}]" if low is not None and high is not None else ""
    trials = summary.get("trials") or ()
    parts = [
        f"**Final return {words.number(final['iqm'])}**{told} (IQM, 95 % interval)",
        f"min {words.number(final.get('min'))}, max {words.number(final.get('max'))}",
        words.plural(len(trials), "trial"),
        *([f"{summary['steps']:,} env steps each"] if summary.get("steps") else []),
        *([words.seconds(summary["wall_seconds"])] if summary.get("wall_seconds") else []),
    ]
    return " · ".join(parts)


def interval(summary: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """The 95 % interval of the IQM of a job's final returns, if there is one."""
    bounds = (summary.get("final/return") or {}).get("ci95")
    if isinstance(bounds, list) and len(bounds) == 2 and all(isinstance(b, int | float) for b in bounds):
        return float(bounds[0]), float(bounds[1])
    return None, None


def _trials(summary: Mapping[str, Any]) -> str:
    """The table of the trials, best first; at most `MAX_TRIALS` of them."""
    trials = [trial for trial in summary.get("trials") or () if "seed" in trial]
    if not trials:
        return ""
    ranked = sorted(trials, key=lambda trial: _rank(trial.get("final_return")))
    rows = ["| seed | final return | best evaluation | at step | |", "|---|---:|---:|---:|---|"]
    for trial in ranked[:MAX_TRIALS]:
        step = trial.get("best_step")
        at = f"{step:,}" if isinstance(step, int) and step >= 0 else "-"
        status = trial.get("status", "")
        note = escaped(str(trial.get("note") or status)[:120]) if status != "done" else ""
        cells = [
            trial["seed"],
            words.number(trial.get("final_return")),
            words.number(trial.get("best_eval_return")),
            at,
        ]
        rows.append("| " + " | ".join(map(str, [*cells, note])) + " |")
    if len(ranked) > MAX_TRIALS:
        rows.append(f"\nand {len(ranked) - MAX_TRIALS} more trials, which are worse or have no score")
    return "\n".join(rows)


def _rank(value: float | None) -> tuple[bool, float]:
    return value is None, -(value or 0.0)
