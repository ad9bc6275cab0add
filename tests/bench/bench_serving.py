"""Throughput of serving, as ratios: the chat application's engine against `generate`, one request at a time.

`python tests/bench/bench_serving.py` on a quiet machine; greedy, real small model, same process, no HTTP. Answers
of both are compared as well, since a fast wrong answer is no gain.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message

from kairay_serve.args import ChatArgs
from kairay_serve.engine import Engine, make_engine
from kairay_serve.front import Front, Limits
from kairay_serve.keys import ApiKeys
from kairay_serve.metrics import ServeMetrics
from kairay_serve.sources import model_folder

PRESET = "smollm2-135m-instruct"
TOPICS = (
    *("cats", "dogs", "rivers", "mountains", "bread", "music", "chess", "rain"),
    *("Paris", "Rome", "gold", "iron", "silk", "paper", "ships", "stars"),
)
CLIENTS = (1, 4, 16)
PLAIN = 4
"""Requests that plain `generate` answers; one costs as much as the next."""


@dataclass(frozen=True)
class Run:
    """What one way of serving did."""

    tokens: int
    seconds: float
    answers: tuple[str, ...]

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--batch-tokens", type=int, default=None)
    parser.add_argument("--page-tokens", type=int, default=None)
    parser.add_argument("--no-sharing", action="store_true")
    parser.add_argument("--no-packing", action="store_true")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--engine", default="transformers")
    asyncio.run(measure(parser.parse_args()))


async def measure(options: argparse.Namespace) -> None:
    folder = model_folder(PRESET, None)
    questions = [f"Tell me a long story about {topic}." for topic in TOPICS]
    plain = one_at_a_time(folder, questions[:PLAIN], options)
    print(f"one-at-a-time generate   {plain.rate:7.1f} tok/s")
    started = time.monotonic()
    app, engine = await start(folder, options)
    print(f"engine started in        {time.monotonic() - started:7.1f} s")
    await at_once(app, questions[:1], options.tokens)
    for clients in CLIENTS:
        run = await at_once(app, questions[:clients], options.tokens)
        compared = min(clients, PLAIN)
        equal = sum(a == b for a, b in zip(run.answers, plain.answers, strict=False))
        print(
            f"{options.engine}, {clients:2} clients {run.rate:7.1f} tok/s   {run.rate / plain.rate:5.2f} x generate"
            f"   answers equal: {equal} of {compared}"
        )
    await engine.close()


def one_at_a_time(folder: Path, questions: list[str], options: argparse.Namespace) -> Run:
    """Plain transformers, one request after the other."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(options.threads)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, options.dtype))
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}],
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        )
        for question in questions
    ]
    model.generate(**prompts[0], max_new_tokens=2)
    answers, generated, started = [], 0, time.monotonic()
    for prompt in prompts:
        new = model.generate(**prompt, max_new_tokens=options.tokens, do_sample=False)[
            0, prompt["input_ids"].shape[1] :
        ]
        generated += len(new)
        answers.append(tokenizer.decode(new, skip_special_tokens=True))
    return Run(generated, time.monotonic() - started, tuple(answers))


async def start(folder: Path, options: argparse.Namespace) -> tuple[ASGIApp, Engine]:
    settings = {
        "pageTokens": options.page_tokens,
        "sharePages": False if options.no_sharing else None,
        "packWeights": False if options.no_packing else None,
    }
    args = ChatArgs.model_validate(
        {
            "name": "bench",
            "preset": PRESET,
            "model": str(folder),
            "modelName": PRESET,
            "defaultModel": PRESET,
            "engine": options.engine,
            "dtype": options.dtype,
            "contextLength": 2048,
            "kvCacheBytes": 2**30,
            "threads": options.threads,
            "maxBatchTokens": options.batch_tokens,
            "maxOngoingRequests": max(CLIENTS),
            "engineConfig": {key: value for key, value in settings.items() if value is not None},
        }
    )
    metrics = ServeMetrics()
    engine = make_engine(args, metrics)
    limits = Limits(names=args.names, default_model=PRESET, max_in_flight=max(CLIENTS))
    return Front(await engine.start(), engine, limits, metrics, ApiKeys(None)), engine


async def at_once(app: ASGIApp, questions: list[str], tokens: int) -> Run:
    started = time.monotonic()
    documents = await asyncio.gather(*(ask(app, question, tokens) for question in questions))
    seconds = time.monotonic() - started
    answers = tuple(document["choices"][0]["message"]["content"] for document in documents)
    return Run(sum(document["usage"]["completion_tokens"] for document in documents), seconds, answers)


async def ask(app: ASGIApp, question: str, tokens: int) -> Any:
    body = {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": tokens}
    raw, pieces, given = json.dumps(body).encode(), [], False

    async def receive() -> Message:
        nonlocal given
        if given:
            await asyncio.Event().wait()  # the client stays
        given = True
        return {"type": "http.request", "body": raw, "more_body": False}

    async def send(message: Message) -> None:
        pieces.append(message.get("body", b""))

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "headers": [],
        "query_string": b"",
    }
    await app(scope, receive, send)
    return json.loads(b"".join(pieces))


if __name__ == "__main__":
    main()
