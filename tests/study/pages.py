"""Studies made of nothing, and people of known errors who answer them over HTTP."""

import json
from pathlib import Path
from typing import Any

import torch
from fastapi.testclient import TestClient
from torch import Tensor

from condgen.studies.server import application
from condgen.studies.trials import SIDES, Model, Study, Trial, arranged, paired, write_study

CLASSES = ["cat", "dog", "emu"]
MODEL = Model("digits/1", "best", None, "ab" * 32, "ema", 100, {})
RIVAL = Model("rival", "last", None, "cd" * 32, "ema", 100, {})


def put_study(folder: Path, trials: int = 30, pairs: bool = False, classes: list[str] = CLASSES, **changes: Any) -> Study:
    """Write a study of small noisy pictures and return it."""
    labels = torch.arange(300) % max(1, len(classes))
    _, chosen, keys = (paired if pairs else arranged)(labels, trials, 0)
    shown: list[Trial] = []
    pictures: dict[str, Tensor] = {}
    for i, (label, key) in enumerate(zip(chosen, keys, strict=True)):
        files = [f"{i + 1:04d}-{side}.png" for side in SIDES] if pairs else [f"{i + 1:04d}.png"]
        pictures |= {file: torch.randint(0, 256, (1, 8, 8), dtype=torch.uint8) for file in files}
        shown.append(Trial(files, key, label, classes[label] if classes else "any"))
    facts = {"question": "real", "feedback": True, "seed": 0, "split": "test", "data": "0f1e2d3c" * 3, "classes": classes}
    facts |= {"version": "0", "models": [MODEL, RIVAL] if pairs else [MODEL], "trials": shown}
    study = Study(**(facts | changes))
    write_study(folder, study, pictures)
    return study


def client_of(folder: Path, study: Study) -> TestClient:
    """Return a browser's connection to the page of a study."""
    return TestClient(application(folder, study), base_url="http://127.0.0.1:8000")


def begin(client: TestClient, person: str = "") -> dict[str, Any]:
    """Begin, or come back, as ``person``."""
    response = client.post("/api/people", json={"person": person})
    assert response.status_code == 200, response.text
    return response.json()


def answer(client: TestClient, state: dict[str, Any], choice: str) -> dict[str, Any]:
    """Answer what is asked, and return what is asked next."""
    task = state["task"]
    body = {"person": state["person"], "trial": task["trial"], "question": task["question"], "answer": choice}
    response = client.post("/api/answers", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def respond(client: TestClient, study: Study, wrong: set[int], person: str, stop: int | None = None) -> dict[str, Any]:
    """Answer everything, or ``stop`` questions, the right thing but in the places ``wrong``; return the last state."""
    state = begin(client, person)
    while state["task"] and state["answered"] != stop:
        place = state["answered"]
        right = study.right(*study.slots[place])
        others = [choice for choice in state["task"]["choices"] if choice != right]
        state = answer(client, state, others[0] if place in wrong else right)
    return state


def stored_answers(folder: Path, person: str) -> list[dict[str, Any]]:
    """Return the lines of a person's file."""
    return [json.loads(line) for line in (folder / f"answers-{person}.jsonl").read_text().splitlines()]
