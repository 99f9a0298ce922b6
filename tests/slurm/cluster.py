"""A Slurm cluster of this one machine, in a folder, for tests: munged, slurmctld and slurmd over loopback.

It needs Debian's ``slurm-wlm`` and ``munge`` and root, but neither systemd nor cgroups: processes are found by
``proctrack/linuxproc``, cores and memory are only booked (``cons_tres``), a job over its memory is ended by who gathers
its usage (``OverMemoryKill``), and there is no accounting, so that a job's state is asked of ``squeue``.

``python tests/slurm/cluster.py FOLDER COMMAND ...`` runs a command beside such a cluster and takes it down.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
CONFIG = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
MinJobAge=600
KillWait=1
OverTimeLimit=0
InactiveLimit=0
ReturnToService=2
SlurmctldTimeout=60
SlurmdTimeout=60
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why there can be no cluster here; None where there can."""
    absent = [name for name in PROGRAMS if not _found(name)]
    if absent:
        return f"Slurm is not installed (no {absent[0]}): apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "Slurm's daemons need root"


def _found(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))


class Cluster:
    """A running cluster.

    Attributes:
        folder: of its configuration, state and logs.
        environment: variables with which Slurm's commands find it.
    """

    def __init__(self, folder: Path, cores: int, memory: int) -> None:
        self.folder, self.host = folder, socket.gethostname().split(".")[0]
        for name in ("state", "spool", "bin"):
            (folder / name).mkdir()
        ports = _free_ports(2)
        self.config = folder / "slurm.conf"
        self.config.write_text(
            CONFIG.format(
                host=self.host, folder=folder, controller_port=ports[0], node_port=ports[1], cores=cores, memory=memory
            )
        )
        # Snakemake's jobs hand no variable of Slurm on to the step that they start.
        srun = folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.config} exec {_found("srun")} "$@"\n')
        srun.chmod(0o755)
        path = os.pathsep.join([str(srun.parent), os.environ["PATH"]])
        self.environment = {**os.environ, "SLURM_CONF": str(self.config), "PATH": path}
        self.daemons: dict[str, subprocess.Popen] = {}

    def start(self, name: str, *arguments: str) -> None:
        """A daemon in the foreground, as a child of this process, its words in a log."""
        with open(self.folder / f"{name}.out", "ab") as out:
            command = [_found(name), *arguments]
            self.daemons[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.environment, start_new_session=True
            )

    def stop(self, name: str, sign: int = signal.SIGTERM) -> None:
        """End a daemon."""
        daemon = self.daemons.pop(name, None)
        if daemon is None:
            return
        daemon.send_signal(sign)
        try:
            daemon.wait(15)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        files = {"key-file": key, "socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log"}
        files |= {"seed-file": "munge.seed"}
        self.start("munged", "--foreground", "--force", *(f"--{k}={self.folder / v}" for k, v in files.items()))
        self.wait(lambda: (self.folder / "munge.socket").exists(), "munged")

    def start_controller(self) -> None:
        self.start("slurmctld", "-D", "-f", str(self.config))

    def start_node(self) -> None:
        self.start("slurmd", "-D", "-N", self.host, "-f", str(self.config))

    def ask(self, *command: str) -> str:
        """What a command of Slurm prints; nothing where it fails."""
        run = subprocess.run(command, capture_output=True, text=True, env=self.environment, timeout=30, check=False)
        return run.stdout.strip() if run.returncode == 0 else ""

    def wait(self, holds, what: str, seconds: float = 30) -> None:
        """Wait until a condition holds.

        Raises:
            RuntimeError: a daemon died, or it took too long.
        """
        end = time.monotonic() + seconds
        while not holds():
            dead = [name for name, daemon in self.daemons.items() if daemon.poll() is not None]
            if dead or time.monotonic() > end:
                raise RuntimeError(f"{what}: {f'{dead[0]} died' if dead else 'took too long'}\n{self.words()}")
            time.sleep(0.1)

    def words(self) -> str:
        """The ends of all logs."""
        logs = sorted([*self.folder.glob("*.out"), *self.folder.glob("*.log")])
        return "\n".join(f"== {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in logs)

    def is_idle(self) -> bool:
        """Whether the node takes jobs."""
        return self.ask("sinfo", "--noheader", "--format=%T") in ("idle", "mixed", "allocated")


@contextmanager
def cluster(folder: Path, cores: int = 0, memory: int = 0) -> Iterator[Cluster]:
    """Bring a cluster up in an empty folder, and take it down.

    Args:
        folder: its path must be short: a socket lies in it.
        cores: that are booked; 0: as many as there are.
        memory: MB that are booked; 0: as many as there are.
    """
    found = Cluster(folder, cores or os.cpu_count() or 1, memory or _memory())
    with ExitStack() as stack:
        for name in ("munged", "slurmctld", "slurmd"):
            stack.callback(found.stop, name)
        found.start_munge()
        found.start_controller()
        found.start_node()
        found.wait(found.is_idle, "the node")
        try:
            yield found
        finally:
            found.ask("scancel", "--full", "--user=root")
            end = time.monotonic() + 10
            while found.ask("squeue", "--noheader", "--states=running,completing") and time.monotonic() < end:
                time.sleep(0.2)


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def main() -> int:
    """Run a command beside a cluster."""
    folder, *command = sys.argv[1:]
    why = missing()
    if why:
        sys.exit(f"error: {why}")
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as own, cluster(Path(own)) as found:
        return subprocess.run(command, env=found.environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
