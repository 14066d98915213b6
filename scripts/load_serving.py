"""A mixed load on `condgen serve`: every valid answer is compared with the bytes of `condgen sample`.

    python scripts/load_serving.py gan=RUN vae=RUN flow=RUN --requests 10000

Of the requests 70 in 100 are valid, 15 are mistakes, 10 hang up before the answer, 5 are too large. Told are the statuses, the
answers that differ, and the server's memory after the first tenth and at the end. The exit status is 1 if an answer differs, or
if an error is not the client's.
"""

import argparse
import asyncio
import random
import sys
from collections import Counter
from pathlib import Path

from benchmark_serving import Connection, request, serving

from condgen.run.checkpoint import load
from condgen.samples import Request, draw

MISTAKES = (
    {"condition": "eleven"},
    {"count": 0},
    {"count": 10**6},
    {"sampling": {"nothing": 1}},
    {"image": "AAAA"},
    {"seed": "x"},
    {"format": "exe"},
)


class Load:
    """The requests, what they have to be answered with, and what they were.

    Args:
        sources: models by name.
        seed: that decides which requests are made.
    """

    def __init__(self, sources: dict[str, str], seed: int = 0):
        self.random, self.seen = random.Random(seed), Counter[str]()
        self.names = list(sources)
        self.valid: list[tuple[bytes, bytes]] = []
        for name, source in sources.items():
            generator = load(source)
            for number in range(40):
                condition, count, form = str(number % 10), (1, 1, 2, 4, 8, 16, 3)[number % 7], ("png", "npz")[number % 2]
                sampling = {"steps": 2} if "steps" in generator.sampling else {}
                asked = {"condition": condition, "count": count, "seed": number, "sampling": sampling}
                samples = draw(generator, Request(**asked))
                content = samples.png() if form == "png" else samples.npz()
                self.valid.append((request({"model": name, "format": form, **asked}), content))

    async def one(self, connection: Connection) -> None:
        """Make a request and count how it was answered."""
        lot = self.random.random()
        if lot < 0.7:
            content, expected = self.random.choice(self.valid)
            status, body = await connection.ask(content)
            self.seen[f"valid {status}" if status != 200 else "valid, equal" if body == expected else "valid, DIFFERENT"] += 1
        elif lot < 0.85:
            status, _ = await connection.ask(request({"model": self.random.choice(self.names), **self.random.choice(MISTAKES)}))
            self.seen[f"mistake {status}"] += 1
        elif lot < 0.95:
            leaving = Connection(*connection.place)
            asking = asyncio.ensure_future(leaving.ask(self.random.choice(self.valid)[0]))
            await asyncio.wait({asking}, timeout=self.random.random() * 0.05)
            asking.cancel()
            leaving.close()
            self.seen["left"] += 1
        else:
            large = Connection(*connection.place)
            head = b"POST /v1/samples HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n\r\n"
            status, _ = await large.ask(head)
            large.close()
            self.seen[f"too large {status}"] += 1

    async def run(self, host: str, port: int, requests: int, clients: int) -> None:
        """Make requests by some clients at a time."""
        left = iter(range(requests))

        async def client() -> None:
            connection = Connection(host, port)
            for _ in left:
                await self.one(connection)
            connection.close()

        await asyncio.gather(*(client() for _ in range(clients)))


def memory(process: int) -> float:
    """Return the memory of a process in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1000


def main() -> None:
    """Load a server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="NAME=RUN of models that know classes 0-9")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=16)
    choices = parser.parse_args()
    work = Load(dict(model.split("=", 1) for model in choices.models))
    with serving(*choices.models, "--queue", "64", "--timeout", "120") as (host, port, process):
        asyncio.run(work.run(host, port, choices.requests // 10, choices.clients))
        started = memory(process)
        asyncio.run(work.run(host, port, choices.requests - choices.requests // 10, choices.clients))
        print(f"memory: {started:.0f} MB after a tenth, {memory(process):.0f} MB at the end")
    for kind, number in sorted(work.seen.items()):
        print(f"{kind}: {number}")
    wrong = [kind for kind in work.seen if "DIFFERENT" in kind or " 5" in kind]
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
