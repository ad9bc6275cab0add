"""Which registries may be asked over plain HTTP, and who says so."""

from __future__ import annotations

import pytest

from kairay.errors import InputError
from kairay.registry.store import INSECURE_VARIABLE, RemoteOptions, insecure_registries


def test_the_environment_names_plain_http_registries() -> None:
    written = " registry.lab:5000,, 10.0.0.7 ,[fd00::1]:5000,"
    hosts = insecure_registries({INSECURE_VARIABLE: written})
    assert hosts == {"registry.lab:5000", "10.0.0.7", "[fd00::1]:5000"}
    assert insecure_registries({}) == frozenset()


@pytest.mark.parametrize("written", ["http://registry.lab", "registry.lab/team", "a b", "registry.lab:http"])
def test_what_is_no_registry_is_named(written: str) -> None:
    with pytest.raises(InputError, match=f"^.{INSECURE_VARIABLE}: .*is not a registry"):
        insecure_registries({INSECURE_VARIABLE: f"localhost:5000,{written}"})


def test_an_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INSECURE_VARIABLE, "registry.lab:5000")
    assert RemoteOptions().insecure_hosts == {"registry.lab:5000"}
    assert RemoteOptions(attempts=1).insecure_hosts == {"registry.lab:5000"}
    assert RemoteOptions(insecure_hosts=frozenset()).insecure_hosts == frozenset()
