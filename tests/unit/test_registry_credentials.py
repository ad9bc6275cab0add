from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from kairay.errors import HostError, InputError
from kairay.registry.credentials import LOGINS_VARIABLE, Credentials, find_credentials
from kairay.registry.reference import RemoteReference

BOT = RemoteReference("contoso.azurecr.io", "team/bot", "v1")
HUB = RemoteReference("docker.io", "team/bot", "v1")


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def found(
    tmp_path: Path, config: Any, reference: RemoteReference = BOT, path: str = ""
) -> Credentials | None:
    folder = tmp_path / ".docker"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return find_credentials(reference, environment={"PATH": path}, home=tmp_path)


def helper(tmp_path: Path, name: str, script: str) -> str:
    program = tmp_path / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return f"{tmp_path}:/usr/bin:/bin"


@pytest.mark.parametrize(
    ("auths", "password"),
    [
        ({"contoso.azurecr.io": auth("me", "host")}, "host"),
        ({"https://contoso.azurecr.io": auth("me", "url")}, "url"),
        ({"https://contoso.azurecr.io/v2/": auth("me", "api")}, "api"),
        ({"contoso.azurecr.io": {"username": "me", "password": "plain"}}, "plain"),
        ({"contoso.azurecr.io": auth("me", "a:b")}, "a:b"),
        ({"contoso.azurecr.io": auth("me", "h"), "contoso.azurecr.io/team": auth("me", "team")}, "team"),
        (
            {"contoso.azurecr.io/team": auth("me", "t"), "contoso.azurecr.io/team/bot": auth("me", "bot")},
            "bot",
        ),
    ],
)
def test_the_most_specific_login_of_a_docker_configuration_is_taken(
    tmp_path: Path, auths: dict[str, Any], password: str
) -> None:
    assert found(tmp_path, {"auths": auths}) == Credentials(username="me", password=password)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"auths": {}},
        {"auths": {"other.azurecr.io": auth("me", "x")}},
        {"auths": {"contoso.azurecr.io": {}}},
        {"auths": {"contoso.azurecr.io.evil.com": auth("me", "x")}},
    ],
)
def test_no_login_is_no_error(tmp_path: Path, config: dict[str, Any]) -> None:
    assert found(tmp_path, config) is None


def test_docker_hubs_login_has_its_old_name(tmp_path: Path) -> None:
    login = found(tmp_path, {"auths": {"https://index.docker.io/v1/": auth("me", "hub")}}, HUB)
    assert login == Credentials(username="me", password="hub")


def test_an_identity_token_is_read(tmp_path: Path) -> None:
    entry = auth("00000000-0000-0000-0000-000000000000", "") | {"identitytoken": "refresh"}
    login = found(tmp_path, {"auths": {"contoso.azurecr.io": entry}})
    assert login is not None
    assert login.identity_token == "refresh"


def test_the_file_that_the_environment_names_comes_first(tmp_path: Path) -> None:
    found(tmp_path, {"auths": {"contoso.azurecr.io": auth("me", "home")}})
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {"contoso.azurecr.io": auth("me", "named")}}))
    named = {"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json"), "DOCKER_CONFIG": str(tmp_path / ".docker")}
    assert find_credentials(BOT, environment=named, home=tmp_path) == Credentials(
        username="me", password="named"
    )
    folder = {"DOCKER_CONFIG": str(tmp_path / ".docker")}
    login = find_credentials(BOT, environment=folder, home=tmp_path / "none")
    assert login == Credentials(username="me", password="home")


def test_a_named_file_that_is_not_there_is_an_error_and_a_missing_default_is_not(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="REGISTRY_AUTH_FILE"):
        find_credentials(BOT, environment={"REGISTRY_AUTH_FILE": str(tmp_path / "none")}, home=tmp_path)
    assert find_credentials(BOT, environment={}, home=tmp_path) is None


def test_mounted_logins_come_before_all_others_in_their_order(tmp_path: Path) -> None:
    found(tmp_path, {"auths": {"contoso.azurecr.io": auth("me", "home")}})
    for name, file, registry, password in (
        ("first", ".dockerconfigjson", "other.azurecr.io", "other"),
        ("second", ".dockerconfigjson", "contoso.azurecr.io", "second"),
        ("third", "config.json", "contoso.azurecr.io", "third"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(json.dumps({"auths": {registry: auth("me", password)}}))

    def password(*logins: str) -> str:
        mounted = os.pathsep.join(str(tmp_path / each) for each in logins)
        login = find_credentials(BOT, environment={LOGINS_VARIABLE: mounted}, home=tmp_path)
        assert login is not None
        return login.password

    assert password("first", "second", "third") == "second"
    assert password("third/config.json", "second") == "third"
    assert password("first") == "home"


def test_a_mounted_login_that_is_missing_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    environment = {LOGINS_VARIABLE: f"{tmp_path / 'none'}{os.pathsep}{os.pathsep}{tmp_path / 'empty'}"}
    assert find_credentials(BOT, environment=environment, home=tmp_path) is None


def test_a_mounted_login_that_is_broken_is_named(tmp_path: Path) -> None:
    (tmp_path / ".dockerconfigjson").write_text("{hunter2")
    with pytest.raises(InputError, match="dockerconfigjson is not JSON") as refused:
        find_credentials(BOT, environment={LOGINS_VARIABLE: str(tmp_path)}, home=tmp_path)
    assert "hunter2" not in refused.value.message


@pytest.mark.parametrize(
    "config",
    [
        '{"auths": {"contoso.azurecr.io": {"auth": "hunter2',
        '["hunter2"]',
        {"auths": "hunter2"},
        {"auths": {"contoso.azurecr.io": "hunter2"}},
        {"auths": {"contoso.azurecr.io": {"auth": "hunter2 %"}}},
        {"auths": {"contoso.azurecr.io": {"auth": base64.b64encode(b"\xffhunter2").decode()}}},
        {"credHelpers": {"contoso.azurecr.io": "../hunter2"}},
    ],
)
def test_a_broken_configuration_is_named_without_repeating_it(tmp_path: Path, config: Any) -> None:
    with pytest.raises(InputError, match=r"config\.json") as refused:
        found(tmp_path, config)
    assert "hunter2" not in refused.value.message


@pytest.mark.parametrize("key", ["credHelpers", "credsStore"])
def test_a_credential_helper_is_asked_for_the_registry(tmp_path: Path, key: str) -> None:
    answer = json.dumps({"ServerURL": "x", "Username": "me", "Secret": "from-helper"})
    path = helper(tmp_path, "vault", f'[ "$1 $(cat)" = "get contoso.azurecr.io" ] && echo \'{answer}\'')
    config = {key: {"contoso.azurecr.io": "vault"} if key == "credHelpers" else "vault"}
    assert found(tmp_path, config, path=path) == Credentials(username="me", password="from-helper")


def test_a_helpers_token_is_an_identity_token(tmp_path: Path) -> None:
    path = helper(tmp_path, "vault", """echo '{"Username": "<token>", "Secret": "refresh"}'""")
    login = found(tmp_path, {"credsStore": "vault"}, path=path)
    assert login == Credentials(identity_token="refresh")


def test_a_helper_without_an_entry_means_no_login(tmp_path: Path) -> None:
    path = helper(tmp_path, "vault", 'echo "credentials not found in native keychain"; exit 1')
    assert found(tmp_path, {"credsStore": "vault"}, path=path) is None


@pytest.mark.parametrize("script", ["echo hunter2; exit 2", "echo hunter2"])
def test_a_helper_that_fails_is_named_without_what_it_said(tmp_path: Path, script: str) -> None:
    path = helper(tmp_path, "vault", script)
    with pytest.raises(HostError, match="docker-credential-vault") as failed:
        found(tmp_path, {"credHelpers": {"contoso.azurecr.io": "vault"}}, path=path)
    assert "hunter2" not in failed.value.message


def test_a_missing_helper_matters_only_where_it_was_named_for_this_registry(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="docker-credential-nowhere"):
        found(tmp_path, {"credHelpers": {"contoso.azurecr.io": "nowhere"}}, path=str(tmp_path))
    assert found(tmp_path, {"credsStore": "nowhere"}, path=str(tmp_path)) is None


def test_printing_credentials_shows_no_secret() -> None:
    shown = repr(Credentials(username="me", password="hunter2", identity_token="hunter3"))
    assert "hunter" not in shown
    assert "me" in shown
