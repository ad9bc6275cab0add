"""Every row of the catalogue: a fault in Azure's words, through the real SDK, to what the controller is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import AzureError, ClientAuthenticationError, ServiceRequestError
from azure.identity import CredentialUnavailableError

from aks_faults import CASES, Case
from aks_scenario import A100, made, ours, provider_of, refused, run, settings, spec
from kairay.nodes.aks import AksProvider
from kairay.nodes.aks_catalogue import CATALOGUE
from kairay.nodes.aks_complaint import Complaint
from kairay.nodes.aks_facts import first_sentence
from kairay.nodes.aks_refusals import refusal_of
from kairay.nodes.interface import Offer, Refusal, RefusalKind, RefusedError
from simulator import Fault, Simulator

BY_NAME = {case.name: case for case in CASES}
CALLS = [case for case in CASES if not case.fault.get("operation")]
OPERATIONS = [case for case in CASES if case.fault.get("operation")]


def check(case: Case, refusal: Refusal) -> None:
    assert (refusal.kind, refusal.code) == (case.kind, case.code or case.fault["code"])
    assert refusal.avoid_seconds == case.avoid
    for words in case.says:
        assert words in refusal.message
    assert "{" not in refusal.message


@pytest.mark.parametrize("case", CALLS, ids=lambda case: case.name)
def test_a_refused_call_becomes_its_refusal_after_one_try(azure: Simulator, case: Case) -> None:
    azure.cloud.faults.append(case.make())
    check(case, refused(azure, lambda provider: provider.ensure(spec(spot=case.spot), 1)))
    assert azure.arm.calls == {"PUT pool": 1}
    assert "kra100" not in azure.cloud.pools


@pytest.mark.parametrize("case", OPERATIONS, ids=lambda case: case.name)
def test_a_failed_operation_is_told_by_the_next_listing(azure: Simulator, case: Case) -> None:
    azure.cloud.faults.append(case.make())
    run(azure, lambda provider: provider.ensure(spec(spot=case.spot), 1))
    azure.advance(240)
    refusal = run(azure, ours).refusal
    assert refusal is not None
    check(case, refusal)
    assert azure.arm.calls == {"PUT pool": 1, "GET pools": 1}


def test_every_row_of_the_catalogue_is_tried_above() -> None:
    def decided_by(case: Case) -> int | None:
        fault = case.make()
        said = fault.as_operation() if fault.operation else fault.as_call().body
        complaint = Complaint.read(said, default="", status=None if fault.operation else fault.status)
        rows = (n for each in complaint.inside_out() for n, row in enumerate(CATALOGUE) if row.fits(each))
        return next(rows, None)

    tried = {decided_by(case) for case in CASES}
    assert [row.message for n, row in enumerate(CATALOGUE) if n not in tried] == []


def test_no_kind_of_refusal_is_without_a_row_or_a_place_in_the_provider() -> None:
    assert {row.kind for row in CATALOGUE} == set(RefusalKind)


@pytest.mark.parametrize("call", ["POST deleteMachines", "DELETE pool", "GET pools", "GET pool"])
def test_a_refusal_of_any_call_is_one_of_ours(azure: Simulator, call: str) -> None:
    made(azure)
    pool = run(azure, ours)
    azure.cloud.faults.append(Fault(code="AuthorizationFailed", status=403, call=call))
    refusal = refused(
        azure,
        {
            "POST deleteMachines": lambda provider: provider.remove(pool, ["a"]),
            "DELETE pool": lambda provider: provider.delete(pool),
            "GET pools": lambda provider: provider.pools(),
            "GET pool": lambda provider: provider.scale(pool, 3),
        }[call],
    )
    assert refusal.kind is RefusalKind.DENIED


PAGE = b"<html>Bad gateway</html>"


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        ("502 Bad Gateway", "text/html", PAGE),
        ("200 OK", "text/html", PAGE),
        ("200 OK", "application/json", PAGE),
        ("500 Odd", "application/json", b"[]"),
    ],
)
def test_what_a_proxy_makes_of_an_answer_is_a_refusal_too(
    azure: Simulator, status: str, kind: str, body: bytes
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    async def scenario() -> tuple[Refusal, Refusal]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, provider_of(azure, endpoint=f"http://127.0.0.1:{port}") as provider:
            with pytest.raises(RefusedError) as listing:
                await provider.pools()
            with pytest.raises(RefusedError) as removal:
                await provider.delete(pool)
            assert await provider.quota([pool.offer]) == {}
        return listing.value.refusal, removal.value.refusal

    made(azure)
    pool = run(azure, ours)
    assert {refusal.kind for refusal in asyncio.run(scenario())} == {RefusalKind.UNAVAILABLE}


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (
            CredentialUnavailableError(message="No managed identity endpoint found."),
            RefusalKind.DENIED,
            "endpoint found",
        ),
        (
            ClientAuthenticationError(
                message="DefaultAzureCredential failed: AADSTS70021: No matching record."
            ),
            RefusalKind.DENIED,
            "service account",
        ),
        (ServiceRequestError(message="Cannot connect to host."), RefusalKind.UNAVAILABLE, "Cannot connect"),
    ],
)
def test_a_login_that_fails_says_what_to_give_the_controller(
    azure: Simulator, error: AzureError, kind: RefusalKind, says: str
) -> None:
    class Login:
        async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
            self.scopes = scopes
            raise error

        async def close(self) -> None:
            self.closed = True

        async def __aenter__(self) -> Login:
            return self

        async def __aexit__(self, *_: object) -> None:
            """Nothing is open."""

    async def scenario() -> Refusal:
        login = Login()
        secure = settings(azure, endpoint=azure.url.replace("http:", "https:"))
        with pytest.raises(RefusedError) as caught:
            async with AksProvider(secure, login, skus={}) as provider:
                await provider.pools()
        assert login.closed
        assert login.scopes == (f"{secure.endpoint}/.default",)
        return caught.value.refusal

    refusal = asyncio.run(scenario())
    assert refusal.kind is kind
    assert says in refusal.message
    assert not azure.arm.log


def test_a_token_endpoints_words_are_read_too() -> None:
    said = {
        "error": "invalid_client",
        "error_description": "AADSTS700213: No matching federated identity record.",
    }
    complaint = Complaint.read(said, default="", status=401)
    assert (complaint.code, refusal_of(complaint).kind) == ("invalid_client", RefusalKind.DENIED)
    assert "federated credential" in refusal_of(complaint).message


def test_a_failed_pool_without_a_reason_says_where_to_look() -> None:
    refusal = refusal_of(Complaint.read({}, default="ProvisioningFailed"))
    assert refusal.kind is RefusalKind.UNAVAILABLE
    assert "az aks nodepool show" in refusal.message


def test_details_that_are_no_list_of_errors_are_passed_over() -> None:
    complaint = Complaint.read({"error": {"code": "AllocationFailed", "details": "odd"}}, default="")
    assert refusal_of(complaint).kind is RefusalKind.CAPACITY


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("One thing. Another thing.", "One thing"),
        ("Line\nbreaks   go.", "Line breaks go"),
        ("In eastus. see", "In eastus. see"),
        ("x" * 400, "x" * 239 + "…"),
        ("", ""),
    ],
)
def test_azures_own_words_are_kept_to_one_sentence(text: str, sentence: str) -> None:
    assert first_sentence(text) == sentence


def test_the_size_is_named_where_it_is_known() -> None:
    complaint = Complaint(code="AllocationFailed")
    assert A100 in refusal_of(complaint, Offer(instance_type=A100)).message
    assert "none of that size" in refusal_of(complaint).message
