"""The client and the cache against a real API server: what the fake claims is what Kubernetes does."""

from __future__ import annotations

import asyncio
import gc
import ssl
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest

from bare import BareApiServer
from kairay.cluster.checks import check
from kairay.cluster.doctor import observe
from kairay.cluster.findings import Finding, Status
from kairay.controller.leader import Elector
from kairay.errors import HostError, InputError, KairayError
from kairay.kube.cache import Cache
from kairay.kube.client import Client
from kairay.kube.connect import Connection, connect
from kairay.kube.errors import AbsentError, ConflictError, GoneError
from kairay.kube.fake import FakeCluster
from kairay.kube.interface import Cluster, EventType, Right
from kairay.kube.objects import (
    CONFIG_MAP,
    LEASE,
    POD,
    RAY_JOB,
    SERVICE,
    Key,
    Manifest,
    key_of,
    uid_of,
    version_of,
)

pytestmark = pytest.mark.cluster
T = TypeVar("T")
Scenario = Callable[[Cluster], Awaitable[None]]


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, 60))


@pytest.fixture
def connection(api_server: BareApiServer) -> Iterator[Connection]:
    """An administrator's, and an empty namespace called `kube-client`."""
    api_server.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-client"}})
    yield connect({"KUBECONFIG": str(api_server.kubeconfig)})
    for kind in (CONFIG_MAP, LEASE, SERVICE):
        for each in api_server.api.items(kind.path("kube-client")):
            api_server.api.delete(kind.path("kube-client", each["metadata"]["name"]))


@pytest.fixture(params=["real", "fake"])
def on_both(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    """Runs a scenario on the API server, or on the fake: one contract."""

    async def on_real(scenario: Scenario) -> None:
        async with Client(request.getfixturevalue("connection")) as client:
            await scenario(client)

    async def on_fake(scenario: Scenario) -> None:
        await scenario(FakeCluster())

    return lambda scenario: run((on_real if request.param == "real" else on_fake)(scenario))


def config(name: str = "a", data: dict[str, str] | None = None, **metadata: Any) -> Manifest:
    return {
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "kube-client", **metadata}, "data": data or {},
    }  # fmt: skip


def test_apply_owns_its_fields_and_a_second_time_changes_nothing(on_both: Callable[[Scenario], None]) -> None:
    async def scenario(cluster: Cluster) -> None:
        first = await cluster.apply(config(data={"x": "1", "y": "1"}))
        assert version_of(await cluster.apply(config(data={"x": "1", "y": "1"}))) == version_of(first)
        assert (await cluster.apply(config(data={"y": "2"})))["data"] == {"y": "2"}
        assert await cluster.get(Key(CONFIG_MAP, "kube-client", "none")) is None

    on_both(scenario)


def test_a_wrong_uid_or_an_old_version_is_a_conflict(on_both: Callable[[Scenario], None]) -> None:
    async def scenario(cluster: Cluster) -> None:
        first = await cluster.create(config(data={"x": "1"}))
        second = await cluster.replace({**first, "data": {"x": "2"}})
        another = "01234567-89ab-cdef-0123-456789abcdef"
        for doing in (
            lambda: cluster.create(config()),
            lambda: cluster.replace({**first, "data": {"x": "3"}}),
            lambda: cluster.apply(config(resourceVersion=version_of(first))),
            lambda: cluster.apply(config(uid=another)),
            lambda: cluster.apply(config("nobody", uid=another)),
            lambda: cluster.delete(key_of(second), uid=another),
        ):
            with pytest.raises(ConflictError):
                await doing()
        await cluster.delete(key_of(second), uid=uid_of(second))
        await cluster.delete(key_of(second), uid=uid_of(second))
        assert await cluster.get(key_of(second)) is None

    on_both(scenario)


def test_list_selects_and_a_watch_goes_on_from_it(on_both: Callable[[Scenario], None]) -> None:
    async def scenario(cluster: Cluster) -> None:
        where: dict[str, Any] = {"namespace": "kube-client", "labels": {"mine": None}}
        await cluster.apply(config("a", labels={"mine": "1"}))
        await cluster.apply(config("b"))
        found, version = await cluster.list(CONFIG_MAP, **where)
        assert [(each["kind"], each["metadata"]["name"]) for each in found] == [("ConfigMap", "a")]
        await cluster.apply(config("c", labels={"mine": "1"}))
        await cluster.apply(config("c"))
        await cluster.apply(config("a", {"x": "1"}, labels={"mine": "2"}))
        await cluster.delete(Key(CONFIG_MAP, "kube-client", "a"))
        told: list[tuple[str, str]] = []
        async for event in cluster.watch(CONFIG_MAP, resource_version=version, **where):
            if event.type is not EventType.BOOKMARK:
                told.append((event.type.value, event.object["metadata"]["name"]))
            if len(told) == 4:
                break
        assert told == [("ADDED", "c"), ("DELETED", "c"), ("MODIFIED", "a"), ("DELETED", "a")]

    on_both(scenario)


def test_one_candidate_leads_and_the_next_follows_its_release(on_both: Callable[[Scenario], None]) -> None:
    async def scenario(cluster: Cluster) -> None:
        now = asyncio.get_running_loop().time
        one, two = (
            Elector(cluster=cluster, namespace="kube-client", identity=name, now=now)
            for name in ("one", "two")
        )
        await one.win()
        waiting = asyncio.create_task(two.win())
        await one.win()
        assert not waiting.done()
        await one.release()
        await waiting
        lease = await cluster.get(Key(LEASE, "kube-client", "kairay-controller"))
        assert lease is not None
        assert lease["spec"]["holderIdentity"] == "two"

    on_both(scenario)


def test_status_is_written_apart_and_only_where_there_is_an_object(
    api_server: BareApiServer, connection: Connection
) -> None:
    api_server.install_kuberay_crds()

    async def scenario() -> None:
        async with Client(connection) as client:
            job: Manifest = {
                "apiVersion": RAY_JOB.api_version, "kind": "RayJob",
                "metadata": {"name": "job", "namespace": "kube-client"}, "spec": {"entrypoint": "true"},
            }  # fmt: skip
            with pytest.raises(AbsentError):
                await client.apply_status({**job, "status": {"jobId": "x"}})
            made = await client.apply({**job, "status": {"jobId": "ignored"}})
            assert "status" not in made
            told = await client.apply_status({**job, "status": {"jobId": "x"}})
            assert (told["status"]["jobId"], told["metadata"]["generation"]) == ("x", 1)
            with pytest.raises(
                InputError, match=r"RayJob kube-client/job: .*spec.unknown: field not declared"
            ):
                await client.apply({**job, "spec": {"unknown": 1}})
            await client.delete(key_of(job))

    run(scenario())


def test_a_version_of_long_ago_is_gone(api_server: BareApiServer, connection: Connection) -> None:
    # The API server remembers changes of a kind from when it learned of the kind.
    api_server.install_kuberay_crds()

    async def scenario() -> None:
        async with Client(connection) as client:
            with pytest.raises(GoneError):
                async for _ in client.watch(RAY_JOB, resource_version="1"):
                    pass

    run(scenario())


def test_a_missing_right_is_told_with_verb_and_resource_and_a_bad_token_as_such(
    api_server: BareApiServer, connection: Connection
) -> None:
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "x", "namespace": "kube-client"},
    }
    api_server.api.apply(account)
    trusts = ssl.create_default_context(cafile=str(api_server.pki / "ca.crt"))

    async def token() -> str:
        async with Client(connection) as client:
            path = "/api/v1/namespaces/kube-client/serviceaccounts/x/token"
            body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
            answer = await client._call("POST", path, about="a token", body=body)
            return str(answer["status"]["token"])

    async def scenario() -> None:
        limited = replace(connection, tls=trusts, fixed_token=await token())
        async with Client(limited) as client:
            with pytest.raises(
                KairayError, match=r'cannot patch resource "services" in API group ""'
            ) as caught:
                await client.apply({**config(), "kind": "Service"})
            assert caught.value.reason == "Forbidden"
            assert not await client.may(Right(verb="get", resource="secrets", namespace="kube-client"))
            with pytest.raises(KairayError, match=r'cannot list resource "rayjobs" in API group "ray\.io"'):
                await client.list(RAY_JOB)
            with pytest.raises(KairayError, match='cannot watch resource "pods"'):
                async for _ in client.watch(POD, resource_version="1"):
                    pass
        async with Client(replace(limited, fixed_token="nonsense")) as client:
            with pytest.raises(HostError, match="log in again"):
                await client.get(Key(POD, "kube-client", "a"))

    run(scenario())


class Link:
    """Carries bytes between client and API server until it is cut; `open` False refuses new ones too."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.open = True

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.create_task(self.carry(reader, writer)))

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.open:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, far_writer]
        if not self.open:
            self.cut()
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(2**16):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    def cut(self) -> None:
        """As when the API server is killed."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def close(self) -> None:
        """Leave nothing open, also of connections that are only being made."""
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def linked(connection: Connection) -> AsyncIterator[tuple[Link, Connection]]:
    """The connection through a link that can be cut."""
    link = Link(int(connection.server.rpartition(":")[2]))
    server = await asyncio.start_server(link.accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield link, replace(connection, server=f"https://127.0.0.1:{port}")
    finally:
        server.close()
        link.open = False
        link.cut()
        await link.close()


def test_the_cache_catches_up_after_its_connection_was_cut(connection: Connection) -> None:
    async def scenario() -> None:
        told: list[str] = []

        def tell(_: object, old: Manifest | None, new: Manifest | None) -> None:
            name = (new or old or {})["metadata"]["name"]
            told.append(("+" if old is None else "-" if new is None else "~") + name)

        async def until(*wanted: str) -> None:
            while told != list(wanted):
                assert len(told) <= len(wanted), told
                await asyncio.sleep(0.02)

        async with linked(connection) as (link, far), Client(connection) as direct, Client(far) as client:
            cache = Cache(client, CONFIG_MAP, on_change=tell, random=lambda: 0.0, namespace="kube-client")
            running = asyncio.create_task(cache.run())
            await cache.synced.wait()
            await direct.apply(config("a"))
            await until("+a")
            link.open = False
            link.cut()
            await direct.apply(config("b"))
            await direct.delete(Key(CONFIG_MAP, "kube-client", "a"))
            link.open = True
            await until("+a", "+b", "-a")
            assert (await client.apply(config("b", {"x": "1"})))["data"] == {"x": "1"}
            await until("+a", "+b", "-a", "~b")
            assert "managedFields" not in next(iter(cache.all()))["metadata"]
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    run(scenario())


def test_a_watch_that_is_cancelled_at_any_moment_leaves_no_connection_behind(connection: Connection) -> None:
    async def scenario(moments: int) -> None:
        async def follow() -> None:
            async for _ in client.watch(CONFIG_MAP, resource_version="0"):
                pass

        async with Client(connection) as client:
            watching = asyncio.create_task(follow())
            for _ in range(moments):
                await asyncio.sleep(0.0005)
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    gc.collect()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for moments in range(60):
            run(scenario(moments))
        gc.collect()
    assert [str(each.message) for each in warned] == []


def test_a_server_tells_its_version_its_apis_and_our_rights(connection: Connection) -> None:
    async def scenario() -> None:
        async with Client(connection) as cluster:
            version = await cluster.discover("/version") or {}
            assert version["gitVersion"].startswith("v1.")
            apps = await cluster.discover("/apis/apps/v1") or {}
            assert "deployments" in [each["name"] for each in apps["resources"]]
            assert await cluster.discover("/apis/nobody.example/v1") is None
            right = Right(verb="create", resource="pods", subresource="proxy", namespace="kube-client")
            assert await cluster.may(right)

    run(scenario())


def test_a_bare_server_lacks_what_doctor_looks_for(connection: Connection) -> None:
    async def scenario() -> list[Finding]:
        async with Client(connection) as client:
            now = datetime.now(UTC)
            seen = await observe(
                client, server=connection.server, namespace="kube-client", environment={}, now=now
            )
            return check(seen)

    found = {each.name: each.status for each in run(scenario())}
    assert found["Kubernetes"] is Status.OK
    assert found["your rights"] is Status.OK
    assert found["KubeRay's operator"] is Status.MISSING
    assert found["storage"] is Status.MISSING
