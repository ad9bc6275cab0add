"""Where credentials come from: kubeconfigs as clouds write them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from kairay.errors import HostError, InputError
from kairay.kube.connect import Connection, connect


def reach(folder: Path, user: dict[str, Any], *, context: str | None = None, **cluster: Any) -> Connection:
    config = {
        "current-context": "here",
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "team"}},
            {"name": "there", "context": {"cluster": "c", "user": "u"}},
        ],
        "clusters": [{"name": "c", "cluster": {"server": "http://10.0.0.1:6443/", **cluster}}],
        "users": [{"name": "u", "user": user}],
    }
    path = folder / "config"
    path.write_text(yaml.safe_dump(config), "utf-8")
    return connect({"KUBECONFIG": str(path)}, context=context)


def plugin(code: str) -> dict[str, Any]:
    version = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": version, "command": sys.executable, "args": ["-c", code]}}


def test_the_current_context_says_server_namespace_and_token(tmp_path: Path) -> None:
    found = reach(tmp_path, {"token": "abc"})
    assert (found.server, found.namespace, found.token()) == ("http://10.0.0.1:6443", "team", "abc")
    assert "abc" not in repr(found)


def test_another_context_may_be_named(tmp_path: Path) -> None:
    assert reach(tmp_path, {}, context="there").namespace == "default"


def test_a_token_file_is_beside_the_kubeconfig_and_read_every_time(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one\n", "utf-8")
    found = reach(tmp_path, {"tokenFile": "token"})
    assert found.token() == "one"
    (tmp_path / "token").write_text("two\n", "utf-8")
    assert found.token() == "two"


def test_a_plugin_is_asked_once_and_again_when_its_token_is_refused(tmp_path: Path) -> None:
    count = tmp_path / "count"
    code = (
        f"import json, pathlib; path = pathlib.Path({str(count)!r}); "
        "asked = path.read_text() + 'x' if path.exists() else 'x'; path.write_text(asked); "
        "print(json.dumps({'status': {'token': asked}}))"
    )
    found = reach(tmp_path, plugin(code))
    assert [found.token(), found.token(), found.token(fresh=True)] == ["x", "x", "xx"]


def test_a_plugin_that_fails_or_is_missing_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="please log in"):
        reach(tmp_path, plugin("import sys; sys.exit('please log in')")).token()
    missing = {"exec": {"command": "kubelogin-not-there", "installHint": "install kubelogin"}}
    with pytest.raises(HostError, match="install kubelogin"):
        reach(tmp_path, missing).token()


def test_a_missing_or_broken_kubeconfig_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="set KUBECONFIG"):
        connect({"KUBECONFIG": str(tmp_path / "none")})
    (tmp_path / "empty").write_text("{}", "utf-8")
    with pytest.raises(InputError, match="use-context"):
        connect({"KUBECONFIG": str(tmp_path / "empty")})
    with pytest.raises(InputError, match="log in to the cluster again"):
        reach(tmp_path, {}, server="https://10.0.0.1", **{"certificate-authority-data": "bm9uZQ=="})
