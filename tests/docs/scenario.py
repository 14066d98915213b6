"""Follows a page as a reader would, from its first block to its last, in a folder of its own, with less training.

What a command is shrunk to, and which commands are composed instead of run, stands in the tables below.
"""

import contextlib
import io
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from blocks import ROOT, Block, commands
from command import condgen
from config.tiny_data import write_songci, write_texts
from data.recordings import tone, wav, write_recordings
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from PIL import Image

import condgen as package
from condgen.config.folder import conf_dir

ADDRESS = "http://127.0.0.1:8000"
"""Where pages find a server."""
SMALL = (
    "trainer.max_steps=2",
    "trainer.limit_val_batches=1",
    "trainer.accelerator=cpu",
    "data.batch_size=4",
    "callbacks.evaluation=null",
)
"""What every ``condgen train`` is given beside what the page gives it."""
SHRUNK = {
    "resume": ("trainer.max_steps=4",),
    "study": ("--no-serve",),  # until Ctrl-C
    "benefit": ("seeds=1", "updates=2", "batch_size=8", "network.widths=[8,8]", "shares=[0.25]"),
    "evaluate": ("samples=100", "likelihood=2", "suite=[fid,label_accuracy]"),
}
"""The same for other verbs."""
FEW = {
    r"data\.source\.archive=": ("data.split=10",),
    r"spoken_digits": ("data.split=40", "data.source.test_takes=2"),
    r"data=audio": ("data.split=[0.5,0.25,0.25]",),
    r"mnist_(attributes|captions|tags)": ("data.source.samples=200", "data.split=50"),
    r"^train .*(songci|data=text)": ("data.split=[0.5,0.25,0.25]",),
    r"^evaluate .*songci": ("suite=all",),
}
"""What is given beside it where the data, by a pattern of the command, would be too few or too many."""
COMPOSED = {
    r"data=(fashion_mnist|cifar10|cifar100)\b(?!.*data\.source\.archive)": "the images are downloaded",
    r"trainer=(gpu|ddp)\b": "it needs GPUs",
    r"trainer=ddp_cpu": "it starts processes, which tests/run/test_two_processes.py does",
    r"hydra/launcher=slurm": "it needs Slurm, which tests/run/test_slurm.py has",
    r"hydra/launcher=joblib|hparams_search=|hydra/sweeper=": "a search measures many models, which tests/sweeps does",
    r"data\.source\.path=\w+://": "it needs a server, which tests/data/test_shards.py starts",
    r"run\.budget_minutes": "it takes its minutes, which tests/run/test_plan.py does",
}
"""Commands that are composed (``--cfg job``) instead of run, by a pattern, with the reason."""
NOT_RUN = {
    r"^pip install uv$": "it was done before this test",
    r"^uv sync\b": "it was done before this test",
    r"^pytest\b": "it is this",
    r"^(ruff|mypy|mkdocs)\b": "CI does",
    r"^export PYTHONPATH=\.$": "the folder is on the path already",
}
"""Commands that are left out, by a pattern, with the reason."""


class Scenario:
    """A reader in an empty folder who follows a page.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.server: subprocess.Popen[str] | None = None
        """What ``condgen serve`` has started."""
        self.address = ADDRESS
        self.names: dict[str, Any] = {}
        """What the page's Python knows so far."""
        bring_files(folder)

    def follow(self, block: Block) -> None:
        """Do what a block says: write the file that it is, run its commands, or execute it."""
        if block.title:
            path = self.folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code, encoding="utf-8")
        elif block.language == "bash":
            for command in commands(block):
                self.command(command)
        elif block.language == "python":
            self.python(block)
        else:
            assert block.language == "text", f"line {block.line}: nobody knows how to follow {block.language or 'this block'}"

    def command(self, command: str) -> None:
        """Run a command, shrunk."""
        if any(re.search(pattern, command) for pattern in NOT_RUN):
            return
        if loop := re.fullmatch(r"for run in (\S+); do (.*) \$run; done", command):
            for run in sorted(self.folder.glob(loop[1].rstrip("/"))):
                if (run / "config.yaml").is_file():
                    self.command(f"{loop[2]} {run}")
            return
        if re.search(r"\boutputs( |$)", command) and not (self.folder / "outputs").is_dir():
            self.command("condgen train experiment=mnist_quick")
        if "condgen leaderboard" in command and not any(self.folder.glob("outputs/**/evaluation")):
            self.command(f"condgen evaluate {min(self.folder.glob('outputs/**/config.yaml')).parent}")
        words = shlex.split(self.filled(command))
        if words[0] in ("torchrun", "srun"):  # several times, which tests/run/test_nodes.py does
            words = words[words.index("condgen") :]
        if words[0] == "python":
            with contextlib.chdir(self.folder), contextlib.redirect_stdout(io.StringIO()):
                runpy.run_path(words[1], run_name="__main__")
        elif words[:2] == ["condgen", "serve"]:
            self.serve(words[1:])
        elif words[0] == "tensorboard":
            assert find_spec("tensorboard") and Path(self.folder, words[2]).is_dir()
        else:
            assert words[0] == "condgen", f"nobody knows how to follow {command!r}"
            self.condgen(words[1:], command)

    def condgen(self, words: list[str], command: str) -> None:
        """Run ``condgen WORDS``, shrunk."""
        words = composed(words) if any(re.search(pattern, command) for pattern in COMPOSED) else shrunk(words)
        with importable(self.folder):
            result = condgen(*words, cwd=self.folder)
        assert result.code == 0, f"{command}\nas {' '.join(words)}\n{result}"
        if "--out" in words:
            assert (self.folder / words[words.index("--out") + 1]).exists(), f"{command} wrote nothing"

    def serve(self, words: list[str]) -> None:
        """Start a server on a port of its own, which the rest of the page finds."""
        command = [sys.executable, "-m", "condgen", *words, "--port", "0"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self.server = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, text=True)
        assert self.server.stdout is not None
        self.address = self.server.stdout.readline().split()[0]

    def close(self) -> None:
        """End the server, if there is one, which has to end in order."""
        if self.server is not None:
            self.server.terminate()
            self.server.communicate(timeout=60)
            assert self.server.returncode == 0

    def python(self, block: Block) -> None:
        """Execute a block with what the blocks before it defined, its trainings shrunk."""
        train, evaluate = package.train, package.evaluate

        def shorter(*choices: str, **options: Any) -> Any:
            return train(*choices, *SMALL, **options)

        def fewer(target: Any, *choices: str, **options: Any) -> Any:
            return evaluate(target, *choices, *SHRUNK["evaluate"], **options)

        code = self.filled(block.code)
        with (
            importable(self.folder),
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            patch.object(package, "train", shorter),
            patch.object(package, "evaluate", fewer),
        ):
            exec(compile(code, f"block at line {block.line}", "exec"), self.names)

    def filled(self, text: str) -> str:
        """Put the newest run of its name in the place of each ``outputs/NAME/RUN``; train one where there is none."""
        text = text.replace(ADDRESS, self.address)
        for place, recipe in re.findall(r"(outputs/([\w-]+)/(?:RUN|2026-01-31_12-00-00-000000))", text):
            runs = sorted(path.parent for path in (self.folder / "outputs" / recipe).glob("**/config.yaml"))
            if not runs:
                self.condgen(["train", f"experiment={recipe}", *stand_in(recipe)], f"the run of {recipe}")
                runs = sorted(path.parent for path in (self.folder / "outputs" / recipe).glob("*/config.yaml"))
            text = text.replace(place, str(runs[-1].relative_to(self.folder)))
        return text


def stand_in(recipe: str) -> tuple[str, ...]:
    """Return the data on which a run of ``recipe`` is trained that a page does not train itself."""
    if recipe.startswith("spoken_digits"):
        return ("data.source.path=recordings.zip",)
    if recipe == "songci":
        return ("data.source.file=songci.jsonl.gz",)
    return ("data.source.archive=train.zip",) if recipe.startswith(("cifar", "stylize")) else ()


def shrunk(words: list[str]) -> list[str]:
    """Return the words of a command with less to do."""
    verb = words[0]
    few = [choice for pattern, choices in FEW.items() if re.search(pattern, " ".join(words)) for choice in choices]
    if verb == "train" and {"--help", "--cfg"}.isdisjoint(words):
        return ["train", *firsts(words[1:], at_most=2), *SMALL, *few]
    if verb == "sample" and "--count" in words:
        place = words.index("--count") + 1
        return [*words[:place], str(min(2, int(words[place]))), *words[place + 1 :]]
    return [*words, *SHRUNK.get(verb, ()), *(few if verb == "evaluate" else ())]


def composed(words: list[str]) -> list[str]:
    """Return the words of a command that composes what one of its runs would be; of a sweep the first."""
    return ["train", *firsts([word for word in words[1:] if word != "--multirun"], at_most=1), "--cfg", "job"]


def firsts(choices: list[str], at_most: int) -> list[str]:
    """Return choices with ``at_most`` so many values of the first that is swept, and one of all others."""
    kept = []
    for choice in choices:
        if choice.startswith("--"):
            kept.append(choice)
            continue
        (override,) = OverridesParser.create().parse_overrides([choice])
        if override.is_interval_sweep():
            start = override.value().start
            kept.append(f"{override.key_or_group}={int(start) or start}")
        elif override.is_sweep_override():
            values = list(override.sweep_string_iterator())[:at_most]
            kept.append(f"{override.key_or_group}={','.join(values)}")
            at_most = 1
        else:
            kept.append(choice)
    return kept


def chosen(group: str) -> list[str]:
    """Return the choices of a group in conf/."""
    return sorted(path.stem for path in (conf_dir() / group).glob("[a-z]*.yaml"))


def keys(application: str, *choices: str) -> set[str]:
    """Return the dotted keys of a composed configuration, Hydra's own among them, at all depths."""

    def walk(node: Any, prefix: str) -> set[str]:
        if not isinstance(node, dict):
            return {prefix}
        return {prefix}.union(*(walk(child, f"{prefix}.{key}" if prefix else str(key)) for key, child in node.items()))

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        tree = compose(application, list(choices), return_hydra_config=True)
        return walk(OmegaConf.to_container(tree), "")


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Let Python import what lies in ``folder``, as PYTHONPATH would; forget it afterwards."""
    known = set(sys.modules)
    with patch.object(sys, "path", [str(folder), *sys.path]), patch.dict("os.environ", {"PYTHONPATH": str(folder)}):
        yield
    for module in set(sys.modules) - known:
        if str(getattr(sys.modules[module], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[module]


def bring_files(folder: Path) -> None:
    """Put into ``folder`` what a page takes for granted: a photo, and images of the reader's own in every layout."""
    stream = np.random.default_rng(0)

    def picture(side: int = 32) -> Image.Image:
        return Image.fromarray(stream.integers(0, 256, (side, side, 3), dtype=np.uint8))

    for photo in ("photo.png", "digit.png"):
        picture().save(folder / photo)
    classes = ("airplane", "automobile")
    for i in range(100):
        path = folder / "FOLDER" / classes[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture().save(path)
    write_songci(folder / "songci.jsonl.gz", ("浣溪沙", "蝶恋花", "鹧鸪天", "菩萨蛮", "水调歌头"))
    write_texts(folder / "texts.csv")
    (folder / "FACES").mkdir()
    rows = ["file,smile,age"]
    for i in range(40):
        picture().save(folder / "FACES" / f"{i}.png")
        rows.append(f"{i}.png,{'yes' if i % 2 else 'no'},{20 + i}")
    (folder / "FACES" / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    told = [f"{i}.png,A person of {20 + i}." for i in range(40)]
    (folder / "FACES" / "captions.csv").write_text("\n".join(["file,text", *told]) + "\n", encoding="utf-8")
    for archive in ("train.zip", "test.zip", "FILE.zip"):
        with zipfile.ZipFile(folder / archive, "w") as file:
            labels = [[f"00000/img{i:08d}.png", i % 10] for i in range(100)]
            for image, _ in labels:
                buffer = io.BytesIO()
                picture().save(buffer, "PNG")
                file.writestr(str(image), buffer.getvalue())
            file.writestr("dataset.json", json.dumps({"labels": labels}))
    write_recordings(folder / "recordings.zip", 10, 3, 6)
    for i in range(24):
        path = folder / "SOUNDS" / ("high", "low")[i % 2] / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wav(tone((900.0, 200.0)[i % 2] + i, 0.3, 16000), 16000))
    images = stream.integers(0, 256, (100, 28, 28, 1), dtype=np.uint8)
    np.savez(folder / "samples.npz", images=images, labels=np.arange(100) % 10)
