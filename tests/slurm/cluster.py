"""A Slurm of two nodes on this machine, without systemd, accounting or cgroups; n2 has a (made-up) GPU.

The daemons are Debian's own. They read /etc/slurm, since Snakemake's executor keeps no SLURM_CONF for
its jobs; what is written there is marked as ours and taken away again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil

ETC = Path("/etc/slurm")
MARK = "# written by discern's tests, safe to delete\n"
FILES = ("slurm.conf", "gres.conf", "cgroup.conf")
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "squeue", "scontrol")
PACKAGES = ("slurm-wlm", "munge")
NODES = ("n1", "n2")
#: CPUs and MB that each node claims to have: more than there is, so that small machines run the tests too.
CPUS, MEMORY = 8, 64000

NAME = "discern"
SLURM_CONF = r"""ClusterName=discern
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
{loopback}SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.sock
CredType=cred/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool.%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
MinJobAge=900
SlurmdTimeout=10
SlurmctldTimeout=10
KillWait=2
UnkillableStepTimeout=10
ReturnToService=1
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs={cpus} RealMemory={memory}
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs={cpus} RealMemory={memory} \
  Gres=gpu:1 Weight=9
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=n2 MaxTime=INFINITE State=UP
"""


def lacking() -> str:
    """Why this machine can have no Slurm, or an empty string. Installs Debian's packages if need be."""
    if os.geteuid() != 0:
        return "needs root, for Slurm's daemons"
    if foreign := [f for f in FILES if (ETC / f).exists() and not (ETC / f).read_text().startswith(MARK)]:
        return f"this machine has a Slurm of its own: {ETC / foreign[0]}"
    if not _missing():
        return ""
    if not shutil.which("apt-get"):
        return f"{', '.join(_missing())} not found, and no apt-get to install {' '.join(PACKAGES)}"
    quiet = {
        "env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        "capture_output": True,
        "check": False,
    }
    # In a container nothing may start the services that the packages bring: the tests start their own.
    subprocess.run(["apt-get", "update"], **quiet)
    install = ["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES]
    done = subprocess.run(install, **quiet)
    return f"{' '.join(install)} failed: {done.stderr.decode()[-500:]}" if _missing() else ""


def _missing() -> list[str]:
    # Daemons lie in /usr/sbin, which is not on every user's path.
    os.environ["PATH"] = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return [program for program in PROGRAMS if shutil.which(program) is None]


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def _loops_back(host: str) -> bool:
    try:
        return socket.gethostbyname(host).startswith("127.")
    except OSError:
        return False


def say(*command: str) -> str:
    """Output of a Slurm command; CalledProcessError if it fails."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def _line(process: psutil.Process) -> str:
    return " ".join(process.cmdline())


def until(condition, seconds: float, what: str) -> None:
    """Wait for a condition; AssertionError with ``what`` if it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.2)


class Cluster:
    """The daemons of one Slurm, and what the tests do to them."""

    def __init__(self, root: Path):
        self.root = root
        self.munged: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start munge, controller and both nodes; ends when both are idle."""
        for folder in ("state", *(f"spool.{n}" for n in NODES)):
            (self.root / folder).mkdir(parents=True)
        self._authenticate()
        self._configure()
        self.start_controller("-c")
        for node in NODES:
            self.start_node(node)
        until(self.idle, 30, f"idle nodes, see {self.root}/*.log")

    def _authenticate(self) -> None:
        secret = self.root / "munge"
        secret.mkdir(mode=0o700)
        (secret / "key").write_bytes(secrets.token_bytes(128))
        (secret / "key").chmod(0o400)
        self.root.chmod(0o755)
        subprocess.run(
            ["munged", "--force", f"--key-file={secret}/key", f"--socket={self.root}/munge.sock",
             f"--pid-file={self.root}/munged.pid", f"--log-file={secret}/log", f"--seed-file={secret}/seed"],
            check=True,
        )  # fmt: skip

    def _configure(self) -> None:
        ETC.mkdir(parents=True, exist_ok=True)
        host = socket.gethostname().split(".")[0]
        port, first, second = (_free_port() for _ in range(3))
        device = self.root / "gpu0"
        device.touch()
        # Where the host's name does not lead to the loopback, daemons could not reach each other there.
        loopback = "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny\n" if _loops_back(host) else ""
        texts = {
            "slurm.conf": SLURM_CONF.format(
                host=host, port=port, first=first, second=second, loopback=loopback, root=self.root,
                cpus=CPUS, memory=MEMORY,
            ),
            "gres.conf": f"NodeName=n2 Name=gpu File={device}\n",
            "cgroup.conf": "CgroupAutomount=no\n",
        }  # fmt: skip
        for name, text in texts.items():
            (ETC / name).write_text(MARK + text)

    def start_controller(self, *options: str) -> None:
        """Start the controller; without ``-c`` it goes on with its saved state."""
        subprocess.run(["slurmctld", *options], check=True)

    def start_node(self, node: str) -> None:
        """Start the daemon of a node."""
        subprocess.run(["slurmd", "-N", node], check=True)

    def restart_controller(self, seconds: float = 8) -> None:
        """End the controller without a chance to write anything; some seconds later start it again.

        It saves its state every few seconds: what was submitted since would be lost, on any cluster.
        """
        now, saved = time.time(), self.root / "state" / "job_state"
        say("scontrol", "update", "PartitionName=main", "State=UP")  # so that there is something to save
        until(lambda: saved.exists() and saved.stat().st_mtime > now, 30, "the controller's saved state")
        self._kill("slurmctld")
        time.sleep(seconds)
        self.start_controller()
        until(self._answers, 30, "the controller")

    def _answers(self) -> bool:
        done = subprocess.run(["squeue", "-h"], capture_output=True, check=False, timeout=60)
        return done.returncode == 0

    def _kill(self, daemon: str) -> None:
        file = self.root / f"{daemon}.pid"
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(file.read_text()), signal.SIGKILL)
        file.unlink(missing_ok=True)

    def idle(self) -> bool:
        """Whether both nodes wait for work."""
        done = subprocess.run(
            ["sinfo", "-h", "-N", "-p", "main", "-t", "idle", "-o", "%N"],
            capture_output=True,
            text=True,
            check=False,
        )
        return set(done.stdout.split()) == set(NODES)

    def jobs(self) -> list[dict[str, str]]:
        """Every job that the controller remembers: fields of ``scontrol show job``, and its job in words."""
        found = []
        for line in say("scontrol", "--oneliner", "show", "job").splitlines():
            found.append(dict(p.split("=", 1) for p in line.split() if "=" in p))
        return [job for job in found if "JobId" in job]

    def stop(self) -> None:
        """End every job and daemon, and take our files away."""
        subprocess.run(["scancel", "--user=root", "--partition=main,gpu"], check=False, capture_output=True)
        for _ in range(20):
            queued = subprocess.run(["squeue", "-h"], check=False, capture_output=True, text=True)
            if queued.returncode or not queued.stdout:
                break
            time.sleep(0.5)
        for daemon in (*(f"slurmd.{n}" for n in NODES), "slurmctld", "munged"):
            self._kill(daemon)
        for process in psutil.process_iter():
            # A node that was set down may have left some.
            with contextlib.suppress(psutil.Error):
                if process.environ().get("SLURM_CLUSTER_NAME") == NAME or f"{self.root}/" in _line(process):
                    process.kill()
        for name in FILES:
            (ETC / name).unlink(missing_ok=True)
