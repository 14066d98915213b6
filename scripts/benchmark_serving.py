"""Speed of `condgen serve` beside a bare loop over the same generator in one process, on this machine.

    python scripts/benchmark_serving.py gan=RUN vae=RUN flow=RUN --seconds 5

For each model: seconds from the start of the process to its first sample; latency of one image for one client, beside the
generator's own time; images a second with 1, 8 and 64 clients, as a ratio to the bare loop at its best batch, and that for a
second of the server's processor time, which a busy machine disturbs less (least with OMP_NUM_THREADS=1, since then no threads
wait for each other); and the bare loop with `torch.compile` and onnxruntime. The clients are raw sockets in one process, whose
share of the processors is told: it competes with the server for them.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import torch
from spread import spread

from condgen.generators.base import Generator
from condgen.randomness import generator as keyed_generator
from condgen.run.checkpoint import load

BATCHES = (1, 4, 8, 16, 32, 64, 128)
TURNS = 5
"""How often clients and bare loop take turns in a measurement."""
WAIT = 15.0
"""Seconds that 64 clients may have to wait for their answers: with slow models they ask for as few images as that takes."""


@contextmanager
def serving(*words: str) -> Iterator[tuple[str, int, int]]:
    """Run ``condgen serve WORDS`` on a free port of loopback; yield host, port and process id."""
    command = [sys.executable, "-m", "condgen", "serve", *words, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = urlsplit(process.stdout.readline().split()[0])
        try:
            yield str(address.hostname), int(address.port or 0), process.pid
        finally:
            process.terminate()
            process.wait(60)


def request(question: object, method: str = "POST", path: str = "/v1/samples") -> bytes:
    """Return a request of HTTP as bytes."""
    body = question if isinstance(question, bytes) else json.dumps(question).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: server\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Connection:
    """A connection that is kept between requests."""

    def __init__(self, host: str, port: int):
        self.place = host, port
        self.reader: asyncio.StreamReader | None = None

    async def ask(self, content: bytes) -> tuple[int, bytes]:
        """Send a request and return status and body of its answer."""
        if self.reader is None:
            self.reader, self.writer = await asyncio.open_connection(*self.place, limit=2**24)
        self.writer.write(content)
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        body = await self.reader.readexactly(length)
        if b"connection: close" in lines:
            self.close()
        return int(head[9:12]), body

    def close(self) -> None:
        """Hang up."""
        if self.reader is not None:
            self.writer.close()
        self.reader = None


async def throughput(host: str, port: int, name: str, clients: int, count: int, seconds: float) -> tuple[float, int]:
    """Return the images a second, and the images, that ``clients`` together get, who each ask again when they are answered."""
    end, images = time.monotonic() + seconds, 0

    async def client(number: int) -> None:
        nonlocal images
        connection, seed = Connection(host, port), 1000 * number
        while time.monotonic() < end:
            seed += 1
            status, _ = await connection.ask(request(question(name, count, seed)))
            assert status == 200, status
            images += count
        connection.close()

    started = time.monotonic()
    await asyncio.gather(*(client(number) for number in range(clients)))
    return images / (time.monotonic() - started), images


def question(name: str, count: int, seed: int) -> dict[str, object]:
    """Return what a client asks for."""
    return {"model": name, "condition": "3", "count": count, "seed": seed, "format": "npz"}


async def latencies(host: str, port: int, name: str, times: int) -> list[float]:
    """Return the milliseconds of answers to one client that asks for one image, sorted."""
    connection, found = Connection(host, port), []
    for seed in range(times + 5):
        content = request(question(name, 1, seed))
        started = time.perf_counter()
        await connection.ask(content)
        found.append(1000 * (time.perf_counter() - started))
    return sorted(found[5:])


def own(generator: Generator, times: int) -> list[float]:
    """Return the milliseconds of the generator alone for one image, sorted."""
    found = []
    for seed in range(times + 5):
        started = time.perf_counter()
        generator.sample("3", seed=seed)
        found.append(1000 * (time.perf_counter() - started))
    return sorted(found[5:])


def bare(
    decode: Callable[[torch.Tensor, torch.Tensor], object], generator: Generator, batch: int, seconds: float
) -> tuple[float, float]:
    """Return the images of a loop around ``decode`` that draws its latents, for a second and for one of the processor."""
    stream, conditions = keyed_generator(0, "bare"), generator.requested("3", batch)
    decode(generator.noise(batch, stream), conditions)
    started, used, rounds = time.monotonic(), time.process_time(), 0
    while time.monotonic() - started < seconds:
        decode(generator.noise(batch, stream), conditions)
        rounds += 1
    images = batch * rounds
    return images / (time.monotonic() - started), images / (time.process_time() - used)


def best(decode: Callable[[torch.Tensor, torch.Tensor], object], generator: Generator, seconds: float) -> tuple[float, int]:
    """Return the images a second of the bare loop at its best batch, and that batch."""
    with torch.inference_mode():
        return max((bare(decode, generator, batch, seconds / len(BATCHES))[0], batch) for batch in BATCHES)


def onnx(source: str) -> Callable[[torch.Tensor, torch.Tensor], object] | None:
    """Return a decoder that onnxruntime runs; None where the extra is not installed or the model cannot be exported."""
    import tempfile

    try:
        import onnxruntime

        from condgen.export import export

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            export(Path(source), file, "onnx", False, [], None, [], False)
            session = onnxruntime.InferenceSession(file.read_bytes())
    except (ImportError, ValueError) as error:
        print(f"  onnxruntime: {error}")
        return None
    names = [node.name for node in session.get_inputs()]
    return lambda z, condition: session.run(None, dict(zip(names, (z.numpy(), condition.numpy()), strict=False)))


def compare(
    generator: Generator, server: tuple[str, int, int], name: str, clients: int, size: int, batch: int, seconds: float
) -> dict[str, object]:
    """Measure clients and the bare loop by turns, and return medians of their ratios with the least and the largest.

    Args:
        generator: whose bare loop it is.
        server: host, port and process id.
        name: of the model there.
        clients: how many ask at a time.
        size: images of a request.
        batch: of the bare loop.
        seconds: of all turns of the clients; the bare loop has half of it.
    """
    host, port, process = server
    rates, ratios, shares, mine, theirs = [], [], [], time.process_time(), 0.0
    alone = 0.0
    for _ in range(TURNS):
        used = cpu(process)
        rate, images = asyncio.run(throughput(host, port, name, clients, size, seconds / TURNS))
        used, started = cpu(process) - used, time.process_time()
        with torch.inference_mode():
            now, spent = bare(generator.render, generator, batch, seconds / 2 / TURNS)
        alone += time.process_time() - started
        theirs += used
        rates.append(rate), ratios.append(rate / now), shares.append(images / used / spent)
    mine = time.process_time() - mine - alone
    return {
        f"{clients} clients x {size}": f"{median(rates):.0f} images/s, {spread(ratios)} of the bare loop, "
        f"{spread(shares)} by processor time",
        f"{clients} clients x {size}, CPU": f"server {theirs:.1f} s, clients {mine:.1f} s",
    }


def measure(name: str, source: str, seconds: float, count: int, times: int, others: bool) -> dict[str, object]:
    """Measure one model."""
    generator = load(source)
    found: dict[str, object] = {"model": name, "threads": torch.get_num_threads()}
    started = time.monotonic()
    with serving(f"{name}={source}", "--max-count", "250", "--queue", "128") as (host, port, process):
        asyncio.run(Connection(host, port).ask(request(question(name, 1, 0))))
        found["first sample, s"] = round(time.monotonic() - started, 2)
        found["first sample, CPU s"] = round(cpu(process), 2)
        alone = own(generator, times)
        served = asyncio.run(latencies(host, port, name, times))
        found["own p50, ms"], found["p50, ms"] = round(alone[len(alone) // 2], 2), round(served[len(served) // 2], 2)
        found["own p99, ms"], found["p99, ms"] = (
            round(alone[-1 - len(alone) // 100], 2),
            round(served[-1 - len(alone) // 100], 2),
        )
        asyncio.run(throughput(host, port, name, 8, count, seconds / 2))  # batches are tried out here
        before, batch = best(generator.render, generator, seconds)
        for size in dict.fromkeys((max(1, min(count, int(before * WAIT / 64))), 1)):
            for clients in (1, 8, 64):
                found |= compare(generator, (host, port, process), name, clients, size, batch, seconds)
        found["bare loop"] = f"{before:.0f} images/s at {batch}"
    if others:
        compiled = load(source)
        compiled.compile()
        for label, decode in (("compile", torch.compile(compiled.render)), ("onnxruntime", onnx(source))):
            if decode is not None:
                rate, size = best(decode, generator, 2 * seconds)
                eager, _ = best(generator.render, generator, seconds)
                found[label] = f"{rate / eager:.2f} of eager, at {size}"
    return found


def cpu(process: int) -> float:
    """Return the processor seconds that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure each model that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="NAME=RUN of models that know a class 3")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--count", type=int, default=64, help="images of a request in the measurements of throughput, at most")
    parser.add_argument("--times", type=int, default=200, help="requests in the measurement of latency")
    parser.add_argument("--others", action="store_true", help="also torch.compile and onnxruntime")
    choices = parser.parse_args()
    for model in choices.models:
        name, _, source = model.partition("=")
        for key, value in measure(name, source, choices.seconds, choices.count, choices.times, choices.others).items():
            print(f"{key}: {value}", flush=True)


if __name__ == "__main__":
    main()
