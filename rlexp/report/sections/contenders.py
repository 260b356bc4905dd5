"""The contenders of one environment: the animation of each, and the command that trains it."""

from __future__ import annotations

import os
from urllib.parse import quote

from rlexp.config import commands
from rlexp.jobs.results import JobData
from rlexp.report.analysis import TaskAnalysis
from rlexp.report.contenders import Contender
from rlexp.report.distributions import RETURNS
from rlexp.report.draft import Draft
from rlexp.report.foreign import ForeignJob
from rlexp.report.page import Animation, Card
from rlexp.system import words
from rlexp.system.stored_files import Damaged, check_file, read_bytes

MAX_COMMANDS = 3  # of a contender
MAX_ANIMATION = 2 * 2**20  # bytes of one animation
PICTURES = {"animation.gif": "animation", RETURNS: "distribution of returns"}  # files of a job -> what they show


def add_contenders(draft: Draft, analysis: TaskAnalysis) -> None:
    """Add a card for each contender of an environment, the best first."""
    task = analysis.task
    draft.page.heading(f"Contenders on {task.name}", 3)
    cards: list[Card] = []
    for c in task.contenders:
        room = draft.animation_bytes - sum(len(shown.data or b"") for card in cards for shown in card.animations)
        cards.append(_card(draft, c, analysis, room))
    draft.page.cards(cards)


def _card(draft: Draft, c: Contender, analysis: TaskAnalysis, room: int) -> Card:
    """The card of a contender.

    Args:
        draft: the report.
        c: the contender.
        analysis: of its environment.
        room: bytes that its animations may have.
    """
    lines = []
    if c.label in analysis.intervals:
        lines.append(
            f"Final return: {words.interval(*analysis.intervals[c.label])}, {words.plural(len(c.seeds), 'trial')}."
        )
    else:
        lines.append(f"Status: {c.status}.")
    lines += [job.told for job in c.jobs if isinstance(job, ForeignJob)]
    every, of_sweep = _commands(c)
    if len(every) > MAX_COMMANDS:
        lines.append(f"{MAX_COMMANDS} of {len(every)} commands.")
    if of_sweep:
        lines.append("The command is that of its sweep.")
    pictures = []
    for name, what in PICTURES.items():
        data, link, problem = _picture(draft, c.best_job, name, what, room)
        room -= len(data or b"")
        lines += [problem] if problem else []
        pictures += [Animation(what, data, link)] if data or link else []
    return Card(c.label, lines, every[:MAX_COMMANDS], pictures)


def _commands(c: Contender) -> tuple[list[str], bool]:
    """The commands of a contender's jobs, and whether one of them is known for its whole sweep only."""
    found, of_sweep = [], False
    for job in c.jobs:
        own = commands.of_job(job.job)
        of_sweep |= own is None and bool(job.job.get("sweep"))
        found.append(own or str(job.job.get("command") or ""))
    return [command for command in dict.fromkeys(found) if command], of_sweep


def _picture(draft: Draft, job: JobData, name: str, what: str, room: int) -> tuple[bytes | None, str, str]:
    """A job's animation if the page has room for it, the address of its file, and what is wrong with it.

    Args:
        draft: the report.
        job: whose best trial it shows.
        name: of the file.
        what: what it shows, in words.
        room: bytes that it may have.
    """
    path = job.folder / name
    if isinstance(job, ForeignJob) or not os.path.lexists(path):
        return None, "", ""
    try:
        data = read_bytes(path)
        check_file(path, data, job.summary)
        if not data.startswith((b"GIF87a", b"GIF89a")):
            raise Damaged(path, "a GIF", "another file")
    except (OSError, ValueError) as error:
        return None, "", f"Its {what} cannot be used: {str(error).removeprefix(f'{path}: ')}."
    link = (
        quote(os.path.relpath(path, os.path.realpath(draft.folder)).replace(os.sep, "/"))
        if draft.origin.has_files
        else ""
    )
    if len(data) > min(MAX_ANIMATION, room):
        where = "this is a link to its file" if link else "look at it in MLflow"
        return None, link, f"The page would become too large with its {what}: {where}."
    return data, link, ""
