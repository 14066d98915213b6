"""Which arithmetic a run trains in: ``trainer.precision=auto`` is decided once, by what the device does fast.

That a device accepts bf16 says nothing: a CPU without instructions for it converts each number and back, and a convolution
takes some 17 times as long as in float32. What was decided is stored with the run, and a resumed run keeps it.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import torch

AUTO, FAST, PLAIN = "auto", "bf16-mixed", "32-true"
X86 = {"amx_bf16": "AMX-BF16", "avx512_bf16": "AVX512-BF16"}
"""What `torch.cpu.get_capabilities` calls the instructions with which a product in bf16 is faster than one in float32."""
GAIN = 1.2
"""How many times as fast as in float32 a product in bf16 must be where no flag of the processor tells."""


def decided(config: dict[str, Any]) -> dict[str, Any]:
    """Return ``config`` with ``trainer.precision=auto`` replaced by what this machine does fast."""
    fast, _ = fast_bf16(device_of(config["trainer"].get("accelerator")))
    return taking(config, FAST if fast else PLAIN)


def taking(config: dict[str, Any], precision: str) -> dict[str, Any]:
    """Return ``config`` with ``precision`` in place of ``auto``; as it is where it names one itself."""
    if config["trainer"].get("precision") != AUTO:
        return config
    return config | {"trainer": config["trainer"] | {"precision": precision}}


def device_of(accelerator: Any) -> str:
    """Return the type of device on which Lightning will train; of several GPUs the first stands for all."""
    if accelerator not in ("auto", "gpu", "cuda", None):
        return str(accelerator)
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


@functools.cache
def fast_bf16(device: str) -> tuple[bool, str]:
    """Return whether products in bf16 are faster than in float32 on a type of device, and why, as half a sentence."""
    if device == "cuda":
        name = torch.cuda.get_device_name()
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return fast, f"{name} {'computes' if fast else 'only emulates'} bf16"
    if device != "cpu":
        return False, f"nobody has measured bf16 on {device}"
    found = torch.cpu.get_capabilities()
    if str(found.get("architecture", "")).startswith("x86"):
        names = [name for flag, name in X86.items() if found.get(flag)]
        return bool(names), f"this CPU has {names[0]}" if names else f"this CPU has neither {' nor '.join(X86.values())}"
    if not found.get("bf16"):
        return False, "this CPU has no instructions for bf16"
    gain = probe()
    return gain >= GAIN, f"products in bf16 are {gain:.1f} times as fast as in float32 on this CPU"


def probe() -> float:
    """Measure within milliseconds how many times as fast as in float32 a product in bf16 is."""

    def best(compute: Callable[[], Any]) -> float:
        times = []
        for _ in range(5):
            began = time.perf_counter()
            compute()
            times.append(time.perf_counter() - began)
        return min(times)

    one = torch.ones(256, 256)
    half = one.bfloat16()
    return best(lambda: one @ one) / best(lambda: half @ half)


def explain(precision: str, device: str) -> str:
    """Say in one sentence what a run computes in on a type of device, and what that means for its speed."""
    fast, why = fast_bf16(device)
    if "bf16" in precision and not fast:
        return f"Precision {precision} is slow here, {why}: {PLAIN} would be faster, trainer.precision=auto takes what is."
    return (
        f"Precision {precision}, as configured; {why}." if fast != ("bf16" in precision) else f"Precision {precision}: {why}."
    )
