"""Names that people know from books and other libraries, and where what they mean is found here."""

from __future__ import annotations

import re

from rlexp.config import paths

ALGOS = {  # without case, hyphens and underscores
    "ppo": "PPO is algo=ppo.",
    "ppo2": "PPO is algo=ppo.",
    "proximalpolicyoptimization": "PPO is algo=ppo.",
    "a3c": "Its synchronous form is algo=a2c.",
    "ac": "Actor-critics are algo=a2c and, with one environment, algo=pg_baseline.",
    "actorcritic": "Actor-critics are algo=a2c and, with one environment, algo=pg_baseline.",
    "advantageactorcritic": "Advantage actor-critic is algo=a2c.",
    "parallelizedqnetwork": "The parallelised Q-network is algo=pqn.",
    "gae": "Generalised advantages are algo=pg_baseline and algo=ppo, with algo.gae_lambda.",
    "reinforce": "REINFORCE is algo=pg; with a learned baseline, algo=pg_baseline.",
    "vpg": "The vanilla policy gradient is algo=pg; with a value baseline, algo=pg_baseline.",
    "policygradient": "Policy gradients are algo=pg and, with a value baseline, algo=pg_baseline.",
    "policygradients": "Policy gradients are algo=pg and, with a value baseline, algo=pg_baseline.",
    "trpo": "There is none yet; nearest is algo=ppo, which limits its updates by clipping.",
    "doubledqn": "Double DQN is algo=ddqn.",
    "dueling": "Dueling networks are algo=dueling_dqn and algo=dueling_ddqn.",
    "duelling": "Dueling networks are algo=dueling_dqn and algo=dueling_ddqn.",
    "d3qn": "Dueling double DQN is algo=dueling_ddqn.",
    "duelingdoubledqn": "Dueling double DQN is algo=dueling_ddqn.",
    "dqntarget": "DQN with a target network is algo=fixed_dqn.",
    "targetdqn": "DQN with a target network is algo=fixed_dqn.",
    "nstepdqn": "n-step returns are a key of every DQN: algo=ddqn algo.n_step=5.",
    "per": "Prioritised replay is a key of every DQN: algo=ddqn algo.replay=prioritized.",
    "prioritizeddqn": "Prioritised replay is a key of every DQN: algo=ddqn algo.replay=prioritized.",
    "prioritizedreplay": "Prioritised replay is a key of every DQN: algo=ddqn algo.replay=prioritized.",
    "categoricaldqn": "Categorical DQN is algo=c51.",
    "distributionaldqn": "Distributional DQNs are algo=c51, algo=qr_dqn and algo=iqn.",
    "quantiledqn": "Quantile regression DQN is algo=qr_dqn.",
    "implicitquantilenetwork": "Implicit quantile networks are algo=iqn.",
    "noisydqn": "Noisy networks are a key of every DQN's network: algo=fixed_dqn network.noisy=true algo.epsilon=0.",
    "noisynet": "Noisy networks are a key of every DQN's network: algo=fixed_dqn network.noisy=true algo.epsilon=0.",
    "munchausen": "Munchausen DQN is algo=munchausen_dqn.",
    "softactorcritic": "SAC is algo=sac.",
    "ddpg": "There is none; nearest is algo=td3, which improves on it.",
    "vi": "Value iteration is algo=q_value_iteration, where the environment has a transition table P.",
    "valueiteration": "Value iteration is algo=q_value_iteration, where the environment has a transition table P.",
    "qvi": "Value iteration is algo=q_value_iteration, where the environment has a transition table P.",
    "policyiteration": "There is none; algo=q_value_iteration plans where the environment has a transition table P.",
    "td": "Temporal differences for control are algo=q_learning, sarsa and expected_sarsa.",
    "tdlearning": "Temporal differences for control are algo=q_learning, sarsa and expected_sarsa.",
    "ql": "Q-learning with tables is algo=q_learning; with networks, algo=dqn.",
    "tabularq": "Q-learning with tables is algo=q_learning.",
    "doubleq": "Double Q-learning is algo=double_q_learning.",
    "montecarlo": "There is none with tables yet; algo=pg learns from the returns of whole episodes.",
    "mc": "There is none with tables yet; algo=pg learns from the returns of whole episodes.",
    "dyna": "There is none yet; nearest is algo=q_learning.",
    "dynaq": "There is none yet; nearest is algo=q_learning.",
    "cem": "There is none; nearest is algo=pg.",
    "es": "There is none; nearest is algo=pg.",
    "impala": "There is none; nearest is algo=ppo.",
    "muzero": "There is none; nearest is algo=dueling_ddqn.",
}
KEYS = {  # words that are no keys here -> what to write
    "agent": "The algorithm is algo=, e.g. algo=dqn.",
    "algorithm": "The algorithm is algo=, e.g. algo=dqn.",
    "alpha": "A table's learning rate is algo.alpha; a network's is algo.optimizer.lr.",
    "batch_size": "It is algo.batch_size.",
    "buffer_size": "It is algo.replay_size, of the DQN family.",
    "cuda": "Where tensors live is device=auto, cpu or gpu.",
    "discount": "It is algo.gamma.",
    "env_id": "Gymnasium ids are env.id=; environments that ship with rlexp are env=.",
    "environment": "It is env= for one that ships with rlexp, env.id= for any Gymnasium id.",
    "epochs": "Training is counted in budget.steps= or budget.episodes=; passes over a batch are algo.num_updates.",
    "eps": "It is algo.epsilon.",
    "eval_freq": "It is evaluation.period, in env steps.",
    "exp_name": "What is compared has a name: study=.",
    "experiment_name": "What is compared has a name: study=.",
    "frames": "It is budget.steps=.",
    "gpu": "Where tensors live is device=auto, cpu or gpu.",
    "iterations": "Training is counted in budget.steps= or budget.episodes=.",
    "layers": "It is network.hidden_units, e.g. network.hidden_units=[64,64].",
    "learning_rate": "It is algo.optimizer.lr for networks, algo.alpha for tables.",
    "log_dir": "It is output_dir=.",
    "logdir": "It is output_dir=.",
    "lr": "It is algo.optimizer.lr for networks, algo.alpha for tables.",
    "max_episode_steps": "It is env.max_episode_steps.",
    "max_steps": "Training is counted in budget.steps=; the limit of an episode is env.max_episode_steps.",
    "model": "The Keras model is network=; the update rule is algo=.",
    "n_episodes": "It is budget.episodes=.",
    "n_jobs": "Jobs run side by side under hydra/launcher=joblib (rlexp[parallel]).",
    "n_seeds": "It is trials=, with seeds seed, seed + 1, ...",
    "n_steps": "Training is counted in budget.steps=; n-step returns are algo.n_step.",
    "n_trials": "It is trials=: seeds run together. Candidates of a search are hydra.sweeper.num_candidates.",
    "name": "What is compared has a name: study=.",
    "num_envs": "Environments of each trial are algo.num_envs, of algo=a2c, ppo and pqn; trials= run together.",
    "num_episodes": "It is budget.episodes=; evaluation has evaluation.num_episodes.",
    "num_seeds": "It is trials=, with seeds seed, seed + 1, ...",
    "num_steps": "It is budget.steps=.",
    "num_trials": "It is trials=.",
    "optimizer": "It is algo.optimizer, e.g. algo.optimizer.name=adam algo.optimizer.lr=1e-3.",
    "policy": "The update rule is algo=, the Keras model is network=; how evaluation acts is evaluation.policy.",
    "render": "The best trial is animated at the end (animation.enabled); rlexp play <job folder> shows it.",
    "resume": "The same command continues by itself; rerun=true starts afresh.",
    "runs": "It is trials=: seeds run together.",
    "save_dir": "It is output_dir=.",
    "seeds": "It is trials= for how many, seed= for the first: seeds are seed, seed + 1, ...",
    "timesteps": "It is budget.steps=.",
    "total_timesteps": "It is budget.steps=.",
    "train_steps": "It is budget.steps=.",
    "tensorboard": "It is tracking=tensorboard; beside MLflow: tracking=[mlflow,tensorboard]",
    "wandb": "Trackers are tracking=mlflow, tracking=tensorboard and tracking=files.",
    "workers": "Jobs run side by side under hydra/launcher=joblib (rlexp[parallel]).",
    "algo.actor_lr": "It is algo.optimizer.lr, for policy and value together.",
    "algo.buffer_size": "It is algo.replay_size.",
    "algo.clip_range": "It is algo.clip_ratio, of algo=ppo.",
    "algo.ent_coef": "It is algo.entropy_coef, of policy gradients.",
    "algo.learning_rate": "It is algo.optimizer.lr for networks, algo.alpha for tables.",
    "algo.vf_coef": "It is algo.value_coef, of algo=pg_baseline and algo=ppo.",
    "env.wrapper": "It is a list: env.wrappers=[module.Class].",
    "network.layers": "It is network.hidden_units, e.g. network.hidden_units=[64,64].",
}
MOVED_KEYS = {  # keys that some algorithms had in earlier versions -> where they are now
    "algo.clip_ratio": "It is a key of algo=ppo, which is what algo=pg_baseline was in earlier versions.",
    "algo.num_minibatches": "It is a key of algo=ppo, which is what algo=pg_baseline was in earlier versions.",
    "algo.num_updates": "It is a key of algo=ppo and of the DQN family; pg and pg_baseline make one update per batch.",
}
MOVED_PRESETS = {  # names of presets in earlier versions -> now
    "families/pg_baseline": "families/ppo",
    "tuned/pg_baseline_cartpole": "tuned/ppo_cartpole",
    "tuned/pg_baseline_lunar_lander": "tuned/ppo_lunar_lander",
}
ENVS = {  # names of environments that are not in conf/env/, without case and punctuation
    "atari": "Games are env=space_invaders env.id=ALE/Pong-v5 with network=dueling_cnn or network=cnn.",
    "blackjack": "Its Gymnasium id is env.id=Blackjack-v1",
    "breakout": "Games are env=space_invaders env.id=ALE/Breakout-v5 with network=dueling_cnn or network=cnn.",
    "gridworld": "There are env=frozen_lake, env=cliff_walking and env=taxi.",
    "lake": "Did you mean env=frozen_lake?",
    "minigrid": "For example env.id=MiniGrid-Empty-5x5-v0 env.wrappers=[minigrid.wrappers.ImgObsWrapper]",
    "pong": "Games are env=space_invaders env.id=ALE/Pong-v5 with network=dueling_cnn or network=cnn.",
}
VALUES = {  # words for what a key may hold
    "device": {"cuda": "gpu", "cuda:0": "gpu", "gpu:0": "gpu", "tpu": "auto", "mps": "auto"},
    "algo.loss": {"l2": "mse", "smooth_l1": "huber", "mean_squared_error": "mse"},
    "algo.optimizer.name": {"rms": "rmsprop", "momentum": "sgd"},
}
NO_TRACKER = ("none", "no", "off", "false", "disabled")
SEEDS = "Seeds run together in one job: trials=3 seed=0 are the seeds 0, 1 and 2."
ACTIONS = {  # how ids of environments with continuous actions begin -> their discrete variants
    "CarRacing-": "env.kwargs.continuous=false makes its actions numbered.",
    "MountainCarContinuous-": "Its discrete variant is env=mountain_car.",
    "LunarLanderContinuous-": "Its discrete variant is env=lunar_lander.",
    "LunarLander-": "Without env.kwargs.continuous its actions are numbered.",
}


def for_choice(group: str, name: str) -> str:
    """What to say of a name that a group does not have; empty where near matches say it better."""
    if group == "algo":
        return ALGOS.get(_bare(name), "")
    if group == "env":
        return _for_env(name)
    if group == "experiment" and name in MOVED_PRESETS:
        return f"It is now +experiment={MOVED_PRESETS[name]}"
    if group == "network" and ":" in name:
        return f"A function of your own is network.name={name}"
    if group == "tracking" and name.lower() in NO_TRACKER:
        return "Results lie in the job's folder; tracking=files sends them nowhere else."
    return ""


def where_nothing_is_near(group: str) -> str:
    """What to say of a name that resembles none of its group."""
    return "A Keras model of your own: network.name=module:function" if group == "network" else ""


def for_key(key: str) -> str:
    """Where what an unknown key means is found; empty where near matches say it better."""
    if key.startswith("hydra.sweeper."):
        return "Keys of a search need it: -m hydra/sweeper=optuna, or a named one as +sweep=search_dqn"
    return KEYS.get(key, "")


def for_value(key: str, value: str) -> str:
    """The word of ours for a value that other libraries have."""
    meant = VALUES.get(key, {}).get(value)
    return f"Did you mean {meant}?" if meant else ""


def for_actions(env_id: str, box: bool) -> str:
    """How the actions of an environment that are not numbered can be numbered."""
    for start, text in ACTIONS.items():
        if env_id.rpartition(":")[2].startswith(start):
            return text
    if box:
        return "A wrapper numbers them: env.wrappers='[{name: DiscretizeAction, bins: 5}]'"
    return "A wrapper of your own can number them: env.wrappers=[module.Class]"


def _for_env(name: str) -> str:
    from omegaconf import OmegaConf

    from rlexp.config.paths import conf_dir

    stem = re.sub(r"-v\d+$", "", name.rpartition(":")[2])
    for known in paths.configured("env"):
        env_id = OmegaConf.select(OmegaConf.load(conf_dir() / "env" / f"{known}.yaml"), "id")
        if name == env_id:
            return f"A Gymnasium id is given by env.id={name}; with the settings that ship with rlexp, env={known}"
        if stem != name and _bare(stem) in (_bare(known), _bare(re.sub(r"-v\d+$", "", str(env_id)))):
            return f"Did you mean env={known}? Its Gymnasium id is env.id={env_id}"
    if re.search(r"-v\d+$|:|/", name):
        return f"A Gymnasium id is given by env.id={name}"
    return ENVS.get(_bare(name), "")


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
