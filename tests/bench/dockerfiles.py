"""Reads, plans and rewrites every Dockerfile below a folder, and judges each copy.

    python tests/bench/dockerfiles.py FOLDER [--json FILE] [--buildkit] [--show STATE]...

Of the files named like Dockerfiles, or of all files where none is. Nothing but the Dockerfiles is looked at: whatever a
COPY could bring (a requirements file, a project) counts as there, with nothing in it that stands in the way.

rewritten  built sealed, from a copy with words added
left       no pip or uv command installs anything
online     something cannot be locked, or would not keep to the mounted wheels: built with the indexes at hand
refused    not a Dockerfile, nor for BuildKit; one that lacks build arguments is read again with some given
wrong      a copy that differs in more than the added words, or lacks them where something installs; one that BuildKit
           does not parse, or reads otherwise than the original; another judgement than BuildKit's whether it is a
           Dockerfile; an exception; more than 5 s

That a copy differs in no more is seen in three ways: the added words taken out give the original byte for byte (but for
a `# syntax=` line that may be dropped); BuildKit's parser, where its package is installed, finds the same instructions
in both; with --buildkit the engine's frontend plans both alike, and sees each addition as an option of the RUN in the
line that we say (which a secret tells that is mounted beside the words). Exit code 1 when something is wrong.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import Literal

from buildkit import Answer, Engine, arguments_need_each_other, find_parser, parsed, without_syntax
from measure import table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from support.samplecontexts import read_sample

from builders.dockerfile import Stages, decode_dockerfile, from_words, parse_dockerfile
from builders.instructions import DockerfileSyntaxError
from builders.reading import Reading
from builders.rewrite import Rewritten
from builders.workspace import WHEELS_CONTEXT, rewritten

State = Literal["rewritten", "left", "online", "refused", "wrong"]
STATES: Sequence[State] = ("rewritten", "left", "online", "refused", "wrong")
SLOWEST = 5.0
"""Seconds that reading, planning and rewriting one file may take."""

_NAMED = re.compile(r"(Dockerfile|Containerfile)(\..+)?|.+\.(Dockerfile|Containerfile)", re.IGNORECASE)
_ADDED = re.compile(
    r"( --network=none"
    rf"| --mount=type=bind,from={WHEELS_CONTEXT},source=/[^\s,]+,target=/[^\s,]+"
    r"| --mount=type=secret,id=wheelcache-(pip|uv),target=/etc/[^\s,]+,required=true,mode=0444)+"
)
_NEWER = re.compile(
    r"unknown flag: (--)?(parents|exclude|security|device|unpack|keep-git-dir|checksum|start-interval)\b"
    r"|unexpected key 'env'"
)
_NEWER_HEREDOC = re.compile(r"<<-?[ \t]+\S|<<.*\$\{\w+[#%/]|\$\{\w+[#%/].*<<")
"""What an older BuildKit refuses, and newer ones take; so are some heredocs."""

_NAMES = re.compile(r"(?im)^\s*FROM\s+(?:--\S+\s+)*([^\s\\]+)|--from=([^\s\\]+)")
_STAGES = re.compile(r"(?im)^\s*FROM\s.*\sAS\s+(\S+)")
_TRIES = 9
_WITNESS = "wheelcache-witness"


@dataclass(kw_only=True, slots=True)
class Outcome:
    """What became of one file.

    Attributes:
        file: relative to the folder.
        state: the class it is in.
        reasons: why it is online, refused or wrong.
        added: line and words of each addition.
        seconds: of processor time, for reading, planning and rewriting.
        given: what it would be with the build arguments that it lacks; empty for one that lacks none.
        unasked: why BuildKit's judgement was not taken; empty when it was, or nobody was to be asked.
    """

    file: str
    state: State
    reasons: list[str] = field(default_factory=list)
    added: list[tuple[int, str]] = field(default_factory=list)
    seconds: float = 0.0
    given: State | Literal[""] = ""
    unasked: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judges:
    """Who is asked beside ourselves."""

    parser: ModuleType | None
    engine: Engine | None


def main() -> int:
    """Judges every file and prints the table."""
    options = _options()
    if not options.folder.is_dir():
        raise SystemExit(f"{options.folder}: expected a folder")
    files = find_dockerfiles(options.folder)
    if not files:
        raise SystemExit(f"{options.folder}: expected Dockerfiles, found no regular file")
    if options.buildkit and not Engine.answers():
        raise SystemExit("--buildkit: no engine with buildx answers\n  next step: bash Dockerfiles/provision.sh engine")
    with tempfile.TemporaryDirectory(prefix="wheelcache-dockerfiles-") as scratch:
        judges = Judges(parser=find_parser(), engine=Engine(Path(scratch)) if options.buildkit else None)
        outcomes = []
        for number, path in enumerate(files, 1):
            outcomes.append(judge(path, str(path.relative_to(options.folder)), judges))
            if sys.stderr.isatty():
                print(f"\r{number}/{len(files)}", end="", file=sys.stderr, flush=True)
    print(report(outcomes, judges, show=options.show))
    if options.json:
        found = {"counts": _counts(outcomes), "files": [asdict(each) for each in outcomes]}
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 1 if any(each.state == "wrong" for each in outcomes) else 0


def find_dockerfiles(folder: Path) -> list[Path]:
    """Returns the files below *folder* that are named like Dockerfiles, or all where none is."""
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and ".git" not in path.relative_to(folder).parts
    )
    named = [path for path in files if _NAMED.fullmatch(path.name) and path.suffix.lower() != ".dockerignore"]
    return named or [path for path in files if b"\0" not in path.read_bytes()[:8192]]


def judge(path: Path, name: str, judges: Judges) -> Outcome:
    """Returns what becomes of the Dockerfile *path*."""
    outcome = _judge(path, name, judges, {})
    lacking = _lacking(path) if outcome.state == "refused" else {}
    if not lacking:
        return outcome
    given = _judge(path, name, judges, lacking)
    if given.state == "wrong":
        return given
    if given.state != "refused":
        outcome.given = given.state
        outcome.reasons.append(f"with {', '.join(lacking)} given: {given.state}")
    return outcome


def _lacking(path: Path) -> dict[str, str]:
    """Returns values for the arguments before the first FROM that have none."""
    try:
        dockerfile = parse_dockerfile(decode_dockerfile(path.read_bytes()))
    except DockerfileSyntaxError:
        return {}
    before = takewhile(lambda each: each.keyword == "ARG", dockerfile.instructions)
    return {name: "given" for each in before for name in each.body.split() if "=" not in name}


def _judge(path: Path, name: str, judges: Judges, args: Mapping[str, str]) -> Outcome:
    began = time.process_time()
    with tempfile.TemporaryDirectory(prefix="wheelcache-context-") as context:
        try:
            reading = read_sample(path, Path(context), args)
            mode: Literal["online", "sealed"] = "online" if reading.obstacles else "sealed"
            copy = rewritten(reading, mode=mode, offline=False)
        except DockerfileSyntaxError as error:
            outcome = Outcome(file=name, state="refused", reasons=[error.message.removeprefix(str(path))])
            outcome.seconds = time.process_time() - began
            _judge_refusal(outcome, path, judges, args)
            return outcome
        except Exception as error:  # noqa: BLE001 - whatever it is: it is a finding
            return Outcome(file=name, state="wrong", reasons=[f"{type(error).__name__}: {error}"])
    outcome = Outcome(
        file=name,
        state="online" if reading.obstacles else "rewritten" if copy.insertions else "left",
        reasons=list(reading.obstacles),
        added=[(each.line, each.words.strip()) for each in copy.insertions],
        seconds=time.process_time() - began,
    )
    wrong = [*_differences(reading.dockerfile.text, copy), *_missed(reading, copy)]
    wrong += _misreadings(reading, copy, judges, outcome)
    if outcome.seconds > SLOWEST:
        wrong.append(f"it took {outcome.seconds:.1f} s")
    if wrong:
        outcome.state, outcome.reasons = "wrong", wrong
    return outcome


def _differences(original: str, copy: Rewritten) -> Iterator[str]:
    """Yields what a copy changes beside the words that it says were added; knows nothing of how they were."""
    if copy.dropped and not re.fullmatch(r"#[ \t]*syntax[ \t]*=[^\n]*\n?", copy.dropped, re.IGNORECASE):
        yield f"it drops {copy.dropped!r}"
    rest = original.replace(copy.dropped, "", 1) if copy.dropped else original
    dropped_before = len(original) - len(rest)
    pieces, at = [], 0
    for added in copy.insertions:
        start = added.offset - dropped_before
        pieces += [rest[at:start], added.words]
        at = start
        if not _ADDED.fullmatch(added.words):
            yield f"line {added.line}: it adds {added.words!r}"
        if not re.search(r"(?i)((^|[\n\ufeff])[ \t\v\f\r]*RUN|\s--[a-z]+=\S+)\Z", rest[max(0, start - 4096) : start]):
            yield f"line {added.line}: it adds words after {rest[:start][-20:]!r}"
    if "".join([*pieces, rest[at:]]) != copy.text:
        yield "the copy differs in more than the added words"


def _missed(reading: Reading, copy: Rewritten) -> Iterator[str]:
    """Yields the RUNs that install something and got no words, though they mount no wheels themselves."""
    done = {added.line for added in copy.insertions} | set(copy.untouched)
    for install in reading.installs:
        if reading.dockerfile.instructions[install.instruction].keyword == "RUN" and install.line not in done:
            yield f"line {install.line}: it installs, and nothing is added"


def _misreadings(reading: Reading, copy: Rewritten, judges: Judges, outcome: Outcome) -> Iterator[str]:
    """Yields where BuildKit reads the original or the copy otherwise than we do."""
    original, changed = without_syntax(reading.dockerfile.text), without_syntax(copy.text)
    if judges.parser is None:
        yield from _compare_parses(_parsed_by_us(original), _parsed_by_us(changed), reading, copy)
    elif not _NEWER_HEREDOC.search(original):
        yield from _compare_parses(parsed(judges.parser, original), parsed(judges.parser, changed), reading, copy)
    if judges.engine is None:
        return
    images = [*_images(reading.findings.stages), WHEELS_CONTEXT]
    outcome.unasked = _reason_not_to_ask(reading.dockerfile.text, images, reading.findings.stages)
    if outcome.unasked:
        return
    args = reading.service.args
    before = judges.engine.outline(original, images, args)
    is_spaced = "unknown instruction" in before.error and _NEWER_HEREDOC.search(original)
    if _NEWER.search(before.error) or is_spaced:
        outcome.unasked = f"the engine's frontend is too old: {before.error}"
        return
    if before.error:
        yield f"BuildKit refuses it: {before.error}"
        return
    if not copy.insertions:
        return
    witnessed = _with_witnesses(changed, copy, reading.dockerfile.text)
    after = judges.engine.outline(witnessed, images, args)
    for _ in range(_TRIES):  # an ARG that several stages declare is said to stand now in the one, now in the other
        if after.error or after.said == before.said:
            break
        after = judges.engine.outline(witnessed, images, args)
    if after.error:
        yield f"BuildKit refuses the copy: {after.error}"
        return
    yield from _compare_outlines(before, after, copy, original)


def _reason_not_to_ask(text: str, images: Sequence[str] = (), stages: Stages | None = None) -> str:
    """Returns why the engine cannot be asked about *text*; empty where it can."""
    names = {stage.name for stage in stages.stages} if stages is not None else set()
    if {image.removesuffix(":latest") for image in images} & names:
        return "a stage is called like an image: what replaces the one replaces the other"
    if not re.search(r"(?im)^\s*FROM\s", text):
        return "it has no FROM: BuildKit looks for the last stage of none, and dies"
    if arguments_need_each_other(text):
        return "ARGs before the first FROM need each other: of their outline BuildKit finds no end, and dies"
    return ""


def _compare_parses(before: Answer, after: Answer, reading: Reading, copy: Rewritten) -> Iterator[str]:
    if before.error or after.error:
        yield f"BuildKit's parser refuses {'the copy' if after.error else 'it'}: {before.error or after.error}"
        return
    old, new = list(before.said), list(after.said)  # type: ignore[call-overload]
    shift = reading.dockerfile.text.count("\n") - without_syntax(reading.dockerfile.text).count("\n")
    ours = [(each.keyword, each.line - shift, each.end_line - shift) for each in reading.dockerfile.instructions]
    theirs = [(each[0], *each[5]) for each in old]
    if ours != theirs:
        odd = next((pair for pair in zip(ours, theirs, strict=False) if pair[0] != pair[1]), ("…", "…"))
        yield f"BuildKit's parser finds {odd[1]} where we find {odd[0]}"
        return
    added = {insertion.instruction: tuple(insertion.words.split()) for insertion in copy.insertions}
    for index, (one, other) in enumerate(zip(old, new, strict=False)):
        words, flags = added.get(index, ()), one[-1]
        if one[:-1] != other[:-1] or other[-1] not in {words + flags, flags + words}:
            yield f"BuildKit's parser finds {other} in the copy, {one} in the original"
    if len(old) != len(new):
        yield f"BuildKit's parser finds {len(new)} instructions in the copy, {len(old)} in the original"


def _parsed_by_us(text: str) -> Answer:
    """Returns our own reading of *text* in the form of BuildKit's."""
    try:
        found = parse_dockerfile(text).instructions
    except DockerfileSyntaxError as error:
        return Answer(error=error.message)
    return Answer(
        said=[
            (
                *(each.keyword, "", each.exec_form is not None, each.body),
                tuple(heredoc.raw for heredoc in each.heredocs),
                (each.line, each.end_line),
                tuple(f"--{flag.name}={flag.value}" for flag in each.flags),
            )
            for each in found
        ]
    )


def _with_witnesses(changed: str, copy: Rewritten, original: str) -> str:
    """Returns the copy with a secret of its own mounted beside each addition."""
    before = len(original) - (len(copy.text) - sum(len(added.words) for added in copy.insertions))
    before += len(copy.text) - len(changed)
    pieces, at, grown = [], 0, 0
    for number, added in enumerate(copy.insertions):
        grown += len(added.words)
        end = added.offset - before + grown
        pieces += [changed[at:end], f" --mount=type=secret,id={_WITNESS}-{number},target=/{_WITNESS}"]
        at = end
    return "".join([*pieces, changed[at:]])


def _compare_outlines(before: Answer, after: Answer, copy: Rewritten, original: str) -> Iterator[str]:
    if before.said != after.said:
        yield f"BuildKit plans {after.said} from the copy, {before.said} from the original"
    secrets = dict(after.secrets or {})
    shift = 1 if copy.dropped or copy.text != without_syntax(copy.text) else 0
    for number, added in enumerate(copy.insertions):
        line = secrets.pop(f"{_WITNESS}-{number}", None)
        if line is None or line + shift != added.line:
            yield f"line {added.line}: BuildKit sees what was added in line {line}"
    others = {name: line for name, line in secrets.items() if not name.startswith("wheelcache-")}
    if others != before.secrets:
        yield f"BuildKit sees the secrets {others} in the copy, {before.secrets} in the original"


def _judge_refusal(outcome: Outcome, path: Path, judges: Judges, args: Mapping[str, str]) -> None:
    """Turns a refusal that BuildKit does not share into what is wrong."""
    if judges.engine is None:
        return
    text = without_syntax(decode_dockerfile(path.read_bytes()))
    outcome.unasked = _reason_not_to_ask(text)
    if outcome.unasked:
        return
    named = {word for words in _NAMES.findall(text) for word in words if word and "$" not in word}
    answer = judges.engine.outline(text, named - set(_STAGES.findall(text)), args)
    if not answer.error:
        outcome.state = "wrong"
        outcome.reasons.append("BuildKit takes it")
    elif "failed to resolve source metadata" in answer.error:
        outcome.unasked = f"it is refused here ({outcome.reasons[0]}), and names an image that cannot be looked up"
    else:
        outcome.reasons.append(f"BuildKit: {answer.error}")


def _images(stages: Stages) -> Iterator[str]:
    """Yields every image that the file names."""
    for stage in stages.stages:
        if stage.parent is None and stage.base != "scratch":
            yield stage.base
        for step in stage.steps:
            yield from (word for word in from_words(step) if stages.find(word) is None and word != "scratch")


def _counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    found = Counter(each.state for each in outcomes)
    return {state: found[state] for state in STATES}


def report(outcomes: Sequence[Outcome], judges: Judges, *, show: Sequence[str]) -> str:
    """Returns the tables: how many files of each class, why online and refused, and all that is wrong."""
    counts = _counts(outcomes)
    rows = [[state, str(number), f"{number / len(outcomes):.0%}"] for state, number in counts.items()]
    rows += [
        [f"refused, but {state} with arguments", str(number), f"{number / len(outcomes):.0%}"]
        for state, number in Counter(each.given for each in outcomes if each.given).most_common()
    ]
    parts = [table(["class", "files", "share"], rows)]
    kinds: Counter[str] = Counter(
        kind for each in outcomes if each.state == "online" for kind in {_kind(r) for r in each.reasons}
    )
    if kinds:
        parts.append(table(["why online", "files"], [[kind, str(number)] for kind, number in kinds.most_common(25)]))
    for state in STATES:
        if state in {"refused", "wrong", *show}:
            parts += [f"{state}: {each.file}: {'; '.join(each.reasons)}" for each in outcomes if each.state == state]
    parts += [f"not judged: {each.file}: {each.unasked}" for each in outcomes if each.unasked]
    times = sorted(each.seconds * 1000 for each in outcomes)
    asked = [
        "BuildKit's parser" if judges.parser is not None else "",
        "an engine's frontend" if judges.engine is not None else "",
    ]
    seconds = judges.engine.seconds if judges.engine is not None else []
    if seconds:
        asked[1] += f" ({len(seconds)} times, {statistics.median(seconds) * 1000:.0f} ms each in the middle)"
    who = " and ".join(filter(None, asked)) or "nobody: BuildKit was not asked, copies were compared by our own reading"
    parts.append(
        f"{len(outcomes)} files, {statistics.median(times):.1f} ms each in the middle, {times[-1]:.0f} ms at most; "
        f"asked: {who}"
    )
    return "\n\n".join(parts)


def _kind(reason: str) -> str:
    """Returns what a reason says without what is the file's own."""
    reason = re.sub(r"^line \d+: ", "", reason)
    reason = re.sub(r"\bin line \d+\b", "in line N", reason)
    reason = re.sub(r"'[^']*'", "'…'", reason)
    reason = re.sub(r"\b(git|hg|https?)\b\S*://\S+|(?<![\w.])\.?/[\w./*+-]+", "…", reason)
    reason = re.sub(r"^(pip|python|uv|/)\S*( -m pip| pip)? (install|wheel|download|sync):", "COMMAND:", reason)
    return re.sub(r"^[\w./-]+\.(txt|in|toml|whl)\b", "FILE", reason)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, help="write all that was found into this file")
    parser.add_argument("--buildkit", action="store_true", help="ask an engine's frontend too")
    parser.add_argument("--show", action="append", default=[], choices=STATES, help="list the files of this class")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
