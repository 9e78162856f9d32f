"""Programs run through the one door: output, bounds, and nothing left behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from wheelcache.programs import (
    ProgramMissingError,
    ProgramStoppedError,
    ProgramTimeoutError,
    run_program,
)

STUBBORN = """
import os, pathlib, signal, subprocess, sys, time
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path(sys.argv[1]).write_text(f"{os.getpid()} {child.pid}")
time.sleep(60)
"""

POLITE = """
import os, pathlib, sys, time
try:
    pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
    time.sleep(60)
except KeyboardInterrupt:
    pathlib.Path(sys.argv[1] + ".stopped").write_text("SIGINT")
"""


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        os.kill(pid, 0)
        return True
    return state != "Z"


def wait_for(path: Path) -> str:
    for _ in range(500):
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.01)
    raise AssertionError(path)


def test_output_and_status_come_back() -> None:
    done = run_program(python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"))
    assert (done.stdout, done.stderr, done.returncode, done.is_done) == (b"out\n", b"err\n", 3, False)
    assert done.reason() == "err"


def test_a_silent_failure_is_named_by_its_status() -> None:
    assert "status 7" in run_program(python("raise SystemExit(7)")).reason()


def test_input_larger_than_a_pipe_reaches_the_program() -> None:
    data = bytes(range(256)) * 4096
    done = run_program(
        python("import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])"), input=data, timeout=20
    )
    assert done.stdout == data[::-1]


def test_a_program_that_does_not_read_its_input_still_ends() -> None:
    assert run_program(python("pass"), input=b"x" * 1_000_000, timeout=20).is_done


def test_watchers_see_output_while_the_program_runs() -> None:
    seen: list[tuple[float, bytes]] = []
    code = "import sys, time; print('a', file=sys.stderr, flush=True); time.sleep(0.5); print('b', file=sys.stderr)"
    done = run_program(python(code), on_stderr=lambda chunk: seen.append((time.monotonic(), chunk)))
    assert b"".join(chunk for _, chunk in seen) == b"a\nb\n"
    assert seen[-1][0] - seen[0][0] > 0.3
    assert done.stderr == b""


def test_environment_and_working_directory_are_the_given_ones(tmp_path: Path) -> None:
    done = run_program(python("import os; print(os.getcwd(), os.environ['X'])"), env={"X": "1"}, cwd=tmp_path)
    assert done.stdout.decode().split() == [str(tmp_path.resolve()), "1"]


def test_a_missing_program_is_named() -> None:
    with pytest.raises(ProgramMissingError, match="no-such-program-here") as caught:
        run_program(["no-such-program-here"])
    assert caught.value.hint


def test_a_file_that_cannot_be_executed_is_a_missing_program(tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    with pytest.raises(ProgramMissingError, match="tool"):
        run_program([str(tmp_path / "tool")])


def test_a_missing_working_directory_is_not_blamed_on_the_program(tmp_path: Path) -> None:
    with pytest.raises(ProgramMissingError, match="working directory"):
        run_program(python("pass"), cwd=tmp_path / "absent")


def test_a_timeout_stops_a_program_and_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wheelcache.programs._GRACE", ((signal.SIGINT, 0.2), (signal.SIGTERM, 0.2)))
    pids = tmp_path / "pids"
    with pytest.raises(ProgramTimeoutError):
        run_program(python(STUBBORN, str(pids)), timeout=2)
    time.sleep(0.1)
    assert [is_alive(int(pid)) for pid in pids.read_text().split()] == [False, False]


def test_a_program_is_asked_politely_first(tmp_path: Path) -> None:
    mark, stop = tmp_path / "pid", threading.Event()

    def ask() -> None:
        wait_for(mark)
        stop.set()

    threading.Thread(target=ask).start()
    with pytest.raises(ProgramStoppedError):
        run_program(python(POLITE, str(mark)), stop=stop)
    assert (tmp_path / "pid.stopped").read_text() == "SIGINT"


def test_an_exception_of_a_watcher_stops_the_program_and_escapes(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    code = (
        "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); print('x', flush=True)"
    )

    def fail(_chunk: bytes) -> None:
        raise ValueError("from the watcher")

    with pytest.raises(ValueError, match="from the watcher"):
        run_program(python(code + "; time.sleep(60)", str(mark)), on_stdout=fail)
    assert not is_alive(int(mark.read_text()))


def test_ctrl_c_stops_the_program_and_is_not_swallowed(tmp_path: Path) -> None:
    mark = tmp_path / "pid"

    def press() -> None:
        wait_for(mark)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt):
        run_program(python(POLITE, str(mark)))
    assert (tmp_path / "pid.stopped").exists()
    assert not is_alive(int(mark.read_text()))


def test_a_child_that_keeps_the_pipe_does_not_keep_us() -> None:
    code = (
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); print('done')"
    )
    started = time.monotonic()
    assert run_program(python(code)).stdout == b"done\n"
    assert time.monotonic() - started < 20


def test_what_a_slow_watcher_has_yet_to_take_is_handed_on_after_the_programs_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wheelcache.programs._ORPHANED_PIPE", 0.2)
    seen: list[bytes] = []

    def take(chunk: bytes) -> None:
        time.sleep(0.2)
        seen.append(chunk)

    code = "import time\nfor number in range(6):\n    print(number, flush=True)\n    time.sleep(0.05)"
    run_program(python(code), on_stdout=take)
    assert b"".join(seen).split() == [b"0", b"1", b"2", b"3", b"4", b"5"]
