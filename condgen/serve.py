"""``condgen serve``: trained models behind a page and an API."""

from collections.abc import Sequence

from condgen.errors import CondgenError


def serve(
    models: Sequence[str],
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    max_count: int = 64,
    queue: int = 64,
    timeout: float = 60.0,
    trust: bool = False,
    watermark: str | None = None,
) -> None:
    """Serve models over HTTP until a signal ends it; what runs then is finished.

    Args:
        models: runs, checkpoints, exported folders or ``zoo:NAME``, each perhaps as ``NAME=SOURCE``.
        host: the address to listen at.
        port: 0 takes a free one, which the first line that is printed names.
        token: what requests have to bring as ``Authorization: Bearer TOKEN``; None: anybody may ask.
        max_count: samples for each condition that a request may ask for.
        queue: requests for samples that are waited for at a time; more are refused with 429.
        timeout: seconds from a request to its answer.
        trust: accept foreign targets in checkpoints.
        watermark: the key of the mark that all images get, see `condgen.watermark`; None: no mark.

    Raises:
        CondgenError: the extra ``serve`` is not installed, the port is taken, or a model cannot be loaded.
    """
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise CondgenError(f'condgen serve needs {error.name}: pip install "condgen[serve]".') from error
    from condgen.serving.gate import Rules
    from condgen.serving.server import serve as start
    from condgen.watermark import check_key

    if watermark is not None:
        check_key(watermark)
    rules = Rules(count=max_count, queue=queue, timeout=timeout, token=token, watermark=watermark)
    start(models, host, port, rules, trust)
