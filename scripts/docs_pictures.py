#!/usr/bin/env python
"""Make the pictures and results of the documentation: docs/images/* and docs/results.json.

    python scripts/docs_pictures.py                    # all of them: runs the jobs that are missing, in half an hour
    python scripts/docs_pictures.py dqn.png            # some of them
    python scripts/docs_pictures.py results            # the results of every algorithm

Each picture comes from the command that stands beside it in the documentation. Finished jobs are not run again. Needs
the extra rlexp[box2d].
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from rlexp.config import registry
from rlexp.jobs.preflight import resolve
from rlexp.jobs.runner import compose

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
CHAPTER = "python scripts/reproduce_chapter.py --trials 5"
MAX_FRAMES, MAX_WIDTH = 100, 300  # of an animation
NUM_COLOURS = 64
FRAME_SECONDS = 0.05


@dataclass(frozen=True)
class Picture:
    """Where a picture comes from.

    Attributes:
        command: as the documentation shows it.
        file: in the folder of the job that the command runs; in the output folder if it runs several, or none.
    """

    command: str
    file: str


PICTURES = {
    "learning_curve.png": Picture("rlexp algo=dueling_ddqn", "learning_curve.png"),
    "cartpole.png": Picture("rlexp env CartPole-v1 --picture cartpole.png", "cartpole.png"),
    "random.gif": Picture("rlexp algo=random env=cartpole trials=1 study=first_steps", "animation.gif"),
    "angle_policy.gif": Picture("rlexp +experiment=book/angle_policy", "animation.gif"),
    "untrained.gif": Picture("rlexp +experiment=book/pg trials=1 budget.episodes=1 study=untrained", "animation.gif"),
    "pg.png": Picture("rlexp +experiment=book/pg", "learning_curve.png"),
    "pg.gif": Picture("rlexp +experiment=book/pg", "animation.gif"),
    "q_values.png": Picture(CHAPTER, "chapter18/report/q_value_plot.png"),
    "q_schedules.png": Picture("rlexp +sweep=q_schedules", "q_schedules/report/figures/*cartpole-final.png"),
    "q_epsilon.gif": Picture("rlexp +experiment=book/q_epsilon", "animation.gif"),
    "dqn_episodes.png": Picture(CHAPTER, "chapter18/report/dqn.png"),
    "dqn.png": Picture("rlexp +experiment=book/dqn", "learning_curve.png"),
    "fixed_dqn.png": Picture("rlexp +experiment=book/fixed_dqn", "learning_curve.png"),
    "ddqn.png": Picture("rlexp +experiment=book/ddqn", "learning_curve.png"),
    "dueling_ddqn.png": Picture("rlexp +experiment=book/dueling_ddqn", "learning_curve.png"),
    "dueling_ddqn.gif": Picture("rlexp +experiment=book/dueling_ddqn", "animation.gif"),
    "pg_lunar_lander.png": Picture("rlexp +experiment=book/pg_lunar_lander", "learning_curve.png"),
    "pg_lunar_lander.gif": Picture("rlexp +experiment=book/pg_lunar_lander", "animation.gif"),
    "frozen_lake.png": Picture("rlexp algo=q_learning env=frozen_lake", "learning_curve.png"),
    "rainbow_ablation.png": Picture(
        "rlexp +sweep=rainbow_ablation env=cartpole,acrobot", "rainbow_ablation/report/figures/*-all-effects.png"),
    "dqn_ladder.png": Picture("rlexp +sweep=dqn_ladder", "dqn_ladder/report/figures/*cartpole-curves.png"),
}  # fmt: skip
RESULTS = "algorithms"  # the study of results.json
TABLES = [name for name, entry in registry.ALGOS.items() if registry.FAMILIES[entry.family].tabular]
SWEEPS = (
    f"rlexp -m algo={','.join(name for name in registry.ALGOS if name != 'q_value_iteration')} study={RESULTS}",
    f"rlexp -m algo={','.join(TABLES)} env=frozen_lake study={RESULTS}",
)


def run(command: str, output_dir: Path) -> None:
    """Run a command of the documentation with an output folder; raises `CalledProcessError`."""
    program, *rest = shlex.split(command)
    if program != "rlexp":
        words = [str(ROOT / rest[0]), *rest[1:], "--output-dir", str(output_dir)]
    elif "=" in rest[0] or rest[0] == "-m":
        words = ["-m", "rlexp", *rest, f"output_dir={output_dir}"]
    else:  # a tool, which writes here
        words = ["-m", "rlexp", *rest]
    print(command, flush=True)
    output_dir.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, *words], check=True, cwd=output_dir)


def source(picture: Picture, output_dir: Path) -> Path:
    """The file that the command has written; raises `FileNotFoundError` if it has not."""
    program, *rest = shlex.split(picture.command)
    several = program != "rlexp" or rest[0].startswith("+sweep=") or "=" not in rest[0]
    folder = output_dir if several else resolve(compose(*rest, f"output_dir={output_dir}"))[0].folder
    found = sorted(folder.glob(picture.file))
    if not found:
        raise FileNotFoundError(f"{picture.command}: expected {folder / picture.file}")
    return found[0]


def copy(path: Path, to: Path) -> None:
    """Copy a picture with few colours; animations also smaller and with fewer frames, at the speed that they had."""
    image = Image.open(path)
    if to.suffix == ".png":
        image.convert("RGB").quantize(NUM_COLOURS).save(to, optimize=True)
        return
    number = getattr(image, "n_frames", 1)
    step = -(-number // MAX_FRAMES)
    frames = []
    for k in range(0, number, step):
        image.seek(k)
        frame = image.convert("RGB")
        frame.thumbnail((MAX_WIDTH, MAX_WIDTH))
        frames.append(frame.quantize(NUM_COLOURS // 4))
    duration = image.info.get("duration", 1_000 * FRAME_SECONDS) * step
    frames[0].save(to, save_all=True, append_images=frames[1:], duration=duration, loop=0, optimize=True)


def results(output_dir: Path) -> list[dict[str, Any]]:
    """One entry for each finished job of the study of results, in the registry's order."""
    found = []
    for path in (output_dir / RESULTS).glob("*/summary.json"):
        summary = json.loads(path.read_text())
        score, algo, env = summary["final/return"], summary["algo"], summary["env"]
        low, high = score["ci95"]
        command = f"rlexp algo={algo}" + ("" if env == "cartpole" else f" env={env}")
        found.append(
            {"algo": algo, "environment": env, "trials": len(score["per_trial"]), "steps": summary["steps"],
             "iqm": score["iqm"], "low": low, "high": high, "command": command}
        )  # fmt: skip
    return sorted(found, key=lambda job: (list(registry.ALGOS).index(job["algo"]), job["environment"]))


def main() -> int:
    """Run what is missing and copy the pictures; exit status 1 if a command failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(PICTURES)}, results")
    parser.add_argument("--output-dir", type=Path, default=ROOT / "outputs", help="default: outputs")
    args = parser.parse_args()
    names = args.names or [*PICTURES, "results"]
    if unknown := [name for name in names if name not in (*PICTURES, "results")]:
        parser.error(f"expected names of pictures, received {', '.join(unknown)}")
    output_dir = args.output_dir.expanduser().resolve()
    IMAGES.mkdir(exist_ok=True)
    try:
        for name in (name for name in names if name in PICTURES):
            picture = PICTURES[name]
            try:
                path = source(picture, output_dir)
            except FileNotFoundError:
                run(picture.command, output_dir)
                path = source(picture, output_dir)
            copy(path, IMAGES / name)
        if "results" in names:
            for command in SWEEPS:
                run(command, output_dir)
            text = json.dumps({"commands": SWEEPS, "jobs": results(output_dir)}, indent=1)
            (IMAGES.parent / "results.json").write_text(text + "\n")
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
