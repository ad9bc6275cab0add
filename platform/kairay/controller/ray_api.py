"""What Ray itself is asked: a job's last word and its metrics, by the pods' own addresses."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Protocol

import aiohttp

from kairay.errors import TransientError
from kairay.ray.job_word import JobWord, last_word
from kairay.ray.pods import DASHBOARD_PORT, METRICS_PORT

_TIMEOUT = aiohttp.ClientTimeout(total=10, connect=3)
_MOST_BYTES = 8 * 2**20


class RayApi(Protocol):
    """Ray's own HTTP interfaces."""

    async def last_word(self, head: str, token: str, job_id: str) -> JobWord:
        """Of the job on the head at this address; TransientError when it cannot be asked."""

    async def metrics(self, addresses: Iterable[str]) -> str:
        """Prometheus texts of these pods, one after the other; those that do not answer are left out."""


class RayHttp:
    """The real one."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def last_word(self, head: str, token: str, job_id: str) -> JobWord:
        """See RayApi."""
        url = f"http://{_host(head)}:{DASHBOARD_PORT}/api/jobs/{job_id}/logs"
        headers = {"Authorization": f"Bearer {token}"}
        try:
            async with self._session.get(url, headers=headers, timeout=_TIMEOUT) as answer:
                if answer.status != HTTPStatus.OK:
                    raise TransientError(f"Ray's Jobs API at {head} answered {answer.status}")
                return last_word(str((await answer.json()).get("logs", "")))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise TransientError(f"Ray's Jobs API at {head} does not answer: {error!r}") from error

    async def metrics(self, addresses: Iterable[str]) -> str:
        """See RayApi."""
        texts = []
        for address in addresses:
            url = f"http://{_host(address)}:{METRICS_PORT}/metrics"
            try:
                async with self._session.get(url, timeout=_TIMEOUT) as answer:
                    if answer.status == HTTPStatus.OK:
                        texts.append((await answer.content.read(_MOST_BYTES)).decode("utf-8", "replace"))
            except (aiohttp.ClientError, TimeoutError):
                continue  # progress is for show; the job's own result is what counts
        return "\n".join(texts)


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
