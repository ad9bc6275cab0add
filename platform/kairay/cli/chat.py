"""`kairay chat`: a conversation with a model that serves, over its OpenAI API."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import click

from kairay.cli.context import cluster_options
from kairay.errors import HostError, InputError, TransientError
from kairay.local.state import StateDir
from kairay.local.status import WorkspaceStatus, read_status

TIMEOUT = (5.0, 300.0)
"""Seconds to connect, and between two pieces of an answer."""


@click.command("chat")
@click.argument("name", required=False)
@click.option("-m", "--message", help="Ask this, print the answer and leave.")
@click.option(
    "--model", help="A served model's name; default is the tuned one. `kairay status NAME` lists them."
)
@click.option(
    "--max-tokens", type=click.IntRange(min=1), default=256, show_default=True, help="Longest answer."
)
@click.option(
    "--temperature", type=click.FloatRange(0, 2), default=0.0, show_default=True, help="0 repeats itself."
)
@cluster_options
def command(
    name: str | None, message: str | None, model: str | None, max_tokens: int, temperature: float, cluster: bool,
    namespace: str | None,
) -> None:  # fmt: skip
    """Talk to the Workspace NAME (or to the only one that serves).

    Without --message it reads questions from the terminal, or from a pipe, one a line; an empty line or Ctrl-D ends it.
    """
    settings = {"max_tokens": max_tokens, "temperature": temperature}
    if cluster or namespace is not None:
        from kairay.cluster.chat import way_to_service

        if name is None:
            raise click.UsageError("give the NAME of a Workspace with --cluster")
        with way_to_service(name, namespace) as (url, models):
            talk(url, {"model": model or models[-1], **settings}, message)
        return
    service = pick_service(read_status(StateDir.default(), None), name)
    talk(service.url or "", {"model": model or service.models[-1], **settings}, message)


def talk(url: str, body: dict[str, Any], message: str | None) -> None:
    """One question and its answer, or a conversation."""
    if message is not None:
        say(url, body, [{"role": "user", "content": message}])
        return
    history: list[dict[str, str]] = []
    for question in questions(f"{body['model']}> "):
        history.append({"role": "user", "content": question})
        history.append({"role": "assistant", "content": say(url, body, history)})


def pick_service(statuses: list[WorkspaceStatus], name: str | None) -> WorkspaceStatus:
    """The Workspace to talk to; an InputError says which there are when the choice is not clear."""
    serving = [s for s in statuses if s.url]
    names = ", ".join(s.name for s in serving)
    if name is not None:
        for status in statuses:
            if status.name == name:
                if status.url:
                    return status
                raise InputError(
                    f"{name} does not serve now (state: {status.state}); `kairay status {name}` shows how far it is, "
                    "`kairay run FILE` starts it"
                )
        raise InputError(f"there is no Workspace {name} here; serving: {names or 'none'}")
    if len(serving) == 1:
        return serving[0]
    if not serving:
        raise InputError("nothing serves on this machine; `kairay run FILE` starts a model")
    raise InputError(f"several Workspaces serve, name one: {names}")


def questions(prompt: str) -> Iterator[str]:
    """Lines from the terminal (with a prompt and history) or from a pipe."""
    interactive = sys.stdin.isatty()
    if interactive:
        import readline  # noqa: F401  line editing and history for input()
    while True:
        try:
            line = input(prompt if interactive else "")
        except EOFError:
            return
        if not line.strip():
            if interactive:
                return
            continue
        yield line.strip()


def say(url: str, body: dict[str, Any], messages: list[dict[str, str]]) -> str:
    """Stream one answer to stdout; returns it whole."""
    answer = ""
    for piece in stream(f"{url}/v1/chat/completions", {**body, "messages": messages, "stream": True}):
        click.echo(piece, nl=False)
        answer += piece
    click.echo()
    return answer


def stream(url: str, body: dict[str, Any]) -> Iterator[str]:
    """Pieces of the answer of one streamed chat completion."""
    import requests

    try:
        with requests.post(url, json=body, stream=True, timeout=TIMEOUT) as response:
            if response.status_code != requests.codes.ok:
                raise_for(response.status_code, response.text, response.headers.get("Retry-After"))
            response.encoding = "utf-8"
            for line in response.iter_lines(decode_unicode=True):
                if line.startswith("data: ") and line != "data: [DONE]":
                    yield from deltas(json.loads(line.removeprefix("data: ")))
    except requests.ConnectionError as error:
        raise HostError(f"nothing answers at {url}; `kairay status` shows what runs") from error
    except requests.Timeout as error:
        raise TransientError(f"{url} gave no answer in {TIMEOUT[1]:.0f} s; try again") from error


def deltas(event: dict[str, Any]) -> Iterator[str]:
    """Text of one server-sent event; an error in the stream ends it."""
    if "error" in event:
        raise TransientError(
            f"the model stopped in the middle: {event['error'].get('message', event['error'])}"
        )
    for choice in event.get("choices", []):
        if text := choice.get("delta", {}).get("content"):
            yield text


def raise_for(status: int, text: str, retry_after: str | None) -> None:
    """Turn an HTTP refusal into the error that fits."""
    try:
        message = json.loads(text)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = text.strip()[:300] or f"HTTP {status}"
    if status in (429, 503):
        after = f" (after {retry_after} s)" if retry_after else ""
        raise TransientError(f"{message}; try again{after}")
    raise InputError(message)
