"""Programs are compiled into the cache before a worker asks for them."""

import json
import os
import subprocess
import sys

from tests.tuners.small import CONFIG


def test_the_program_of_a_config_is_in_the_cache_in_the_end(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "tuners.ahead"],
        input=json.dumps([CONFIG.to_dict()]),
        env=os.environ | {"SHAPESWEEP_CACHE": str(tmp_path), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert [path for path in tmp_path.iterdir() if path.name.startswith("jit_train_segment")]
