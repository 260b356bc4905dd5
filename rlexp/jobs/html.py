"""A job's results as HTML, for notebooks. Whatever comes from the job's folder is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from rlexp.data import seeding
from rlexp.jobs.pictures import image_tag, png
from rlexp.jobs.plots import learning_curve_figure
from rlexp.jobs.results import JobData
from rlexp.system.stored_files import read_bytes
from rlexp.system.text import clean
from rlexp.system.words import number, plural, seconds

MAX_ANIMATION = 1_000_000  # bytes of an animation inside the page; a larger one is a link
GIF = (b"GIF87a", b"GIF89a")  # the first bytes of the format


def job_html(data: JobData, status: str, score: str) -> str:
    """The score, the learning curve and the animation of a job.

    Args:
        data: the job.
        status: of the job, in a word.
        score: the IQM of its final returns with its interval.
    """
    summary = data.summary or {}
    words = f"{data.job['algo']} on {data.job['env']}"
    curve = png(learning_curve_figure(data, seeding.generator(0, "report")))
    pictures = [image_tag(curve, "png", f"Learning curves of {shown(words)}"), _animation(data)]
    return "".join(
        [
            f"<p><b>{text(words)}</b>: {text(status)}, {text(plural(len(data.job['seeds']), 'trial'))}",
            f"{_times(summary)}</p>",
            _score(summary, score),
            '<div style="display: flex; flex-wrap: wrap; gap: 1em; align-items: flex-end">',
            *(f'<div style="max-width: 600px">{picture}</div>' for picture in pictures if picture),
            f"</div><p><code>{text(data.folder)}</code></p>",
        ]
    )


def _times(summary: Mapping[str, Any]) -> str:
    steps, wall = summary.get("steps"), summary.get("wall_seconds")
    told = [f"{steps:,} env steps each"] if steps is not None else []
    told += [seconds(wall)] if wall is not None else []
    return "".join(f", {text(words)}" for words in told)


def _score(summary: Mapping[str, Any], score: str) -> str:
    final: dict[str, Any] = summary.get("final/return") or {}
    if not final:
        return f"<p>{text(why)}</p>" if (why := summary.get("error")) else ""
    others = [number(final.get(name)) for name in ("mean", "std", "min", "max")]
    return table(["final return: IQM [95 % interval]", "mean", "std", "min", "max"], [[score, *others]])


def _animation(data: JobData) -> str:
    """The best trial playing; empty if there is no such file."""
    path = data.folder / "animation.gif"
    try:
        content = read_bytes(path, MAX_ANIMATION)
    except FileNotFoundError:
        return ""
    except (OSError, ValueError):  # too large, or no file
        return f'<a href="{escape(quote(path.as_posix()))}">animation</a>' if path.is_file() else ""
    return image_tag(content, "gif", "The best trial plays an episode") if content.startswith(GIF) else ""


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of texts; its cells are escaped."""
    body = "".join(f"<tr>{''.join(f'<td>{text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{text(name)}</th>' for name in header)}</tr>{body}</table>"


def text(value: Any) -> str:
    """Text from a job's folder as HTML."""
    return escape(shown(value))


def shown(value: Any) -> str:
    """Text without secrets and control characters, cut where it is longer than a line."""
    words = clean(value, newlines=False)
    return words if len(words) <= 300 else f"{words[:299]}…"
