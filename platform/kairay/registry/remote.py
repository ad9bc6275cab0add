"""One repository of a registry (OCI distribution specification 1.1), with bounded retries and errors for a
person.

Blobs are streamed both ways. What may pass (no connection, 5xx, 429, a transfer cut short) is tried again
with a growing delay and ends as TransientError (RegistryUnavailable); a refusal is an InputError
(RegistryDenied) at once.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import requests

from kairay.errors import HostError, InputError, KairayError, TransientError
from kairay.registry.credentials import Credentials, find_credentials
from kairay.registry.disk import CHUNK, check_content, check_small, disk_errors, write_checked
from kairay.registry.manifest import (
    LARGEST_MANIFEST,
    MANIFEST_TYPES,
    Descriptor,
    Manifest,
    digest_of,
    parse_manifest,
)
from kairay.registry.reference import RemoteReference
from kairay.registry.session import RegistrySession
from kairay.registry.small_body import read_small
from kairay.registry.store import Action, RemoteOptions

T = TypeVar("T")

_LONGEST_DELAY = 30.0
_RETRY_AFTER = 5.0
_LOGIN_FIELD = {Action.PUSH: "tuning.output.imagePushSecret", Action.PULL: "the Workspace's imagePullSecrets"}
_QUOTA = {402, 412, 507}
_BROKEN_UPLOAD = {"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "DIGEST_INVALID"}
"""What a registry says of an upload that it lost or got damaged: a new one may do."""
_LARGEST_ERROR = 2**16
_LONGEST_QUOTE = 200


class RemoteStore:
    """One reference of a registry."""

    def __init__(
        self,
        reference: RemoteReference,
        *,
        action: Action,
        credentials: Credentials | None,
        options: RemoteOptions,
    ) -> None:
        self._reference, self._action, self._options = reference, action, options
        self._session = RegistrySession(
            reference,
            credentials=credentials or find_credentials(reference),
            insecure_hosts=options.insecure_hosts,
            timeout=options.timeout,
        )

    def close(self) -> None:
        """Let go of the connections."""
        self._session.close()

    def resolve(self) -> Manifest | None:
        """The manifest, its digest checked against the reference's and the registry's own word."""
        return self._retrying(lambda: self._resolve(self._reference.version))

    def has(self, blob: Descriptor) -> bool:
        """Whether the repository holds the blob."""

        def ask() -> bool:
            with closing(self._session.get_blob(self._session.container, blob.digest, head=True)) as response:
                if response.status_code == requests.codes.not_found:
                    return False
                self._check(response)
                return True

        return self._retrying(ask)

    def put_blob(self, blob: Descriptor, content: Path | bytes) -> None:
        """Upload a blob unless it is there; each try is an upload of its own, so none trips over another."""
        if self.has(blob):
            return

        def upload() -> None:
            with closing(_opened(content)) as body, closing(self._session.upload(blob, body)) as response:
                self._check(response)

        self._retrying(upload)

    def put_manifest(self, manifest: Manifest, tag: str) -> None:
        """Store the manifest's very bytes under a tag."""

        def put() -> None:
            url = self._session.manifest_url(tag)
            headers = {"Content-Type": manifest.media_type}
            with closing(
                self._session.do_request(url, "PUT", data=manifest.body, headers=headers)
            ) as response:
                self._check(response)

        self._retrying(put)

    def fetch(self, blob: Descriptor, destination: Path) -> None:
        """Download a blob into a file, checked on the way; a cut connection starts it again."""

        def download() -> None:
            with closing(
                self._session.get_blob(self._session.container, blob.digest, stream=True)
            ) as response:
                self._check(response)
                with disk_errors(destination):
                    write_checked(response.iter_content(CHUNK), destination, blob, self._name)

        self._retrying(download)

    def read(self, blob: Descriptor, *, most: int) -> bytes:
        """A small blob's content, checked; nothing is written to disk."""
        check_small(blob, self._name, most=most)

        def download() -> bytes:
            with closing(
                self._session.get_blob(self._session.container, blob.digest, stream=True)
            ) as response:
                self._check(response)
                content = read_small(response, f"{self._name}: {blob.title}", most=blob.size)
                return check_content(content, blob, self._name)

        return self._retrying(download)

    @property
    def _name(self) -> str:
        return str(self._reference)

    def _resolve(self, version: str) -> Manifest | None:
        headers = {"Accept": ", ".join(MANIFEST_TYPES)}
        url = self._session.manifest_url(version)
        with closing(self._session.do_request(url, "GET", headers=headers, stream=True)) as response:
            if response.status_code == requests.codes.not_found:
                return None
            self._check(response)
            body = read_small(response, f"{self._name}: its manifest", most=LARGEST_MANIFEST)
            promised = response.headers.get("Docker-Content-Digest")
        self._check_digest(body, version, promised)
        read = parse_manifest(body, self._name)
        return read if isinstance(read, Manifest) else self._resolve(read.digest)

    def _check_digest(self, body: bytes, version: str, promised: str | None) -> None:
        found = digest_of(body)
        wanted = {d for d in (version, promised) if d and d.startswith("sha256:")}
        if wanted - {found}:
            raise KairayError(
                f"{self._name}: the registry sent a manifest with the digest {found} for "
                f"{min(wanted - {found})}; push the artifact again",
                reason="DigestMismatch",
            )

    def _retrying(self, operation: Callable[[], T]) -> T:
        delay = self._options.first_delay
        for tries_left in reversed(range(self._options.attempts)):
            try:
                return self._translated(operation)
            except TransientError as error:
                if not tries_left:
                    error.retry_after = max(error.retry_after, _RETRY_AFTER)
                    raise
                self._options.sleep(min(max(delay, error.retry_after), _LONGEST_DELAY))
                delay *= 2
        raise AssertionError("at least one attempt")

    def _translated(self, operation: Callable[[], T]) -> T:
        """Run it; requests' errors become ours, without addresses, which may hold an upload's secret."""
        try:
            return operation()
        except requests.exceptions.SSLError as error:
            raise HostError(
                f"{self._reference.registry} has no certificate that this machine trusts ({_cause(error)}); "
                "add its authority to the file that $REQUESTS_CA_BUNDLE names "
                "(plain HTTP: $KAIRAY_INSECURE_REGISTRIES)",
                reason="RegistryUntrusted",
            ) from None
        except (
            requests.exceptions.ConnectionError,
            requests.exceptions.Timeout,
            requests.exceptions.ChunkedEncodingError,
            requests.exceptions.ContentDecodingError,
        ) as error:
            raise self._unavailable(f"cannot be reached or broke off ({_cause(error)})", 0.0) from None
        except requests.exceptions.RequestException as error:
            raise InputError(
                f"{self._reference.registry} gave an address that cannot be followed "
                f"({type(error).__name__}); check the registry's name in {self._name}"
            ) from None

    def _check(self, response: requests.Response) -> None:
        """Raise what a status that is not a success means."""
        status = response.status_code
        if status < requests.codes.multiple_choices:
            return
        errors = _errors(response)
        said = self._quoted(errors)
        what = f"{self._reference.registry} refused the {self._action} of {self._name}"
        if status in (requests.codes.unauthorized, requests.codes.forbidden):
            raise InputError(
                f"{what}{said}: log in with `docker login {self._reference.registry}` or name the secret in "
                f"{_LOGIN_FIELD[self._action]}",
                reason="RegistryDenied",
            )
        if status in _QUOTA:
            raise InputError(
                f"{what}{said} with status {status}: make room or raise the quota", reason="RegistryFull"
            )
        if status == requests.codes.request_entity_too_large:
            raise InputError(
                f"{what}{said}: a file is larger than it takes; raise its limit", reason="RegistryFull"
            )
        broken = _BROKEN_UPLOAD & {code for code, _ in errors}
        if broken or status == requests.codes.too_many_requests or status >= requests.codes.server_error:
            raise self._unavailable(f"answered {status}{said}", _retry_after(response))
        if status == requests.codes.not_found:
            raise InputError(
                f"{what}{said}: the repository or a part of the artifact is not there", reason="NotFound"
            )
        raise InputError(f"{what}{said} with status {status}: check the reference", reason="RegistryDenied")

    def _quoted(self, errors: list[tuple[str, str]]) -> str:
        """The registry's own words in brackets, without any secret that it may have echoed."""
        words = " ".join("; ".join(message for _, message in errors).split())
        for secret in self._session.secrets:
            words = words.replace(secret, "***")
        return f" ({words[:_LONGEST_QUOTE]})" if words else ""

    def _unavailable(self, happened: str, retry_after: float) -> TransientError:
        return TransientError(
            f"{self._reference.registry} {happened} during the {self._action} of {self._name}; run it again "
            "when the registry is up",
            retry_after=retry_after,
            reason="RegistryUnavailable",
        )


def _opened(content: Path | bytes) -> io.BufferedReader | io.BytesIO:
    if isinstance(content, bytes):
        return io.BytesIO(content)
    with disk_errors(content):
        return content.open("rb")


def _errors(response: requests.Response) -> list[tuple[str, str]]:
    """The codes and messages of the specification's error body; none where a proxy sent a page of its own."""
    try:
        read = json.loads(next(response.iter_content(_LARGEST_ERROR), b""))
        return [
            (str(error.get("code")), str(error.get("message") or error.get("code")))
            for error in read["errors"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError, requests.exceptions.RequestException):
        return []


def _retry_after(response: requests.Response) -> float:
    written = response.headers.get("Retry-After", "")
    return float(written) if written.isdigit() else 0.0


def _cause(error: BaseException) -> str:
    """The system's own word at the bottom of requests' and urllib3's wrapping."""
    seen: BaseException | None = error
    word = "timed out" if isinstance(error, requests.exceptions.Timeout) else "connection broken"
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            word = seen.strerror
        seen = seen.__cause__ or seen.__context__
    return word
