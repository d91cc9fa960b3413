"""deploy/sweep.sbatch as SLURM runs it on the first of a job's nodes, with a stand-in for ``srun`` (for Ray too, where
it is about the script's own sentences). bench/RESULTS.md says what a real SLURM of two nodes did with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from peft_lab.runs import store
from peft_lab.runs.view import Status
from tests.cluster.test_on_ray import SECONDS, WISH
from tests.conftest import link

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy/sweep.sbatch"
SRUN = '#!/bin/bash\nwhile [[ $1 == -* ]]; do shift; done\nexec "$@"\n'  # as on a job's one node
#: ``ray stop`` ends all of a user's Ray, also that of other tests: the script gets processes and a network of its own.
APART = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
APART = APART if os.geteuid() == 0 else [*APART, "--user", "--map-root-user"]


def batch(
    folder: Path, *arguments: str, nodes: int = 1, before: tuple[str, ...] = (), **programs: str
) -> subprocess.CompletedProcess[str]:
    """The script with programs of these names and contents in place of those of the machine."""
    (stands := folder / "bin").mkdir(exist_ok=True)
    for name, text in {
        "srun": SRUN,
        "hostname": "#!/bin/bash\necho 127.0.0.1 10.0.0.7\n",
        **programs,
    }.items():
        (stands / name).write_text(text)
        (stands / name).chmod(0o755)
    path = os.pathsep.join([str(stands), str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        [*before, "bash", str(SCRIPT), *arguments],
        cwd=ROOT,
        env={**os.environ, "PATH": path, "HOME": str(folder), "SLURM_NNODES": str(nodes)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_ray_is_asked_for_all_nodes_and_the_sweeps_exit_code_is_the_jobs(tmp_path: Path) -> None:
    said = tmp_path / "said"
    ray = f'#!/bin/bash\necho "ray $@" >> {said}\n[[ $1 == symmetric-run ]] || exit 0\n'
    ray += 'while [[ $1 != -- ]]; do shift; done; shift; exec "$@"\n'
    python = f'#!/bin/bash\necho "python $@" >> {said}\n'
    python += f'echo "$RAY_AUTH_MODE $RAY_USAGE_STATS_ENABLED" >> {said}\nexit 3\n'
    done = batch(tmp_path, "a sweep.yaml", "--cpus", "4", nodes=4, ray=ray, python=python)
    assert done.returncode == 3, done.stderr
    lines = said.read_text().splitlines()
    assert "ray get-auth-token --generate" in lines
    assert any(
        line.startswith("ray symmetric-run --address 127.0.0.1:6379 --min-nodes 4 -- ") for line in lines
    )
    assert lines[-2:] == [
        "python -m peft_lab sweep a sweep.yaml --cpus 4 --executor ray --address 127.0.0.1:6379",
        "token 0",
    ]


def test_a_ray_that_did_not_start_is_no_success(tmp_path: Path) -> None:
    """``ray symmetric-run`` says so and exits with 0."""
    done = batch(tmp_path, "sweep.yaml", ray="#!/bin/bash\nexit 0\n")
    assert done.returncode == 1
    assert "nothing was trained" in done.stderr


def test_a_sweep_has_to_be_named(tmp_path: Path) -> None:
    done = batch(tmp_path, ray="#!/bin/bash\nexit 0\n")
    assert done.returncode != 0 and "which sweep? sbatch deploy/sweep.sbatch sweep.yaml" in done.stderr


@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.rest  # as what trains on Ray (test_on_ray.py); make test has Slurm's script with a stand-in
@pytest.mark.further
def test_rays_own_symmetric_run_trains_the_sweep_and_ends_its_cluster(own_home: Path, tmp_path: Path) -> None:
    wanted = [*APART, "sh", "-c", "ip link set lo up"]
    if not shutil.which("unshare") or subprocess.run(wanted, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make processes and a network apart (unshare, ip)")
    link(own_home)
    file = tmp_path / "sweep.yaml"
    file.write_text(json.dumps({**WISH, "steps": 4, "seeds": [0, 1]}))
    inside = """ip link set lo up; mkdir -p /tmp/ray; mount -t tmpfs none /tmp/ray; "$@"; code=$?
        echo "left: $(grep -al 'gcs_serve[r]' /proc/[0-9]*/cmdline | wc -l)"; exit $code"""
    done = batch(tmp_path, str(file), before=(*APART, "bash", "-c", inside, "apart"))
    assert done.returncode == 0, done.stdout + done.stderr
    runs = store.runs()
    assert [(run.status(), len(run.view().losses)) for run in runs] == [(Status.DONE, 4)] * 2
    carriers = {event["carrier"] for run in runs for event in run.events() if event["type"] == "queued"}
    assert carriers == {"ray"}
    assert (tmp_path / ".ray/auth_token").is_file(), "made once, by the script"
    assert done.stdout.splitlines()[-1] == "left: 0"
