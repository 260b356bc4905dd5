"""The command `rlexp play`: episodes of a trained policy, as a GIF, an MP4 or in a window."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlexp.config import registry
from rlexp.config.schema.job import Settings
from rlexp.envs.faults import Misbehaved
from rlexp.envs.guard import Guarded
from rlexp.jobs.animation import animate
from rlexp.jobs.policy import Policy, load_policy
from rlexp.jobs.returns import check_algorithm
from rlexp.system.errors import refusal
from rlexp.system.tool import Parser, shortened, tool

LAST_SEED = 2**32  # episode seeds are below it


def watch(policy: Policy, episode_seed: int, max_steps: int) -> float:
    """Show one episode in a window; returns its return."""
    env = Guarded(policy.make_env("human"))
    try:
        observation, _ = env.reset(seed=episode_seed)
        total = 0.0
        for _ in range(max_steps):
            observation, reward, terminated, truncated, _ = env.step(policy(observation))
            total += float(reward)
            if terminated or truncated:
                break
        return total
    finally:
        env.close()


def default_seed(settings: Settings) -> int:
    """The seed of the first episode of the job's final evaluation."""
    return settings.evaluation.final_seed


@tool
def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = Parser(
        prog="rlexp play",
        description="Play episodes with a trained greedy policy and render them to a GIF, an MP4 or the screen.",
        examples=(
            "rlexp play outputs/default/dueling_ddqn-cartpole-0123abcd",
            "rlexp play outputs/default/dueling_ddqn-cartpole-0123abcd --seed 3 --output best.mp4",
            "rlexp play outputs/default/c51-cartpole-0123abcd --distribution",
            "rlexp play runs:/<id> --tracking-uri http://server:5000 --screen",
        ),
    )
    parser.add_argument("source", help="job folder, trials/<seed> folder, or MLflow run id (also runs:/<id>)")
    parser.add_argument("--seed", type=int, help="trial of the job (default: the one with the highest final return)")
    parser.add_argument(
        "--episode-seed",
        type=int,
        help="reset seed of the first episode (default: the first final episode's)",
    )
    parser.add_argument("--episodes", type=int, default=1, help="episodes to play, with consecutive seeds (default 1)")
    parser.add_argument(
        "--max-steps", type=int, default=1_000, help="cut an episode after so many steps (default 1000)"
    )
    parser.add_argument("--output", type=Path, help=".gif or .mp4 file (default: play-<seed>.gif here)")
    parser.add_argument(
        "--distribution",
        action="store_true",
        help=f"draw the distribution of returns of each action beside the animation "
        f"({', '.join(registry.distributional())})",
    )
    parser.add_argument("--screen", action="store_true", help="show a window instead of writing a file")
    parser.add_argument(
        "--tracking-uri",
        help="where the MLflow run lives (default: MLFLOW_TRACKING_URI, else outputs/mlflow.db)",
    )
    parser.add_argument(
        "--allow-imports",
        action="store_true",
        help="import the modules that the job's configuration names, wherever they lie (default: only those of "
        "installed distributions, since others may have come with the folder)",
    )
    args = parser.parse_args(argv)
    try:
        return _play(args)
    except Misbehaved as fault:
        print(f"failed: {fault.text}", file=sys.stderr)
        return 1


def _draw(args: Any) -> Callable[[Policy, int, Path, int], float]:
    """What writes the file of an episode."""
    if not args.distribution:
        return animate
    from rlexp.jobs.return_animation import animate_returns  # Matplotlib takes a second

    return animate_returns


def _play(args: Any) -> int:
    if args.output is not None and args.output.suffix not in (".gif", ".mp4"):
        raise refusal("--output", "a .gif or .mp4 file", str(args.output))
    if args.episodes < 1 or args.max_steps < 1:
        raise refusal("--episodes, --max-steps", "numbers >= 1", f"{args.episodes}, {args.max_steps}")
    if args.episode_seed is not None and not 0 <= args.episode_seed <= LAST_SEED - args.episodes:
        raise refusal("--episode-seed", f"a whole number >= 0 and < {LAST_SEED}", str(args.episode_seed))
    if args.output is not None and not args.output.expanduser().parent.is_dir():
        raise refusal("--output", "a file in a folder that is there", shortened(args.output))
    if args.output is not None and args.output.is_dir():
        raise refusal("--output", "a file", f"{shortened(args.output)}, a folder")
    if (
        args.screen
        and sys.platform.startswith("linux")
        and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    ):
        raise refusal("--screen", "a display", "none (DISPLAY is not set)", "Leave --screen out and look at the file.")
    if args.distribution and args.screen:
        raise refusal("--distribution", "a file", "a window (--screen)", "Give one of the two.")
    policy = load_policy(args.source, seed=args.seed, tracking_uri=args.tracking_uri, allow_imports=args.allow_imports)
    if args.distribution:
        check_algorithm(policy.settings.algo.name, "--distribution")
    output = args.output or Path(f"play-{policy.seed}.gif")
    if args.output is None and output.is_symlink():  # the user has not chosen it
        raise refusal("--output", f"a file {output} of its own here", "a symbolic link", "Remove it, or give --output.")
    first = default_seed(policy.settings) if args.episode_seed is None else args.episode_seed
    for episode_seed in range(first, first + args.episodes):
        if args.screen:
            print(f"episode seed {episode_seed}: return {watch(policy, episode_seed, args.max_steps):g}")
            continue
        path = output if args.episodes == 1 else output.with_stem(f"{output.stem}-{episode_seed}")
        episode_return = _draw(args)(policy, episode_seed, path, args.max_steps)
        print(f"episode seed {episode_seed}: return {episode_return:g}, written to {path}")
    return 0
