"""Mistakes and damage at random: valid command lines, configurations, checkpoints, tables and archives, each changed a little.

    uv run python scripts/fuzz.py --count 2000 --seed 1 --log cases.tsv

Whatever happens, ``condgen`` has to end: well, or in one sentence. A traceback, a signal, a hang, a file that is lost or
written elsewhere is a defect, and the command is printed. Each case runs in a fork of this process, in a folder of its own.
"""

import argparse
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from warm import forked, warm

NASTY = (
    *(
        "",
        "0",
        "-1",
        "1.5",
        "1e999",
        "-1e-320",
        "nan",
        ".inf",
        "null",
        "none",
        "true",
        "abc",
        "[]",
        "{}",
        "[1,2",
        "{a:b}",
        "???",
    ),
    *(
        "99999999999999999999",
        "1000000000",
        "../../x",
        "/",
        "/dev/null",
        "a" * 300,
        "é漢字🙂",
        "${oc.env:HOME}",
        "${foo}",
        "'",
        '"',
    ),
    *(
        "-",
        "--",
        "=",
        "a=b",
        "[null]",
        "{_target_:os.system}",
        "{_target_:condgen.Nothing}",
        "$(x)",
        "\\",
        "\t",
        "a,b",
        "a|b",
        "0-9",
    ),
)
"""Values that somebody may type, and somebody else may try."""
TINY = (
    *("experiment=none", "model=cgan_mlp", "data.batch_size=4", "trainer.max_steps=2", "trainer.max_epochs=1"),
    *("trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "trainer.accelerator=cpu", "callbacks.evaluation=null"),
)
PATIENCE = 20.0
"""Seconds of computing after which a command is stopped with Ctrl-C: a run may well be longer."""
GRACE = 20.0
"""Seconds of computing in which it then has to end."""
MEMORY = 8 * 10**9
"""Bytes that a command may ask for beyond what this process has."""


@dataclass
class Case:
    """One command, and what it finds in its folder.

    Attributes:
        kind: what was changed.
        arguments: behind ``condgen``.
        prepare: puts files into the folder.
        kept: files that a refusal must leave as they are.
    """

    kind: str
    arguments: list[str]
    prepare: Callable[[Path], object] = field(default=lambda folder: None)
    kept: tuple[str, ...] = ()


@dataclass
class Result:
    """How a case ended: "well", "sentence" or "stopped", or else a defect."""

    verdict: str
    output: str
    seconds: float

    @property
    def defect(self) -> bool:
        """Whether this must not happen."""
        return self.verdict not in ("well", "sentence", "stopped")


class Fixtures:
    """What cases start from: a run, a folder of pictures with a table, an archive and an .npz, made once in ``root``."""

    def __init__(self, root: Path):
        self.root = root
        self.run, self.faces, self.zip, self.npz = root / "made" / "run", root / "faces", root / "a.zip", root / "a.npz"
        stream = np.random.default_rng(0)
        self.faces.mkdir(parents=True)
        pixels = stream.integers(0, 256, (40, 28, 28, 1), dtype=np.uint8)
        rows = ["file,smile,age,class"]
        with zipfile.ZipFile(self.zip, "w") as archive:
            for i, image in enumerate(pixels):
                name = f"{i:03d}.png"
                Image.fromarray(image[:, :, 0]).save(self.faces / name)
                archive.write(self.faces / name, f"00000/{name}")
                rows.append(f"{name},{'yes' if i % 2 else 'no'},{20 + i / 2},{'cat' if i % 4 < 2 else 'dog'}")
            labels = ", ".join(f'["00000/{i:03d}.png", {i % 2}]' for i in range(40))
            archive.writestr("dataset.json", f'{{"labels": [{labels}]}}')
        (self.faces / "labels.csv").write_text("\n".join(rows) + "\n")
        np.savez(self.npz, images=stream.integers(0, 256, (120, 28, 28, 1), dtype=np.uint8), labels=np.arange(120) % 10)
        trained = execute(Case("fixture", ["train", *TINY, "hydra.run.dir=run"]), root / "made")
        if trained.verdict != "well":
            raise RuntimeError(f"The run to start from could not be trained: {trained.output}")


def cases(fixtures: Fixtures, seed: int, count: int) -> Iterator[Case]:
    """Yield ``count`` cases, always the same for a ``seed``."""
    from condgen.config.compose import composed, leaves

    keys = leaves(composed([one for one in TINY if one.count("=") == 1 and "." not in one], "train"))
    makers = (command_line, command_line, configured, configured, configured, stored, checkpoint, table, archive, npz)
    for number in range(count):
        draw = random.Random(f"{seed}-{number}")
        yield draw.choice(makers)(fixtures, draw, keys)


def command_line(fixtures: Fixtures, draw: random.Random, keys: list[str]) -> Case:
    """Change one word of a command line."""
    run = str(fixtures.run)
    lines = (
        ["train", *TINY],
        ["resume", "run", "trainer.max_steps=3"],
        ["sample", run, "--out", "a.png", "--condition", "0-3", "--count", "2", "--seed", "3", "--truncation", "0.5"],
        [
            "sample",
            run,
            "--out",
            "a.npz",
            "--condition",
            "3",
            "--to",
            "5",
            "--count",
            "4",
            "--temperature",
            "0.5",
            "--device",
            "cpu",
        ],
        ["sample", run, "--out", "folder", "--count", "1", "--standing", "2"],
        ["evaluate", run, "samples=100", "suite=[label_accuracy]", "data=mnist", "extractor=mnist-cnn", "--out", "e"],
        ["report", "run"],
        ["leaderboard", run, "--out", "a.md", "--sort", "fid"],
        ["status", run],
    )
    words = list(draw.choice(lines))
    place = draw.randrange(len(words))
    name, equals, _ = words[place].partition("=")
    value = draw.choice(NASTY)
    change = draw.randrange(5)
    if change == 0:
        del words[place]
    elif change == 1:
        words.insert(place + 1, draw.choice((value, f"--{value}", f"+{value}=1", f"~{value}", "--nothing", "--multirun", "-m")))
    elif change == 2:
        words[place] = words[place][: draw.randrange(len(words[place]) + 1)]
    else:
        words[place] = f"{name}={value}" if equals else value
    return Case("command line", words, copied(fixtures), ("run/config.yaml", "run/checkpoints/last.ckpt"))


def configured(fixtures: Fixtures, draw: random.Random, keys: list[str]) -> Case:
    """Give one key of a run another value."""
    return Case(
        "configuration", ["train", *TINY, f"{draw.choice(('', '', '', '+', '++'))}{draw.choice(keys)}={draw.choice(NASTY)}"]
    )


def stored(fixtures: Fixtures, draw: random.Random, keys: list[str]) -> Case:
    """Change one of the text files that a run left behind."""
    name = draw.choice(("config.yaml", "config.yaml", "status.json", "metrics.json", "provenance.json", "metrics.csv"))
    command = draw.choice((["resume", "run", "trainer.max_steps=3"], ["report", "run"], ["status", "."], ["leaderboard", "."]))
    return Case("stored file", command, copied(fixtures, f"run/{name}", draw), ("run/config.yaml", "run/checkpoints/last.ckpt"))


def checkpoint(fixtures: Fixtures, draw: random.Random, keys: list[str]) -> Case:
    """Change bytes of a checkpoint."""
    command = draw.choice((["sample", "run", "--out", "a.npz", "--count", "1"], ["resume", "run", "trainer.max_steps=3"]))
    name = draw.choice(("last", "best"))
    return Case("checkpoint", command, copied(fixtures, f"run/checkpoints/{name}.ckpt", draw), ("run/config.yaml",))


def table(fixtures: Fixtures, draw: random.Random, keys: list[str]) -> Case:
    """Change a table."""

    def prepare(folder: Path) -> None:
        shutil.copytree(fixtures.faces, folder / "faces")
        damage(folder / "faces" / "labels.csv", draw)

    data = ["data=table", "data.source.path=faces", "data.split=[0.5,0.25,0.25]", "condition=attributes"]
    return Case("table", ["train", *TINY, *data], prepare)


def archive(fixtures: Fixtures, draw: random.Random, keys: list[str]) -> Case:
    """Change bytes of an archive."""

    def prepare(folder: Path) -> None:
        shutil.copy(fixtures.zip, folder)
        damage(folder / "a.zip", draw)

    return Case("archive", ["train", *TINY, "data=archive", "data.source.path=a.zip", "data.split=[0.5,0.25,0.25]"], prepare)


def npz(fixtures: Fixtures, draw: random.Random, keys: list[str]) -> Case:
    """Change bytes, or the labels, of an .npz that is to be measured."""
    odd = draw.choice((np.float64(0.5), np.inf, np.nan, True, "cat", 10**9, -2, 1j))

    def prepare(folder: Path) -> None:
        shutil.copy(fixtures.npz, folder)
        if draw.random() < 0.5:
            damage(folder / "a.npz", draw)
        else:
            labels = np.array([odd] * 120)
            np.savez(folder / "a.npz", images=np.load(fixtures.npz)["images"], labels=labels)

    return Case(
        "npz", ["evaluate", "a.npz", "data=mnist", "extractor=mnist-cnn", "suite=[label_accuracy]", "--out", "e"], prepare
    )


def copied(fixtures: Fixtures, damaged: str | None = None, draw: random.Random | None = None) -> Callable[[Path], object]:
    """Return what copies the run into a folder, and damages one of its files."""

    def prepare(folder: Path) -> None:
        shutil.copytree(fixtures.run, folder / "run")
        if damaged and draw:
            damage(folder / damaged, draw)

    return prepare


def damage(file: Path, draw: random.Random) -> None:
    """Change a file a little: bytes or lines of it are others, missing, or there twice."""
    content = bytearray(file.read_bytes() if file.is_file() else b"")
    lines = content.split(b"\n")
    change = draw.randrange(6)
    if change == 0:
        content = content[: draw.randrange(len(content) + 1)]
    elif change == 1 and content:
        for _ in range(draw.choice((1, 1, 8))):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    elif change == 2:
        del lines[draw.randrange(len(lines))]
        content = bytearray(b"\n").join(lines)
    elif change == 3:
        line = draw.choice(lines)
        content = bytearray(b"\n").join([*lines, line])
    else:
        place = draw.randrange(len(lines))
        start = lines[place].rfind(b":" if b":" in lines[place] else b",") + 1
        lines[place] = lines[place][:start] + b" " * (file.suffix == ".yaml") + draw.choice(NASTY).encode()
        content = bytearray(b"\n").join(lines)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def execute(case: Case, folder: Path) -> Result:
    """Run a case in a fork of this process, in the empty ``folder``, and judge how it ends."""
    folder.mkdir(parents=True)
    case.prepare(folder)
    before = {name: digest(folder / name) for name in case.kept}
    others = state(folder.parent, folder)
    started, log = time.monotonic(), folder.with_suffix(".log")
    child = forked(case.arguments, folder, log, limited)
    status = waited(child, PATIENCE)
    stopped = status is None
    if status is None:
        os.kill(child, signal.SIGINT)
        status = waited(child, GRACE)
    if status is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return Result("hang", "", time.monotonic() - started)
    output = log.read_text(errors="replace")
    verdict = judged(status, output, stopped)
    if verdict == "sentence" and before != {name: digest(folder / name) for name in case.kept}:
        verdict = "loss"
    if state(folder.parent, folder) != others:
        verdict = "write outside"
    return Result(verdict, output, time.monotonic() - started)


def limited() -> None:
    """Let this process have so much more memory than now."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


def waited(child: int, seconds: float) -> int | None:
    """Wait for a child; return its status, None if it computes longer than ``seconds`` more, or takes ten times as long."""
    end, before = time.monotonic() + 10 * seconds, computed(child)
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status
        if time.monotonic() > end or computed(child) - before > seconds:
            return None
        time.sleep(0.02)


def computed(child: int) -> float:
    """Return the seconds that a child has computed: on a busy machine others' time is not its own."""
    fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def judged(status: int, output: str, stopped: bool) -> str:
    """Say how a command ended, by its exit status and what it printed."""
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    code = os.WEXITSTATUS(status)
    if "Traceback (most recent call last)" in output:
        return "traceback"
    if code == 0:
        return "well"
    said = [line for line in output.splitlines() if line.startswith("condgen: ")]
    if stopped and code == 128 + signal.SIGINT:
        return "stopped"
    return "sentence" if code == 1 and said and said[-1].endswith((".", "!")) else f"status {code}"


def digest(file: Path) -> int | None:
    """Return what tells a file's content from another one; None where there is none."""
    return hash(file.read_bytes()) if file.is_file() else None


def state(root: Path, apart: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of all files below ``root``, but for the folder of a case, its log, and the cache."""
    found = {}
    for place, folders, files in os.walk(root):
        folders[:] = [name for name in folders if Path(place, name) != apart and name != "cache"]
        for name in files:
            if not name.endswith(".log"):
                status = Path(place, name).lstat()
                found[str(Path(place, name))] = status.st_size, status.st_mtime_ns
    return found


def fuzz(root: Path, seed: int, count: int, first: int = 0) -> Iterator[tuple[int, Case, Result]]:
    """Run the cases ``first`` to ``count`` in ``root``, and yield each with how it ended; only the folders of defects stay."""

    os.environ["CONDGEN_CACHE"] = str(root / "cache")
    run = "hydra.run.dir=run"
    evaluate = ["evaluate", "run", "samples=100", "suite=[label_accuracy]", "data=mnist", "extractor=mnist-cnn"]
    warm(["train", *TINY, run], ["sample", "run", "--count", "1", "--out", "a.png"], evaluate, ["leaderboard", "."])
    fixtures = Fixtures(root / "fixtures")
    for number, case in enumerate(cases(fixtures, seed, count)):
        if number < first:
            continue
        folder = root / f"case{number}"
        result = execute(case, folder)
        if not result.defect:
            shutil.rmtree(folder, ignore_errors=True)
        yield number, case, result


def note(log: Path, number: int, case: Case, result: Result) -> None:
    """Add a line for a case to the table of all."""
    last = (result.output.strip().splitlines() or [""])[-1]
    row = (number, case.kind, result.verdict, f"{result.seconds:.1f}", " ".join(map(repr, case.arguments)), repr(last)[1:-1])
    with log.open("a") as file:
        file.write("\t".join(map(str, row)) + "\n")


def main() -> None:
    """Run as many cases as were asked for and tell how they ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="leave out the cases before this one")
    parser.add_argument(
        "--log", type=Path, help="a table of all cases is added to: number, kind, end, seconds, command, last line"
    )
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="condgen-fuzz-"))
    ends: Counter[tuple[str, str]] = Counter()
    defects = 0
    for number, case, result in fuzz(root, options.seed, options.count, options.first):
        if options.log:
            note(options.log, number, case, result)
        ends[case.kind, result.verdict] += 1
        defects += result.defect
        if result.defect:
            print(
                f"{number} {result.verdict}: condgen {' '.join(map(repr, case.arguments))}\n{result.output[-500:]}", flush=True
            )
    for (kind, verdict), times in sorted(ends.items()):
        print(f"{kind:16} {verdict:16} {times}")
    print(f"{sum(ends.values())} cases of seed {options.seed}: {defects} defects; they lie in {root}")
    sys.exit(defects > 0)


if __name__ == "__main__":
    main()
