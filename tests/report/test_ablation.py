"""The report by component: ablations found in configurations, their effects, sentences, tables and pictures."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from rlexp.cli.report import main
from rlexp.config import registry
from rlexp.config.components import COMPONENTS, PLAIN, composition, difference
from rlexp.config.paths import conf_dir
from rlexp.config.schema.algos import DistributionalSettings, DQNSettings
from rlexp.config.study_names import flat
from rlexp.jobs.results import load_study
from rlexp.jobs.runner import compose
from rlexp.math.statistics import iqm, normalise
from rlexp.math.two_way import difference_interval
from rlexp.report import study
from rlexp.report.ablation import find_panels
from rlexp.report.component_effects import AREA, FINAL, OVERALL, Ablation, study_ablation
from rlexp.report.grouping import tasks
from tests.studies import make_job

NAMES = ("double", "prioritized", "dueling", "n_step", "distributional", "noisy")
LESS, MORE = {name: f"rainbow-{name}" for name in NAMES}, {name: f"dqn+{name}" for name in NAMES}
ENVS = {"cartpole": "CartPole-v1", "acrobot": "Acrobot-v1"}


def members() -> list[str]:
    sweep: Any = OmegaConf.to_container(OmegaConf.load(conf_dir() / "sweep" / "rainbow_ablation.yaml"))
    return [name.strip() for name in sweep["hydra"]["sweeper"]["params"]["+experiment"].split(",")]


def settings_of(algo: str, network: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """The default settings of an algorithm, with changes."""
    algo_settings = asdict(registry.ALGOS[algo].schema(**{"name": algo, **changes}))
    return {"algo": algo_settings, "network": network or {"name": "mlp", "noisy": False, "options": {}}}


@pytest.fixture(scope="module")
def configs() -> dict[str, dict[str, Any]]:
    """Configurations like those of the sweep's presets by their labels."""

    def one(*names: str) -> dict[str, Any]:
        double, prioritized, dueling, n_step, distributional, noisy = (name in names for name in NAMES)
        network = {"name": f"{'noisy_' * noisy}dueling" if dueling else "mlp", "noisy": noisy, "options": {}}
        algo = "c51" if distributional else "ddqn" if double else "fixed_dqn"
        changes = {"double": double} if distributional else {}
        return settings_of(
            algo, network, replay="prioritized" if prioritized else "uniform", n_step=3 if n_step else 1,
            **({"epsilon": 0.0} if noisy else {}), **changes,
        )  # fmt: skip

    found = {"rainbow": one(*NAMES)}
    found |= {LESS[name]: one(*(other for other in NAMES if other != name)) for name in NAMES}
    found |= {"dqn": one(), **{MORE[name]: one(name) for name in NAMES}}
    return {label: {**config, "label": label} for label, config in found.items()}


@pytest.fixture(scope="module")
def presets() -> dict[str, dict[str, Any]]:
    """The configuration of each member of the sweep by its label."""
    composed = [compose(f"+experiment={name}") for name in members()]
    return {str(job.label): {"algo": asdict(job.algo), "network": asdict(job.network)} for job in composed}


def add(folder: Path, config: dict[str, Any], final: Any, env: str = "acrobot", label: str = "", **more: Any) -> Path:
    """One job of a member; its label makes it a contender of its own."""
    name = config["algo"]["name"]
    marked = {"label_of_test": label or config["label"]}
    job = make_job(folder, name, final, env=env, env_id=ENVS[env], config=marked, **more)
    stored = json.loads((job / "config.yaml").read_text())
    stored |= config | {"env": stored["env"], "label": label or config["label"]}
    (job / "config.yaml").write_text(json.dumps(stored))
    return job


def a_study(folder: Path, configs: dict[str, dict[str, Any]], envs: tuple[str, ...] = ("acrobot",)) -> Path:
    """On Acrobot, n-step returns are worth 12, and 20 for DQN; on CartPole all members reach 500."""
    luck = np.random.default_rng(0).normal(0, 2, 10)
    for env in envs:
        for k, (label, config) in enumerate(configs.items()):
            base = -80.0 if label.startswith("rainbow") else -100.0
            changes = {"rainbow-n_step": -12.0, "dqn+n_step": 20.0}
            own = np.random.default_rng(k).normal(0, 0.5, 10)
            final = base + changes.get(label, 0.0) + luck + own
            add(folder, config, np.full(10, 500.0) if env == "cartpole" else final.round(2), env)
    return folder


def ablation(folder: Path) -> Ablation | None:
    return study_ablation(tasks(load_study(folder).jobs))


@pytest.mark.parametrize("source", ["configs", pytest.param("presets", marks=pytest.mark.slow)])
def test_a_members_components_are_those_of_its_name(source: str, request: pytest.FixtureRequest) -> None:
    configs: dict[str, dict[str, Any]] = request.getfixturevalue(source)
    has = {label: composition(c["algo"]["name"], flat(c)) for label, c in configs.items()}
    assert {label: sorted(one.components) for label, one in has.items() if one} == {
        "rainbow": sorted(NAMES),
        "dqn": [],
        **{LESS[name]: sorted({*NAMES} - {name}) for name in NAMES},
        **{MORE[name]: [name] for name in NAMES},
    }
    for name in NAMES:
        full, plain, less, more = (has[label] for label in ("rainbow", "dqn", LESS[name], MORE[name]))
        assert full and plain and less and more
        assert (difference(full, less), difference(more, plain)) == (name, name)
        assert difference(less, full) is None and difference(full, more) is None and difference(full, plain) is None
    assert set(NAMES) == set(COMPONENTS)


def test_other_settings_make_another_base(configs: dict[str, dict[str, Any]]) -> None:
    """A learning rate, a number of steps or a head that differs is no single component."""
    full = composition("rainbow", flat(configs["rainbow"]))
    assert full
    for change in ({"optimizer": {"lr": 1e-3}}, {"n_step": 5}, {"gamma": 0.9}, {"num_atoms": 21}):
        less = json.loads(json.dumps(configs["rainbow-double"]))
        less["algo"] |= change
        other = composition("rainbow", flat(less))
        assert other and difference(full, other) is None, change
    quantiles = composition("qr_dqn", flat(settings_of("qr_dqn")))
    atoms = composition("c51", flat(settings_of("c51", double=True)))
    assert quantiles and atoms and difference(atoms, quantiles) is None
    soft = composition("munchausen_dqn", flat(settings_of("munchausen_dqn", n_step=10)))
    double = composition("ddqn", flat(settings_of("ddqn")))
    assert soft and double and difference(double, soft) is None
    assert composition("ppo", {}) is None and composition("unknown", {}) is None


def test_cnn_networks_have_their_own_way_to_be_dueling() -> None:
    options = {"dueling_cnn": {"filters": [32], "dueling": True}, "cnn": {"filters": [32], "dueling": False}}
    pair = [settings_of("fixed_dqn", {"name": name, "options": own}) for name, own in options.items()]
    more, less = (composition("fixed_dqn", flat(config)) for config in pair)
    assert more and less and difference(more, less) == "dueling"


@pytest.mark.slow  # imports TensorFlow
def test_doubles_without_a_setting_are_those_of_the_code() -> None:
    for name, entry in registry.ALGOS.items():
        if issubclass(entry.schema, DQNSettings):
            known = composition(name, {})
            assert known
            assert ("double" in known.components) == registry.load(entry.target).double  # type: ignore[attr-defined]
            assert (name in PLAIN) == (not issubclass(entry.schema, DistributionalSettings) and "munch" not in name)


def test_both_bases_are_found_and_effects_are_told_by_environment(
    configs: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    found = ablation(a_study(tmp_path / "s", configs))
    assert found
    assert [(p.title, [*p.variants]) for p in found.panels] == [
        ("removed from rainbow", [*COMPONENTS]),
        ("added to dqn", [*COMPONENTS]),
    ]
    assert found.missing == [] and found.everywhere == [] and found.places == ["acrobot"]
    removed, _ = found.panels
    (effect,) = [e for e in found.of("acrobot", FINAL, removed) if e.component == "n_step"]
    by_label = {c.label: c for task in tasks(load_study(tmp_path / "s").jobs) for c in task.contenders}
    differences = by_label["rainbow-n_step"].scores - by_label["rainbow"].scores
    assert effect.value == pytest.approx(differences.mean()) and effect.low < -12.14 < effect.high < -11.5
    spread = differences.std(ddof=1) / np.sqrt(10)  # of pairs: the luck that they share is not in it
    assert 3 * spread < effect.high - effect.low < 6 * spread
    assert effect.comparison.adjusted == pytest.approx(24 * effect.comparison.p) and not effect.comparison.paired
    assert [e.component for e in found.effects if e.significant and e.measure == FINAL] == ["n_step", "n_step"]
    (sentence,) = found.sentences
    value = f"{-effect.value:.1f} [{-effect.high:.1f}, {-effect.low:.1f}]"
    assert sentence.startswith(
        f"On acrobot, removing n-step returns from rainbow costs {value} of the final return (p = 0.00"
    )
    assert "); no other component's removal is significant. Removing n-step returns" in sentence
    assert "Adding n-step returns to dqn gains 2" in sentence
    assert sentence.endswith("no other component's addition is significant.")


def test_over_environments_scores_are_normalised_and_resampled_within_them(
    configs: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    """CartPole has no effect; the normalised effect is that of the IQMs over the trials of both environments."""
    few = {label: configs[label] for label in ("rainbow", "rainbow-n_step", "rainbow-double")}
    found = ablation(a_study(tmp_path / "s", few, ("cartpole", "acrobot")))
    assert found and found.places == [OVERALL, "acrobot", "cartpole"]
    effects = {(e.place, e.measure, e.component): e for e in found.effects}
    assert len(effects) == 3 * 2 * 2 and {e.comparison.adjusted >= e.comparison.p for e in effects.values()} == {True}
    by_label = {(t.name, c.label): (t, c) for t in tasks(load_study(tmp_path / "s").jobs) for c in t.contenders}

    def score(label: str) -> float:
        both = [by_label[env, label] for env in ENVS]
        return float(iqm(np.concatenate([normalise(c.scores, *t.scale[:2]) for t, c in both])))

    overall = effects[OVERALL, FINAL, "n_step"]
    assert overall.value == pytest.approx(score("rainbow-n_step") - score("rainbow")) and overall.value < 0
    assert found.scores[FINAL]["rainbow"][0] == pytest.approx(score("rainbow")) and overall.low <= overall.value
    assert effects["cartpole", FINAL, "n_step"].value == 0.0 and not effects["cartpole", AREA, "n_step"].significant
    sentences = found.sentences
    assert sentences[0].startswith("Over all environments, removing n-step returns from rainbow costs 0.0")
    assert "of the normalised final return (p = 0.0" in sentences[0]
    assert sentences[2] == (
        "On cartpole, by the final return, no component's removal from rainbow is significant. "
        "By the area under the learning curve, no component's removal from rainbow is significant."
    )


def test_a_half_finished_sweep_draws_what_is_there_and_names_what_is_missing(
    configs: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    folder = tmp_path / "s"
    for label in ("rainbow", "rainbow-double", "rainbow-n_step", "dqn", "dqn+double"):
        add(folder, configs[label], np.arange(10.0) - 90)
    add(folder, configs["rainbow-noisy"], None, status="")
    found = ablation(folder)
    assert found and len(found.effects) == 2 * 3
    assert found.missing == [
        "On acrobot no job has prioritised replay, the dueling network and the distribution of returns removed from "
        "rainbow.",
        "On acrobot no job has prioritised replay, the dueling network, n-step returns, the distribution of returns and "
        "noisy networks added to dqn.",
        "On acrobot rainbow-noisy has no final returns yet.",
    ]


def test_variants_on_different_environments_are_not_compared_over_all(
    configs: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    for env, label in (("acrobot", "rainbow-double"), ("cartpole", "rainbow-noisy")):
        for name in ("rainbow", label):
            add(tmp_path / "s", configs[name], np.arange(10.0), env)
    found = ablation(tmp_path / "s")
    assert found and found.places == ["acrobot", "cartpole"] and found.everywhere == []
    assert len(found.sentences) == 2 + len(found.missing)
    assert "removing double DQN from rainbow is not significant" in found.sentences[0]


def test_few_trials_decide_nothing_and_the_sentence_says_so(configs: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    for label in ("rainbow", "rainbow-double", "rainbow-n_step"):
        add(tmp_path / "s", configs[label], [1.0, 2.0, 3.0])
    found = ablation(tmp_path / "s")
    assert found and found.sentences[0].startswith(
        "On acrobot, by the final return, no component's removal from rainbow is significant (3 trials cannot decide "
        "it, at least 2 more needed)."
    )
    assert found.missing[0] == "No two jobs add a component of rainbow to a base without it."


@pytest.mark.parametrize(
    "labels", [(), ("rainbow",), ("rainbow", "rainbow-double"), ("rainbow-double", "rainbow-noisy")]
)
def test_studies_without_an_ablation_have_no_section(
    configs: dict[str, dict[str, Any]], labels: tuple[str, ...], tmp_path: Path
) -> None:
    """A ladder of algorithms, one difference alone, and two differences without their base."""
    folder = tmp_path / "s"
    for algo in ("dqn", "ddqn", "ppo"):
        make_job(folder, algo, [1.0, 2.0])
    for label in labels:
        add(folder, configs[label], [1.0, 2.0], "cartpole")
    assert ablation(folder) is None and find_panels([]) == []
    if labels != ("rainbow",):
        return
    assert "omponent" not in study.write(folder).read_text().split("<main>")[1]
    assert not (folder / "report" / "tables" / "components.csv").exists()


def test_any_base_will_do_and_no_comparison_counts_twice(tmp_path: Path) -> None:
    """Double DQN with two components more: no panel of removals, which would hold the same pairs."""
    for label, algo, changes in (("a", "ddqn", {}), ("b", "ddqn", {"replay": "prioritized"}), ("c", "ddqn", {"n_step": 1}),
                                 ("d", "ddqn", {"n_step": 5})):  # fmt: skip
        config = settings_of(algo, **({"n_step": 10} | changes))
        add(tmp_path / "s", config, np.arange(10.0), label=label)
    panels = find_panels(tasks(load_study(tmp_path / "s").jobs))
    assert [(p.title, p.rows) for p in panels] == []
    add(tmp_path / "s", settings_of("ddqn", replay="prioritized", n_step=1), np.arange(10.0), label="e")
    panels = find_panels(tasks(load_study(tmp_path / "s").jobs))
    assert [(p.title, p.rows) for p in panels] == [
        ("removed from b", [("prioritized", "a"), ("n_step", "e")]),
        ("added to c", [("prioritized", "e"), ("n_step", "a"), ("n_step", "d")]),
    ]
    assert panels[1].named("n_step", "d") == "n-step returns (d)" and panels[0].named("n_step", "e") == "n-step returns"


def test_page_tables_pictures_and_command(
    configs: dict[str, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "<img src=x onerror=alert(1)>$x$"
    few = {label: configs[label] for label in ("rainbow", "rainbow-double", "rainbow-n_step", "dqn", "dqn+n_step")}
    few["rainbow"] = {**few["rainbow"], "label": evil}
    folder = a_study(tmp_path / "s", few)
    for job in folder.glob("*/job.json"):
        job.write_text(
            json.dumps({**json.loads(job.read_text()), "sweep": {"id": "now"}, "command": "rlexp +sweep=`x`"})
        )
    assert main([str(folder)]) == 0
    assert "On acrobot, removing n-step returns from <img" in capsys.readouterr().out
    report = folder / "report"
    html, markdown = (report / "index.html").read_text(), (report / "index.md").read_text()
    assert evil not in html and html.count("&lt;img src=x onerror=alert(1)&gt;") > 5
    section = markdown.split("## Which component matters where")[1].split("\n## ")[0]
    assert "removed from \\<img" in section and "`` rlexp +sweep=`x` ``" in section
    assert "The command of the sweep, which goes on where it has stopped:" in section
    assert len(re.findall(r"!\[", section)) == 2
    assert "On acrobot no job has prioritised replay, the dueling network, the distribution of returns" in section
    assert re.search(r"\| double DQN \| \S+ \\\[.*, p [=<] [\d.]+: \w+ \| .* \| - \| - \|", section)
    for name in ("effects", "curves"):
        assert (report / "figures" / f"0-components-0-acrobot-{name}.png").is_file()
    with (report / "tables" / "components.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = ablation(folder)
    assert found and len(rows) == len(found.effects) == 6
    for row, effect in zip(rows, found.effects, strict=True):
        assert (row["contender"], float(row["effect"])) == (effect.comparison.first, effect.value)
        assert float(row["p_holm"]) == effect.comparison.adjusted <= 6 * float(row["p"]) + 1e-12


def test_intervals_of_differences_cover_and_pairs_share_their_luck() -> None:
    """Of 200 samples with a known difference of 1, nine in ten intervals hold it at least; luck of pairs cancels."""
    rng = np.random.default_rng(1)
    covered, widths = 0, []
    for _ in range(200):
        luck = rng.normal(0, 5, 10)
        first, second = luck + rng.normal(1, 1, 10), luck + rng.normal(0, 1, 10)
        low, high = difference_interval([first], [second], True, np.mean, rng)
        apart = difference_interval([first], [second], False, np.mean, rng)
        covered += low <= 1 <= high
        widths.append((high - low) / (apart[1] - apart[0]))
    assert covered >= 180 and np.mean(widths) < 0.4
    alone = difference_interval([np.ones(10)], [np.zeros(10)], True, np.mean, rng)
    episodes = difference_interval([np.ones(10)], [np.zeros(10)], True, np.mean, rng, [np.array([-1.0, 0.0, 1.0] * 9)])
    assert alone == (1.0, 1.0) and episodes[0] < 0.8 and episodes[1] > 1.2
    assert np.isnan(difference_interval([np.ones(1)], [np.ones(1)], True, np.mean, rng)).all()
