"""Data from URLs: all of them, whole or not at all, and never from inside."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from kairay.errors import DataError, HostError, InputError, TransientError
from kairay_train.fetch import display_url, fetch
from kairay_train.guarded_http import checked_addresses, is_public
from loopback import listening

LOOPBACK = ["127.0.0.1"]


@dataclass
class Answer:
    """What the server says to one request; `cut` promises so many bytes more than come; None: no promise."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = 0


class Server:
    """Answers by path; a list of answers is used up, its last one stays."""

    def __init__(self) -> None:
        self.port = 0
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def gives(self, path: str, *answers: Answer) -> str:
        self.answers[path] = list(answers)
        return self.url + path


class _Handler(BaseHTTPRequestHandler):
    owner: Server

    def do_GET(self) -> None:
        self.owner.asked.append(self.path)
        self.owner.headers.append(dict(self.headers))
        waiting = self.owner.answers.get(self.path.split("?")[0], [Answer(404)])
        answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.cut is not None:
            self.send_header("Content-Length", str(len(answer.body) + answer.cut))
        self.end_headers()
        self.wfile.write(answer.body)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    running = Server()
    with listening(type("Handler", (_Handler,), {"owner": running})) as running.port:
        yield running


def bring(sources: list[Any], into: Path, **options: Any) -> list[Path]:
    return fetch(sources, into, **{"allow_hosts": LOOPBACK, "sleep": lambda _: None, **options})


def files_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_every_url_is_downloaded_not_only_the_first(server: Server, tmp_path: Path) -> None:
    urls = [server.gives(f"/{n}.jsonl", Answer(body=n.encode())) for n in ("a", "b", "c")]
    found = bring(urls, tmp_path / "data")
    assert [p.name for p in found] == ["a.jsonl", "b.jsonl", "c.jsonl"]
    assert [p.read_text() for p in found] == ["a", "b", "c"]
    assert files_in(tmp_path / "data") == ["a.jsonl", "b.jsonl", "c.jsonl"]


def test_paths_pass_and_folders_give_their_data_files(tmp_path: Path) -> None:
    folder = tmp_path / "volume"
    folder.mkdir()
    for name in ("b.csv", "a.jsonl", "notes.md"):
        (folder / name).write_text("x")
    found = fetch([tmp_path / "gone.jsonl", str(folder)], tmp_path / "into")
    assert found == [tmp_path / "gone.jsonl", folder / "a.jsonl", folder / "b.csv"]
    assert not (tmp_path / "into").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: holds no data file"):
        fetch([tmp_path / "empty"], tmp_path / "into")


@pytest.mark.parametrize(
    ("path", "disposition", "name"),
    [
        ("/d.jsonl", None, "d.jsonl"),
        ("/files/42", 'attachment; filename="train set.jsonl"', "train set.jsonl"),
        ("/files/42", "attachment; filename*=UTF-8''tr%C3%A4in.jsonl", "träin.jsonl"),
        ("/files/42", 'attachment; filename="../../etc/passwd"', "passwd"),
        ("/files/42", r'attachment; filename="C:\\data\\x.csv"', "x.csv"),
        ("/files/42", 'attachment; filename=".."', "42"),
        ("/a%2Fb%20c.jsonl", None, "b c.jsonl"),
        ("/", None, "data"),
    ],
)
def test_a_download_is_named_as_the_server_or_the_url_says(
    server: Server, tmp_path: Path, path: str, disposition: str | None, name: str
) -> None:
    headers = {"Content-Disposition": disposition} if disposition else {}
    (found,) = bring([server.gives(path, Answer(body=b"x", headers=headers))], tmp_path)
    assert (found.name, found.is_relative_to(tmp_path)) == (name, True)


def test_equal_names_are_kept_apart(server: Server, tmp_path: Path) -> None:
    urls = [server.gives(f"/{n}/train.jsonl", Answer(body=n.encode())) for n in "abc"]
    found = [*bring(urls[:2], tmp_path), *bring(urls[2:], tmp_path)]
    assert [(p.name, p.read_text()) for p in found] == [("train.jsonl", n) for n in "abc"]


def test_a_second_download_replaces_the_first(server: Server, tmp_path: Path) -> None:
    url = server.gives("/d.jsonl", Answer(body=b"old"), Answer(body=b"new"))
    assert bring([url], tmp_path) == bring([url], tmp_path)
    assert [p.read_bytes() for p in tmp_path.rglob("d.jsonl")] == [b"new"]


def test_redirects_are_followed_and_the_given_name_is_kept(server: Server, tmp_path: Path) -> None:
    server.gives("/blob/8f3e.bin", Answer(body=b"rows"))
    url = server.gives("/train.jsonl", Answer(302, headers={"Location": "/blob/8f3e.bin"}))
    (found,) = bring([url], tmp_path)
    assert (found.name, found.read_bytes()) == ("train.jsonl", b"rows")


def test_redirects_in_a_circle_end(server: Server, tmp_path: Path) -> None:
    url = server.gives("/a", Answer(302, headers={"Location": "/a"}))
    with pytest.raises(InputError, match="redirects more than 5 times"):
        bring([url], tmp_path)


@pytest.mark.parametrize(
    "passing", [Answer(503, headers={"Retry-After": "7"}), Answer(429), Answer(body=b"ro", cut=2)]
)
def test_a_passing_failure_is_tried_again(server: Server, tmp_path: Path, passing: Answer) -> None:
    waits: list[float] = []
    url = server.gives("/d.jsonl", passing, passing, Answer(body=b"rows"))
    (found,) = bring([url], tmp_path, sleep=waits.append)
    assert found.read_bytes() == b"rows"
    assert waits == (
        [7.0, 14.0] if passing.status == 503 else [1.0, 2.0] if passing.status == 429 else [5.0, 10.0]
    )
    assert files_in(tmp_path) == ["d.jsonl"]


def test_a_server_that_stays_away_is_a_transient_error(server: Server, tmp_path: Path) -> None:
    url = server.gives("/d.jsonl", Answer(503))
    with pytest.raises(
        TransientError, match=r"/d.jsonl: the server answers 503 Service Unavailable; try again later"
    ):
        bring([url], tmp_path)
    assert len(server.asked) == 4
    broken = server.gives("/cut.jsonl", Answer(body=b"x", cut=9))
    with pytest.raises(TransientError, match="the connection broke before the end"):
        bring([broken], tmp_path)
    assert files_in(tmp_path) == []


def test_a_closed_port_is_a_transient_error(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/d.jsonl"
        with pytest.raises(TransientError, match="the server cannot be reached"):
            bring([url], tmp_path)


def test_a_server_that_speaks_no_tls_is_a_transient_error(server: Server, tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="the secure connection failed"):
        bring([server.url.replace("http:", "https:") + "/d.jsonl"], tmp_path)


def test_an_unknown_name_is_a_transient_error(tmp_path: Path) -> None:
    def nowhere(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(TransientError, match="the name of the server cannot be resolved"):
        bring(["http://data.example/d.jsonl"], tmp_path, resolver=nowhere)


@pytest.mark.parametrize(
    ("status", "complaint"),
    [
        (404, "404 Not Found; check the address"),
        (403, "403 Forbidden; it may be private"),
        (401, "it wants credent"),
    ],
)
def test_a_refusal_is_not_tried_again_and_shows_no_secret(
    server: Server, tmp_path: Path, status: int, complaint: str
) -> None:
    url = server.gives("/d.jsonl", Answer(status)).replace("http://", "http://me:secret@") + "?sig=secret"
    with pytest.raises(InputError, match=complaint) as raised:
        bring([url], tmp_path)
    assert "secret" not in str(raised.value)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("ftp://host/d.jsonl", "ftp://host/d.jsonl: only http and https URLs"),
        ("file:///etc/passwd", "only http and https"),
        ("oci://host/d", "only http and https"),
        ("http:///d.jsonl", "only http and https URLs with a host"),
        ("http://host:port/d.jsonl?sig=secret", "^host:port/d.jsonl: is not a URL: Port could not be cast"),
        ("http://[::1/d.jsonl", "is not a URL: Invalid IPv6 URL|: is not a URL"),
    ],
)
def test_what_is_no_web_address_is_refused(tmp_path: Path, url: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint if "://" in complaint else complaint.replace("^", "")):
        bring([url], tmp_path)


def test_a_download_over_the_limit_is_refused_before_and_while_it_comes(
    server: Server, tmp_path: Path
) -> None:
    announced = server.gives("/a.jsonl", Answer(body=b"x" * 100))
    unannounced = server.gives("/b.jsonl", Answer(body=b"x" * 100, cut=None))
    for url in (announced, unannounced):
        with pytest.raises(InputError, match="is larger than 50 bytes, the most one download may have"):
            bring([url], tmp_path, size_limit=50)
    assert files_in(tmp_path) == []


def test_a_full_disk_is_said_and_leaves_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.gives("/d.jsonl", Answer(body=b"rows"))
    real = Path.open

    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, _: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    def full(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        file = real(path, mode, *args, **options)
        return Full(file) if path.name.endswith(".part") else file

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(HostError, match="the disk is full after 4 bytes; free some space"):
        bring([url], tmp_path)
    assert files_in(tmp_path) == []


INSIDE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "100.100.100.200", "168.63.129.16", "224.0.0.1", "255.255.255.255", "240.0.0.1",
    "192.0.2.1", "198.18.0.1",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1",
    "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a00:1::",
]  # fmt: skip
OUTSIDE = ["8.8.8.8", "1.1.1.1", "140.82.112.3", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", INSIDE)
def test_internal_addresses_are_refused(address: str) -> None:
    assert not is_public(address)
    with pytest.raises(
        InputError, match=r"data.example is the internal address .*, from which data is not fetched"
    ):
        checked_addresses("data.example", 443, [], lambda host, port: ["8.8.8.8", address])


@pytest.mark.parametrize("address", OUTSIDE)
def test_public_addresses_are_taken(address: str) -> None:
    assert is_public(address)
    assert checked_addresses("data.example", 443, [], lambda host, port: [address]) == [address]


@pytest.mark.parametrize("host", ["data.corp", "DATA.corp", "data.corp."])
def test_an_allowed_host_may_be_internal(host: str) -> None:
    assert checked_addresses(host, 443, ["Data.Corp"], lambda host, port: ["10.0.0.1"]) == ["10.0.0.1"]
    with pytest.raises(InputError):
        checked_addresses("evil." + host, 443, ["Data.Corp"], lambda host, port: ["10.0.0.1"])


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]"]
)
def test_no_spelling_of_loopback_reaches_a_server(server: Server, tmp_path: Path, host: str) -> None:
    with pytest.raises(InputError, match="is the internal address"):
        fetch([f"http://{host}:{server.port}/d.jsonl"], tmp_path, sleep=lambda _: None)
    assert server.asked == []


def test_a_name_that_resolves_to_inside_reaches_no_server(server: Server, tmp_path: Path) -> None:
    url = f"http://data.example:{server.port}/d.jsonl"
    with pytest.raises(InputError, match=r"data.example is the internal address 127.0.0.1"):
        fetch([url], tmp_path, resolver=lambda host, port: LOOPBACK)
    assert server.asked == []


def test_a_redirect_to_inside_is_refused_at_its_hop(server: Server, tmp_path: Path) -> None:
    target = f"http://metadata.example:{server.port}/secret"
    url = server.gives("/d.jsonl", Answer(302, headers={"Location": target}))
    with pytest.raises(InputError, match=r"metadata.example is the internal address 127.0.0.1"):
        bring([url], tmp_path, resolver=lambda host, port: LOOPBACK)
    assert server.asked == ["/d.jsonl"]


def test_a_redirect_to_another_scheme_is_refused(server: Server, tmp_path: Path) -> None:
    url = server.gives("/d.jsonl", Answer(302, headers={"Location": "file:///etc/passwd"}))
    with pytest.raises(InputError, match="only http and https"):
        bring([url], tmp_path)


def test_the_connection_goes_to_the_address_that_was_checked(server: Server, tmp_path: Path) -> None:
    """A second, different DNS answer has nobody to ask: the name is resolved once per connection."""
    asked: list[str] = []

    def once(host: str, port: int) -> list[str]:
        asked.append(host)
        return LOOPBACK

    server.gives("/d.jsonl", Answer(body=b"rows"))
    url = f"http://data.example:{server.port}/d.jsonl"
    (found,) = bring([url], tmp_path, allow_hosts=["data.example"], resolver=once)
    assert (found.read_bytes(), asked) == (b"rows", ["data.example"])
    assert server.headers[0]["Host"] == f"data.example:{server.port}"


def test_a_proxy_is_used_when_the_environment_names_one(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    server.gives("http://data.example/d.jsonl", Answer(body=b"rows"))
    (found,) = fetch(["http://data.example/d.jsonl"], tmp_path, resolver=lambda host, port: ["8.8.8.8"])
    assert found.read_bytes() == b"rows"
    with pytest.raises(InputError, match=r"inner.example is the internal address"):
        fetch(["http://inner.example/d.jsonl"], tmp_path, resolver=lambda host, port: ["10.0.0.1"])


def test_netrc_is_not_read(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    bring([server.gives("/d.jsonl", Answer(body=b"x"))], tmp_path / "into")
    assert "Authorization" not in server.headers[0]


def test_a_shown_url_has_no_password_and_no_query() -> None:
    assert display_url("https://me:pw@host:8443/a/b.jsonl?sig=x#f") == "https://host:8443/a/b.jsonl"
