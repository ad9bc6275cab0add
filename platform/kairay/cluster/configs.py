"""A Workspace's own config as a person at a terminal finds it: in the file with the Workspace, or on the cluster."""

from __future__ import annotations

from collections.abc import Mapping

from kairay.cluster.findings import Unseen
from kairay.config_maps import config_of, text_in
from kairay.errors import KairayError
from kairay.kube.interface import Cluster
from kairay.kube.objects import CONFIG_MAP, Key
from kairay.workspace import Workspace


async def find_config(
    cluster: Cluster,
    workspace: Workspace,
    namespace: str,
    written: Mapping[str, Mapping[str, str]] | None = None,
) -> str | Unseen | None:
    """Its text; None where no plan reads one (it names none, or brings its own container), Unseen where it may not be
    read.

    `written` are the file's ConfigMaps, which go to the cluster with the Workspace and so come first; `namespace` is
    that of a Workspace that names none. InputError where the ConfigMap or its key is missing, with what to do.
    """
    place, work = config_of(workspace), workspace.tuning or workspace.inference
    if place is None or work is None or work.preset is None:
        return None
    home = workspace.metadata.namespace or namespace
    if written is not None and place.name in written:
        return text_in(place, written[place.name], home)
    try:
        found = await cluster.get(Key(CONFIG_MAP, home, place.name))
    except KairayError as error:
        return Unseen(why=f"{place.field}: ConfigMap {place.name} was not seen: {error.message}")
    return text_in(place, None if found is None else found.get("data") or {}, home)
