"""The cluster files against Ray's own schema, and what they must never lose."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILES = ("onprem.yaml", "aws-gpu.yaml")


def _load(name: str) -> dict[str, Any]:
    loaded = yaml.safe_load((ROOT / "deploy" / name).read_text())
    assert isinstance(loaded, dict)
    return loaded


@pytest.mark.parametrize("name", FILES)
def test_a_cluster_file_fits_rays_schema(name: str):
    found = find_spec("ray")
    assert found is not None
    assert found.origin is not None
    schema = Path(found.origin).parent / "autoscaler" / "ray-schema.json"
    jsonschema.validate(_load(name), json.loads(schema.read_text()))


@pytest.mark.parametrize("name", FILES)
def test_ray_itself_accepts_a_cluster_file(name: str):
    script = (
        "import sys, yaml\n"
        "from ray.autoscaler._private.util import prepare_config, validate_config\n"
        "validate_config(prepare_config(yaml.safe_load(open(sys.argv[1]))))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, ROOT / "deploy" / name],
        env=os.environ | {"RAY_AUTH_MODE": "token"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", FILES)
def test_nodes_get_the_wheel_the_token_and_a_cluster(name: str):
    loaded = _load(name)
    assert loaded["file_mounts"]["~/radixroute/dist"] == "dist"
    assert "~/.ray/auth_token" in loaded["file_mounts"]
    setup = "\n".join(loaded["setup_commands"])
    assert "RAY_AUTH_MODE=token" in setup
    assert setup.index("install --quiet -c ~/radixroute/constraints.txt torch") < setup.index(
        "[ray,worker]"
    )
    assert "radixroute up --address auto" in loaded["head_start_ray_commands"][-1]
