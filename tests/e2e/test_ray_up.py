"""`ray up` for real: sshd on loopback, the built wheel on the "node", submit, `ray down`.

Everything runs in namespaces of its own (processes, mounts, network), because `ray stop` and
`ray down` end every Ray process they can see; all of it ends with the namespace. The cluster file
is `deploy/onprem.yaml` with its EDIT lines filled in; the node's environment borrows this one's
third-party packages instead of downloading 2 GB, but not this checkout's code.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.tiny_model import write_tiny_model

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("unshare", "sshd", "ssh", "ssh-keygen", "rsync", "ip", "mount", "ps")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
TIME_LIMIT_S = 240  # 30 s on an idle machine of two cores

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.deep,
    pytest.mark.torch,
    pytest.mark.timeout(TIME_LIMIT_S + 30),
    pytest.mark.skipif(os.getuid() != 0, reason="namespaces and sshd need root"),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {MISSING}"),
]

SSHD_CONFIG = """
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
PidFile none
"""

# Runs as process 1 of its namespaces. Step names go to stdout; whatever fails stops it.
SCRIPT = """
set -euo pipefail
ip link set lo up
mount --bind {folder}/passwd /etc/passwd
mount -t tmpfs tmpfs /run && mkdir /run/sshd
mkdir -p /tmp/ray && mount -t tmpfs tmpfs /tmp/ray
{sshd} -f {folder}/sshd_config -E {folder}/sshd.log
export HOME={folder}/client TMPDIR={folder}/client PATH={bin}:$PATH
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 RAY_UP_enable_autoscaler_v2=0
ray get-auth-token --generate >/dev/null
cd {folder}
ray up -y --no-config-cache cluster.yaml </dev/null
echo "== up"
{folder}/home/radixroute/venv/bin/radixroute submit --max-tokens 8 "Hello" </dev/null
echo "== submitted"
{folder}/home/radixroute/venv/bin/python -c 'import radixroute; print("code:", radixroute.__file__)'
ray down -y cluster.yaml </dev/null
echo "== down"
sleep 1
ps -eo args | grep -E "[r]aylet|[g]cs_server|[r]ay::" || echo "== nothing left"
"""


def _write_files(folder: Path, wheel: Path) -> None:
    for name in ("home", "client", "dist"):
        (folder / name).mkdir()
    shutil.copy(wheel, folder / "dist")
    shutil.copy(ROOT / "constraints.txt", folder)
    for name in ("host_key", "key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True
        )
    (folder / "sshd_config").write_text(SSHD_CONFIG.format(folder=folder))
    (folder / "passwd").write_text(_passwd_with_home(folder / "home"))
    (folder / "home" / ".bashrc").write_text("# the node's\n")
    (folder / "home" / ".bash_profile").write_text(". ~/.bashrc\n")
    (folder / "cluster.yaml").write_text(yaml.safe_dump(_cluster(folder)))


def _passwd_with_home(home: Path) -> str:
    """The node is this machine: its login gets a home of its own, so that ours stays untouched."""
    lines = []
    for line in Path("/etc/passwd").read_text().splitlines():
        fields = line.split(":")
        if fields[2] == "0":
            fields[5], fields[6] = str(home), "/bin/bash"
        lines.append(":".join(fields))
    return "\n".join(lines) + "\n"


def _cluster(folder: Path) -> dict[str, Any]:
    """`deploy/onprem.yaml` with one machine: the head is the worker's node as well."""
    text = (ROOT / "deploy" / "onprem.yaml").read_text()
    for before, after in (
        ("--num-cpus=0", "--num-cpus=1"),
        ("--workers 2", "--workers 1"),
        ("~/models/SmolLM2-135M-Instruct", str(folder / "model")),
    ):
        assert before in text
        text = text.replace(before, after)
    cluster: dict[str, Any] = yaml.safe_load(text)
    cluster["provider"] = {"type": "local", "head_ip": "127.0.0.1", "worker_ips": []}
    cluster["auth"] = {"ssh_user": "root", "ssh_private_key": str(folder / "key")}
    cluster["max_workers"] = 0
    cluster["file_mounts"] = {
        remote: local if local.startswith("~") else str(folder / local)
        for remote, local in cluster["file_mounts"].items()
    }
    cluster["setup_commands"] = [
        command if "pip install" not in command else _borrow(command)
        for command in cluster["setup_commands"]
    ]
    return cluster


def _borrow(command: str) -> str:
    """Installs of the wheel stay as they are; those of third-party packages become a path file.

    Packages on a path file's paths come after the environment's own, and an editable install found
    there is not followed: the code under test is the wheel's.
    """
    if "--no-deps" in command:
        return command.replace("pip install", "pip install --no-index")
    libraries = next(path for path in sys.path if path.endswith("site-packages"))
    site = "~/radixroute/venv/lib/python*/site-packages"
    ray = "import sys; from ray.scripts.scripts import main; sys.exit(main())"
    return (
        f"echo {libraries} > $(echo {site})/borrowed.pth && "
        f"printf '%s\\n' \"#!$HOME/radixroute/venv/bin/python\" '{ray}' "
        "> ~/radixroute/venv/bin/ray && chmod +x ~/radixroute/venv/bin/ray"
    )


def test_ray_up_installs_the_wheel_and_serves_until_ray_down(wheel: Path, tmp_path: Path):
    write_tiny_model(tmp_path / "model")
    _write_files(tmp_path, wheel)
    script = SCRIPT.format(
        folder=tmp_path, sshd=shutil.which("sshd"), bin=Path(sys.executable).parent
    )
    result = subprocess.run(
        ["unshare", "-p", "-f", "-m", "-n", "--mount-proc", "--kill-child", "bash", "-c", script],
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT_S,
        check=False,
    )
    said = result.stdout + result.stderr
    assert result.returncode == 0, said
    for step in ("== up", "== submitted", "== down", "== nothing left"):
        assert step in result.stdout, said
    assert f"code: {tmp_path}/home/radixroute/venv/" in result.stdout, said
