"""A sweep's description: presets, overrides, what is refused, and the file it is kept in."""

import math
import zlib
from dataclasses import replace
from pathlib import Path

import jax
import pytest
import yaml

from tests.tuners.small import CONFIG, SEGMENT, SPACE, refusal, small_spec
from tuners.config import TrialConfig, baseline, value_of
from tuners.default_spaces import reward_space
from tuners.errors import BadInput
from tuners.presets import PRESETS
from tuners.space import Choice, LogUniform, Uniform
from tuners.spec import (
    MAX_SEED,
    SweepSpec,
    check_name,
    load_spec,
    make_spec,
    prepare,
)
from tuners.spec_file import check_code_version, read_spec_file, write_entries
from tuners.versions import VERSIONED, code_version, git_revision, versions


@pytest.mark.parametrize("preset", PRESETS)
def test_each_preset_makes_a_sweep(preset):
    spec = make_spec(
        name="sweep",
        preset=preset,
        task="swingup",
        reward=baseline("swingup"),
        space=reward_space("swingup"),
    )
    assert spec.preset == preset
    assert spec.base.ppo == PRESETS[preset]["ppo"]
    assert spec.base.budget == PRESETS[preset]["budget"]
    assert spec.num_trials == PRESETS[preset]["num_trials"]
    assert spec.validation_seeds % spec.base.ppo.seeds_per_trial == 0
    assert spec.base.reward == baseline("swingup")


def test_the_smoke_preset_in_numbers(tmp_path):
    spec = small_spec(tmp_path)
    assert (spec.base.num_segments, spec.grace_period) == (8, 2 * SEGMENT)
    assert (spec.num_trials, spec.num_finalists) == (4, 1)
    assert (spec.validation_seeds, spec.test_seeds, spec.base.ppo.seeds_per_trial) == (2, 2, 2)


def test_an_unknown_preset_is_refused(tmp_path):
    assert "'tiny'; allowed: smoke, laptop" in refusal(small_spec, tmp_path, preset="tiny")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 7),
        ("num_trials", 9),
        ("scheduler", "none"),
        ("searcher", "random"),
        ("grace_period", 4 * SEGMENT),
        ("reduction_factor", 2),
        ("num_finalists", 3),
        ("validation_seeds", 6),
        ("test_seeds", 4),
        ("gpus_per_trial", 0.5),
        ("slots", 64),
        ("media", False),
        ("precision", "tensorfloat32"),
        ("tracking_uri", "http://127.0.0.1:1"),
    ],
)
def test_an_override_changes_what_it_names_and_nothing_else(tmp_path, name, value):
    plain, changed = small_spec(tmp_path), small_spec(tmp_path, **{name: value})
    assert getattr(changed, name) == value
    assert changed == replace(plain, **{name: value})


def test_overrides_of_the_base(tmp_path):
    spec = small_spec(tmp_path, budget=5 * SEGMENT, seeds_per_trial=1)
    assert spec.base.budget == 5 * SEGMENT
    assert spec.base.ppo.seeds_per_trial == 1
    assert spec.base == replace(CONFIG, budget=5 * SEGMENT, ppo=spec.base.ppo)


def test_a_constant_that_does_not_vary_is_the_baselines_too(tmp_path):
    """Else trials of different physics would be compared."""
    space = {"task.pole_mass": Choice((0.15,)), "learning_rate": Choice((0.003,))}
    spec = small_spec(tmp_path, space=space)
    assert value_of(spec.base, "task.pole_mass") == 0.15
    assert spec.base.constants == {"pole_mass": 0.15}
    assert value_of(spec.base, "learning_rate") != 0.003, "the baseline's settings are its own"


@pytest.mark.parametrize(
    "space",
    [
        {"task.gravity": Choice((9.8, 1.6))},
        {"evaluation_episodes": Choice((4, 8))},
        {"evaluation_episodes": Uniform(2.0, 8.0)},
    ],
)
def test_what_decides_the_score_cannot_be_searched(tmp_path, space):
    (name,) = space
    assert refusal(small_spec, tmp_path, space=space).startswith(f"{name} must be one value")


def test_an_override_of_none_leaves_the_preset(tmp_path):
    assert small_spec(tmp_path, seed=None, budget=None, grace_period=None) == small_spec(tmp_path)
    assert small_spec(tmp_path, seed=0).seed == 0


def test_a_preset_is_not_changed_by_the_sweeps_made_from_it(tmp_path):
    small_spec(tmp_path, budget=5 * SEGMENT)
    assert PRESETS["smoke"]["budget"] == 8 * SEGMENT
    assert "ppo" in PRESETS["smoke"]


@pytest.mark.parametrize("name", ["a", "swingup-20250101-120000", "A.b_c-9", "x" * 100, "0"])
def test_a_name_that_is_a_plain_folder_name(name):
    check_name(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "a/b", "/tmp/a", "../a", "a b", "-a", "_a", "x" * 101, "é"],
)
def test_another_name_is_refused(tmp_path, name):
    for message in (refusal(check_name, name), refusal(small_spec, tmp_path, name=name)):
        assert "name is '" in message
        assert "allowed: up to 100 letters" in message


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"num_trials": 0}, "num_trials is 0, but must be at least 1"),
        ({"num_finalists": 0}, "num_finalists is 0, but must be at least 1"),
        ({"validation_seeds": -2}, "validation_seeds is -2, but must be at least 1"),
        ({"test_seeds": 0}, "test_seeds is 0, but must be at least 1"),
        ({"seed": -1}, f"seed is -1, but must be between 0 and {MAX_SEED}"),
        ({"seed": MAX_SEED + 1}, f"between 0 and {MAX_SEED}"),
        ({"slots": -1}, "slots is -1, but must be between 0 and 1000"),
        ({"slots": 1001}, "slots is 1001, but must be between 0 and 1000"),
        ({"precision": "tf32"}, "precision is 'tf32'; allowed: float32, tensorfloat32"),
        ({"searcher": "bohb"}, "searcher is 'bohb'; allowed: random, grid, tpe, gp, cmaes"),
        ({"searcher": "grid"}, "grid needs learning_rate as {choice: [...]}, not as a range"),
        (
            {"searcher": "cmaes", "objective": "pareto", "scheduler": "none"},
            "searcher cmaes has one objective; pareto",
        ),
        ({"searcher": "cmaes"}, "learns only from trials that nobody stops"),
        ({"spread_penalty": 1.0, "objective": "pareto"}, "spread_penalty is of one objective"),
        ({"spread_penalty": 1.0, "seeds_per_trial": 1}, "at least 2 seeds_per_trial"),
        ({"scheduler": "pbt", "objective": "pareto"}, "scheduler pbt has one objective"),
        ({"scheduler": "pbt", "num_trials": 1}, "num_trials is 1, but scheduler pbt needs"),
        ({"scheduler": "hyperband"}, "scheduler is 'hyperband'; allowed: asha, median, none"),
        ({"objective": "return"}, "objective is 'return'; allowed: final_score, area, steps_to"),
        ({"spread_penalty": -1.0}, "spread_penalty is -1.0, but must be from 0 to 10"),
        ({"spread_penalty": math.nan}, "spread_penalty is nan, but must be from 0 to 10"),
        ({"reduction_factor": 1}, "reduction_factor is 1, but must be at least 2"),
        ({"validation_seeds": 3}, "validation_seeds is 3, but must be a multiple of"),
        ({"test_seeds": 5}, "test_seeds is 5, but must be a multiple of seeds_per_trial = 2"),
        ({"seeds_per_trial": 3}, "must be a multiple of seeds_per_trial = 3"),
        ({"seeds_per_trial": 0}, "seeds_per_trial is 0"),
        ({"grace_period": 0}, "grace_period is 0 env_steps, but must be above 0"),
        ({"grace_period": 9 * SEGMENT}, f"at most the budget, {8 * SEGMENT}"),
        ({"budget": SEGMENT}, f"at most the budget, {SEGMENT}"),
        ({"budget": 3}, "budget is 3 env_steps"),
        ({"space": {"seeds_per_trial": Choice((1, 2))}}, "seeds_per_trial cannot be searched"),
        ({"space": {"gamma": Uniform(0.0, 2.0)}}, "gamma is 2"),
        ({"reward": {"peek.weight": 1.0}}, "unknown reward parameter 'reward.peek.weight'"),
        ({"task": "no-such-task"}, "task is 'no-such-task'"),
    ],
)
def test_a_sweep_that_could_not_run_is_refused(tmp_path, overrides, said):
    assert said in refusal(small_spec, tmp_path, **overrides)


@pytest.mark.parametrize(
    ("grace_period", "nearest"),
    [(SEGMENT + 1, (1, 2)), (3 * SEGMENT - 1, (2, 3)), (7, (1, 2))],
)
def test_a_grace_period_is_whole_segments(tmp_path, grace_period, nearest):
    message = refusal(small_spec, tmp_path, grace_period=grace_period)
    assert f"grace_period is {grace_period}, but must be whole segments of {SEGMENT}" in message
    assert "the nearest are {} and {}".format(*(n * SEGMENT for n in nearest)) in message


def test_without_a_scheduler_the_grace_period_says_nothing(tmp_path):
    assert small_spec(tmp_path, scheduler="none", grace_period=7, budget=SEGMENT)


def test_training_seeds_by_hand(tmp_path):
    spec = small_spec(tmp_path, seed=2, validation_seeds=4)
    assert spec.seeds("search") == [60_000, 60_001]
    assert spec.seeds("validation") == [70_000, 70_001, 70_002, 70_003]
    assert spec.seeds("test") == [80_000, 80_001]


@pytest.mark.parametrize("seed", [0, 1, 2, MAX_SEED - 1])
def test_no_seed_serves_two_phases_or_two_neighbouring_sweeps(tmp_path, seed):
    seeds = [
        number
        for neighbour in (seed, seed + 1)
        for phase in ("search", "validation", "test")
        for number in small_spec(
            tmp_path, seed=neighbour, seeds_per_trial=1, validation_seeds=64, test_seeds=64
        ).seeds(phase)
    ]
    assert len(set(seeds)) == len(seeds) == 2 * (1 + 64 + 64)
    assert min(seeds) >= 0
    assert max(seeds) < 2**32, "a seed is an unsigned 32-bit number in JAX"


@pytest.mark.parametrize("phase", ["validation_seeds", "test_seeds"])
def test_more_seeds_than_a_phase_has_are_refused(tmp_path, phase):
    assert phase in refusal(small_spec, tmp_path, **{phase: 10_002})


def test_a_sweep_comes_back_from_its_file(tmp_path):
    space = {
        "learning_rate": LogUniform(1e-4, 1e-2),
        "hidden_sizes": Choice(((8, 8), (4,))),
        "reward.combine": Choice(("sum",)),
        "gamma": Uniform(0.9, 1.0),
    }
    spec = small_spec(tmp_path, space=space, seed=3, tracking_uri="http://localhost:1")
    prepare(spec, resume=False)
    assert load_spec(spec.folder) == spec
    entries = yaml.safe_load((spec.folder / "sweep.yaml").read_text())
    assert entries["code_version"] == code_version()
    assert entries["git_revision"] == git_revision()
    assert entries["versions"] == versions()
    assert entries["versions"]["jax"]
    assert len(entries["sweep_id"]) == 12


def test_two_sweeps_have_two_identities(tmp_path):
    identities = set()
    for name in ("one", "two"):
        spec = small_spec(tmp_path, name=name)
        prepare(spec, resume=False)
        identities.add(yaml.safe_load((spec.folder / "sweep.yaml").read_text())["sweep_id"])
    assert len(identities) == 2


def test_a_run_without_a_space_comes_back_too(tmp_path):
    """Such as sweeps/train.py makes: one configuration, nothing to search."""
    spec = small_spec(tmp_path, space={}, scheduler="none", num_trials=1)
    prepare(spec, resume=False)
    assert load_spec(spec.folder) == spec


def test_a_folder_that_was_moved_is_the_sweep_of_its_new_name(tmp_path):
    spec = small_spec(tmp_path)
    prepare(spec, resume=False)
    (tmp_path / "elsewhere").mkdir()
    spec.folder.rename(tmp_path / "elsewhere" / "renamed")
    moved = load_spec(tmp_path / "elsewhere" / "renamed")
    assert moved == replace(spec, name="renamed", runs_dir=tmp_path / "elsewhere")


def test_a_sweep_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    assert "latest there: none" in refusal(load_spec, tmp_path / "missing")
    for name in ("a1", "a2", "a3", "a4", "a5", "a6"):
        prepare(small_spec(tmp_path, name=name), resume=False)
    message = refusal(load_spec, tmp_path / "missing")
    assert f"no sweep 'missing' in {tmp_path}" in message
    assert "the latest there: a2, a3, a4, a5, a6" in message


def damaged(text):
    entries = yaml.safe_load(text)
    spec = entries["spec"]
    yield from ("", "spec: [", "- a", "a text", "spec: a text", "spec: {}", "\x00")
    yield signed({"spec": {**spec, "num_trials": "many"}})
    yield signed({"spec": {**spec, "colour": "red"}})
    yield signed({"spec": {key: spec[key] for key in spec if key != "base"}})
    yield signed({"spec": {**spec, "base": [1]}})
    yield signed({"spec": {**spec, "space": [1]}})
    yield signed({"spec": {**spec, "space": {"gamma": {"uniform": [2, 1]}}}})


def signed(entries):
    text = yaml.safe_dump(entries)
    return f"{text}crc32: '{zlib.crc32(text.encode()):08x}'\n"


def test_a_damaged_file_is_refused_by_name(tmp_path):
    spec = small_spec(tmp_path)
    prepare(spec, resume=False)
    path = spec.folder / "sweep.yaml"
    for content in damaged(path.read_text()):
        path.write_text(content)
        assert str(path) in refusal(load_spec, spec.folder), content


@pytest.mark.parametrize("kind", ["flipped", "cut"])
def test_a_file_that_changed_by_a_bit_or_was_cut_is_refused(tmp_path, kind):
    spec = small_spec(tmp_path)
    prepare(spec, resume=False)
    path = spec.folder / "sweep.yaml"
    whole = path.read_bytes()
    for place in range(0, len(whole) - 1, 7):
        flipped = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        path.write_bytes(flipped if kind == "flipped" else whole[:place])
        assert str(path) in refusal(load_spec, spec.folder)
    path.write_bytes(whole)
    assert load_spec(spec.folder).to_dict() == spec.to_dict()


def test_of_two_sweeps_with_one_name_one_begins(tmp_path):
    """The second was already past its look for the folder."""
    first, second = small_spec(tmp_path, seed=1), small_spec(tmp_path, seed=2)
    prepare(first, resume=False)
    before = (first.folder / "sweep.yaml").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "exists", lambda path: False)
        assert "sweep 'sweep' exists" in refusal(prepare, second, resume=False)
    assert (first.folder / "sweep.yaml").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["sweep"]


def test_a_sweep_that_cannot_be_written_is_not_there(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(yaml, "safe_dump", full)
    with pytest.raises(OSError, match="No space left"):
        prepare(small_spec(tmp_path), resume=False)
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_of_other_code_is_not_resumed(tmp_path, monkeypatch):
    spec = small_spec(tmp_path)
    prepare(spec, resume=False)
    begun_with = code_version()
    check_code_version(spec.folder)
    monkeypatch.setattr("tuners.spec_file.code_version", lambda: "another")
    message = refusal(check_code_version, spec.folder)
    assert f"begun with code version {begun_with}, but this is another" in message
    assert "begin a new sweep" in message


def test_a_sweep_of_another_jax_is_not_resumed(tmp_path, monkeypatch):
    """What it compiles decides a curve too, to the last bit; MLflow's version does not."""
    spec = small_spec(tmp_path)
    prepare(spec, resume=False)
    there = versions()
    monkeypatch.setattr("tuners.spec_file.versions", lambda: there | {"mlflow": "99.0"})
    check_code_version(spec.folder)
    monkeypatch.setattr("tuners.spec_file.versions", lambda: there | {"jax": "99.0"})
    message = refusal(check_code_version, spec.folder)
    assert f"begun with jax {there['jax']}, but this is 99.0" in message


def test_a_sweep_in_float32_is_not_resumed_in_float64(tmp_path):
    """By an environment that says so for another project: each trial failed, four times."""
    spec = small_spec(tmp_path)
    prepare(spec, resume=False)
    with jax.enable_x64(True):
        message = refusal(check_code_version, spec.folder)
    assert "begun with jax_enable_x64 False, but this is True" in message
    check_code_version(spec.folder)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("jax_default_prng_impl", "rbg"),
        ("jax_threefry_partitionable", False),
        ("jax_random_seed_offset", 7),
    ],
)
def test_a_sweep_is_not_resumed_with_other_random_numbers(tmp_path, setting, value):
    spec = small_spec(tmp_path)
    prepare(spec, resume=False)
    usual = getattr(jax.config, setting)
    jax.config.update(setting, value)
    try:
        assert f"{setting} {usual}, but this is {value}" in refusal(check_code_version, spec.folder)
    finally:
        jax.config.update(setting, usual)


def test_a_sweep_that_does_not_say_its_settings_can_be_resumed(tmp_path):
    """They were not written down at first."""
    spec = small_spec(tmp_path)
    prepare(spec, resume=False)
    entries = read_spec_file(spec.folder)
    entries["versions"] = {name: entries["versions"][name] for name in VERSIONED}
    write_entries(spec.folder, entries)
    check_code_version(spec.folder)


def test_what_this_code_does_not_know_is_not_called_damaged(tmp_path, monkeypatch):
    """Another version wrote it, before a term had another name."""
    spec, written_by = small_spec(tmp_path), code_version()
    prepare(spec, resume=False)

    def unknown(entries):
        raise BadInput("unknown reward parameter")

    monkeypatch.setattr(TrialConfig, "from_dict", unknown)
    assert "is damaged: unknown reward parameter" in refusal(load_spec, spec.folder)
    monkeypatch.setattr("tuners.spec.code_version", lambda: "another")
    message = refusal(load_spec, spec.folder)
    assert f"is of code version {written_by}; this, another, says: unknown reward" in message


def test_a_name_that_is_taken_is_refused(tmp_path):
    spec = small_spec(tmp_path)
    prepare(spec, resume=False)
    before = (spec.folder / "sweep.yaml").read_bytes()
    message = refusal(prepare, spec, resume=False)
    assert "sweep 'sweep' exists; take another name, or --resume sweep" in message
    assert (spec.folder / "sweep.yaml").read_bytes() == before
    prepare(spec, resume=True)
    assert (spec.folder / "sweep.yaml").read_bytes() == before


def test_a_refused_sweep_leaves_no_folder(tmp_path):
    refusal(prepare, small_spec(tmp_path / "runs", tracking_uri="ftp://host"), resume=False)
    assert not (tmp_path / "runs").exists()


def test_a_place_below_a_file_is_refused_before_anything_is_made(tmp_path):
    (tmp_path / "file").write_text("")
    spec = small_spec(tmp_path / "file" / "runs", tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    assert f"{tmp_path / 'file'} is not a folder" in refusal(prepare, spec, resume=False)


def test_a_description_is_frozen():
    spec = SweepSpec(name="a", preset="smoke", base=CONFIG, space=SPACE, grace_period=SEGMENT)
    with pytest.raises(AttributeError):
        spec.seed = 3
