"""Animations of an episode: frames from a Gymnasium environment, written as GIF or MP4.

A frame is a uint8 array `[height, width, 3]` (RGB).
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rlexp.envs.guard import Guarded
from rlexp.jobs.policy import Policy
from rlexp.system.backend import quiet_stderr

PALETTE_FRAMES = 16  # frames that the GIF's palette is made from
MIN_GIF_DURATION = 2  # hundredths of a second: browsers play a shorter frame as a tenth of a second


def render_episode(env: Any, policy: Callable[[Any], Any], seed: int, max_steps: int) -> tuple[list[np.ndarray], float]:
    """Play one episode and film it.

    Args:
        env: Gymnasium environment made with `render_mode="rgb_array"`; it is not closed.
        policy: observation -> action.
        seed: the episode's seed, for `env.reset`.
        max_steps: the episode is cut here.

    Returns:
        The frames, one before each step and one after the last, and the undiscounted return.

    Raises:
        ValueError: if the environment has another render mode.
    """
    if env.render_mode != "rgb_array":
        raise ValueError(f"expected an environment made with render_mode='rgb_array', received {env.render_mode!r}")
    observation, _ = env.reset(seed=seed)
    frames, episode_return = [np.array(env.render())], 0.0  # a copy: some environments draw into one buffer
    for _ in range(max_steps):
        observation, reward, terminated, truncated, _ = env.step(policy(observation))
        episode_return += float(reward)
        frames.append(np.array(env.render()))
        if terminated or truncated:
            break
    return frames, episode_return


def write_gif(
    frames: Iterable[np.ndarray], path: str | Path, fps: float, max_width: int = 320, max_frames: int = 250
) -> None:
    """Write a small GIF that loops for ever and plays as long as the frames at `fps`.

    The format counts time in hundredths of a second, and browsers slow down frames shorter than two of them.
    So frames are dropped evenly (the first and the last stay) to `max_frames` and to 50 per second, and each
    frame's start, not its duration, is rounded: the playing time is right to 5 ms for any number of frames.

    Args:
        frames: `T` frames of equal size.
        path: file to write.
        fps: frames per second of `frames`.
        max_width: wider frames are scaled down to this width, in pixels.
        max_frames: maximum number of frames that are kept. Equal neighbours are stored as one longer frame.

    Raises:
        ValueError: if there are no frames, or they are not uint8 `[height, width, 3]` of equal size.
    """
    frames = _checked(frames)
    hundredths = max(100 * len(frames) / fps, MIN_GIF_DURATION)
    num_kept = max(1, min(len(frames), max_frames, int(hundredths / MIN_GIF_DURATION)))
    starts = np.rint(np.linspace(0, hundredths, num_kept + 1))
    kept = np.rint(np.linspace(0, len(frames) - 1, num_kept)).astype(int)

    height, width = frames[0].shape[:2]
    scale = min(1.0, max_width / width)
    size = (round(scale * width), max(1, round(scale * height)))
    images = [Image.fromarray(frames[index]).resize(size, Image.Resampling.BILINEAR) for index in kept]
    # One palette for all frames: colours do not flicker, and frames need no palettes of their own.
    sampled = np.linspace(0, num_kept - 1, min(num_kept, PALETTE_FRAMES)).astype(int)
    sample = np.concatenate([np.asarray(images[index]) for index in sampled])
    palette = Image.fromarray(sample).quantize(256, Image.Quantize.FASTOCTREE)
    first, *others = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    first.save(
        path,
        format="GIF",
        save_all=True,
        append_images=others,
        duration=[int(10 * ticks) for ticks in np.diff(starts)],  # milliseconds
        loop=0,
    )


def write_png(frame: np.ndarray, path: str | Path) -> None:
    """Write one picture; raises `ValueError` for anything but uint8 `[height, width, 3]`."""
    Image.fromarray(_checked([frame])[0]).save(path, format="PNG")


def write_mp4(frames: Iterable[np.ndarray], path: str | Path, fps: float) -> None:
    """Write an H.264 video that browsers play; odd widths and heights, which it cannot have, gain one pixel.

    Args:
        frames: `T` frames of equal size.
        path: file to write.
        fps: frames per second.

    Raises:
        ModuleNotFoundError: if imageio-ffmpeg is missing.
        ValueError: if there are no frames, or they are not uint8 `[height, width, 3]` of equal size.
    """
    try:
        import imageio_ffmpeg
    except ModuleNotFoundError as error:
        text = "write_mp4 needs imageio-ffmpeg: pip install 'rlexp[video]'"
        raise ModuleNotFoundError(text, name=error.name) from error
    frames = _checked(frames)
    height, width = frames[0].shape[:2]
    padding = ((0, height % 2), (0, width % 2), (0, 0))
    writer = imageio_ffmpeg.write_frames(
        str(path),
        (width + width % 2, height + height % 2),
        fps=fps,
        codec="libx264",
        macro_block_size=2,
        ffmpeg_log_level="error",
        output_params=["-movflags", "+faststart"],  # plays before it is loaded completely
    )
    writer.send(None)
    try:
        for frame in frames:
            writer.send(np.ascontiguousarray(np.pad(frame, padding, mode="edge")))
    finally:
        writer.close()


def _checked(frames: Iterable[np.ndarray]) -> list[np.ndarray]:
    frames = list(frames)
    if not frames:
        raise ValueError("an animation needs at least one frame, received none")
    shape = frames[0].shape
    for index, frame in enumerate(frames):
        if frame.dtype != np.uint8 or frame.shape != shape or frame.ndim != 3 or shape[2] != 3:
            raise ValueError(
                f"expected uint8 frames [height, width, 3] of one size, received {frame.dtype} {frame.shape} "
                f"for frame {index} and {frames[0].dtype} {shape} for frame 0"
            )
    return frames


def rendered(
    policy: Policy, act: Callable[[Any], Any], episode_seed: int, max_steps: int
) -> tuple[list[np.ndarray], float, float]:
    """Frames of an episode of the policy's environment with the actions of `act`, its return, and frames per second."""
    with quiet_stderr():  # SDL complains about a missing desktop
        env = Guarded(policy.make_env("rgb_array"))
    try:
        with quiet_stderr():
            frames, episode_return = render_episode(env, act, episode_seed, max_steps)
        return frames, episode_return, env.metadata.get("render_fps") or 30
    finally:
        env.close()


def animate(policy: Policy, episode_seed: int, path: Path, max_steps: int) -> float:
    """Render one episode to a `.gif` or `.mp4` file; returns its return."""
    frames, episode_return, fps = rendered(policy, policy, episode_seed, max_steps)
    (write_mp4 if path.suffix == ".mp4" else write_gif)(frames, path, fps)
    return episode_return
