"""A real Slurm of one node, this machine: munged, slurmctld, slurmd, as root, without systemd or cgroups."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from duties import until

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")

CONF = """
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=1,sched_interval=1
KillWait=2
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 Sockets=1 CoresPerSocket=4 ThreadsPerCore=1 RealMemory=4000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """What a test of Slurm lacks here, "" for nothing."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    lacking = [name for name in NEEDED if shutil.which(name, path=path) is None]
    if lacking:
        return f"no {', '.join(lacking)}: apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "slurmd needs root"


@contextmanager
def slurm() -> Iterator[dict[str, str]]:
    """Start it; the environment in which its commands find it."""
    with ExitStack() as stack:
        # Sockets have short names, which a test's own folder has not.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-")))
        host = socket.gethostname().partition(".")[0]
        for name in ("state", "spool"):
            (folder / name).mkdir()
        conf = folder / "slurm.conf"
        conf.write_text(CONF.format(host=host, folder=folder, ports=_free_ports()))
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        files = [
            f"--{option}={folder}/{name}"
            for option, name in (
                ("key-file", "munge.key"),
                ("socket", "munge.socket"),
                ("pid-file", "munged.pid"),
                ("log-file", "munged.log"),
                ("seed-file", "munge.seed"),
            )
        ]
        stack.enter_context(_running("munged", "--foreground", "--force", *files, log=folder / "munged.out"))
        until((folder / "munge.socket").exists)
        environment = {"SLURM_CONF": str(conf), "PATH": f"{os.environ['PATH']}:/usr/sbin"}
        stack.enter_context(_running("slurmctld", "-D", "-f", str(conf), log=folder / "slurmctld.log"))
        stack.enter_context(_running("slurmd", "-D", "-f", str(conf), "-N", host, log=folder / "slurmd.log"))
        until(lambda: _said(environment, "sinfo", "-h", "-o", "%T") == "idle")
        yield environment


def jobs(environment: dict[str, str]) -> list[str]:
    """Numbers of the jobs that wait or run."""
    return _said(environment, "squeue", "-h", "-o", "%i").split()


def cancel(environment: dict[str, str], job: str) -> None:
    """Cancel one."""
    subprocess.run(["scancel", job], env={**os.environ, **environment}, check=True)


def _said(environment: dict[str, str], *command: str) -> str:
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    ).stdout.strip()


@contextmanager
def _running(name: str, *arguments: str, log: Path) -> Iterator[None]:
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    with log.open("w") as file:
        process = subprocess.Popen([str(path), *arguments], stdout=file, stderr=file)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_ports() -> list[int]:
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
