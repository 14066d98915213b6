"""Work out what ImageNet at 64 x 64 would take on 8 and 64 GPUs: the tables of docs/scaling.md.

    uv run python scripts/plan_imagenet.py

The network is condgen's U-Net in the widths of ADM (Dhariwal & Nichol 2021), trained by flow matching as Karras et al. 2022
trained theirs. Parameters, arithmetic and the memory of activations are counted on torch's meta device, which computes nothing;
published and assumed figures stand below, each with its source.
"""

import torch
from torch.utils.flop_counter import FlopCounterMode

from condgen.conditions import ClassLabel, LearnedEmbedding
from condgen.nets.unet import UNet
from condgen.spaces import Images

IMAGES, SIDE, CLASSES = 1_281_167, 64, 1000
WIDTHS, BLOCKS, ATTENTION, SIGNAL = (192, 384, 576, 768), 3, 32, 768
BATCH, SEEN = 4096, 2.5e9
"""Published: images of a batch and of the whole training (NVlabs/edm, README, imagenet-64x64-cond-adm)."""
A100_RATE = SEEN / (32 * 13 * 86400)
"""Published: images a second of one A100, from 32 of them in 13 days (same table)."""
FASTER = 2.0
"""Assumed: an H100 beside an A100; the quotient of their peak rates in bf16 is 3.2."""
DOLLARS = 3.0
"""Assumed: an hour of an H100; mercatus-ai.com/blog/cloud-gpu-pricing (May 2026) has 2 to 5."""
BUS = {8: 480e9, 64: 331e9}
"""Published: bytes a second of an all-reduce, [1] of docs/scaling.md; of 32 GPUs for 64."""
STEPS = 32
"""Of Heun's method for a sample in an evaluation, two evaluations of the network each but the last."""
TO_HOST, TO_DISK = 20e9, 1e9
"""Assumed: bytes a second to the memory of the host, and from there to a shared disk."""


def saved_bytes(network: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> float:
    """Return what autograd keeps for the backward pass, without parameters, each storage once."""
    own = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
            alive.append(tensor)
        return tensor

    alive: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = network(*inputs)
    assert output is not None
    return float(sum(kept.values()))


def count() -> tuple[float, float, float]:
    """Return parameters, FLOP of a forward pass and bytes kept for the backward pass in float32, of one image."""
    condition = ClassLabel([str(number) for number in range(CLASSES)])
    space = Images((3, SIDE, SIDE))

    def embedding(what: ClassLabel) -> LearnedEmbedding:
        return LearnedEmbedding(what, SIGNAL)

    network = UNet(condition, space, WIDTHS, BLOCKS, 1, ATTENTION, SIGNAL, embedding).to("meta")
    x, t = torch.empty(1, 3, SIDE, SIDE, device="meta"), torch.empty(1, device="meta")
    inputs = (x, t, torch.zeros(1, dtype=torch.int64, device="meta"), torch.zeros(1, dtype=torch.bool, device="meta"))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*inputs)
    return sum(p.numel() for p in network.parameters()), counter.get_total_flops(), saved_bytes(network, inputs)


def duration(seconds: float) -> str:
    """Say how long that is."""
    for unit, name in ((86400, "days"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{1000 * seconds:.3g} ms"


def main() -> None:
    """Print both tables."""
    parameters, forward, activations = count()
    rate = FASTER * A100_RATE
    sustained = 3 * forward * A100_RATE
    state = 16 * parameters
    print(f"parameters {parameters / 1e6:.0f} M; forward pass {forward / 1e9:.0f} GFLOP an image")
    print(f"kept for the backward pass {activations / 1e9:.2f} GB an image in float32")
    print(f"an A100 {A100_RATE:.1f} images/s, {sustained / 1e12:.0f} TFLOP/s of 312; an H100 {rate:.0f} images/s")
    print(
        f"weights, gradients, Adam's moments and the average {20 * parameters / 1e9:.1f} GB; checkpoint {state / 1e9:.1f} GB\n"
    )
    print("| | 8 GPUs | 64 GPUs |\n| --- | --- | --- |")
    rows: dict[str, list[str]] = {}
    for n in (8, 64):
        update = BATCH / (n * rate)
        message = 2 * (n - 1) / n * 4 * parameters / BUS[n]
        whole = SEEN / BATCH * (update + message)
        evaluation = 50_000 * (2 * STEPS - 1) * forward / (n * FASTER * sustained)
        for name, value in {
            "images a GPU in an update": f"{BATCH // n}",
            "computing an update": duration(update),
            "all-reduce, not overlapped": f"{duration(message)}, {message / update:.1%}",
            "images a second": f"{BATCH / (update + message):,.0f}",
            "whole training": duration(whole),
            "GPU hours": f"{n * whole / 3600:,.0f}",
            "cost": f"${DOLLARS * n * whole / 3600:,.0f}",
            "50,000 samples": duration(evaluation),
            "lost with a node, at most": f"10 min, ${DOLLARS * n / 6:.0f}",
        }.items():
            rows.setdefault(name, []).append(value)
    for name, values in rows.items():
        print(f"| {name} | {' | '.join(values)} |")
    print(f"\ncheckpoint: {duration(state / TO_HOST)} to copy, {duration(state / TO_DISK)} to write")


if __name__ == "__main__":
    main()
