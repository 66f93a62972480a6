"""The number of cores, from crafted trees of /proc and /sys, and the threads that the command computes with."""

import os
import platform
import subprocess
import sys
import time

import pytest

from ddim import processors
from ddim.processors import available_cores

LIMIT = "sys/fs/cgroup/"
TREES = {  # case -> the text of /proc/self/cgroup, the files below /sys/fs/cgroup, and the number of cores of 8
    "no /proc": (None, {}, 8),
    "no files": ("0::/\n", {}, 8),
    "v2, whole cores": ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
    "v2, rounded up": ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
    "v2, less than a core": ("0::/\n", {"cpu.max": "1000 100000\n"}, 1),
    "v2, above the affinity": ("0::/\n", {"cpu.max": "1600000 100000\n"}, 8),
    "v2, no quota": ("0::/a\n", {"a/cpu.max": "max 100000\n"}, 8),
    "v2, own group": ("0::/a/b\n", {"a/b/cpu.max": "300000 100000"}, 3),
    "v2, the group above is narrower": ("0::/a/b\n", {"a/b/cpu.max": "300000 100000", "a/cpu.max": "20000 10000"}, 2),
    "v2, the group above is wider": ("0::/a/b\n", {"a/b/cpu.max": "300000 100000", "cpu.max": "500000 100000"}, 3),
    "v2, another group": ("0::/a\n", {"b/cpu.max": "100000 100000"}, 8),
    "v2, the path of the host": ("0::/kubepods/pod1\n", {"cpu.max": "400000 100000"}, 4),
    "v2, a group outside the container": ("0::/../a\n", {"cpu.max": "400000 100000"}, 4),
    "v2, a colon in the name": ("0::/a:b\n", {"a:b/cpu.max": "300000 100000"}, 3),
    "v1": ("4:cpu:/a\n", {"cpu/a/cpu.cfs_quota_us": "250000\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, 3),
    "v1, two controllers": (
        "3:cpu,cpuacct:/a\n",
        {"cpu,cpuacct/a/cpu.cfs_quota_us": "200000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
        2,
    ),
    "v1, the path of the host": (
        "5:memory:/docker/1\n4:cpuacct,cpu:/docker/1\n",
        {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "10000"},
        5,
    ),
    "v1, no quota": ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
    "v1, of another controller": (
        "4:cpuset:/\n",
        {"cpuset/cpu.cfs_quota_us": "100000", "cpuset/cpu.cfs_period_us": "100000"},
        8,
    ),
    "both versions": (
        "1:cpu:/a\n0::/b\n",
        {
            "cpu/a/cpu.cfs_quota_us": "500000",
            "cpu/a/cpu.cfs_period_us": "100000",
            "unified/b/cpu.max": "300000 100000",
        },
        3,
    ),
    "empty files": ("0::/\n4:cpu:/\n", {"cpu.max": "", "cpu/cpu.cfs_quota_us": "", "cpu/cpu.cfs_period_us": ""}, 8),
    "no number": ("0::/\n", {"cpu.max": "abc 100000"}, 8),
    "no period": ("0::/\n", {"cpu.max": "100000"}, 8),
    "a fraction": ("0::/\n", {"cpu.max": "1.5 1"}, 8),
    "a period of 0": ("0::/\n", {"cpu.max": "100000 0"}, 8),
    "a quota of 0": ("0::/\n", {"cpu.max": "0 100000"}, 8),
    "a negative quota": ("0::/\n", {"cpu.max": "-200000 100000"}, 8),
    "very long numbers": ("0::/\n", {"cpu.max": f"{'9' * 5000} 1"}, 8),
    "one of several is no number": ("0::/a\n", {"cpu.max": "x y", "a/cpu.max": "300000 100000"}, 3),
    "no lines of groups": ("abc\n:\n\n::\x00\n", {"cpu/cpu.cfs_quota_us": "?"}, 8),
}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Write files below a folder in place of /; the affinity has 8 processors."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


@pytest.mark.parametrize("case", TREES)
def test_the_quota_of_the_container_limits_the_cores(case, machine):
    groups, limits, cores = TREES[case]
    if os.name == "nt" and "colon" in case:
        pytest.skip("a name on Windows has no colon")
    files = {LIMIT + name: text for name, text in limits.items()}
    assert available_cores(machine(files if groups is None else {"proc/self/cgroup": groups, **files})) == cores


def test_a_file_that_cannot_be_read_sets_no_limit(machine):
    root = machine({"proc/self/cgroup": "0::/a\n", f"{LIMIT}a/cpu.max": "300000 100000"})
    (root / LIMIT / "cpu.max").mkdir()
    assert available_cores(root) == 3
    (root / LIMIT / "a" / "cpu.max").write_bytes(b"\xff\xfe 100000")
    assert available_cores(root) == 8


def test_two_hardware_threads_of_a_core_count_once(machine):
    siblings = {i: f"{i % 4},{i % 4 + 4}\n" for i in range(8)}
    name = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    assert available_cores(machine({name.format(i): text for i, text in siblings.items()})) == 4


@pytest.mark.parametrize(("processes", "cores"), [("1", 8), ("2", 4), ("3", 2), ("99", 1), ("", 8), ("0", 8), ("x", 8)])
def test_processes_of_one_machine_share_its_cores(processes, cores, machine, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert available_cores(machine({})) == cores


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity of a process")
def test_the_cores_of_this_process_are_at_most_its_affinity():
    code = (
        "import os\nfrom ddim.processors import available_cores\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nprint(available_cores())"
    )
    assert int(python(code).stdout) == 1
    assert 1 <= available_cores() <= len(os.sched_getaffinity(0))


def python(code, **environment):
    """Run code without the variables of threads that this process has."""
    names = (*processors.THREADS, "LOCAL_WORLD_SIZE", "GLIBC_TUNABLES")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.run(
        [sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True, check=True, timeout=120
    )


@pytest.fixture
def before_torch(monkeypatch):
    """An environment without numbers of threads, in a process that has not imported torch; a machine of six cores."""
    for name in (*processors.THREADS, "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(processors, "chosen", False)
    monkeypatch.setattr(processors, "_physical", lambda root: 6)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)


@pytest.mark.parametrize(
    ("quota", "busy", "given", "threads"),
    [
        (6, 0.0, {}, None),  # PyTorch's own default
        (6, 0.4, {}, None),
        (6, 1.6, {}, "4"),
        (6, 9.0, {}, "1"),
        (2, 0.0, {}, "2"),
        (2, 3.0, {}, "2"),  # other cores than those of the quota are free
        (2, 5.0, {}, "1"),
        (2, 3.0, {"OMP_NUM_THREADS": "3"}, "3"),
        (2, 3.0, {"MKL_NUM_THREADS": "3"}, None),
        (6, 3.0, {"LOCAL_WORLD_SIZE": "2"}, "3"),  # the others are its own processes
    ],
)
def test_the_number_of_threads_is_set_where_the_user_has_not(quota, busy, given, threads, before_torch, monkeypatch):
    monkeypatch.setattr(processors, "_quotas", lambda root: [quota])
    monkeypatch.setattr(processors.OtherPrograms, "busy", lambda self: busy)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    processors.set_thread_defaults()
    assert os.environ.get("OMP_NUM_THREADS") == threads
    assert processors.chosen != any(name in given for name in processors.THREADS)


STAT = """cpu 1 1 1 1 1 1 1 1 0 0
cpu0 {work} 10 100 5000 3 1 1 4 0 0
cpu1 {other} 10 100 5000 3 1 1 4 0 0
cpu9 {elsewhere} 10 100 5000 3 1 1 4 0 0
intr 1
"""


@pytest.fixture
def clock(monkeypatch):
    """The clock and the processor time of this process, in seconds, and the load; a second has 100 ticks."""
    now = {"monotonic": 50.0, "process_time": 2.0, "load": 9.0}
    monkeypatch.setattr(time, "monotonic", lambda: now["monotonic"])
    monkeypatch.setattr(time, "process_time", lambda: now["process_time"])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.update(monotonic=now["monotonic"] + seconds))
    monkeypatch.setattr(os, "getloadavg", lambda: (now["load"], 0.0, 0.0), raising=False)
    monkeypatch.setattr(os, "sysconf", lambda name: 100, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    return now


@pytest.mark.parametrize(
    ("work", "own", "load", "busy"),
    [
        ({}, 0.0, 9.0, 0.0),
        ({"work": 200}, 0.0, 9.0, 1.0),  # one of two processors for two seconds
        ({"work": 200, "other": 200}, 0.0, 9.0, 2.0),
        ({"work": 150}, 1.5, 9.0, 0.0),  # its own work
        ({"work": 200, "other": 150}, 1.5, 9.0, 1.0),
        ({"elsewhere": 200}, 0.0, 9.0, 0.0),  # outside the affinity
        ({"work": 200}, 0.0, 0.25, 0.25),  # it has just begun
    ],
)
def test_the_processors_of_other_programs(work, own, load, busy, clock, tmp_path):
    path = tmp_path / "proc" / "stat"
    path.parent.mkdir()
    before = {"work": 1000, "other": 1000, "elsewhere": 1000}
    path.write_text(STAT.format(**before))
    others = processors.OtherPrograms(tmp_path)
    path.write_text(STAT.format(**{name: ticks + work.get(name, 0) for name, ticks in before.items()}))
    clock["monotonic"] += 2.0
    clock["process_time"] += own
    clock["load"] = load
    assert others.busy() == pytest.approx(busy)


def test_the_measurement_lasts_long_enough(clock, tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "stat").write_text(STAT.format(work=1, other=1, elsewhere=1))
    assert processors.OtherPrograms(tmp_path).busy() == 0
    assert clock["monotonic"] == pytest.approx(50.0 + processors.WINDOW)


@pytest.mark.parametrize(
    "text", [None, "", "cpu0\n", "cpu0 1 2 3\n", "cpu0 a b c d e f g h\n", "cpu7 1 2 3 4 5 6 7 8\n"]
)
def test_a_system_that_does_not_tell(text, clock, tmp_path):
    if text is not None:
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc" / "stat").write_text(text)
    assert processors.OtherPrograms(tmp_path).busy() == 0


def test_a_load_that_cannot_be_read(clock, tmp_path, monkeypatch):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "stat").write_text(STAT.format(work=1, other=1, elsewhere=1))

    def unknown():
        raise OSError("Load averages are unobtainable")

    monkeypatch.setattr(os, "getloadavg", unknown, raising=False)
    assert processors.OtherPrograms(tmp_path).busy() == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how busy each processor is")
def test_busy_loops_are_seen():
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0)]
    try:
        code = "import os\nfrom ddim.processors import OtherPrograms\nos.getloadavg = lambda: (9.0, 9.0, 9.0)\n"
        assert float(python(f"{code}print(OtherPrograms().busy())").stdout) > 0.4
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_used_again_without_page_faults():
    """The 16 arrays of 3 MiB have 12,288 pages, touched by the first of 20 rounds, and by default in each."""
    code = (
        "import resource\nimport numpy as np\nfrom ddim import processors\n{}\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(20): [np.ones(3 * 2**20, np.uint8) for _ in range(16)]\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"
    )
    kept = int(python(code.format("processors.keep_freed_memory()")).stdout)
    assert kept < 2 * 12288
    assert int(python(code.format("")).stdout) > 8 * 12288
    users = python(code.format("processors.keep_freed_memory()"), MALLOC_TRIM_THRESHOLD_="131072")
    assert int(users.stdout) > 8 * 12288


def test_a_program_that_has_imported_torch_keeps_its_settings(monkeypatch):
    for name in processors.THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    processors.set_thread_defaults()
    assert not any(name in os.environ for name in processors.THREADS)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has an affinity and control groups")
@pytest.mark.parametrize(
    "limit", ["os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})", "processors._quotas = lambda root: [1]"]
)
def test_pytorch_computes_with_the_available_cores(limit):
    code = (
        f"import os\nfrom ddim import processors\nfrom ddim.cli import main\n{limit}\nmain(['list', 'samplers'])\n"
        "import torch\nprint(torch.get_num_threads())"
    )
    assert python(code).stdout.splitlines()[-1] == "1"
