"""A server's life: a place to listen, models, and an orderly end."""

import asyncio
import sys
from collections.abc import Sequence
from types import FrameType

import torch
import uvicorn

from condgen.listening import LOCAL, listen
from condgen.serving.app import Server
from condgen.serving.gate import Rules
from condgen.serving.models import load_models

SWITCH = 1e-3
"""Seconds after which a thread hands Python on where others wait for it; by Python's own 5 ms, threads that draw keep the loop
of events waiting, and each other between two operations of torch."""


def serve(sources: Sequence[str], host: str, port: int, rules: Rules, trust: bool = False) -> None:
    """Serve models until a signal comes: then no more work is taken, and what runs is finished.

    Args:
        sources: runs, checkpoints, exported folders or ``zoo:NAME``, each perhaps as ``NAME=SOURCE``.
        host: the address to listen at.
        port: 0 takes a free one.
        rules: the limits.
        trust: accept foreign targets in checkpoints.

    Raises:
        CondgenError: the port is taken, or a model cannot be loaded.
    """
    sys.setswitchinterval(SWITCH)
    with listen(host, port) as place:
        processors = torch.get_num_threads()
        torch.set_num_threads(1)  # so that OpenMP keeps no team for this thread, see `Worker.run`
        models = load_models(sources, trust)
        torch.set_num_threads(processors)
        server = Server(models, rules)
        place.listen(2048)  # from here on whoever connects waits and is not refused
        name = f"[{host}]" if ":" in host else host
        print(f"http://{name}:{place.getsockname()[1]} serves {', '.join(server.desk.models)}", flush=True)
        if host not in LOCAL and not rules.token:
            print(
                f"condgen: anybody who reaches {host} can ask this server: give a --token, or --host 127.0.0.1.",
                file=sys.stderr,
            )
        config = uvicorn.Config(server.gate, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False)
        asyncio.run(Running(config, server).serve(sockets=[place]))
        server.close()


class Running(uvicorn.Server):
    """Uvicorn, which at a signal goes on listening until nobody waits for samples; a second signal ends it at once.

    Args:
        config: see uvicorn.
        server: what is served.
    """

    def __init__(self, config: uvicorn.Config, server: Server):
        super().__init__(config)
        self.served = server

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Receive a signal."""
        self.force_exit = self.served.gate.draining
        self.should_exit = self.force_exit
        self.served.drain()

    async def on_tick(self, counter: int) -> bool:
        """Return whether it is time to end; uvicorn asks ten times a second."""
        ended = await super().on_tick(counter)
        return ended or (self.served.gate.draining and self.served.idle)
