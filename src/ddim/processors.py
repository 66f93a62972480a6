"""The processor cores and the memory of this process, as PyTorch uses them. Nothing here imports torch."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate
from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables with which a user sets the number of threads; in torch, the second one overrides the first."""

WINDOW = 0.1  # seconds for which other programs are measured, at least

chosen = False
"""Whether `set_thread_defaults` has chosen the number of threads of this process, rather than the user."""


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


class OtherPrograms:
    """The work of other programs on the processors of this process, from the creation of the object on.

    Args:
        root: the folder that holds `proc`.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._began, self._work = time.monotonic(), self._seconds()

    def busy(self) -> float:
        """Return how many of these processors they keep busy, now and in the last minute; 0 if that is unknown.

        The measurement lasts `WINDOW` seconds at least, because the system counts in hundredths of a second. A program
        that has just begun, or that works only now and then, is left out by the mean of the last minute.
        """
        time.sleep(max(0.0, self._began + WINDOW - time.monotonic()))
        work, seconds = self._seconds(), time.monotonic() - self._began
        if self._work is not None and work is not None:
            with suppress(OSError):  # the system does not tell the load
                return min((work - self._work) / seconds, os.getloadavg()[0])
        return 0.0

    def _seconds(self) -> float | None:
        """Return how long the processors of this process have worked for other programs since the start of the system.

        None is for a system that does not tell.
        """
        names = {f"cpu{i}" for i in _affinity()}
        rows = [line.split() for line in _read(self._root / "proc/stat").splitlines()]
        try:  # user, nice, system, idle, iowait, irq, softirq, ... in clock ticks
            ticks = [sum(int(row[i]) for i in (1, 2, 3, 6, 7)) for row in rows if row and row[0] in names]
        except (ValueError, IndexError):
            return None
        return sum(ticks) / os.sysconf("SC_CLK_TCK") - time.process_time() if ticks else None


def set_thread_defaults(others: OtherPrograms | None = None) -> None:
    """Set the number of PyTorch's threads, where the user has not; without effect once torch is imported.

    It is the number of available cores, less those that other programs keep busy. Each operation waits for its last
    thread, so one thread that shares its core makes all of them slow. Where all cores are free, PyTorch's own default
    stays. Processes under torchrun do not measure other programs, because they would measure each other.

    Args:
        others: what measures the other programs, created some time ago; None measures them from now on.
    """
    if "torch" in sys.modules or any(name in os.environ for name in THREADS):
        return
    alone = os.environ.get("LOCAL_WORLD_SIZE", "1") == "1"
    busy = round((others or OtherPrograms()).busy()) if alone else 0
    cores = max(1, min(available_cores(), _physical(Path("/")) - busy))
    if cores < (os.cpu_count() or 1):
        os.environ["OMP_NUM_THREADS"] = str(cores)
    global chosen
    chosen = True


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for later allocations, where it is glibc and the user has not set it up.

    By default, glibc returns large blocks to the system. Each network call then requests them again, page by page:
    one update on 64 images of MNIST met 12,000 page faults, which took a tenth of its time.
    """
    if "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ):
        return
    import ctypes  # here, because `ddim --help` needs no memory and this import takes milliseconds

    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    with suppress(OSError, AttributeError, TypeError):  # another C library, or Windows
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_threshold, 2**25)  # the largest that glibc accepts
        mallopt(trim_threshold, 2**31 - 1)


def _physical(root: Path) -> int:
    """Return the number of cores in the affinity of this process; two hardware threads of a core count once."""
    processors = _affinity()
    if not processors:
        return os.cpu_count() or 1
    topology = root / "sys/devices/system/cpu"
    return len({_read(topology / f"cpu{i}/topology/thread_siblings_list") or str(i) for i in processors})


def _affinity() -> set[int]:
    """Return the processors that this process may run on; none on Windows and macOS, which do not tell."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


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
