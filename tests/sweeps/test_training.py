"""What train.py does before it trains."""

from collections.abc import Iterator

import jax
import pytest

from sweeps import train, training

PRECISION = "jax_default_matmul_precision"


@pytest.fixture
def tensorfloat32() -> Iterator[None]:
    """This process's products, until the test ends."""
    before = jax.config.jax_default_matmul_precision
    jax.config.update(PRECISION, "tensorfloat32")
    yield
    jax.config.update(PRECISION, before)


def test_products_have_the_precision_that_the_run_notes(tmp_path, monkeypatch, tensorfloat32):
    """Else a trial's config would train to another curve on the same GPU."""
    found = []

    def run_single(spec, **more):
        found.append((jax.config.jax_default_matmul_precision, spec.precision))
        return True

    monkeypatch.setattr(training, "run_single", run_single)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    train.main(train.Flags(preset="smoke", name="alone", runs_dir=tmp_path, tracking_uri=uri))
    jax.config.update(PRECISION, "tensorfloat32")
    train.main(train.Flags(resume="alone", runs_dir=tmp_path))
    assert found == [("float32", "float32")] * 2
