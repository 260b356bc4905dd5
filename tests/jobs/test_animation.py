import sys
import time

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from rlexp.jobs.animation import render_episode, write_gif, write_mp4


def balance(observation):
    return int(observation[2] + 0.3 * observation[3] + 0.03 * observation[0] + 0.1 * observation[1] > 0)


@pytest.fixture(scope="module")
def episode():
    env = gym.make("CartPole-v1", render_mode="rgb_array")
    yield render_episode(env, balance, seed=1, max_steps=499)
    env.close()


@pytest.fixture
def frames(episode):
    return episode[0]


def numbered(count, height=16, width=16):
    """Black frames with one white pixel, at another place in each frame."""
    frames = np.zeros((count, height * width, 3), dtype=np.uint8)
    frames[np.arange(count), np.arange(count)] = 255
    return list(frames.reshape(count, height, width, 3))


def gif(path):
    """Duration in ms and place of the brightest pixel of each stored frame."""
    with Image.open(path) as image:
        stored = []
        for index in range(image.n_frames):
            image.seek(index)
            stored.append((image.info["duration"], int(np.argmax(image.convert("L")))))
    durations, numbers = zip(*stored, strict=True)
    return list(durations), list(numbers)


def test_episode_is_filmed_before_each_step_and_after_the_last(episode):
    frames, episode_return = episode
    assert (len(frames), episode_return) == (500, 499.0)
    assert {(frame.shape, frame.dtype.name) for frame in frames} == {((400, 600, 3), "uint8")}
    env = gym.make("CartPole-v1", render_mode="rgb_array")
    env.reset(seed=1)
    np.testing.assert_array_equal(frames[0], env.render())
    env.close()


def test_episode_ends_with_its_environment():
    env = gym.make("CartPole-v1", render_mode="rgb_array")
    frames, episode_return = render_episode(env, lambda observation: 0, seed=0, max_steps=500)
    assert len(frames) == episode_return + 1 < 15
    again, _ = render_episode(env, lambda observation: 0, seed=0, max_steps=3)
    assert len(again) == 4
    np.testing.assert_array_equal(again, frames[:4])
    env.close()


def test_episode_keeps_frames_of_an_environment_that_draws_into_one_buffer():
    class Counter(gym.Env):
        render_mode = "rgb_array"
        screen = np.zeros((2, 2, 3), np.uint8)

        def reset(self, seed=None, options=None):
            self.screen[:] = 0
            return 0, {}

        def step(self, action):
            self.screen += 1
            return 0, 0.5, False, False, {}

        def render(self):
            return self.screen

    frames, episode_return = render_episode(Counter(), lambda observation: 0, seed=0, max_steps=3)
    assert [int(frame[0, 0, 0]) for frame in frames] == [0, 1, 2, 3]
    assert episode_return == 1.5


def test_episode_needs_frames():
    with pytest.raises(ValueError, match=r"expected .* render_mode='rgb_array', received None"):
        render_episode(gym.make("CartPole-v1"), balance, seed=0, max_steps=3)


def test_gif_of_500_cartpole_frames_is_small_and_quick(frames, tmp_path):
    path = tmp_path / "animation.gif"
    start = time.process_time()
    write_gif(frames, path, fps=50)
    assert time.process_time() - start < 2.5
    assert path.stat().st_size < 1_500_000
    durations, _ = gif(path)
    assert sum(durations) == 10_000
    assert len(durations) <= 250
    with Image.open(path) as image:
        assert image.size == (320, 213)
        assert image.info["loop"] == 0
        shown = np.asarray(image.convert("RGB"), dtype=int)
    shrunk = np.asarray(Image.fromarray(frames[0]).resize((320, 213), Image.Resampling.BILINEAR), dtype=int)
    assert np.abs(shown - shrunk).max() < 20  # 256 colours
    assert np.abs(shown - shrunk).mean() < 1.5


@pytest.mark.parametrize("fps", [1, 4, 7, 12.5, 15, 24, 30, 50, 60, 144])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
def test_gif_plays_as_long_as_its_frames(count, fps, tmp_path):
    write_gif(numbered(count), tmp_path / "a.gif", fps)
    durations, numbers = gif(tmp_path / "a.gif")
    assert sum(durations) == pytest.approx(max(20, 1000 * count / fps), abs=5.001)
    assert min(durations) >= 20  # browsers play shorter frames at 100 ms
    if fps <= 50:
        assert numbers == list(range(count))
        np.testing.assert_allclose(durations, 1000 / fps, atol=10)


def test_gif_drops_frames_evenly(tmp_path):
    write_gif(numbered(201), tmp_path / "a.gif", fps=20, max_frames=51)
    durations, numbers = gif(tmp_path / "a.gif")
    assert numbers == list(range(0, 201, 4))  # the first and the last stay
    assert sum(durations) == 10_050
    assert set(durations) == {190, 200}


def test_gif_stores_equal_neighbours_once(tmp_path):
    first, second = numbered(2)
    frames = [first] * 30 + [second] * 10
    write_gif(frames, tmp_path / "a.gif", fps=10)
    assert gif(tmp_path / "a.gif")[0] == [3000, 1000]


def test_gif_takes_an_iterator_and_never_enlarges(tmp_path):
    write_gif(iter(numbered(3, height=5, width=7)), tmp_path / "a.gif", fps=10)
    with Image.open(tmp_path / "a.gif") as image:
        assert (image.size, image.n_frames) == ((7, 5), 3)
    write_gif(numbered(2, height=1, width=900), tmp_path / "a.gif", fps=10, max_width=100)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.size == (100, 1)


@pytest.mark.parametrize("write", [write_gif, write_mp4])
def test_wrong_frames_are_refused(write, tmp_path):
    first = numbered(1)
    with pytest.raises(ValueError, match="at least one frame"):
        write([], tmp_path / "a", fps=10)
    with pytest.raises(ValueError, match=r"received uint8 \(16, 7, 3\) for frame 1 and uint8 \(16, 16, 3\)"):
        write(first + numbered(1, width=7), tmp_path / "a", fps=10)
    with pytest.raises(ValueError, match=r"received float64 \(16, 16, 3\) for frame 0"):
        write([first[0] / 255], tmp_path / "a", fps=10)
    with pytest.raises(ValueError, match=r"received uint8 \(16, 16\) for frame 0"):
        write([first[0][..., 0]], tmp_path / "a", fps=10)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("height", "width"), [(400, 600), (399, 599)])
def test_mp4_is_read_back(height, width, frames, tmp_path):
    path = tmp_path / "animation.mp4"
    write_mp4((frame[:height, :width] for frame in frames[:60]), path, fps=50)
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    assert (meta["size"], meta["fps"], meta["codec"]) == ((600, 400), 50.0, "h264")
    assert meta["pix_fmt"].startswith("yuv420p")  # what browsers play
    shown = [np.frombuffer(frame, np.uint8).reshape(400, 600, 3) for frame in reader]
    assert len(shown) == 60
    difference = np.abs(shown[-1][:height, :width].astype(int) - frames[59][:height, :width])
    assert difference.mean() < 3


def test_mp4_without_its_package_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rlexp\[video\]'"):
        write_mp4(numbered(2), tmp_path / "a.mp4", fps=10)
