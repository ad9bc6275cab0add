"""The flags of commands that may mean a cluster, and the way from them to one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from kairay.kube.client import Client
    from kairay.kube.connect import Connection

Command = TypeVar("Command", bound=Callable[..., Any])
Result = TypeVar("Result")


def cluster_options(command: Command) -> Command:
    """`--cluster` and `-n/--namespace`; the latter means a cluster too."""
    command = click.option(
        "-n", "--namespace", help="Of the cluster's Workspace; default: the kube context's. Means --cluster."
    )(command)
    return click.option(
        "-k",
        "--cluster",
        is_flag=True,
        help="A Workspace of the cluster that kubectl talks to, not of this machine.",
    )(command)


def on_cluster(namespace: str | None, work: Callable[[Client, Connection, str], Awaitable[Result]]) -> Result:
    """Do `work` with a client of the current kube context and the namespace that is meant."""
    from kairay.kube.client import Client
    from kairay.kube.connect import connect

    async def run() -> Result:
        connection = connect()
        async with Client(connection) as client:
            return await work(client, connection, namespace or connection.namespace)

    return asyncio.run(run())
