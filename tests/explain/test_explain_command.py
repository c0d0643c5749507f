"""`torchlink explain` as it is called: formats, exit codes, hostile and damaged logs, and commands that it runs."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.explain.own import own_cause

TORCHLINK = [sys.executable, "-m", "torchlink", "explain"]
MISSING = "./app: error while loading shared libraries: libtorch_cpu.so: cannot open shared object file: No such file"
MINE = own_cause(r"libtorch\w*\.so: cannot open shared object")
CAUSE = "torch-lib-not-found-runtime"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    return {**environment, "TORCHLINK_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}


def explained(
    environment: dict[str, str], *arguments: str, text: bytes = b"", code: int = 0, timeout: float = 60
) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [*TORCHLINK, *arguments],
        input=text,
        env=environment,
        capture_output=True,
        check=False,
        timeout=timeout,
    )
    assert done.returncode == code, done
    return done


def ids(environment: dict[str, str], text: bytes) -> list[str]:
    done = subprocess.run(
        [*TORCHLINK, "--json", "-"], input=text, env=environment, capture_output=True, check=False, timeout=60
    )
    return [cause["id"] for cause in json.loads(done.stdout)["causes"]]


def test_json_has_the_evidence_with_its_line(cache: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text(f"starting\n{MISSING}\n")
    found = json.loads(explained(cache, "--json", str(log)).stdout)
    assert found["schema"] == 1
    (cause,) = found["causes"]
    assert {"id", "stage", "certainty", "title", "evidence", "fix", "page"} <= set(cause)
    assert (cause["id"], cause["stage"], cause["certainty"]) == (CAUSE, "load", "certain")
    assert cause["evidence"] == [{"file": str(log), "line": 2, "text": MISSING}]
    assert all(set(fix) == {"for", "text", "command"} for fix in cause["fix"])
    assert f"causes/{CAUSE}" in cause["page"]


def test_a_foreign_log_is_said_to_be_that(cache: dict[str, str]) -> None:
    done = explained(cache, "-", text=b"main.c:1:1: error: unknown type name 'foo'\n", code=1)
    assert b"nothing here about libtorch" in done.stdout


def test_what_is_recognised_without_a_cause(cache: dict[str, str]) -> None:
    text = b"terminate called after throwing an instance of 'c10::Something'\n"
    found = json.loads(explained(cache, "--json", "-", text=text, code=1).stdout)
    assert found["causes"] == []
    assert found["recognised"][0]["what"] == "a crashed program"
    assert found["recognised"][0]["next"] == ["torchlink verify MODEL"]


@pytest.mark.parametrize(
    "before",
    [
        "2024-01-01T00:00:00.0000000Z ",
        "build\tRun make\t2024-01-01T00:00:00.0000000Z ",
        "2024-01-01T00:00:00.000000Z 00O ",
        "[2024-01-01T00:00:00.000Z] ",
        "#12 3.456 ",
        "web-1  | ",
        "\x1b[0;31m\x1b[K",
        "\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\ ",
        "[ 10%] Building\r",
    ],
)
def test_lines_of_ci_are_cleaned(before: str, cache: dict[str, str]) -> None:
    text = f"{before}CMake Error at CMakeLists.txt:1\r\n{before}{MISSING}\r\n".encode()
    found = json.loads(explained(cache, "--json", "-", text=text).stdout)
    (cause,) = found["causes"]
    (line,) = cause["evidence"]
    assert line["line"] == 2
    assert line["text"].removeprefix("link ") == MISSING


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_as_power_shell_writes_it(encoding: str, cache: dict[str, str]) -> None:
    assert ids(cache, f"C:\\x> app\r\n{MISSING}\r\n".encode(encoding)) == [CAUSE]


def test_a_colour_within_a_message(cache: dict[str, str]) -> None:
    assert ids(cache, MISSING.replace("cannot open", "\x1b[1mcannot\x1b[0m open").encode()) == [CAUSE]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x7fELF\x02\x01" + bytes(64), "an ELF binary"),
        (b"\x1f\x8b\x08" + bytes(64), "compressed with gzip"),
        (bytes(range(32)) * 200, "binary"),
    ],
)
def test_a_binary_is_an_error(data: bytes, message: str, cache: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(data)
    error = json.loads(explained(cache, "--json", str(file), code=2).stdout)["error"]
    assert error["code"] == "file"
    assert message in error["message"]


@pytest.mark.parametrize("name", ["missing.log", ".", "/dev/zero"])
def test_what_cannot_be_read_is_an_error(name: str, cache: dict[str, str]) -> None:
    assert b"torchlink: " in explained(cache, name, code=2).stderr


def test_a_line_without_an_end_is_searched_in_bounded_memory(cache: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "long.log"
    with log.open("wb") as stream:
        for _ in range(24):
            stream.write(b"undefined reference to `c10::" * (1 << 14))
        stream.write(b"\n" + MISSING.encode())
    # Not getrusage, in which a child's peak begins with that of its parent.
    program = (
        "import re, sys; from torchlink.cli.main import main; code = main(sys.argv[1:]);"
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "explain", str(log)], env=cache, capture_output=True, check=False
    )
    assert CAUSE.encode() in done.stdout
    assert int(done.stderr) < 120 << 10


def test_nothing_in_a_log_reaches_the_terminal_or_the_runner(cache: dict[str, str]) -> None:
    evil = f"::error::owned\n\x1b[2J\x1b]0;owned\x07::set-output name=a::b ##[error] {MISSING} \x9b31m\x00\u202e\n"
    for form in ("text", "github"):
        out = explained(cache, "--format", form, "-", text=evil.encode()).stdout.decode()
        assert "\x1b" not in out
        assert "\u202e" not in out
        assert "\x9b" not in out
        assert "##[" not in out
        commands = [line for line in out.splitlines() if line.lstrip().startswith("::")]
        assert [line.split(" ")[0].split("::")[1] for line in commands] == (
            [] if form == "text" else ["error", "group", "endgroup"]
        )


def test_github_annotates_the_line_in_the_checkout(cache: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    text = b"src/main.cpp:3:10: fatal error: torch/script.h: No such file or directory\ncompilation terminated.\n"
    summary = tmp_path / "summary.md"
    environment = {**cache, "GITHUB_WORKSPACE": str(tmp_path), "GITHUB_STEP_SUMMARY": str(summary)}
    done = subprocess.run(
        [*TORCHLINK, "--format", "github"],
        input=text,
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert done.stdout.startswith(b"::error file=src/main.cpp,line=3,title=")
    assert "headers-not-found" in summary.read_text()


def test_a_changed_cause_is_noticed(
    cache: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchlink.explain.explanation import explain

    place = tmp_path / "causes"
    place.mkdir()
    text = MINE
    (place / "mine.toml").write_text(text)
    monkeypatch.setenv("TORCHLINK_CACHE_DIR", cache["TORCHLINK_CACHE_DIR"])
    log = tmp_path / "log"
    log.write_text(MISSING)
    for change, expected in (("", True), ("libother", False)):
        if change:
            (place / "mine.toml").write_text(text.replace("libtorch", change))
        for _ in range(2):  # from the files, and from the cache
            with log.open("rb") as stream:
                assert bool(explain([("log", stream)], None, [place]).causes) is expected
    damaged = Path(cache["TORCHLINK_CACHE_DIR"]) / "causes" / "index.json"
    damaged.write_text(damaged.read_text()[:1000])
    with log.open("rb") as stream:
        assert not explain([("log", stream)], None, [place]).causes


def test_two_changes_within_a_tick_of_the_clock_differ(tmp_path: Path) -> None:
    from torchlink.explain import index

    seen = set()
    for number in range(100, 300):
        (tmp_path / "mine.toml").write_text(f"{number}")
        seen.add(str(index._state(tmp_path)))
    assert len(seen) == 200
    os.utime(tmp_path / "mine.toml", ns=(0, 1 << 62))  # changed in the future
    before = index._state(tmp_path)
    (tmp_path / "mine.toml").write_text("000")
    os.utime(tmp_path / "mine.toml", ns=(0, 1 << 62))
    assert index._state(tmp_path) != before


def test_a_project_has_causes_of_its_own(cache: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "causes").mkdir()
    (tmp_path / "causes" / "mine.toml").write_text(MINE.replace("libtorch", "libmine"))
    (tmp_path / "torchlink.toml").write_text('[explain]\ncauses = "causes"\n')
    text = b"libmine.so: cannot open shared object file\n"
    command = [*TORCHLINK, "--json", "-"]
    done = subprocess.run(command, input=text, env=cache, cwd=tmp_path, capture_output=True, check=True)
    assert [cause["id"] for cause in json.loads(done.stdout)["causes"]] == ["mine"]
    (tmp_path / "causes" / "mine.toml").write_text(MINE.replace('stage = "load"', 'stage = "never"'))
    done = subprocess.run(command, input=text, env=cache, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 2
    assert "stage is 'never'" in json.loads(done.stdout)["error"]["message"]


def test_a_command_that_fails_is_explained_at_the_end(cache: dict[str, str]) -> None:
    script = f"cat; echo out; echo '{MISSING}' >&2; exit 7"
    done = explained(cache, "--", "sh", "-c", script, text=b"input\n", code=7)
    assert done.stdout == b"input\nout\n"
    assert done.stderr.decode().startswith(f"{MISSING}\n")
    assert CAUSE in done.stderr.decode()


def test_a_command_that_succeeds_is_not(cache: dict[str, str]) -> None:
    done = explained(cache, "--", "sh", "-c", f"echo '{MISSING}'")
    assert (done.stdout, done.stderr) == (f"{MISSING}\n".encode(), b"")


def test_json_after_a_command(cache: dict[str, str]) -> None:
    done = explained(cache, "--json", "--", "sh", "-c", f"echo '{MISSING}'; exit 1", code=1)
    assert json.loads(done.stdout)["causes"][0]["id"] == CAUSE
    assert done.stderr == f"{MISSING}\n".encode()


def test_what_a_command_leaves_behind_is_not_waited_for(cache: dict[str, str]) -> None:
    explained(cache, "--", "sh", "-c", "sleep 50 & exit 3", code=3, timeout=40)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_passed_on(number: signal.Signals, cache: dict[str, str]) -> None:
    script = "trap 'echo told; exit 5' TERM HUP; echo ready; while :; do sleep 0.1; done"
    with subprocess.Popen(
        [*TORCHLINK, "--", "sh", "-c", script], env=cache, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.read() == "told\n"
        assert process.wait(30) == 5


def test_a_command_that_a_signal_kills(cache: dict[str, str]) -> None:
    explained(cache, "--", "sh", "-c", "kill -SEGV $$", code=128 + signal.SIGSEGV)


def test_a_terminal_stays_one_and_the_order_is_kept(cache: dict[str, str]) -> None:
    script = (
        "import os\nfor i in range(50): os.write(1 + i % 2, b'%d;' % i)\nprint(os.isatty(1), os.isatty(2))"
    )
    leader, follower = pty.openpty()
    got = bytearray()

    def read() -> None:
        while True:
            try:
                got.extend(os.read(leader, 1 << 16))
            except OSError:
                return

    reader = threading.Thread(target=read)
    reader.start()
    done = subprocess.run(
        [*TORCHLINK, "--", sys.executable, "-c", script],
        env=cache,
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
        check=False,
        timeout=60,
    )
    os.close(follower)
    reader.join(30)
    os.close(leader)
    assert done.returncode == 0
    assert got.decode().replace("\r", "") == "".join(f"{i};" for i in range(50)) + "True True\n"


def test_a_command_with_endless_output_and_a_closed_pipe(cache: dict[str, str]) -> None:
    with subprocess.Popen(
        [*TORCHLINK, "--", "yes"], env=cache, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(4) == b"y\ny\n"
        process.stdout.close()
        assert process.wait(60) == 141


def test_a_log_and_a_command_cannot_be_combined(cache: dict[str, str]) -> None:
    assert b"cannot be combined" in explained(cache, "a.log", "--", "true", code=2).stderr
    assert b"missing" in explained(cache, "--", code=2).stderr


@pytest.mark.timeout(60)
def test_no_expression_takes_exponential_time_on_a_long_line() -> None:
    from torchlink.explain import causes, index
    from torchlink.explain.matching import WINDOW

    # No more than a window is ever searched at once. In half of one quadratic expressions take a quarter of the time,
    # and those that take exponential or cubic time do not end before the timeout either.
    length = WINDOW // 2
    found = index.build([causes.directory()])
    for pattern in found.patterns:
        expression = re.compile(pattern.expression)
        texts = [text for some in pattern.texts for text in some]
        for unit in ("a", " ", "/a", "a::", "<a,", "-I/a ", "undefined reference to `c10::a", *texts):
            expression.search((unit * (length // len(unit) + 1))[:length])
