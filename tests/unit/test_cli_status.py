"""`kairay status --cluster`: what a person reads of a Workspace, from an API server on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from answering import AnsweringServer, answering_server
from command_line import kairay

LONG = "RayJob mine-abc123: pod mine-abc123-head: there is no Secret push in namespace team; create it: kubectl -n team"
STATUS = {
    "state": "Pending",
    "message": LONG,
    "inference": {"url": "http://mine.team.svc:80", "models": ["phi-3", "mine"], "replicas": 0},
    "plan": {"instanceType": "Standard_NC24ads_A100_v4", "nodes": 1,
             "reasons": ["the cheapest that fits", "a price is not known"]},
    "workerNodes": ["gpu-1", "gpu-2"],
    "tuning": {"revision": "abc123", "adapter": {"image": "registry.example/a:1", "digest": "sha256:0"}},
    "conditions": [{"type": "JobStarted", "status": "False", "reason": "ReferenceMissing", "message": LONG}],
}  # fmt: skip


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AnsweringServer]:
    with answering_server() as found:
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump({
            "current-context": "here", "users": [{"name": "me", "user": {"token": "t"}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "team"}}],
            "clusters": [{"name": "here", "cluster": {"server": found.url}}],
        }))  # fmt: skip
        monkeypatch.setenv("KUBECONFIG", str(path))
        items = [{"metadata": {"name": "mine", "namespace": "team"}, "status": STATUS}]
        listed = {"metadata": {"resourceVersion": "1"}, "items": items}
        found.answers["/apis/kaito.sh/v1beta1/namespaces/team/workspaces?limit=500"] = listed
        yield found


def status(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    code, out, _ = kairay(capsys, "status", "--cluster", *arguments)
    assert code == 0
    return out


def test_a_workspace_is_told_without_marks_of_python(
    server: AnsweringServer, capsys: pytest.CaptureFixture[str]
) -> None:
    told = status(capsys, "mine")
    assert not set("[]{}'") & set(told)
    lines = [" ".join(line.split()) for line in told.splitlines()]
    assert "workerNodes: gpu-1, gpu-2" in lines
    assert "inference: url http://mine.team.svc:80, replicas 0" in lines
    assert "models: phi-3, mine" in lines
    assert "reasons: the cheapest that fits; a price is not known" in lines
    assert "adapter: image registry.example/a:1, digest sha256:0" in lines
    assert f"JobStarted: False ReferenceMissing: {LONG}" in lines, "whole, since it is asked for by name"


def test_a_message_too_long_for_the_table_ends_in_an_ellipsis(
    server: AnsweringServer, capsys: pytest.CaptureFixture[str]
) -> None:
    line = status(capsys).splitlines()[1]
    assert line.startswith("mine   Pending   -")
    assert line.endswith("…")
    assert "create it:" in line
