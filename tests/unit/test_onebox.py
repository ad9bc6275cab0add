"""The one-machine cluster's decisions, without starting it."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shutil
from pathlib import Path

import pytest
from cryptography import x509

from onebox import certificates, holder, network, packages, tools
from onebox.errors import OneboxError
from onebox.images import images, write_archive
from onebox.layout import TOOL_MODULES, Layout, environment_mounts
from onebox.waiting import wait_for

NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(root=tmp_path / "cluster", tools=tmp_path / "tools")


def test_another_lock_file_asks_for_another_build(tmp_path: Path) -> None:
    modules = tmp_path / "modules"
    shutil.copytree(TOOL_MODULES, modules)
    before = tools.cache_key(modules)
    assert before == tools.cache_key()
    with (modules / "etcd" / "go.sum").open("a") as lock:
        lock.write("\n")
    assert tools.cache_key(modules) != before


def test_another_helm_rebuilds_no_program_of_the_cluster(tmp_path: Path) -> None:
    modules = tmp_path / "modules"
    shutil.copytree(TOOL_MODULES, modules)
    with (modules / "helm" / "go.sum").open("a") as lock:
        lock.write("\n")
    assert tools.cache_key(modules) == tools.cache_key()
    helm = ((tools.HELM,),)
    assert tools.cache_key(modules, helm) != tools.cache_key(groups=helm)


def test_every_program_comes_from_a_module_that_is_locked() -> None:
    for tool in (*tools.NEEDED, *tools.LATER, tools.HELM):
        lock = (TOOL_MODULES / tool.module / "go.mod").read_text()
        for package in tool.programs.values():
            assert package in lock, package


def test_no_go_compiler_is_said_with_the_remedy(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OneboxError, match=r"Install Go 1\.26 or newer"):
        tools.build(layout.tools, tools.NEEDED, tmp_path / "log", print)


def test_the_same_images_have_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "pause").write_bytes(b"program")
    for name in ("first.tar", "second.tar"):
        write_archive(tmp_path / name, images(tmp_path))
    assert (tmp_path / "first.tar").read_bytes() == (tmp_path / "second.tar").read_bytes()


def test_containers_see_the_system_once_and_the_clone() -> None:
    mounts = environment_mounts()
    assert Path("/usr") in mounts
    assert sum(path.is_relative_to("/usr") for path in mounts) == 1
    assert any(path.name == ".venv" for path in mounts)


def test_certificates_are_for_their_owners_and_nobody_else_reads_the_keys(tmp_path: Path) -> None:
    certificates.create(tmp_path / "pki", NOW)
    server = x509.load_pem_x509_certificate((tmp_path / "pki" / "apiserver.crt").read_bytes())
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "kubernetes.default.svc" in names.get_values_for_type(x509.DNSName)
    authority = x509.load_pem_x509_certificate((tmp_path / "pki" / "ca.crt").read_bytes())
    server.verify_directly_issued_by(authority)
    assert {oct(path.stat().st_mode)[-3:] for path in (tmp_path / "pki").iterdir()} == {"600"}


@pytest.mark.parametrize(
    ("route", "refused"),
    [
        ({"dst": "10.251.0.0/16", "dev": "tun0"}, True),
        ({"dst": "10.0.0.0/8", "dev": "vpn"}, True),
        ({"dst": "10.251.0.0/24", "dev": "kairay-host"}, False),
        ({"dst": "192.168.0.0/16", "dev": "eth0"}, False),
        ({"dst": "default", "dev": "eth0"}, False),
        ({"dst": "fe80::/64", "dev": "eth0"}, False),
    ],
)
def test_an_address_range_in_use_is_refused_with_its_owner(
    route: dict[str, str], refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "run", lambda *_: json.dumps([route]))
    if refused:
        with pytest.raises(OneboxError, match=route["dev"]):
            network.refuse_taken_ranges()
    else:
        network.refuse_taken_ranges()


def test_a_torn_record_counts_as_a_start_that_was_cut_off(layout: Layout) -> None:
    assert holder.read(layout) is None
    layout.root.mkdir()
    layout.holder.write_text('{"clone": "/so')
    found = holder.read(layout)
    assert found is not None
    assert not found.up


@pytest.mark.parametrize(
    ("system", "user", "words"), [("Darwin", 0, "needs Linux"), ("Linux", 1000, "sudo make")]
)
def test_a_machine_that_cannot_is_told_why(
    system: str, user: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    with pytest.raises(OneboxError, match=words):
        packages.check_machine()


def test_a_wait_ends_at_once_when_its_part_has_ended_and_quotes_it(tmp_path: Path) -> None:
    (tmp_path / "etcd.log").write_text("listening\nno space left on device\n")
    with pytest.raises(OneboxError, match=r"etcd ended while waiting for answers[\s\S]*no space left"):
        wait_for("answers", lambda: False, seconds=60, parts={"etcd": 2**22 + 1}, logs=tmp_path)


def test_a_wait_that_takes_too_long_says_what_was_missing(tmp_path: Path) -> None:
    with pytest.raises(OneboxError, match=r"no ready node within 0 s \(missing: dns\)"):
        wait_for(
            "ready node", lambda: False, seconds=0.2, parts={}, logs=tmp_path, missing=lambda: "missing: dns"
        )
