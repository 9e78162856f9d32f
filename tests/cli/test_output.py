"""Where output goes: results to stdout, progress to stderr, bars only to a terminal, JSON lines to a file."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import termios

import pytest
from support.program import BIG, PROGRAM
from support.server import Serve


def in_terminal(program, *arguments: str, columns: int, with_stdout: bool = False, **environ: str) -> tuple[int, str]:
    """Runs the program with stderr on a terminal of so many columns; returns its code and what it wrote there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    kept = {name: value for name, value in program.environ.items() if name != "COLUMNS"}
    with subprocess.Popen(
        [PROGRAM, *arguments],
        cwd=program.cwd,
        env={**kept, **environ},
        stderr=theirs,
        stdout=theirs if with_stdout else subprocess.DEVNULL,
    ) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                written += os.read(ours, 65536)
            except OSError:  # Linux's word for a terminal that nobody holds any more
                break
    os.close(ours)
    return process.returncode, written.decode()


def screen_lines(written: str) -> list[str]:
    """Returns everything that stood on a line at any time."""
    plain = written.replace("\x1b[A", "\n").replace("\x1b[K", "")
    return [line for line in plain.replace("\r", "\n").split("\n") if line.strip()]


def test_progress_never_reaches_stdout(big, server):
    server.script(f"/simple-files/{BIG.filename}", Serve(rate=1_500_000))
    ran = big("sync", "-v")
    assert ran.code == 0
    assert ran.out == "1 wheel, 3 MB: 1 downloaded; 3 MB fetched in [TIME]\n"
    assert "\r" not in ran.err


def test_a_terminal_shows_bars(big, server):
    server.script(f"/simple-files/{BIG.filename}", Serve(rate=3_000_000))
    code, written = in_terminal(big, "sync", columns=100)
    assert code == 0
    assert "all wheels: 100%" in written
    assert "3.00M/3.00M" in written


def test_a_narrow_terminal_is_not_filled_with_garbage(big, server):
    server.script(f"/simple-files/{BIG.filename}", Serve(rate=3_000_000))
    code, written = in_terminal(big, "sync", columns=20)
    assert code == 0
    bars = [line for line in screen_lines(written) if "%" in line or "|" in line]
    assert bars
    assert max(map(len, bars)) <= 20


def test_on_a_terminal_the_result_stands_on_a_line_of_its_own(big):
    code, written = in_terminal(big, "sync", columns=100, with_stdout=True)
    assert code == 0
    assert written.partition("1 wheel, 3 MB")[0].endswith("\n")


def test_no_color_means_no_escape_codes_but_cursor_moves(big, server):
    server.script(f"/simple-files/{BIG.filename}", Serve(rate=3_000_000))
    code, written = in_terminal(big, "sync", columns=100, NO_COLOR="1")
    assert code == 0
    assert "\x1b[3" not in written
    assert "█" not in written


def test_quiet_says_results_and_errors_only(run, index):
    run.service("one", "gamma==1.0")
    run.declare("one", index=index)
    run("-q", "sync").shows("""\
exit 0
-- stdout
1 wheel, 300 kB: 1 downloaded; 300 kB fetched in [TIME]
""")
    run("sync", "-q", "nobody").shows("""\
exit 2
-- stderr
error: expected a service or a lockfile, found 'nobody'
hint: the services are: one
""")


def test_quiet_on_a_terminal_shows_no_bars(big):
    code, written = in_terminal(big, "sync", "-q", columns=80)
    assert (code, written) == (0, "")


def test_events_are_json_lines(big, tmp_path):
    file = tmp_path / "events.jsonl"
    assert big("sync", "--events", file).code == 0
    assert big("--events", file, "sync").code == 0
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert all({"time", "event"} <= event.keys() for event in events)
    names = [event["event"] for event in events]
    assert names[0] == "TransferPlanned"
    assert "WheelStarted" in names
    assert sum(event["received"] for event in events if event["event"] == "WheelProgress") == BIG.size
    finished = [event["state"] for event in events if event["event"] == "WheelFinished"]
    assert finished == ["downloaded", "cached"]


@pytest.mark.parametrize("arguments", ["--help", "status", "sync --json", "sync --dry-run"])
def test_a_reader_that_goes_away_makes_no_traceback(project, arguments):
    process = subprocess.run(
        ["sh", "-c", f'"{PROGRAM}" {arguments} | head -c 1 >/dev/null'],
        cwd=project.cwd,
        env=project.environ,
        capture_output=True,
        check=False,
    )
    assert b"Traceback" not in process.stderr
    assert b"BrokenPipe" not in process.stderr


@pytest.mark.parametrize("arguments", ["status", "--version", "status --json"])
def test_a_closed_stdout_makes_no_traceback(project, arguments):
    process = subprocess.run(
        ["sh", "-c", f'"{PROGRAM}" {arguments} >&-'],
        cwd=project.cwd,
        env=project.environ,
        capture_output=True,
        check=False,
    )
    assert b"Traceback" not in process.stderr
    assert b"Exception" not in process.stderr


def test_a_full_stdout_is_told(project):
    process = subprocess.run(
        ["sh", "-c", f'"{PROGRAM}" status >/dev/full'],
        cwd=project.cwd,
        env=project.environ,
        capture_output=True,
        check=False,
    )
    assert b"Traceback" not in process.stderr
    assert b"No space left on device" in process.stderr
    assert process.returncode == 6


def test_events_that_cannot_be_written_do_not_end_a_sync(project):
    """As the disk of the events file fills up, or whoever reads a pipe goes away."""
    ran = project("sync", "--events", "/dev/full")
    assert ran.code == 0
    assert "warning: --events /dev/full: nothing more is written there: " in ran.err
    assert project("sync", "--json").document["wheels"][0]["state"] == "cached"


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_a_report_fits_the_terminal_and_has_no_escape_codes(project, columns):
    assert project("sync", "one").code == 0
    assert project("sync").code == 0
    code, written = in_terminal(project, "report", columns=columns, with_stdout=True, NO_COLOR="1")
    assert code == 0
    assert "wheels fetched" in written
    assert "\x1b" not in written
    assert max(map(len, screen_lines(written)[1:])) <= columns
