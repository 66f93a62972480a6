"""The processor cores of this process, and how PyTorch's threads use them. Nothing here imports torch."""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate
from pathlib import Path

# Variables with which a user sets the number of threads, or how long an idle thread spins before it sleeps. Linux
# wheels of torch ship libgomp, which reads OMP_WAIT_POLICY and GOMP_SPINCOUNT. Those for Windows (libiomp5) and macOS
# (libomp) read OMP_WAIT_POLICY and KMP_BLOCKTIME. MKL_NUM_THREADS overrides OMP_NUM_THREADS in torch.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def available_cores(root: Path = Path("/")) -> int:
    """Return the number of cores that this process may keep busy, at least 1.

    It is the smaller one of two numbers: the physical cores that the process may run on (its affinity), and the CPU
    quota of its container, rounded up. Under torchrun the processes on this machine share it: it is divided by
    LOCAL_WORLD_SIZE, rounded down.

    Args:
        root: the folder that holds `proc` and `sys`.
    """
    cores = min([_physical(root), *_quotas(root)])
    with suppress(ValueError, ZeroDivisionError):
        cores //= int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return max(1, cores)


def set_thread_defaults() -> None:
    """Set the environment of PyTorch's threads, where the user has not; without effect once torch is imported.

    A thread that waits for others then sleeps at once (OMP_WAIT_POLICY) and leaves its core to other programs. Where
    fewer cores than all are available, OMP_NUM_THREADS is their number; elsewhere PyTorch's own default stays.
    """
    if "torch" in sys.modules:
        return
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    if not any(name in os.environ for name in THREADS) and (cores := available_cores()) < (os.cpu_count() or 1):
        os.environ["OMP_NUM_THREADS"] = str(cores)


def _physical(root: Path) -> int:
    """Return the number of cores in the affinity of this process; two hardware threads of a core count once."""
    if not hasattr(os, "sched_getaffinity"):  # Windows, macOS
        return os.cpu_count() or 1
    topology = root / "sys/devices/system/cpu"
    processors = os.sched_getaffinity(0)
    return len({_read(topology / f"cpu{i}/topology/thread_siblings_list") or str(i) for i in processors})


def _quotas(root: Path) -> Iterator[int]:
    """Yield the CPU quota, in cores and rounded up, of each control group above and around this process."""
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")  # "0::/a" (v2), "4:cpu,cpuacct:/a" (v1)
        if controllers and "cpu" not in controllers.split(","):
            continue
        tops = (mount / "cpu", mount / controllers) if controllers else (mount, mount / "unified")
        for top in tops:  # in a container, `path` may be that of the host: the container's own group is then the top
            for group in accumulate(path.strip("/").split("/"), Path.joinpath, initial=top):
                v1 = (_read(group / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
                text = " ".join(v1) if controllers else _read(group / "cpu.max")
                with suppress(ValueError, ZeroDivisionError):  # no such file, or "max": no quota
                    quota, period = map(int, text.split())
                    if (cores := -(-quota // period)) > 0:  # v1 writes -1 for no quota
                        yield cores


def _read(path: Path) -> str:
    """Return the text of a file of the kernel, "" if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except (OSError, ValueError):
        return ""
