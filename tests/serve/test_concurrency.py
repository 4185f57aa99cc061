"""Many clients at once, some going away or sending nonsense: nobody gets another's answer, nothing stays taken."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.serve.conftest import Served, serve

from minimind import Model

CLIENTS = 16
ROUNDS = 4
TOKENS = 40


def request(number: int) -> dict[str, Any]:
    """Every one has a prompt of its own, and so an answer of its own."""
    text = " ".join(["the", "cat", "sees"][(number // 3**digit) % 3] for digit in range(6))
    return {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": TOKENS, "stream": True}


async def ask(client: httpx.AsyncClient, body: dict[str, Any], leave_after: int | None = None) -> str:
    """A streamed answer; None of it is read after `leave_after` pieces."""
    said = ""
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.status_code == 200
        pieces = 0
        async for line in response.aiter_lines():
            if line == "data: [DONE]":
                return said
            if line:
                event = json.loads(line.removeprefix("data: "))
                assert "error" not in event
                said += event["choices"][0]["delta"].get("content", "")
                pieces += 1
            if pieces == leave_after:
                return said
    raise AssertionError("the stream broke off")


async def misbehave(client: httpx.AsyncClient, luck: random.Random) -> None:
    body = luck.choice(
        [b"", b"{", b"\xff", b'{"messages": 5}', b"[]", b'{"messages": [{"role": "user"}], "n": 99}']
    )
    response = await client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400


async def client_of(number: int, url: str, wanted: list[str]) -> int:
    """A few rounds of one client; how many answers it read to the end."""
    luck, whole = random.Random(number), 0
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        for round in range(ROUNDS):
            index = number * ROUNDS + round
            match luck.choice(["stay", "stay", "leave", "misbehave"]):
                case "stay":
                    assert await ask(client, request(index)) == wanted[index]
                    whole += 1
                case "leave":
                    said = await ask(client, request(index), leave_after=luck.randint(1, TOKENS // 2))
                    assert wanted[index].startswith(said)
                case "misbehave":
                    await misbehave(client, luck)
    return whole


async def all_clients(url: str, wanted: list[str]) -> int:
    return sum(await asyncio.gather(*(client_of(number, url, wanted) for number in range(CLIENTS))))


@pytest.mark.parametrize("max_batch", [5, 32])
def test_every_answer_is_the_one_given_alone(endless: Path, max_batch: int) -> None:
    """`max_batch` below the number of clients: they wait for each other."""
    model = Model(endless, device="cpu")
    model.engine.max_batch = max_batch
    wanted = [
        model.chat(request(index)["messages"], temperature=0, max_tokens=TOKENS)["content"]
        for index in range(CLIENTS * ROUNDS)
    ]
    assert len(set(wanted)) == len(wanted)
    with serve(model) as server:
        assert asyncio.run(all_clients(server.url, wanted)) > 10
        server.wait_until_idle()
        assert served_until_now(server) > 10 * TOKENS


def served_until_now(server: Served) -> float:
    return server.worker.metrics.generated_tokens._value.get()
