"""The commands' common frame: global options before or after a command's name, signals, errors and exit codes."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click

from wheelcache import __version__
from wheelcache.cli.session import Session
from wheelcache.errors import ExitCode, Interrupted, StoreFullError, UsageError, WheelcacheError

_COMMANDS: Final = {
    "lock": "Resolve what each service installs into its lockfile.",
    "sync": "Make the store hold every locked wheel.",
    "status": "Show what the store holds of each lockfile, and all in all.",
    "list": "Show every wheel in the store, and who needs it.",
    "pin": "Keep wheels in the store, whoever needs them.",
    "unpin": "Take pins away.",
    "verify": "Read every blob in the store, and find or repair what is wrong.",
    "prune": "Remove what nobody needs, the least recently used first.",
    "wheelhouse": "Hand out a folder with exactly the locked wheels.",
    "build": "Build the services one after another, without a download inside a build.",
    "compose-override": "Write a file with which plain docker compose build uses store and shared bases.",
    "report": "Show what a run took, step by step, beside the run before.",
}

_MODULES: Final = {"unpin": ("pin", "unpin"), "compose-override": ("composeoverride", "command")}
"""The commands whose module is called otherwise: its name, and theirs in it."""


class _PathType(click.Path):
    """A path that is not empty: `--cache-dir "$UNSET"` does not mean the working directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """Returns *value* as a Path."""
        if not str(value):
            self.fail("expected a path, found nothing", param, ctx)
        return super().convert(value, param, ctx)


_FULL: Final = (errno.ENOSPC, errno.EDQUOT)

_PATH: Final = _PathType(path_type=Path)


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:  # noqa: ANN401 - click's protocol
    """Keeps a global option, wherever it stood: what is given beats what is not."""
    session = context.ensure_object(Session)
    if parameter.name == "quiet":
        session.verbosity -= value
    elif parameter.name == "verbose":
        session.verbosity += value
    elif value is not None and value is not False and parameter.name is not None:
        setattr(session, parameter.name, value)


_GLOBAL_OPTIONS: Final[tuple[Callable[[Any], Any], ...]] = (
    click.option("--config", type=_PATH, metavar="FILE", help="The project file."),
    click.option("--cache-dir", type=_PATH, metavar="DIR", help="The folder of the store."),
    click.option("--offline", is_flag=True, default=None, help="Use no network at all."),
    click.option("--json", is_flag=True, default=None, help="Print one JSON document on stdout."),
    click.option("--events", type=_PATH, metavar="FILE", help="Append events as JSON lines."),
    click.option("-q", "--quiet", count=True, help="Say less."),
    click.option("-v", "--verbose", count=True, help="Say more."),
)


def global_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that hold everywhere to a command."""
    for option in reversed(_GLOBAL_OPTIONS):
        function = option(function)
    for parameter in getattr(function, "__click_params__", []):
        if parameter.name in {"config", "cache_dir", "offline", "json", "events", "quiet", "verbose"}:
            parameter.expose_value = False
            parameter.callback = _remember
    return function


class _LazyGroup(click.Group):
    """Imports a command's module when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, name = _MODULES.get(cmd_name, (cmd_name, "command"))
        command: click.Command = getattr(import_module(f"wheelcache.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        names = [*ctx._protected_args, *ctx.args]  # noqa: SLF001 - click has no public name for what is left to parse
        ctx.ensure_object(Session).command = names[0] if names else ""
        return super().invoke(ctx)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="wheelcache")
@global_options
def app() -> None:
    """Fetch huge wheels once, then build GPU images from them without a download inside a build.

    Example: wheelcache sync && wheelcache build
    """


def run(arguments: list[str]) -> int:
    """Runs one command line and returns its exit code; nothing but a defect of ours shows a traceback."""
    session = Session(json="--json" in arguments)
    _open_missing_streams()
    try:
        with _signals(session):
            failure = _attempt(arguments, session)
        if failure is None or isinstance(failure, WheelcacheError):
            session.report(failure)
            return int(failure.exit_code) if failure is not None else int(ExitCode.DONE)
        return _usage(failure, session, arguments)
    except BrokenPipeError:
        # The reader of our output went away (`| head`): there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.DONE)
    except click.exceptions.Exit as done:
        return done.exit_code
    except OSError as error:
        return _full(error, session) if error.errno in _FULL else _defect(session)
    except Exception:  # noqa: BLE001 - the outermost frame: whatever arrives here is a defect of ours
        return _defect(session)


def _open_missing_streams() -> None:
    """Gives a process that was started without stdout or stderr (`>&-`) something to write to."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - open as long as the process is
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115


def _defect(session: Session) -> int:
    """Reports the exception being handled, with its traceback."""
    session.resources.close()
    traceback.print_exc()
    sys.stderr.write("error: this is a defect of wheelcache; please report it with the lines above\n")
    if session.json:
        error = {"kind": "defect", "message": "a defect of wheelcache", "hint": "report it", "exit_code": 1}
        sys.stdout.write(json.dumps({"command": session.command, "ok": False, "error": error}) + "\n")
    return int(ExitCode.DEFECT)


def _full(error: OSError, session: Session) -> int:
    """Reports a disk with no room for what is not the store's: our output, or a temporary file."""
    where = error.filename or "output or a temporary file"
    failure = StoreFullError(
        f"{where}: cannot be written: {error.strerror}", hint="free some space there, or set TMPDIR"
    )
    with suppress(OSError):
        session.report(failure)
    with suppress(OSError):
        # What stands in its buffer can never be written, and must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return int(failure.exit_code)


def _attempt(arguments: list[str], session: Session) -> WheelcacheError | click.ClickException | None:
    try:
        code = app.main(arguments, prog_name="wheelcache", standalone_mode=False, obj=session)
        session.checkpoint()
    except (WheelcacheError, click.ClickException) as error:
        # What a signal cut short is an interruption, whatever it looked like from inside.
        return Interrupted(session.signal_number) if session.stop.is_set() else error
    except (KeyboardInterrupt, click.Abort):
        return Interrupted(session.signal_number or signal.SIGINT)
    if isinstance(code, int) and code:
        raise click.exceptions.Exit(code)
    return None


def _usage(error: click.ClickException, session: Session, arguments: list[str]) -> int:
    """Reports a command line that cannot be read, in the form of every other error."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        session.resources.close()
        sys.stderr.write(f"{error.format_message()}\n")
        return int(ExitCode.USAGE)
    session.command = next((word for word in (session.command, *arguments) if word in _COMMANDS), "")
    program = " ".join(filter(None, ("wheelcache", session.command)))
    session.report(UsageError(error.format_message().removesuffix("."), hint=f"see {program} --help"))
    return int(ExitCode.USAGE)


@contextmanager
def _signals(session: Session) -> Iterator[None]:
    """Turns the first SIGINT or SIGTERM into `session.stop`, so that work ends in order; a second ends it now."""

    def handle(number: int, _frame: FrameType | None) -> None:
        again = session.stop.is_set()
        session.signal_number = session.signal_number or number
        session.stop.set()
        if again:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
