"""The whole way on one machine: plan, tune, serve, ask, score. `make demo` runs this file.

Tunes SmolLM2-135M-Instruct on the questions in train.jsonl and compares the base model with the tuned one,
both served by one process and asked over the OpenAI API. Exit code 1 when tuning did not do what it should.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import requests
from rich.console import Console
from rich.markup import escape
from rich.table import Table

HERE = Path(__file__).resolve().parent
WORKSPACE = HERE / "workspace.yaml"
NAME = "quickstart"
KAIRAY = Path(sys.executable).with_name("kairay")

CLIENTS = 16
ANSWER_TOKENS = 40
"""More than the longest trained answer; the base model often says more, and is cut."""
SHOWN, SHOWN_CHARACTERS = 5, 100
LEAST_AFTER, MOST_BEFORE = 0.8, 0.1
"""Shares of the training questions that must be right after tuning, and may be right before."""


@dataclass(frozen=True, slots=True)
class Question:
    """One row of a data file."""

    text: str
    answer: str


def main() -> int:
    """Walk the way; the exit code says whether the tuned model learned its answers."""
    options = read_options()
    console = Console(highlight=False)
    if options.fresh:
        forget()

    console.rule("What it takes")
    kairay("plan", "--local", str(WORKSPACE))

    console.rule("Tune and serve")
    kairay("run", str(WORKSPACE), "--port", str(options.port))
    service = json.loads(kairay("status", NAME, "-o", "json", capture=True))
    url, base, tuned = service["url"], service["models"][0], service["models"][-1]

    console.rule("Before and after")
    train, heldout = read_questions(HERE / "train.jsonl"), read_questions(HERE / "heldout.jsonl")
    started = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as clients:
        before, after = (
            list(clients.map(lambda question, model=model: ask(url, model, question.text), train + heldout))
            for model in (base, tuned)
        )
    seconds = time.monotonic() - started
    console.print(compare(train, before, after, base, tuned))
    console.print(
        f"{2 * len(before)} answers from {CLIENTS} clients in {seconds:.0f} s. Right means word for word:"
    )
    asked = len(train)
    share_before = score(console, f"training questions, {base}", train, before[:asked])
    share_after = score(console, f"training questions, {tuned}", train, after[:asked])
    score(console, f"other questions, {base}", heldout, before[asked:])
    score(console, f"other questions, {tuned}", heldout, after[asked:])
    console.print(
        f"The model has 135 million parameters and learned {asked} answers by heart; "
        "on other questions expect it to be brief and often wrong.\n"
    )
    say_what_next(console, url, tuned)
    return verdict(console, share_before, share_after)


def read_options() -> argparse.Namespace:
    """The flags: fresh, port."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fresh", action="store_true", help="forget the last run and tune again")
    parser.add_argument("--port", type=int, default=8000, help="where the model answers (default: 8000)")
    return parser.parse_args()


def forget() -> None:
    """Leave nothing of an earlier run: its record, its service, its adapter."""
    known = json.loads(kairay("status", "-o", "json", capture=True))
    if any(workspace["name"] == NAME for workspace in known):
        kairay("stop", NAME, "--forget")
    shutil.rmtree(HERE / "adapter", ignore_errors=True)


def kairay(*arguments: str, capture: bool = False) -> str:
    """Run one `kairay` command as a person would; its failure ends the demo with its exit code."""
    done = subprocess.run(
        [KAIRAY, *arguments], check=False, text=True, stdout=subprocess.PIPE if capture else None
    )
    if done.returncode != 0:
        sys.exit(done.returncode)
    return done.stdout or ""


def read_questions(path: Path) -> list[Question]:
    """The first question and its answer of every row."""
    rows = [json.loads(line)["messages"] for line in path.read_text("utf-8").splitlines()]
    return [Question(text=row[0]["content"], answer=row[1]["content"]) for row in rows]


def ask(url: str, model: str, question: str) -> str:
    """One answer, greedy, over the OpenAI API."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": ANSWER_TOKENS,
        "temperature": 0,
    }
    response = requests.post(f"{url}/v1/chat/completions", json=body, timeout=300)
    if response.status_code != requests.codes.ok:
        sys.exit(f"error: {url} refused a question (HTTP {response.status_code}): {response.text[:300]}")
    return str(response.json()["choices"][0]["message"]["content"]).strip()


def is_right(answer: str, question: Question) -> bool:
    """Equal but for case and punctuation."""
    return plain(answer) == plain(question.answer)


def plain(text: str) -> str:
    """Lower case, words only."""
    return re.sub(r"\W+", " ", text.lower()).strip()


def compare(questions: list[Question], before: list[str], after: list[str], base: str, tuned: str) -> Table:
    """A few questions, evenly picked, with both answers side by side."""
    table = Table("question", base, tuned, show_lines=True)
    for n in range(0, len(questions), -(-len(questions) // SHOWN)):
        mark = "[green]✓[/green]" if is_right(after[n], questions[n]) else "[red]✗[/red]"
        table.add_row(questions[n].text, escape(cut(before[n])), f"{mark} {escape(cut(after[n]))}")
    return table


def cut(text: str) -> str:
    """As much of an answer as the table has room for."""
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def score(console: Console, what: str, questions: list[Question], answers: list[str]) -> float:
    """Print how many answers are right and how many at least hold the right one; returns the share of the right."""
    pairs = list(zip(answers, questions, strict=True))
    right = sum(is_right(answer, question) for answer, question in pairs)
    held = sum(plain(question.answer) in plain(answer) for answer, question in pairs)
    console.print(f"  {what:<44} {right:>3} of {len(questions)} right, {held:>3} mention it")
    return right / len(questions)


def say_what_next(console: Console, url: str, tuned: str) -> None:
    """Where it answers and what to type."""
    program = "kairay" if shutil.which("kairay") else os.path.relpath(KAIRAY)
    body = json.dumps({"prompt": "Who wrote Frankenstein"})
    console.print(f"[bold]{tuned}[/bold] answers at [bold]{url}[/bold] until it is stopped. Next:")
    for command in (
        f"curl -X POST {url}/chat -H 'Content-Type: application/json' -d '{body}'",
        f"{program} chat {NAME}",
        f"{program} status {NAME}",
        f'eval "$({program} env)"   # then `ray job submit` and the dashboard find it',
        f"{program} stop {NAME}",
    ):
        console.print(f"  {command}", markup=False, soft_wrap=True)


def verdict(console: Console, before: float, after: float) -> int:
    """0 when tuning made the difference that it should."""
    if after < LEAST_AFTER:
        console.print(f"\n[red]Tuning fell short[/red]: {after:.0%} right, {LEAST_AFTER:.0%} wanted.")
        return 1
    if before > MOST_BEFORE:
        console.print(f"\n[red]The base model knew {before:.0%} already[/red]: this shows no tuning.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
