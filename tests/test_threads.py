"""The thread pool, the number of threads, and the floating-point mode around a call.

Whatever could hang runs in a process of its own under a time limit.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv import _threads, testing
from fastconv.backends import backends

ROOT = Path(__file__).resolve().parents[1]
USABLE = testing.backends_here()
C_REASON = backends()["c"]
needs_c = pytest.mark.skipif(C_REASON is not None, reason=f"the c backend cannot run here: {C_REASON}")
TIME_LIMIT = 120

PRELUDE = """
import os, sys
import numpy as np
from fastconv._c import ffi, lib

def trial(nthreads, npieces=64, work=2000, depth=0):
    calls, threads, flushed = np.zeros(npieces, np.int32), ffi.new("int64_t *"), ffi.new("int64_t *")
    memory = ffi.cast("int32_t *", calls.ctypes.data)
    wrong = lib.fc_selftest_threads(nthreads, npieces, work, depth, memory, threads, flushed)
    assert wrong == 0, wrong
    assert (calls == 1).all()
    assert 1 <= threads[0] <= max(1, nthreads)
    return threads[0], flushed[0]
"""


def run(code: str, **environment: str) -> str:
    """Standard output of ``code``, run in a fresh interpreter; a failure or a hang fails the test."""
    keep = {k: v for k, v in os.environ.items() if k not in ("FASTCONV_NUM_THREADS", "OMP_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**keep, **environment},
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ---------------------------------------------------------------------------------------------------- the C pool


@needs_c
class TestPool:
    def test_every_piece_runs_once_and_workers_are_distinct(self):
        run(PRELUDE + "for n in (-1, 0, 1, 2, 3, 8, 300):\n    for p in (1, 2, 3, 100): trial(n, p)")

    def test_no_piece(self):
        run(PRELUDE + "lib.fc_selftest_threads(4, 0, 1, 0, ffi.NULL, ffi.new('int64_t *'), ffi.new('int64_t *'))")

    def test_the_pool_grows_to_what_was_asked_and_helps(self):
        code = """
        assert lib.fc_worker_count() == 0
        trial(1)
        assert lib.fc_worker_count() == 0
        trial(3)
        assert lib.fc_worker_count() == 2
        while trial(2, 1000)[0] < 2:
            pass
        trial(8, 3)
        assert lib.fc_worker_count() == 2, "more workers than pieces"
        """
        run(PRELUDE + textwrap.dedent(code))

    def test_oversubscription(self):
        run(
            PRELUDE
            + "os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:2])\nfor i in range(300): trial(8, 40, 500)"
        )

    def test_nested(self):
        run(PRELUDE + "for i in range(20): trial(4, 12, 50, 2)")

    def test_many_python_threads_at_once(self):
        code = """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(24) as pool:  # more than the pool has room for jobs
            for f in [pool.submit(trial, 1 + i % 4, 20 + i % 7, 3000, i % 9 == 0) for i in range(400)]:
                f.result()
        """
        run(PRELUDE + textwrap.dedent(code))

    def test_fork(self):
        code = """
        def child():
            assert lib.fc_worker_count() == 0
            trial(3, depth=1)
            assert lib.fc_worker_count() == 2
            os._exit(0)
        trial(4)
        for _ in range(10):
            pid = os.fork()
            if pid == 0:
                child()
            assert os.waitpid(pid, 0)[1] == 0
            trial(4)
        """
        run(PRELUDE + textwrap.dedent(code))

    def test_fork_while_another_thread_is_inside_a_job(self):
        code = """
        import threading, traceback
        stop = threading.Event()
        def busy():
            while not stop.is_set():
                trial(3, 50, 2000)
        def child():
            try:
                for _ in range(5): trial(3, 50, 100)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        others = [threading.Thread(target=busy) for _ in range(2)]
        for t in others: t.start()
        try:
            for _ in range(20):
                pid = os.fork()
                if pid == 0:
                    child()
                assert os.waitpid(pid, 0)[1] == 0
        finally:  # a failure is to be seen, not to be waited for
            stop.set()
        for t in others: t.join()
        """
        run(PRELUDE + textwrap.dedent(code))

    def test_fewer_threads_where_the_system_grants_no_more(self):
        code = """
        import resource
        pages = int(open("/proc/self/statm").read().split()[0])
        limit = pages * resource.getpagesize() + (5 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        trial(64, 200)
        assert lib.fc_worker_count() < 8
        """
        if not Path("/proc/self/statm").exists():
            pytest.skip("no /proc to read the address space from")
        run(PRELUDE + textwrap.dedent(code))

    def test_denormals_are_flushed_in_every_piece_or_in_none(self):
        code = """
        for n in (1, 2, 4):
            lib.fc_set_flush_denormals(1)
            assert trial(n)[1] == 64
            lib.fc_set_flush_denormals(0)
            assert trial(n)[1] == 0
        """
        run(PRELUDE + textwrap.dedent(code))

    def test_the_floating_point_mode_is_restored(self):
        code = """
        tiny = np.full(1000, np.finfo(np.float64).tiny)
        for n in (1, 2, 4):
            trial(n)
            assert (tiny * 0.5 > 0).all() and tiny[0] * 0.5 > 0
        """
        run(PRELUDE + textwrap.dedent(code))

    def test_no_data_race(self, tmp_path):
        """The C driver under ThreadSanitizer, where the compiler has it."""
        run_driver(tmp_path, "150", "-fsanitize=thread")

    def test_fork_at_any_moment(self, tmp_path):
        """The C driver forks while its threads begin jobs, the first ones, which start the workers, among them."""
        run_driver(tmp_path, "fork")


def run_driver(directory: Path, argument: str, *flags: str) -> None:
    """Compiles tests/threads_driver.c and runs it; skips without a compiler that knows these flags."""
    command = [os.environ.get("CC", "cc"), "-std=c11", "-g", "-O1", f"-I{ROOT / 'csrc'}", "-pthread", *flags]
    program = directory / "driver"
    (directory / "empty.c").write_text("int main(void) { return 0; }\n")
    try:
        subprocess.run([*command, directory / "empty.c", "-o", program], check=True, capture_output=True)
        subprocess.run([program], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"no C compiler with {' '.join(command)}")
    sources = [Path(__file__).with_name("threads_driver.c"), ROOT / "csrc" / "core" / "threads.c"]
    subprocess.run([*command, *sources, "-o", program], check=True)
    done = subprocess.run([program, argument], capture_output=True, text=True, timeout=TIME_LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr


WORKERS = """
before = set(os.listdir("/proc/self/task"))

def workers(word):
    "That line of the status of each worker."
    files = [f"/proc/self/task/{task}/status" for task in set(os.listdir("/proc/self/task")) - before]
    return [line.split()[1] for file in files for line in open(file) if line.startswith(word)]

def trial_and_rest(nthreads):
    trial(nthreads)
    while set(workers("State")) != {"S"}:
        os.sched_yield()
"""
reads_workers = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc to read threads' status from")


@needs_c
@reads_workers
@pytest.mark.parametrize("nthreads", [4, 2])
def test_workers_may_run_on_every_core_before_and_after_a_call(nthreads):
    """One that is woken is kept off the caller's core for a moment; one that sleeps on, not at all."""
    code = f"""
    trial_and_rest(4)
    cores = workers("Cpus_allowed_list")
    for _ in range(50):
        trial_and_rest({nthreads})
        assert workers("Cpus_allowed_list") == cores, (workers("Cpus_allowed_list"), cores)
    """
    run(PRELUDE + WORKERS + textwrap.dedent(code))


@needs_c
@reads_workers
def test_workers_block_the_programs_signals_and_none_that_an_instruction_raises():
    code = """
    import signal
    trial_and_rest(3)
    for mask in workers("SigBlk"):
        blocked = {s.name for s in signal.Signals if int(mask, 16) >> (s - 1) & 1}
        assert {"SIGINT", "SIGTERM", "SIGALRM", "SIGUSR1"} <= blocked, blocked
        assert not {"SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL"} & blocked, blocked
        print("seen")
    """
    assert run(PRELUDE + WORKERS + textwrap.dedent(code)).split() == ["seen"] * 2


# ------------------------------------------------------------------------------------------ through the operators


def results(dtype: str = "float32") -> list[np.ndarray]:
    """One call of each family in each direction, large enough to be cut into many pieces."""
    r = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return r.standard_normal(shape).astype(dtype)

    x, w, b = normal(3, 16, 40, 40), normal(24, 16, 3, 3), normal(24)
    dy = normal(3, 24, 40, 40)
    found = [fc.conv2d(x, w, b, padding=1, activation="relu"), fc.conv2d(x[..., ::2], w, stride=2)]
    found += [fc.conv2d_backward_input(dy, w, x.shape, padding=1), fc.conv2d_backward_weight(x, dy, w.shape, padding=1)]
    last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    found += [fc.conv2d(last, w, b, padding=1, layout="NHWC")]
    found += [fc.matmul(normal(150, 200), normal(200, 130)), fc.matmul(normal(3, 40, 500), normal(3, 500, 20))]
    found += fc.max_pool2d(x, 3, 2, 1, return_indices=True)
    found += fc.max_pool2d(last, 3, 2, 1, return_indices=True, layout="NHWC")
    found += [fc.max_pool2d_backward(normal(3, 16, 20, 20), x, 3, 2, 1)]
    found += [fc.avg_pool2d(x, 3, 2, 1), fc.avg_pool2d_backward(normal(3, 16, 20, 20), x, 3, 2, 1)]
    return found


def test_the_same_bits_for_any_number_of_threads(target, dtype):
    with testing.on(target):
        with fc.threads(1):
            expected = results(dtype)
        for n in (2, 3, 8):
            with fc.threads(n):
                for k, (a, b) in enumerate(zip(expected, results(dtype), strict=True)):
                    assert a.tobytes() == b.tobytes(), f"result {k} differs on {n} threads"


@pytest.mark.parametrize("backend", USABLE)
def test_two_python_threads_at_once(backend):
    code = f"""
    import sys
    from concurrent.futures import ThreadPoolExecutor
    import numpy as np, fastconv as fc
    sys.setswitchinterval(1e-5)
    def work(seed):
        r = np.random.default_rng(seed)
        x, w = r.integers(-3, 4, (2, 8, 24, 24)).astype("f"), r.integers(-3, 4, (8, 8, 3, 3)).astype("f")
        with fc.use_backend({backend!r}), fc.threads(2):
            return fc.conv2d(x, w), fc.matmul(x[0, 0], x[1, 1]), fc.max_pool2d(x, 2)
    expected = [work(i) for i in range(2)]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            for a, b in zip(expected, pool.map(work, range(2))):
                for p, q in zip(a, b):
                    assert (p == q).all()
    """
    run(code)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("backend", USABLE)
def test_multiprocessing(backend, method, tmp_path):
    script = f"""
    import multiprocessing as mp
    import numpy as np, fastconv as fc
    def work(seed):
        r = np.random.default_rng(seed)
        x, w = r.integers(-3, 4, (2, 8, 24, 24)).astype("f"), r.integers(-3, 4, (8, 8, 3, 3)).astype("f")
        with fc.use_backend({backend!r}), fc.threads(2):
            return fc.conv2d(x, w, padding=1)
    if __name__ == "__main__":
        expected = [work(i) for i in range(3)]
        with mp.get_context({method!r}).Pool(2) as pool:
            for a, b in zip(expected, pool.map(work, range(3))):
                assert (a == b).all()
    """
    path = tmp_path / "main_module.py"
    path.write_text(textwrap.dedent(script))
    run(
        f"import runpy, sys; sys.argv = [{str(path)!r}]; sys.path.insert(0, {str(tmp_path)!r}); "
        f"runpy.run_path({str(path)!r}, run_name='__main__')"
        if method == "fork"
        else f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, {str(path)!r}]).returncode)"
    )


@needs_c
def test_denormals_survive_outside_a_call_and_are_zero_inside():
    tiny = np.full((1, 1, 1, 1), np.finfo(np.float32).tiny)
    half = np.full((1, 1, 1, 1), np.float32(0.5))
    assert fc.get_flush_denormals()
    try:
        with fc.use_backend("c"):
            assert fc.conv2d(tiny, half).item() == 0
            fc.set_flush_denormals(False)
            assert fc.conv2d(tiny, half).item() > 0
    finally:
        fc.set_flush_denormals(True)
    assert (tiny * half).item() > 0


# -------------------------------------------------------------------------------------------- numbers of threads


@pytest.fixture
def process_number(monkeypatch):
    monkeypatch.setattr(_threads, "_of_process", None)


@pytest.mark.usefixtures("process_number")
def test_contexts_go_before_the_process():
    fc.set_num_threads(3)
    assert fc.get_num_threads() == 3
    with fc.threads(2):
        assert fc.get_num_threads() == 2
        with fc.threads(5):
            fc.set_num_threads(4)
            assert fc.get_num_threads() == 5
        assert fc.get_num_threads() == 2
        seen = []
        other = threading.Thread(target=lambda: seen.append(fc.get_num_threads()))
        other.start()
        other.join()
        assert seen == [4]
    assert fc.get_num_threads() == 4


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), (257, ValueError), (1.5, TypeError),
                                              ("2", TypeError), (None, TypeError)])  # fmt: skip
def test_bad_numbers(value, error):
    before = fc.get_num_threads()
    with pytest.raises(error, match=r"n=.*allowed is an int from 1 to 256"):
        fc.set_num_threads(value)
    with pytest.raises(error, match=r"n=.*allowed is an int from 1 to 256"), fc.threads(value):
        pass
    assert fc.get_num_threads() == before


NUMBER = "from fastconv._threads import get_num_threads; print(get_num_threads())"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"FASTCONV_NUM_THREADS": "3"}, 3),
        ({"FASTCONV_NUM_THREADS": " 5 ", "OMP_NUM_THREADS": "7"}, 5),
        ({"FASTCONV_NUM_THREADS": "", "OMP_NUM_THREADS": "7"}, 7),
        ({"OMP_NUM_THREADS": "4,2,1"}, 4),
        ({"OMP_NUM_THREADS": "1000"}, 256),
    ],
)
def test_environment(environment, expected):
    assert run(NUMBER, **environment) == str(expected)


@pytest.mark.parametrize("name", ["FASTCONV_NUM_THREADS", "OMP_NUM_THREADS"])
@pytest.mark.parametrize("value", ["0", "-2", "two", "1.5", ",4"])
def test_bad_environment(name, value):
    code = """
    from fastconv._threads import get_num_threads
    try:
        get_num_threads()
    except ValueError as error:
        print(error)
    """
    message = run(code, **{name: value})
    assert name in message
    assert "allowed is an int from 1 to 256" in message


def test_the_default_is_what_this_process_may_use():
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);" + NUMBER
    if hasattr(os, "sched_setaffinity"):
        assert run(code) == "1"
    assert 1 <= int(run(NUMBER)) <= os.cpu_count()


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/a/b\n", {}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "800000 100000\n", "a/cpu.max": "50000 100000\n"}, 0.5),
        ("0::/not/visible\n", {"cpu.max": "200000 100000\n"}, 2),
        ("4:cpu,cpuacct:/x\n3:memory:/y\n",
         {"cpu,cpuacct/x/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/x/cpu.cfs_period_us": "100000\n"}, 2.5),
        ("4:cpu:/x\n", {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "200000\n"}, 2),
        ("4:cpu:/x\n", {"cpu/x/cpu.cfs_quota_us": "-1\n", "cpu/x/cpu.cfs_period_us": "100000\n"}, None),
        ("4:cpuset:/x\n", {"cpu/x/cpu.cfs_quota_us": "100000\n", "cpu/x/cpu.cfs_period_us": "100000\n"}, None),
        ("4:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
    ],
)  # fmt: skip
def test_cgroup_quota(membership, files, expected, tmp_path):
    (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        path = tmp_path / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert _threads.cgroup_quota(str(tmp_path / "membership"), str(tmp_path / "mount")) == expected


def test_the_quota_is_rounded_up_and_never_above_the_affinity(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    for quota, expected in [(None, 6), (0.5, 1), (2.5, 3), (2.0, 2), (99.0, 6)]:
        monkeypatch.setattr(_threads, "cgroup_quota", lambda q=quota: q)
        assert _threads._usable_cpus() == expected


@needs_c
@pytest.mark.parametrize("explicit", [True, False])
def test_threadpoolctl(explicit):
    code = f"""
    import numpy as np, fastconv as fc
    import threadpoolctl
    if {explicit}:
        fc.register_threadpoolctl()
    else:
        with fc.use_backend("c"):
            fc.conv2d(np.ones((1, 1, 3, 3), "f"), np.ones((1, 1, 3, 3), "f"))
    fc.set_num_threads(4)
    with threadpoolctl.threadpool_limits(1):
        assert fc.get_num_threads() == 1
    assert fc.get_num_threads() == 4
    with threadpoolctl.threadpool_limits({{"fastconv": 2}}):
        assert fc.get_num_threads() == 2
    with fc.threads(3):
        with threadpoolctl.threadpool_limits(1):
            assert fc.get_num_threads() == 1
        assert fc.get_num_threads() == 3
    assert fc.get_num_threads() == 4
    (info,) = [i for i in threadpoolctl.threadpool_info() if i["internal_api"] == "fastconv"]
    assert info["num_threads"] == 4
    """
    run(code)
