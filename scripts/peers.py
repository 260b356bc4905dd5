"""The peers of `benchmark.py speed`: measures the speed of one of them and prints a line of JSON.

python scripts/peers.py sb3 cleanrl --steps 30000      # Stable-Baselines3's DQN (extra rlexp[bench])
python scripts/peers.py sb3 ppo_cartpole --steps 10240 # its PPO, four environments (also ppo_lunar_lander)
python scripts/peers.py notebook dqn --steps 1500      # the chapter's own loop, model.predict at every step
python scripts/peers.py notebook table --steps 500     # the chapter's tabular loop, a discretiser fitted at every step
python scripts/peers.py bare cartpole --steps 200000   # a Gymnasium environment alone, random actions
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

SB3: dict[str, dict[str, Any]] = {  # arguments of stable_baselines3.DQN, for the workloads of benchmark.py
    "cleanrl": {
        "policy_kwargs": {"net_arch": [120, 84]},
        "learning_rate": 2.5e-4,
        "buffer_size": 10_000,
        "learning_starts": 10_000,
        "batch_size": 128,
        "train_freq": 10,
        "target_update_interval": 500,
        "exploration_fraction": 0.5,
        "exploration_final_eps": 0.05,
    },
    "every_step": {
        "policy_kwargs": {"net_arch": [32, 32]},
        "learning_rate": 1e-3,
        "buffer_size": 10_000,
        "learning_starts": 1_000,
        "batch_size": 32,
        "train_freq": 1,
        "target_update_interval": 500,
        "exploration_fraction": 0.5,
        "exploration_final_eps": 0.05,
    },
}


def sb3(workload: str, steps: int) -> float:
    """Env steps per second of Stable-Baselines3's DQN while it learns, with its fastest number of threads."""
    import torch
    from stable_baselines3 import DQN
    from stable_baselines3.common.callbacks import BaseCallback

    torch.set_num_threads(1)  # two threads are slower for such networks (measured)
    settings = SB3[workload]
    first = settings["learning_starts"] + 1_000
    times: dict[int, float] = {}

    class Clock(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps in (first, first + steps):
                times[self.num_timesteps] = time.perf_counter()
            return True

    model: Any = DQN("MlpPolicy", "CartPole-v1", seed=0, device="cpu", **settings)
    model.learn(first + steps, callback=Clock())
    return steps / (times[first + steps] - times[first])


def sb3_ppo(env_id: str, steps: int) -> float:
    """Env steps per second of Stable-Baselines3's PPO, whose settings are those of ppo_costs.py; `steps`: whole
    batches of 512."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env

    torch.set_num_threads(1)  # two threads are slower for such networks (measured)
    times: dict[int, float] = {}
    first, last = 1_024, 1_024 + steps

    class Clock(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps in (first, last):
                times[self.num_timesteps] = time.perf_counter()
            return True

    model: Any = PPO(
        "MlpPolicy",
        make_vec_env(env_id, n_envs=4, seed=0),
        policy_kwargs={"net_arch": [64, 64]},
        n_steps=128,
        batch_size=128,
        n_epochs=4,
        learning_rate=2.5e-4,
        gamma=0.99,
        gae_lambda=0.95,
        clip_range=0.2,
        ent_coef=0.01,
        max_grad_norm=0.5,
        seed=0,
        device="cpu",
    )
    model.learn(last, callback=Clock())
    return steps / (times[last] - times[first])


def notebook_dqn(steps: int) -> float:
    """Env steps per second of the chapter's DQN (32-32 ELU, one update of 32 transitions per episode)."""
    import tensorflow as tf

    env: Any = gymnasium.make("CartPole-v1")
    model = tf.keras.Sequential(
        [
            tf.keras.layers.Input((4,)),
            tf.keras.layers.Dense(32, activation="elu"),
            tf.keras.layers.Dense(32, activation="elu"),
            tf.keras.layers.Dense(2),
        ]
    )
    optimizer, loss_fn = tf.keras.optimizers.Nadam(learning_rate=1e-2), tf.keras.losses.MeanSquaredError()
    replay: deque[tuple] = deque(maxlen=2000)

    def train() -> None:
        batch = [replay[i] for i in np.random.randint(len(replay), size=32)]
        states, actions, rewards, next_states, ends = (np.array(field) for field in zip(*batch, strict=True))
        best = model.predict(next_states, verbose=0).max(axis=1)
        target = (rewards + (1.0 - ends) * 0.95 * best).reshape(-1, 1)
        mask = tf.one_hot(actions, 2)
        with tf.GradientTape() as tape:
            q = tf.reduce_sum(model(states) * mask, axis=1, keepdims=True)
            loss = tf.reduce_mean(loss_fn(target, q))
        weights = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))

    taken, episode, began = 0, 0, 0.0
    while taken < steps:
        if episode == 5:  # all functions are traced
            taken, began = 0, time.perf_counter()
        observation, _ = env.reset(seed=episode)
        for _ in range(200):
            action = int(model.predict(observation[np.newaxis], verbose=0)[0].argmax())
            after, reward, terminated, truncated, _ = env.step(action)
            replay.append((observation, action, reward, after, terminated or truncated))
            observation, taken = after, taken + 1
            if terminated or truncated:
                break
        episode += 1
        train()
    return taken / (time.perf_counter() - began)


def notebook_table(steps: int) -> float:
    """Env steps per second of the chapter's Q-learning on binned CartPole, random exploration."""
    from sklearn.preprocessing import KBinsDiscretizer

    env: Any = gymnasium.make("CartPole-v1")
    low = [env.observation_space.low[2], -math.radians(50)]
    high = [env.observation_space.high[2], math.radians(50)]

    def state_of(observation: np.ndarray) -> tuple[int, ...]:
        bins = KBinsDiscretizer(n_bins=(6, 12), encode="ordinal", strategy="uniform")
        bins.fit([low, high])
        return tuple(map(int, bins.transform([[observation[2], observation[3]]])[0]))

    q, taken, episode, began = np.zeros((6, 12, 2)), 0, 0, time.perf_counter()
    while taken < steps:
        observation, _ = env.reset(seed=episode)
        state, ended = state_of(observation), False
        while not ended:
            action = np.random.choice([0, 1])
            observation, reward, ended, _, _ = env.step(action)
            after = state_of(observation)
            alpha = 0.05 / (1 + episode * 0.005)
            q[state][action] += alpha * (reward + 0.9 * q[after].max() - q[state][action])
            state, taken = after, taken + 1
        episode += 1
    return taken / (time.perf_counter() - began)


def bare(steps: int) -> float:
    """Env steps per second of CartPole alone."""
    env: Any = gymnasium.make("CartPole-v1")
    env.reset(seed=0)
    began = time.perf_counter()
    for _ in range(steps):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()
    return steps / (time.perf_counter() - began)


PEERS: dict[tuple[str, str], Callable[[int], float]] = {
    ("sb3", "cleanrl"): lambda steps: sb3("cleanrl", steps),
    ("sb3", "every_step"): lambda steps: sb3("every_step", steps),
    ("sb3", "ppo_cartpole"): lambda steps: sb3_ppo("CartPole-v1", steps),
    ("sb3", "ppo_lunar_lander"): lambda steps: sb3_ppo("LunarLander-v3", steps),
    ("notebook", "dqn"): notebook_dqn,
    ("notebook", "table"): notebook_table,
    ("bare", "cartpole"): bare,
}


def main() -> int:
    """Measure one peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=sorted({peer for peer, _ in PEERS}))
    parser.add_argument("workload")
    parser.add_argument("--steps", type=int, default=10_000, help="env steps to time")
    args = parser.parse_args()
    measure = PEERS.get((args.peer, args.workload))
    if measure is None:
        parser.error(f"{args.peer} has no workload {args.workload!r}")
    speed = measure(args.steps)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"steps_per_second": speed, "peak_mb": peak}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
