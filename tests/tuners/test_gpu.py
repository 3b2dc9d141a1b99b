"""JAX on a GPU, by a JAX that has none."""

import importlib
import socket
from types import SimpleNamespace

import jax
import pytest
from jax._src import xla_bridge

from tuners.cluster.examination import NodeFacts, look_for_devices
from tuners.gpu import UnusableGPU, gpu_environment, has_cuda, require_gpu


@pytest.mark.parametrize("installed", ["jax_cuda12_plugin", "jax_cuda13_plugin"])
def test_a_jax_that_can_use_a_gpu_is_known_by_its_plugin(tmp_path, monkeypatch, installed):
    monkeypatch.syspath_prepend(tmp_path)
    assert not has_cuda(), "the tests' own JAX has none"
    (tmp_path / installed).mkdir()
    (tmp_path / installed / "__init__.py").touch()
    importlib.invalidate_caches()
    assert has_cuda()


def test_a_gpu_is_named_to_jax_unless_the_cpu_was_asked_for(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "")
    assert gpu_environment("float32")["JAX_PLATFORMS"] == "cuda,cpu"
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert gpu_environment("float32")["JAX_PLATFORMS"] == "cpu"


def test_a_cpu_in_place_of_a_gpu_is_an_error_unless_it_was_asked_for(monkeypatch):
    """JAX itself, which has the CPU alone in this process, says nothing."""
    for platforms in ("", "cuda,cpu"):
        monkeypatch.setenv("JAX_PLATFORMS", platforms)
        with pytest.raises(UnusableGPU) as raised:
            require_gpu()
        assert str(raised.value).startswith(f"JAX has no GPU on {socket.gethostname()}: ")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    require_gpu()


def test_a_gpu_that_jax_has_is_taken(monkeypatch):
    looked = []

    def devices():
        looked.append("at what JAX has")
        return [SimpleNamespace(platform="gpu")]

    monkeypatch.setenv("JAX_PLATFORMS", "cuda,cpu")
    monkeypatch.setattr(jax, "devices", devices)
    require_gpu()
    assert looked, "or a CPU would be taken as well"


def test_why_a_gpu_does_not_start_is_said_in_one_line(monkeypatch):
    def fail():
        raise RuntimeError("Unable to initialize backend 'cuda':\n no memory")

    monkeypatch.setenv("JAX_PLATFORMS", "cuda,cpu")
    monkeypatch.setattr(jax, "devices", fail)
    with pytest.raises(UnusableGPU, match="Unable to initialize backend 'cuda': no memory"):
        require_gpu()


def test_why_a_plugin_did_not_start_is_said_although_jax_only_logs_it(monkeypatch):
    def devices():
        try:
            raise RuntimeError("Unable to load CUDA. Is it installed?")
        except RuntimeError:
            xla_bridge.logger.exception("Exception when calling jax_plugins.cuda.initialize()")
        return [SimpleNamespace(platform="cpu", device_kind="cpu")]

    monkeypatch.setenv("JAX_PLATFORMS", "")
    monkeypatch.setattr(jax, "devices", devices)
    with pytest.raises(UnusableGPU, match="on the cpu; Unable to load CUDA. Is it installed"):
        require_gpu()
    facts = look_for_devices(NodeFacts("here", gpus=1.0))
    assert facts.plugin_error == "Unable to load CUDA. Is it installed?"
    assert not any(type(handler).__name__ == "Ear" for handler in xla_bridge.logger.handlers)
