"""Files that somebody made to do harm: refused in a line, in bounds, and nothing in them is run."""

import json
import os
import pickle
import struct
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rlcore import video
from rlcore.checkpoint import load_arrays, load_checkpoint, read_metadata, save_checkpoint
from rlcore.policy import FORMAT, Policy
from rlcore.video import load_recording, save_recording, write_film_strip
from tests.rlcore.small import fresh_state, state_template
from tests.tuners.small import refusal, segment_row, small_spec, swing, trial_row
from tuners import sealed_table
from tuners.checkpoints import newest_checkpoint
from tuners.config import load_config
from tuners.errors import BadInput
from tuners.layout import RECORDING_FILE, STATE_FILE
from tuners.reading import read_json, read_yaml
from tuners.report.sweep_record import load_record
from tuners.results import TRIALS_SCHEMA, ResultsWriter, read_segments, read_trials
from tuners.sealed_table import write_table
from tuners.space import load_space
from tuners.spec import load_spec
from tuners.spec_file import check_code_version, read_spec_file, write_entries
from tuners.tracking import read_state, run_link
from tuners.validate import read_comparison

ROOT = Path(__file__).resolve().parents[2]
MANY = settings(max_examples=150)


# --- YAML ---


def bomb(levels: int, begin: str = "[x, x]") -> str:
    """Few lines that stand for 9 ** levels values."""
    lines = [f"a0: &a0 {begin}"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines)


HOSTILE_YAML = {
    "an alias bomb": (bomb(30), "100,000 values"),
    "a bomb of merges": (
        "a0: &a0 {x: 1}\n"
        + "\n".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, 40)),
        "100,000 values",
    ),
    "an alias of itself": ("a: &a [*a]", "inside itself"),
    "deep lists": ("[" * 10_000, "nested deeper"),
    "deep maps": ("{a: " * 10_000, "nested deeper"),
    "deep by indent": ("\n".join(" " * i + "a:" for i in range(1000)), "nested deeper"),
    "a long number": ("a: " + "9" * 5000, "more than 2,000 characters"),
    "a number in base 60": ("a: 1" + ":59" * 1500, "more than 2,000 characters"),
    "a day that is none": ("a: 2001-99-99", "not valid YAML"),
    "a key that is a list": ("? [a]\n: b", "not valid YAML"),
    "a nul": ("a: b\0", "not valid YAML"),
    "an object of Python": ("a: !!python/object/apply:os.getpid []", "not valid YAML"),
    "a name of Python": ("a: !!python/name:os.system", "not valid YAML"),
    "a megabyte": ("a: b\n" + "#" * 1_000_000, "more than 1,000,000 bytes"),
}


@pytest.mark.parametrize("name", HOSTILE_YAML)
def test_hostile_yaml_is_refused(name, tmp_path):
    text, said = HOSTILE_YAML[name]
    path = tmp_path / "file.yaml"
    path.write_text(text)
    for read in (load_space, load_config):
        assert said in refusal(read, path)


def test_a_file_without_an_end_is_refused():
    assert "bytes" in refusal(load_space, Path("/dev/zero"))


def test_aliases_that_save_typing_are_read(tmp_path):
    path = tmp_path / "file.yaml"
    path.write_text("learning_rate: &rate {uniform: [0.1, 0.2]}\nlearning_rate_end: *rate")
    assert len(load_space(path)) == 2


# What a parser may make of a text, in any shape.
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.binary(max_size=4)
)
NAMES = st.sampled_from(
    [
        *("reward.cos.weight", "reward.combine", "reward.cos.on", "reward.clip", "num_envs"),
        *("num_minibatches", "hidden_sizes", "activation", "task.pole_mass", "learning_rate"),
        *("seeds_per_trial", "updates_per_segment", "epochs", "uniform", "choice", "nothing"),
        *("task", "budget", "constants", "reward", "hyperparameters", "ppo", "schedule", "base"),
    ]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | SCALARS, inner, max_size=4),
    max_leaves=8,
)
DOMAINS = (
    VALUES
    | st.fixed_dictionaries({"choice": st.lists(VALUES, max_size=3)})
    | st.fixed_dictionaries({"uniform": st.lists(SCALARS, min_size=2, max_size=2)})
    | st.fixed_dictionaries({"log_uniform": st.lists(st.floats(0, 2), min_size=2, max_size=2)})
)


def one_line(call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """What ``call`` returns, or None where it refuses its input as it should."""
    try:
        return call(*arguments, **named)
    except BadInput as error:
        assert str(error)
        assert "\n" not in str(error)
    return None


def one_line_of_any_error(read: Callable[[Path], Any], path: Path) -> None:
    try:
        read(path)
    except ValueError as error:
        assert "\n" not in str(error)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile")


@MANY
@given(entries=VALUES | st.dictionaries(NAMES, DOMAINS, max_size=3))
def test_any_space_makes_a_sweep_or_is_refused(place, entries):
    path = place / "space.yaml"
    path.write_text(yaml.safe_dump(entries))
    space = one_line(load_space, path)
    if space is not None:
        one_line(small_spec, place, space=space)


@MANY
@given(text=st.text(max_size=60) | st.text("{}[]:,-?!&*|>%@#'\" \n\tab01", max_size=60))
def test_any_text_is_a_space_or_is_refused(place, text):
    path = place / "text.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    one_line(load_space, path)


@MANY
@given(entries=VALUES | st.dictionaries(NAMES, VALUES, max_size=3))
def test_any_config_is_one_or_is_refused(place, entries):
    path = place / "config.yaml"
    path.write_text(yaml.safe_dump(entries))
    one_line(load_config, path)


@pytest.fixture(scope="module")
def sweep(place):
    """A sweep with some reports, and files that tests damage in copies."""
    spec = small_spec(place / "runs")
    spec.folder.mkdir(parents=True)
    spec.save()
    writer = ResultsWriter(spec.folder, "swingup")
    for number in range(3):
        name = f"trial-{number:03d}"
        writer.put_trial(trial_row(name, row=name))
        for segment in range(1, 4):
            writer.add_segment(segment_row(name, segment))
    writer.flush()
    return spec.folder


@settings(max_examples=60)
@given(data=st.data())
def test_any_description_is_a_sweep_or_is_refused(place, sweep, data):
    entries = read_spec_file(sweep)
    where = data.draw(st.sampled_from(["spec", "base", "top"]))
    part = {"spec": entries["spec"], "base": entries["spec"]["base"], "top": entries}[where]
    for name in data.draw(st.lists(st.sampled_from(sorted(part)), min_size=1, max_size=2)):
        part[name] = data.draw(VALUES)
    folder = place / "runs" / "changed"
    folder.mkdir(exist_ok=True)
    write_entries(folder, entries)
    found = one_line(load_spec, folder)
    assert found is None or found.folder == folder
    one_line(check_code_version, folder)


# --- bytes ---


def damaged(content: bytes, data: st.DataObject) -> bytes:
    """The content with bits flipped, bytes exchanged, or its end cut off."""
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "exchange", "insert"])):
            case "flip":
                changed[at] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del changed[max(at, 1) :]
            case "exchange":
                changed[at : at + 4] = data.draw(st.binary(min_size=4, max_size=4))
            case "insert":
                changed[at:at] = data.draw(st.binary(max_size=8))
    return bytes(changed)


@pytest.fixture(scope="module")
def checkpoint(place):
    path = place / STATE_FILE
    save_checkpoint(path, fresh_state(), {"env_steps": 8, "scores": [[1.0]], "seeds": [0]})
    return path


@MANY
@given(data=st.data())
def test_a_damaged_checkpoint_is_refused_or_as_it_was(checkpoint, place, data):
    path = place / "damaged.safetensors"
    path.write_bytes(damaged(checkpoint.read_bytes(), data))
    try:
        arrays, _ = load_arrays(path)
    except ValueError as error:
        assert "\n" not in str(error)
        return
    whole, _ = load_arrays(checkpoint)
    assert set(arrays) == set(whole)
    assert all(np.array_equal(arrays[name], whole[name], equal_nan=True) for name in whole)


def raw_safetensors(header: Any, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def entry(kind: str, shape: list[int], end: int) -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [0, end]}


OURS = {"format": "shapesweep-train-state", "schema_version": "1", "crc32": "0", "metadata": "{}"}
HOSTILE_TENSORS = {
    "a header of an exabyte": struct.pack("<Q", 2**60) + b"{}",
    "a header of 99 MB": struct.pack("<Q", 99_000_000) + b"{}",
    "a huge shape": raw_safetensors({"__metadata__": OURS, "a": entry("F32", [2**40], 2**42)}),
    "a shape that overflows": raw_safetensors(
        {"__metadata__": OURS, "a": entry("F32", [2**62, 2**62], 4)}, b"abcd"
    ),
    "deep": raw_safetensors(b'{"a":' * 50_000),
    "deep metadata": raw_safetensors({"__metadata__": OURS | {"metadata": "[" * 100_000}}),
    "a type of no array": raw_safetensors(
        {"__metadata__": OURS, "a": entry("F8_E4M3", [4], 4)}, b"abcd"
    ),
    "a type of nobody": raw_safetensors({"__metadata__": OURS, "a": entry("X", [4], 4)}, b"abcd"),
    "arrays that overlap": raw_safetensors(
        {"__metadata__": OURS | {"format": FORMAT}}
        | {f"a{i}": entry("F32", [2**18 - 1], 2**20 - 4) for i in range(5000)},
        bytes(2**20),
    ),
    "long numbers": raw_safetensors({"__metadata__": OURS | {"metadata": "9" * 9999}}),
    "nothing": b"",
    "zeros": bytes(1000),
}


@pytest.mark.parametrize("name", HOSTILE_TENSORS)
def test_hostile_arrays_are_refused(name, tmp_path):
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(HOSTILE_TENSORS[name])
    for read in (load_arrays, lambda path: load_checkpoint(path, state_template())):
        with pytest.raises(ValueError, match="safetensors"):
            read(path)
    for load in (Policy.load, load_recording):
        with pytest.raises(ValueError, match="safetensors"):
            load(path)


@pytest.mark.parametrize("metadata", [{}, {"env_steps": "far"}, {"env_steps": None}])
def test_a_checkpoint_that_does_not_say_how_far_it_is_is_passed_over(tmp_path, metadata):
    folder = tmp_path / "tune" / "session-001" / "trial-000" / "checkpoint_000001"
    folder.mkdir(parents=True)
    save_checkpoint(folder / STATE_FILE, fresh_state(), metadata)
    assert newest_checkpoint(tmp_path, "trial-000") is None


@pytest.fixture(scope="module")
def recording(place):
    save_recording(place / RECORDING_FILE, swing(20, (20, 20, 20)))
    return place / RECORDING_FILE


@MANY
@given(data=st.data())
def test_a_damaged_recording_is_refused_or_as_it_was(recording, place, data):
    path = place / "damaged-recording"
    path.write_bytes(damaged(recording.read_bytes(), data))
    try:
        found = load_recording(path)
    except ValueError as error:
        assert "\n" not in str(error)
        return
    np.testing.assert_array_equal(found.states, load_recording(recording).states)


DRAWN = {"dt": 0.02, "rail": 2.4, "pole_length": 1.0}


@given(
    scalars=st.fixed_dictionaries(
        dict.fromkeys(("dt", "rail", "pole_length"), st.floats() | st.sampled_from([1e-4, 1e4]))
    ),
    far=st.floats(width=32),
)
@example(scalars=DRAWN, far=0.0)
@settings(max_examples=40)
def test_a_recording_made_by_hand_is_drawn_or_refused(place, scalars, far):
    """Its checksum is right."""
    made = swing(4, (4, 4, 4))
    arrays = {name: np.array(getattr(made, name)) for name in ("states", "actions", "score_rates")}
    arrays["lengths"] = made.lengths
    arrays["states"][1, 0] = far
    texts = {name: repr(value) for name, value in scalars.items()}
    texts["captions"] = json.dumps(["a", "b" * 500, "\x1b"])
    names = sorted(arrays)
    kinds = [(name, arrays[name].dtype.str, arrays[name].shape) for name in names]
    crc = zlib.crc32(repr((kinds, sorted(texts.items()))).encode())
    for name in names:
        crc = zlib.crc32(arrays[name].tobytes(), crc)
    metadata = {"format": video._FORMAT, "schema": video._SCHEMA, "crc32": f"{crc:08x}"} | texts
    path = place / "made"
    path.write_bytes(safetensors.numpy.save(arrays, metadata))
    try:
        found = load_recording(path)
    except ValueError:
        assert (scalars, far) != (DRAWN, 0.0)
        return
    write_film_strip(place / "strip.png", found)


# --- tables ---


@MANY
@given(data=st.data())
def test_a_damaged_table_is_refused_or_as_it_was(sweep, place, data):
    folder = place / "tables"
    (folder / "segments.parquet").mkdir(parents=True, exist_ok=True)
    name, read = data.draw(
        st.sampled_from(
            [
                ("trials.parquet", read_trials),
                ("segments.parquet/00000001-00000001.parquet", read_segments),
            ]
        )
    )
    (folder / name).write_bytes(damaged((sweep / name).read_bytes(), data))
    rows = one_line(read, folder)
    assert rows is None or repr(rows) == repr(read(sweep))  # NaN in them too


def test_a_flipped_bit_in_a_table_is_noticed(sweep, tmp_path):
    """Also where every number would still be a number."""
    content, whole = (sweep / "trials.parquet").read_bytes(), read_trials(sweep)
    (footer,) = struct.unpack("<I", content[-8:-4])
    refused = 0
    for at in range(8, len(content) - footer - 8, 11):
        flipped = bytearray(content)
        flipped[at] ^= 1
        (tmp_path / "trials.parquet").write_bytes(flipped)
        rows = one_line(read_trials, tmp_path)
        assert rows in (None, whole), at
        refused += rows is None
    assert refused > 20


OUTSIDE = ["../x", "/etc", "", "a/../../b", "a\0b", "a\\b", "x" * 5000]
NO_FOLDER = ["a/b", "x" * 200, ".hidden"]


@pytest.mark.parametrize(
    ("column", "name"),
    [
        *(("checkpoint", name) for name in OUTSIDE),
        *((column, name) for column in ("trial", "row", "parent") for name in OUTSIDE + NO_FOLDER),
    ],
)
def test_no_name_in_a_table_leads_elsewhere(column, name, tmp_path):
    row = dict.fromkeys(TRIALS_SCHEMA.names) | trial_row("trial-000") | {column: name}
    write_table(tmp_path / "trials.parquet", pa.Table.from_pylist([row], TRIALS_SCHEMA))
    assert "is damaged" in refusal(read_trials, tmp_path)


@pytest.mark.parametrize("column", ["trial", "phase", "seeds", "config"])
def test_a_row_that_lacks_what_all_have_is_refused(column, tmp_path):
    row = dict.fromkeys(TRIALS_SCHEMA.names) | trial_row("trial-000") | {column: None}
    write_table(tmp_path / "trials.parquet", pa.Table.from_pylist([row], TRIALS_SCHEMA))
    assert f"column {column} has gaps" in refusal(read_trials, tmp_path)


# --- JSON ---


@MANY
@given(entries=st.dictionaries(st.sampled_from(["winner", "table", "runs"]), VALUES) | VALUES)
def test_any_json_is_a_comparison_or_is_refused(sweep, place, entries):
    folder = place / "json"
    folder.mkdir(exist_ok=True)
    try:
        text = json.dumps(entries)
    except TypeError:  # dates and bytes, which JSON has not
        return
    for name in ("comparison.json", "mlflow.json"):
        (folder / name).write_text(text)
    one_line(read_comparison, folder)
    run_link(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "9" * 9999, '"\\ud800"', "nul", "\xff"])
def test_hostile_json_is_refused(text, tmp_path):
    path = tmp_path / "mlflow.json"
    path.write_bytes(text.encode("latin-1"))
    assert read_state(tmp_path) == {}
    if not text.startswith('"'):
        assert "is damaged" in refusal(read_json, path)


# --- nothing is run ---


class Payload:
    """Pickled, it is a command: who unpickles it leaves a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def test_no_pickle_is_run(sweep, checkpoint, recording, tmp_path):
    marker = tmp_path / "marker"
    planted = pickle.dumps(Payload(marker))
    pickle.loads(planted)
    marker.rmdir()  # it would be there

    npy = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': ()}".ljust(
        118
    )
    texts = {
        "python": f"a: !!python/object/apply:os.mkdir ['{marker}']",
        "new": f"a: !!python/object/new:os.mkdir ['{marker}']",
        "binary": yaml.safe_dump({"learning_rate": planted}),
    }
    path = tmp_path / "planted"
    for content in (planted, npy + planted, *(text.encode() for text in texts.values())):
        path.write_bytes(content)
        readers: list[Callable[[Path], Any]] = [
            *(load_space, load_config, read_json, load_arrays, read_metadata),
            *(Policy.load, load_recording, lambda path: read_yaml(path, "file")),
        ]
        for read in readers:
            one_line_of_any_error(read, path)
        for name in ("sweep.yaml", "trials.parquet", "comparison.json"):
            folder = tmp_path / "runs" / "planted"
            (folder / "segments.parquet").mkdir(parents=True, exist_ok=True)
            (folder / "sweep.yaml").write_bytes((sweep / "sweep.yaml").read_bytes())
            (folder / name).write_bytes(content)
            refusal(load_record, folder)
            (folder / name).unlink()
        (folder / "mlflow.json").write_bytes(content)
        assert read_state(folder) == {}
    assert not marker.exists()


def test_no_pickle_in_the_metadata_of_a_table_is_run(sweep, tmp_path):
    """As pandas keeps its index there, and as Arrow once kept types of Python."""
    marker = tmp_path / "marker"
    planted = pickle.dumps(Payload(marker))
    table = pq.read_table(sweep / "trials.parquet")
    extended = [
        field.with_metadata(
            {
                b"ARROW:extension:name": b"arrow.py_extension_type",
                b"ARROW:extension:metadata": planted,
            }
        )
        for field in table.schema
    ]
    schema = pa.schema(extended, metadata={b"pandas": planted, b"ARROW:schema": planted})
    write_table(tmp_path / "trials.parquet", table.cast(schema))
    one_line(read_trials, tmp_path)
    assert not marker.exists()


# --- bounds ---

BOUNDED = """
    import resource, sys, time
    from pathlib import Path

    import jax, numpy, pyarrow, pyarrow.parquet, safetensors.numpy, yaml
    from rlcore.checkpoint import load_arrays
    from rlcore.policy import Policy
    from rlcore.video import load_recording
    from tuners import sealed_table
    from tuners.config import load_config
    from tuners.results import read_trials
    from tuners.space import load_space

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    room = 3_000_000_000  # Arrow reserves gigabytes that it does not use
    sealed_table.MAX_BYTES //= 8  # which is quicker
    resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    readers = {
        ".yaml": (load_space, load_config),
        ".safetensors": (load_arrays, Policy.load, load_recording),
        ".parquet": (lambda path: read_trials(path.parent),),
    }
    for path in sorted(Path(sys.argv[1]).rglob("*.*")):
        for read in readers[path.suffix]:
            try:
                read(path)
                print(path.name, "was taken")
            except ValueError as error:
                assert len(str(error)) < 3000, path
                assert path.suffix != ".parquet" or "bytes" in str(error), error
"""


def test_no_file_takes_much_memory_or_time(tmp_path):
    for name, (text, _) in HOSTILE_YAML.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    for name, content in HOSTILE_TENSORS.items():
        (tmp_path / f"{name}.safetensors").write_bytes(content)
    tables = tmp_path / "tables"
    tables.mkdir()
    rows = 3_000_000  # of equal values: some kilobytes
    columns = {
        name: pa.nulls(rows, field_type) for name, field_type in columns_of_trials(but="config")
    }
    columns["config"] = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(rows, np.int32)), pa.array(["x" * 100_000])
    )
    wide, path = pa.table(columns), tables / "trials.parquet"
    with pq.ParquetWriter(path, wide.schema, compression="zstd", store_schema=False) as writer:
        writer.write_table(wide)
        writer.add_key_value_metadata(sealed_table.UNSEALED)
    sealed_table.seal(path)
    assert path.stat().st_size < 200_000
    program = textwrap.dedent(BOUNDED)
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def columns_of_trials(but: str) -> list[tuple[str, Any]]:
    return [(field.name, field.type) for field in TRIALS_SCHEMA if field.name != but]
