"""The log of a cluster's tuning job, by Ray's Jobs API through the API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus

import aiohttp

from kairay.cluster.forward import forwarded, proxy_path
from kairay.cluster.workspaces import find_head
from kairay.errors import InputError, TransientError
from kairay.kube.connect import Connection
from kairay.kube.interface import Cluster
from kairay.kube.objects import Key
from kairay.ray.pods import DASHBOARD_PORT

POLL_SECONDS = 2.0
_ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})


async def follow_log(
    cluster: Cluster, connection: Connection, namespace: str, name: str, *, follow: bool, tail: int | None
) -> AsyncIterator[str]:
    """Lines of the job's log, to its end with `follow`. InputError when the Workspace has no job now."""
    head = await find_head(cluster, namespace, name)
    if not head.job_id:
        raise InputError(f"{name} has no tuning job now; its last result: kairay status {name} --cluster")
    headers = {"X-Ray-Authorization": f"Bearer {head.token}"}
    async with (
        forwarded(connection, proxy_path(head.pod, DASHBOARD_PORT), port=0, headers=headers) as url,
        aiohttp.ClientSession(trust_env=False) as session,
    ):
        shown = 0
        while True:
            status = await _get(session, f"{url}/api/jobs/{head.job_id}", "status", head.pod)
            lines = (await _get(session, f"{url}/api/jobs/{head.job_id}/logs", "logs", head.pod)).splitlines()
            if not shown and tail is not None:
                shown = max(0, len(lines) - tail)
            for line in lines[shown:]:
                yield line
            shown = len(lines)
            if not follow or status in _ENDED:
                return
            await asyncio.sleep(POLL_SECONDS)


async def _get(session: aiohttp.ClientSession, url: str, field: str, pod: Key) -> str:
    async with session.get(url) as answer:
        if answer.status == HTTPStatus.OK:
            return str((await answer.json()).get(field, ""))
        text = (await answer.text())[:200]
    if "address not allowed" in text:  # the API server's words for a pod without an address
        raise TransientError(
            f"{pod} has not started yet; why: kubectl -n {pod.namespace} describe pod {pod.name}"
        )
    raise TransientError(f"Ray's Jobs API answers {answer.status}: {text}")
