"""A small client of the Kubernetes API for starter and tests: plain objects, server-side apply, clear errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import requests
import yaml

from onebox.certificates import SERVER

_FIELD_MANAGER = "kairay-onebox"
_TIMEOUT = (3.05, 30)
Manifest = dict[str, Any]


class ApiError(Exception):
    """The API server refused: HTTP status and its message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class Api:
    """The API server as the administrator sees it. Paths begin with /api or /apis."""

    def __init__(self, pki: Path, server: str = SERVER) -> None:
        self._server = server
        self._session = requests.Session()
        # The machine's proxy settings do not concern loopback links.
        self._session.trust_env = False
        self._session.cert = (str(pki / "admin.crt"), str(pki / "admin.key"))
        self._session.verify = str(pki / "ca.crt")
        self._plurals: dict[tuple[str, str], tuple[str, bool]] = {}

    def get(self, path: str, **params: str) -> Manifest:
        """One object or list; ApiError otherwise."""
        return cast("Manifest", self._call("GET", path, params=params).json())

    def find(self, path: str, **params: str) -> Manifest | None:
        """The object, or None where there is none."""
        try:
            return self.get(path, **params)
        except ApiError as error:
            if error.status == requests.codes.not_found:
                return None
            raise

    def items(self, path: str, **params: str) -> list[Manifest]:
        """Objects of a list."""
        return cast("list[Manifest]", self.get(path, **params)["items"])

    def text(self, path: str, **params: str) -> str:
        """An answer that is not JSON: a pod's log, /readyz, metrics."""
        return self._call("GET", path, params=params).text

    def apply(self, manifest: Manifest, namespace: str | None = None) -> Manifest:
        """Server-side apply of any kind, taking over fields from other managers; returns the object."""
        plural, namespaced = self._plural(manifest["apiVersion"], manifest["kind"])
        metadata = manifest["metadata"]
        place = metadata.get("namespace") or namespace or "default"
        folder = f"/namespaces/{place}" if namespaced else ""
        path = f"{_group_path(manifest['apiVersion'])}{folder}/{plural}/{metadata['name']}"
        return self.apply_text(path, json.dumps(manifest))

    def apply_text(self, path: str, text: str) -> Manifest:
        """Server-side apply of YAML or JSON as it stands, at the object's own path."""
        answer = self._call(
            "PATCH", path, params={"fieldManager": _FIELD_MANAGER, "force": "true"}, data=text.encode(),
            headers={"Content-Type": "application/apply-patch+yaml"},
        )  # fmt: skip
        return cast("Manifest", answer.json())

    def apply_all(self, text: str, namespace: str | None = None) -> None:
        """Apply every document of a YAML text, in its order."""
        for manifest in yaml.safe_load_all(text):
            if manifest:
                self.apply(manifest, namespace)

    def post(self, path: str, body: Manifest) -> Manifest:
        """What is asked by POST: a token, a review of rights; returns the answer."""
        answer = self._call("POST", path, data=json.dumps(body), headers={"Content-Type": "application/json"})
        return cast("Manifest", answer.json())

    def patch(self, path: str, patch: Manifest | list[Manifest]) -> Manifest:
        """A merge patch (mapping) or a JSON patch (list)."""
        kind = "json-patch" if isinstance(patch, list) else "merge-patch"
        answer = self._call(
            "PATCH", path, data=json.dumps(patch), headers={"Content-Type": f"application/{kind}+json"}
        )
        return cast("Manifest", answer.json())

    def delete(self, path: str, grace_seconds: int | None = None) -> None:
        """Delete in the background; an object that is not there is fine."""
        options: Manifest = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            self._call("DELETE", path, data=json.dumps(options), headers={"Content-Type": "application/json"})
        except ApiError as error:
            if error.status != requests.codes.not_found:
                raise

    def _plural(self, version: str, kind: str) -> tuple[str, bool]:
        """(plural, namespaced) of a kind, asked from the server once."""
        if (version, kind) not in self._plurals:
            for resource in self.get(_group_path(version))["resources"]:
                if "/" not in resource["name"]:
                    self._plurals[version, resource["kind"]] = (resource["name"], resource["namespaced"])
        try:
            return self._plurals[version, kind]
        except KeyError:
            raise ApiError(requests.codes.not_found, f"the server has no kind {kind} in {version}") from None

    def _call(self, method: str, path: str, **arguments: Any) -> requests.Response:
        answer = self._session.request(method, f"{self._server}{path}", timeout=_TIMEOUT, **arguments)
        if not answer.ok:
            raise ApiError(answer.status_code, _message(answer))
        return answer


def _group_path(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def _message(answer: requests.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text.strip()[:500]
