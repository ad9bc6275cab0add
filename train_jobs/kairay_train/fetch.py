"""Training data brought here: files and folders as they are, every http(s) URL downloaded.

A download is whole or not there: it is written beside its place and renamed when the last byte has come.
Queries and passwords of URLs (they hold signatures) never appear in names or messages.
"""

from __future__ import annotations

import email.message
import errno
import hashlib
import re
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urljoin, urlsplit

import requests

from kairay.data_files import find_files
from kairay.errors import HostError, InputError, TransientError
from kairay_train.guarded_http import Resolve, guarded_session, proxies_for, resolve

SIZE_LIMIT = 64 * 2**30
ATTEMPTS = 4
REDIRECTS = 5
TIMEOUT = (10.0, 60.0)
CHUNK = 1 << 20
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
MOVED = frozenset({301, 302, 303, 307, 308})


def fetch(
    sources: Sequence[str | Path],
    into: Path,
    *,
    allow_hosts: Collection[str] = (),
    size_limit: int = SIZE_LIMIT,
    sleep: Callable[[float], None] = time.sleep,
    resolver: Resolve = resolve,
) -> list[Path]:
    """The files of every source, in order: a path as given, a folder's data files, a URL's copy in `into`.

    `allow_hosts` are names or addresses that may be internal. `size_limit` is bytes per URL.

    Raises InputError for a URL that cannot be right (scheme, internal address, 404, too large),
    TransientError when a server stays away, HostError when the disk is full or the server's
    certificate is not trusted here. Paths that do not exist pass; reading them names the nearest.
    """
    downloads = _Downloads(into, allow_hosts, size_limit, sleep, resolver)
    found: list[Path] = []
    for source in sources:
        text = str(source)
        if isinstance(source, str) and "://" in text:
            found.append(downloads.get(text))
        elif Path(text).is_dir():
            found += find_files(Path(text))
        else:
            found.append(Path(text))
    return found


def display_url(url: str) -> str:
    """A URL that may be shown: without password and query."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


@dataclass(slots=True)
class _Downloads:
    """What the downloads of one call share: where they go, and the limits."""

    into: Path
    allow_hosts: Collection[str]
    size_limit: int
    sleep: Callable[[float], None]
    resolver: Resolve

    def get(self, url: str) -> Path:
        """One URL, tried again while its server asks for patience."""
        self._check(url)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with guarded_session(self.allow_hosts, self.resolver) as session:
                    return self._download(session, url)
            except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema):
                raise InputError(f"{display_url(url)}: is not a URL that can be fetched") from None
            except requests.exceptions.SSLError as error:
                failure = _untrusted(url, error)
            except requests.RequestException as error:
                failure = TransientError(f"{display_url(url)}: {_why(error)}; try again later")
            except TransientError as error:
                failure = error
            if attempt < ATTEMPTS:
                self.sleep(min(failure.retry_after * 2 ** (attempt - 1), 60.0))
        raise failure

    def _check(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError as error:
            raise InputError(f"{url.split('?')[0].split('@')[-1]}: is not a URL: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"{display_url(url)}: only http and https URLs with a host can be fetched")

    def _download(self, session: requests.Session, url: str) -> Path:
        with self._open(session, url) as response:
            announced = response.headers.get("Content-Length", "")
            if announced.isdecimal() and int(announced) > self.size_limit:
                raise InputError(f"{display_url(url)}: {self._too_large()}")
            place = self._folder(url) / _file_name(url, response)
            partial = place.with_name(f".{place.name}.part")
            try:
                self._write(response, partial, url)
                partial.replace(place)
            finally:
                partial.unlink(missing_ok=True)
            return place

    def _folder(self, url: str) -> Path:
        """A folder for this URL alone, so that equal file names never meet, in this call or another."""
        folder = self.into / hashlib.sha256(url.encode()).hexdigest()[:8]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HostError(f"{folder}: cannot be made: {error.strerror}") from error
        return folder

    def _open(self, session: requests.Session, url: str) -> requests.Response:
        """The answer at the end of the redirects; every hop is checked like the first."""
        at = url
        for _ in range(REDIRECTS + 1):
            response = session.get(
                at,
                stream=True,
                allow_redirects=False,
                timeout=TIMEOUT,
                headers={"Accept-Encoding": "identity"},
                proxies=proxies_for(at, self.allow_hosts, self.resolver),
            )
            if response.status_code not in MOVED or "Location" not in response.headers:
                _check_status(url, response)
                return response
            response.close()
            came_from, at = at, urljoin(at, response.headers["Location"])
            self._check(at)
            if came_from.startswith("https:") and not at.startswith("https:"):
                raise InputError(f"{display_url(url)}: redirects from https to {display_url(at)}")
        raise InputError(f"{display_url(url)}: redirects more than {REDIRECTS} times")

    def _write(self, response: requests.Response, partial: Path, url: str) -> None:
        size = 0
        try:
            with partial.open("wb") as file:
                for chunk in response.iter_content(CHUNK):
                    size += len(chunk)
                    if size > self.size_limit:
                        raise InputError(f"{display_url(url)}: {self._too_large()}")
                    file.write(chunk)
        except requests.RequestException:
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                problem = f"the disk is full after {size:,} bytes; free some space"
            else:
                problem = f"cannot be written to: {error.strerror}"
            raise HostError(f"{self.into}: {problem}") from error

    def _too_large(self) -> str:
        return f"is larger than {self.size_limit:,} bytes, the most one download may have"


def _file_name(url: str, response: requests.Response) -> str:
    """From Content-Disposition, else from the URL that was given, else from where it led."""
    header = email.message.Message()
    header["Content-Disposition"] = response.headers.get("Content-Disposition") or "attachment"
    last = [unquote(PurePosixPath(urlsplit(u).path).name) for u in (url, response.url)]
    with_suffix = [name for name in last if PurePosixPath(name).suffix]
    for name in (header.get_filename(), *with_suffix, *last):
        clean = re.sub(r"[^\w.\- ]", "_", (name or "").replace("\\", "/").rsplit("/", 1)[-1]).strip(" .")
        if clean:
            return clean[-120:]
    return "data"


def _check_status(url: str, response: requests.Response) -> None:
    status = response.status_code
    if status == requests.codes.ok:
        return
    response.close()
    if status in PASSING:
        wait = response.headers.get("Retry-After", "")
        raise TransientError(
            f"{display_url(url)}: the server answers {status} {response.reason}; try again later",
            retry_after=min(float(wait), 60.0) if wait.isdigit() else 1.0,
        )
    hint = {401: "it wants credentials", 403: "it may be private or its signature expired"}
    raise InputError(
        f"{display_url(url)}: the server answers {status} {response.reason}; "
        f"{hint.get(status, 'check the address')}"
    )


def _untrusted(url: str, error: requests.exceptions.SSLError) -> TransientError:
    """What to do about a failed handshake: again, unless it was the certificate."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        raise HostError(
            f"{display_url(url)}: the server's certificate is not trusted here; "
            "name your authority's file in REQUESTS_CA_BUNDLE"
        ) from error
    return TransientError(f"{display_url(url)}: the secure connection failed; try again later")


def _why(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return "the server does not answer in time"
    if "NameResolution" in repr(error):
        return "the name of the server cannot be resolved"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke before the end"
    return "the server cannot be reached"
