"""A generator as one graph (latents, encoded condition) -> samples: for ONNX, or as a program of torch.export.

What the sampling options do to the network's path (guidance, the solver and its steps, as a loop) is part of the graph;
``truncation`` and ``temperature`` act on latents, which whoever runs the graph draws.
"""

import copy
import io
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from condgen.errors import CondgenError
from condgen.files import replacing
from condgen.generators.base import Generator
from condgen.randomness import generator as keyed_generator

MOST = 1e-4
"""The largest difference from torch, of pixels in [-1, 1], with which a graph is written."""
SIZES = (1, 2, 7)
"""Batches on which a graph is compared with torch."""
Inputs = dict[str, Tensor]
"""Latents and encoded conditions by name; what is of no length is no input of a graph."""


class Drawing(nn.Module):
    """What a graph computes.

    Args:
        generator: is copied; weights behind a parametrization, such as spectral norm, become plain ones.
    """

    def __init__(self, generator: Generator):
        super().__init__()
        self.generator = copy.deepcopy(generator).cpu().eval().requires_grad_(False)
        for module in list(self.generator.modules()):
            if parametrize.is_parametrized(module):  # a copy has the class of the original, which would lose its weights
                module.__class__ = type(type(module).__name__, type(module).__bases__, dict(vars(type(module))))
            for name in list(getattr(module, "parametrizations", ())):
                parametrize.remove_parametrizations(module, name)

    def forward(self, latents: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """Return samples (B, *shape) of latents (B, ...) and encoded conditions (B, ...)."""
        given = latents if condition is None else condition
        assert given is not None
        nothing = given.new_empty(given.shape[0], 0)
        latents, condition = nothing if latents is None else latents, nothing if condition is None else condition
        samples = self.generator.decode(latents, condition)
        return self.generator.condition.finish(samples, condition)


def example(generator: Generator, count: int, seed: int) -> Inputs:
    """Draw latents and encoded conditions for ``count`` samples; pictures that conditions need are noise."""
    stream = keyed_generator(seed, "export", count)
    latents = generator.latents(count, stream)
    if generator.condition.image is None:
        condition = generator.condition.draw(count, stream)
    else:
        pictures = torch.rand(count, *generator.space.shape, generator=stream) * 2 - 1
        asked = [generator.condition.ask(None, picture) for picture in pictures]
        condition = torch.stack([rows[i % len(rows)] for i, rows in enumerate(asked)])
    return {name: x for name, x in (("latents", latents), ("condition", condition)) if x.numel()}


def told(generator: Generator, card: Mapping[str, Any], difference: float) -> str:
    """Return as JSON what whoever runs a graph has to know of it, and the card."""
    inputs = {
        name: {"dtype": str(x.dtype).removeprefix("torch."), "shape": ["batch", *x.shape[1:]]}
        for name, x in example(generator, 1, 0).items()
    }
    known = {
        "inputs": inputs,
        "condition": generator.condition.config(),
        "sampling": generator.sampling,
        "latents": "standard normal; truncation t: draw values beyond t again; temperature T: times T",
        "samples": {"shape": ["batch", *generator.space.shape], "range": [-1, 1]},
        "largest_difference_from_torch": difference,
        "card": dict(card),
    }
    return json.dumps(known)


def traced(drawing: Drawing) -> torch.export.ExportedProgram:
    """Return the program of a generator for any size of the batch; raises CondgenError where torch.export cannot follow it."""
    inputs = example(drawing.generator, 3, 0)
    batch = torch.export.Dim("batch", min=1)
    shapes = {name: {0: batch} if name in inputs else None for name in ("latents", "condition")}
    with refusing(drawing, "torch.export"), torch.no_grad():
        program = torch.export.export(drawing, (), inputs, dynamic_shapes={name: shapes[name] for name in inputs})
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # which names files of this machine
    return program


@contextmanager
def refusing(drawing: Drawing, by: str) -> Iterator[None]:
    """Tell in one sentence why a generator cannot become a graph, and nothing of what torch tells on the way."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except CondgenError:
        raise
    except Exception as error:  # whatever torch's exporters stumble over
        text, family = " ".join(reason(error).split())[:200].rstrip(".:"), type(drawing.generator).__name__
        raise CondgenError(f"A {family} like this one cannot be exported by {by}: {text}.") from error
    finally:
        logging.disable(level)


def reason(error: BaseException) -> str:
    """Return what in a chain of errors tells most: an operator that is missing, else the first line of the first error."""
    if found := re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", str(error)):
        return f"ONNX has no operator for torch's {found[1]}"
    if error.__cause__ is not None:
        return reason(error.__cause__)
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def difference(drawing: Drawing, run: Callable[[Inputs], Tensor]) -> float:
    """Return the largest difference of ``run`` from torch over batches of several sizes; raises CondgenError above `MOST`."""
    largest = 0.0
    for size in SIZES:
        inputs = example(drawing.generator, size, size)
        with torch.inference_mode():
            wanted = drawing(**inputs)
        found = run(inputs)
        gap = (found - wanted).abs().max().item() if found.shape == wanted.shape else float("nan")
        largest = max(largest, gap) if gap == gap else float("inf")
    if not largest <= MOST:
        raise CondgenError(
            f"The graph differs from torch by {largest:.1e} in pixels of [-1, 1], more than {MOST:.0e}: nothing was written."
        )
    return largest


def write_pt2(out: Path, generator: Generator, card: Mapping[str, Any]) -> float:
    """Write a program of torch.export, which ``torch.export.load(out).module()`` reads, and return its difference from torch.

    It takes ``latents`` and ``condition`` by name; `told` lies in it as the file ``condgen.json``.

    Raises:
        CondgenError: it cannot be exported, differs by more than `MOST`, or cannot be written.
    """
    drawing = Drawing(generator)
    program, file = traced(drawing), io.BytesIO()
    torch.export.save(program, file)
    module = torch.export.load(io.BytesIO(file.getvalue())).module()
    found = difference(drawing, lambda inputs: module(**inputs))
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={"condgen.json": told(generator, card, found)})
    with replacing(out) as temporary:
        temporary.write_bytes(file.getvalue())
    return found


def write_onnx(out: Path, generator: Generator, card: Mapping[str, Any]) -> float:
    """Write an ONNX graph, run it with onnxruntime, and return its difference from torch.

    It takes ``latents`` and ``condition`` and gives ``samples``; `told` is its metadata ``condgen``.

    Raises:
        CondgenError: it cannot be exported, differs by more than `MOST`, or a library is missing.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 (torch.onnx needs it)
    except ImportError as error:
        raise CondgenError(f"--format onnx needs {error.name}: pip install 'condgen[onnx]'.") from error
    drawing = Drawing(generator)
    program = traced(drawing)
    inputs = example(drawing.generator, 3, 0)
    with refusing(drawing, "torch.onnx"), torch.no_grad():
        exported = torch.onnx.export(program, (), kwargs=inputs, dynamo=True, output_names=["samples"], verbose=False)
    assert exported is not None
    graph = exported.model_proto
    strip(graph.graph)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(inputs: Inputs) -> Tensor:
        return torch.from_numpy(np.asarray(session.run(None, {name: x.numpy() for name, x in inputs.items()})[0]))

    found = difference(drawing, run)
    onnx.helper.set_model_props(graph, {"condgen": told(generator, card, found)})
    with replacing(out) as temporary:
        temporary.write_bytes(graph.SerializeToString())
    return found


def strip(graph: Any) -> None:
    """Take away what torch notes of each node for whoever mends exporters: most of the bytes of a small ONNX graph."""
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("metadata_props")
    for attribute in (attribute for node in graph.node for attribute in node.attribute if attribute.HasField("g")):
        strip(attribute.g)
