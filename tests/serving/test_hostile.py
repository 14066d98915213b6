"""Hostile requests and uploads: each is answered in a sentence, nothing is read, and the server goes on."""

import asyncio
import base64
import io
import json
from typing import Any

import pytest
from data.pictures import noise
from PIL import Image
from serving.api import Client, asked, picture, running


def encoded(image: Image.Image, kind: str) -> str:
    """Return a picture as a file in base64."""
    file = io.BytesIO()
    image.save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


D, A, I, P = ({"model": name} for name in ("digits", "attributes", "inpaint", "points"))  # noqa: E741
HOSTILE: dict[str, tuple[Any, int, str]] = {
    "no json": (b"{", 400, "invalid_json"),
    "no object": (b"[1]", 400, "invalid_json"),
    "no text": (b"\xff\xfe\x00", 400, "invalid_json"),
    "nested deeply": (b"[" * 50_000, 400, "invalid_json"),
    "a number of 10,000 digits": (b'{"model":"digits","seed":' + b"9" * 10_000 + b"}", 400, "invalid_json"),
    "nothing": ({}, 422, "invalid_model"),
    "a field too many": (D | {"path": "/etc/passwd"}, 422, "unknown_field"),
    "no such model": ({"model": "../../etc/passwd"}, 404, "unknown_model"),
    "a model as a list": ({"model": ["digits"]}, 422, "invalid_model"),
    "a count of none": (D | {"count": 0}, 422, "invalid_count"),
    "a count too large": (D | {"count": 10**9}, 422, "invalid_count"),
    "a count as text": (D | {"count": "8"}, 422, "invalid_count"),
    "a count of true": (D | {"count": True}, 422, "invalid_count"),
    "a seed too large": (D | {"seed": 2**70}, 422, "invalid_seed"),
    "a seed of half": (D | {"seed": 0.5}, 422, "invalid_seed"),
    "no such class": (D | {"condition": "eleven"}, 422, "invalid_condition"),
    "a file as a class": (D | {"condition": {"class": "file:///etc/passwd"}}, 422, "invalid_condition"),
    "no such attribute": (D | {"condition": {"colour": "red"}}, 422, "invalid_condition"),
    "a list in a list": (D | {"condition": [["3"]]}, 422, "invalid_condition"),
    "an empty list": (D | {"condition": []}, 422, "invalid_condition"),
    "json as a text": (D | {"condition": '["0-9", "0-9"]'}, 422, "invalid_condition"),
    "a long text": (D | {"condition": "3," * 10_000}, 422, "invalid_condition"),
    "millions of conditions": (A | {"condition": ["rotation=-45:45:99999"] * 64}, 422, "invalid_condition"),
    "conditions times count": (D | {"condition": ["0-9"] * 10, "count": 64}, 422, "invalid_condition"),
    "out of range": (A | {"condition": {"rotation": 1e300}}, 422, "invalid_condition"),
    "not a number": (b'{"model":"attributes","condition":{"rotation":NaN}}', 422, "invalid_condition"),
    "a caption of nothing": ({"model": "captions", "condition": {"caption": " "}}, 422, "invalid_condition"),
    "a huge caption": ({"model": "captions", "condition": {"caption": "cat " * 400}}, 422, "invalid_condition"),
    "tags that contradict": ({"model": "tags", "condition": {"tags": "red blue"}}, 422, "invalid_condition"),
    "a walk to nowhere": (D | {"condition": "3", "to": "x", "count": 3}, 422, "invalid_to"),
    "a walk of one": (D | {"condition": "3", "to": "4"}, 422, "invalid_to"),
    "a walk of two and three": (D | {"condition": "3,4", "to": "5,6,7", "count": 3}, 422, "invalid_to"),
    "an unknown option": (D | {"sampling": {"steps": 3}}, 422, "invalid_sampling"),
    "endless steps": (P | {"sampling": {"steps": 10**9}}, 422, "invalid_sampling"),
    "half a step": (P | {"sampling": {"steps": 2.5}}, 422, "invalid_sampling"),
    "no such solver": (P | {"sampling": {"solver": "os.system"}}, 422, "invalid_sampling"),
    "no noise": (D | {"sampling": {"truncation": -1}}, 422, "invalid_sampling"),
    "standing": (D | {"sampling": {"standing": 4}}, 422, "invalid_sampling"),
    "no such format": (D | {"format": "exe"}, 422, "invalid_format"),
    "pictures of points": (P | {"format": "pngs"}, 422, "invalid_format"),
    "no image": (I, 422, "invalid_image"),
    "an image for words": (D | {"condition": "3", "image": picture()}, 422, "invalid_image"),
    "words for an image": (I | {"condition": "3", "image": picture()}, 422, "invalid_condition"),
    "no base64": (I | {"image": "file:///etc/passwd"}, 422, "invalid_image"),
    "an image of nothing": (I | {"image": ""}, 422, "invalid_image"),
    "an image of noise": (I | {"image": base64.b64encode(noise(1, 900).tobytes()).decode()}, 422, "invalid_image"),
    "half an image": (I | {"image": picture(64)[:1000]}, 422, "invalid_image"),
    "a bomb of 100 megapixels": (I | {"image": encoded(Image.new("1", (10_000, 10_000)), "PNG")}, 422, "invalid_image"),
    "another format": (I | {"image": encoded(Image.new("L", (28, 28)), "GIF")}, 422, "invalid_image"),
    "too large a file": (I | {"image": "A" * 160_000}, 413, "image_too_large"),
    "too large a body": (I | {"image": "A" * 300_000}, 413, "body_too_large"),
}
PATHS = ("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/__init__.py", "/v1/samples/../models/x", "//etc/passwd", "/v1")


def test_hostile_requests_are_answered_in_a_sentence_and_the_server_goes_on(models):
    """One after the other, on one server; each has its status and its type."""
    wrong: list[Any] = []
    with running(models, image_bytes=100_000) as (_, run):

        async def visit(client: Client) -> None:
            for name, (body, status, kind) in HOSTILE.items():
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                answer = await client.post("/v1/samples", content=content, headers={"Content-Type": "application/json"})
                error = answer.json()["error"]
                message = error["message"]
                sentence = message.endswith(".") and "\n" not in message and "--" not in message and len(message) < 300
                if (answer.status_code, error["type"]) != (status, kind) or not sentence or "root:" in answer.text:
                    wrong.append((name, answer.status_code, error))
            for path in PATHS:
                answer = await client.get(path)
                if answer.status_code != 404 or not answer.json()["error"]["message"].endswith("."):
                    wrong.append((path, answer.status_code, answer.text))
            for method, path in (("PUT", "/v1/samples"), ("GET", "/v1/samples"), ("DELETE", "/v1/models"), ("TRACE", "/")):
                answer = await client.request(method, path)
                if answer.status_code != 405 or not answer.json()["error"]["message"].endswith("."):
                    wrong.append((method, answer.status_code, answer.text))
            assert (await client.post("/v1/samples", json=D)).status_code == 200

        run(visit)
    assert wrong == []


@pytest.mark.parametrize("kind, status", [("flood", 413), ("drip", 408)])
def test_bodies_are_counted_as_they_come_and_may_not_be_slow(kind, status, models):
    async def flood() -> Any:
        for _ in range(100):
            yield b" " * 10_000

    async def drip() -> Any:
        yield b"{"
        await asyncio.sleep(5)

    with running(models, image_bytes=100_000, timeout=0.3) as (_, run):
        body = flood() if kind == "flood" else drip()
        answer = asked(run, None, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == status and answer.json()["error"]["message"].endswith(".")
