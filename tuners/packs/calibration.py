"""How many trials a GPU should train in one program: measured, once for each kind of GPU."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayTaskError

from rlcore.files import replacing
from tuners.config import TrialConfig, static_configs
from tuners.errors import BadInput
from tuners.gpu import UnusableGPU, gpu_environment, require_gpu
from tuners.searchers import most_at_once
from tuners.spec import SweepSpec
from tuners.versions import code_version

WIDTHS = (4, 16, 64, 256)
GAIN = 1.25  # in steps/s, that four times as many trials must bring
MEMORY = 0.8  # of what JAX may take of the device's, that they may need
PROCESS_BYTES = 200e6  # of the host's memory, that the light process of a trial may need


def slots_that_pay(spec: SweepSpec, gpus: int) -> int:
    """Returns how many trials of a sweep each of the cluster's ``gpus`` should train at once.

    On a CPU it is one: a core gains nothing by training several trials in one program.

    Until it is known, all of ``gpus`` are asked for, also those that an autoscaler has yet to
    start: for one it would ask for one type of machine, and for ever if there is none of it.
    """
    if not spec.uses_gpu:
        return 1
    most = -(-int(min(spec.num_trials, most_at_once(spec))) // max(1, gpus))
    environment = {"env_vars": gpu_environment(spec.precision)}
    measure = ray.remote(num_gpus=1, num_cpus=0, runtime_env=environment)(_measure_once)
    wish = ray.remote(num_gpus=1, num_cpus=0)(_do_nothing)
    measured = measure.remote(spec.base.to_dict(), most, MEMORY * _share_of_base(spec))
    wishes = [wish.remote() for _ in range(gpus - 1)]  # they end with this process, if it dies
    try:
        slots: int = ray.get(measured)
    except RayTaskError as error:
        if not isinstance(error.cause, UnusableGPU):
            raise
        raise BadInput(
            f"a GPU that Ray has cannot be used: {error.cause}; sweeps/doctor.py shows on which"
            " nodes"
        ) from error
    finally:
        for wished in wishes:
            ray.cancel(wished)
    return slots


def _share_of_base(spec: SweepSpec) -> float:
    """Returns which share of a GPU's memory is the base's, where all static configs have packs.

    What a pack needs grows with the samples of an update and the width of the networks.
    """

    def size(config: TrialConfig) -> int:
        return config.ppo.steps_per_update * sum(config.ppo.hidden_sizes)

    return size(spec.base) / sum(map(size, static_configs(spec.base, spec.space)))


def _do_nothing() -> None:
    pass


def _measure_once(entries: dict[str, Any], most: int, memory: float) -> int:
    """Returns how many trials this process's device should train; remembers it beside programs.

    Raises:
        UnusableGPU: it would measure the CPU.
    """
    require_gpu()
    import jax

    from tuners.programs import use_compilation_cache

    config = TrialConfig.from_dict(entries)
    most = min(most, _processes_that_fit())
    widths = [WIDTHS[0], *(width for width in WIDTHS[1:] if width <= most)]
    device = jax.devices()[0]
    precision = jax.config.values["jax_default_matmul_precision"]
    made_with = [code_version(), jax.__version__, precision]
    key = json.dumps(
        [device.device_kind, config.task, repr(config.ppo), widths, memory, *made_with]
    )
    file = use_compilation_cache() / "slots.json"
    try:
        known = json.loads(file.read_text())
    except (OSError, ValueError):
        known = {}
    if key not in known:
        rates = rates_by_width(config, widths, memory)
        known[key] = [choose_slots(rates), _room(max(rates), memory)]
        with replacing(file) as beside:
            beside.write_text(json.dumps(known))
    slots, room = known[key]
    if slots == widths[-1] < WIDTHS[-1]:  # as many as there are trials would pay
        slots = max(slots, min(most, room))
    return int(slots)


def _processes_that_fit() -> int:
    """Returns for how many trials of each GPU of this host there is memory, as Ray counts it."""
    here = ray.get_runtime_context().get_node_id()
    (there,) = (node["Resources"] for node in ray.nodes() if node["NodeID"] == here)
    return int(there["memory"] / PROCESS_BYTES / there.get("GPU", 1.0))


def rates_by_width(config: TrialConfig, widths: Sequence[int], memory: float) -> dict[int, float]:
    """Returns steps/s by the number of trials in one program, of those ``widths`` that fit.

    It stops where more trials bring too little, or are likely to need more than the share
    ``memory`` of what JAX may take.
    """
    import jax

    rates: dict[int, float] = {}
    for width in widths:
        if rates and _memory_for(4) > memory:
            break
        try:
            rates[width] = time_pack(config, width)
        except jax.errors.JaxRuntimeError:  # no room for it after all
            if not rates:
                raise
            break
        if choose_slots(rates) < width:
            break
    return rates


def time_pack(config: TrialConfig, width: int) -> float:
    """Returns the steps/s of all trials in a full pack, its first segment left out."""
    from tuners.packs.pack import Pack

    pack = Pack(width)
    seeds = list(range(config.ppo.seeds_per_trial))
    entry: dict[str, Any] = {"seeds": seeds, "objective": ("area", 0.0), "phase": "search"}
    entry |= {"until": None, "resume_from": None}
    for number in range(width):
        pack.enter(str(number), {"config": config.to_dict(), **entry})
    pack.advance(pack.jobs)
    rows = pack.advance(pack.jobs)
    return float(sum(row["steps_per_second"] for row in rows.values()))


def choose_slots(rates: Mapping[int, float]) -> int:
    """Returns the largest width that is worth it, each compared with the one before."""
    widths = sorted(rates)
    chosen = widths[0]
    for width in widths[1:]:
        if rates[width] < GAIN * rates[chosen]:
            break
        chosen = width
    return chosen


def _room(width: int, memory: float) -> int:
    """Returns how many trials are likely to fit, where ``width`` of them did."""
    needed = _memory_for(1.0)
    return int(width * memory / needed) if needed else WIDTHS[-1]


def _memory_for(factor: float) -> float:
    """Returns which share of the device's memory ``factor`` times what was needed so far takes."""
    import jax

    statistics = jax.devices()[0].memory_stats()
    if not statistics:  # a CPU
        return 0.0
    return factor * float(statistics["peak_bytes_in_use"] / statistics["bytes_limit"])
