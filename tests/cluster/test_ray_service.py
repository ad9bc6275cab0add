"""A RayService answers by its ClusterIP, from the host and from a pod."""

from __future__ import annotations

import pytest
import requests

from onebox.cluster import Cluster
from polling import eventually
from ray_manifests import cluster_spec, pod, ray_service

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300, func_only=True)]

APP = """
import os
from fastapi import FastAPI
from ray import serve

api = FastAPI()

@serve.deployment(num_replicas=1, ray_actor_options={"num_cpus": 0.2})
@serve.ingress(api)
class App:
    @api.get("/")
    def root(self):
        return {"hello": os.environ["WHO"]}

app = App.bind()
"""
SERVE_CONFIG = """
applications:
- name: app
  import_path: app:app
  route_prefix: /
  runtime_env: {env_vars: {WHO: kairay}}
"""
ASK = (
    "import urllib.request as u; print(u.urlopen('http://hello-serve-svc:8000/', timeout=20).read().decode())"
)


def test_a_ray_service_answers_by_its_cluster_ip_from_host_and_pod(cluster: Cluster, namespace: str) -> None:
    code = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "app"}, "data": {"app.py": APP}}
    cluster.api.apply(code, namespace)
    spec = cluster_spec(cluster.image)
    head = spec["headGroupSpec"]["template"]["spec"]
    head["volumes"] = [{"name": "app", "configMap": {"name": "app"}}]
    head["containers"][0] |= {
        "env": [{"name": "PYTHONPATH", "value": "/app"}],
        "volumeMounts": [{"name": "app", "mountPath": "/app"}],
    }
    cluster.api.apply(ray_service("hello", spec, SERVE_CONFIG), namespace)

    path = f"/api/v1/namespaces/{namespace}"
    service = eventually(
        "the Service exists", lambda: cluster.api.find(f"{path}/services/hello-serve-svc"), seconds=150
    )
    assert service is not None
    url = f"http://{service['spec']['clusterIP']}:8000/"
    answer = eventually("the host gets an answer", lambda: requests.get(url, timeout=5), lambda a: a.ok)
    assert answer.json() == {"hello": "kairay"}

    cluster.api.apply(pod("client", cluster.image, "python", "-c", ASK), namespace)
    client = eventually(
        "the client ends", lambda: cluster.api.get(f"{path}/pods/client"),
        lambda found: found["status"].get("phase") in ("Succeeded", "Failed"),
    )  # fmt: skip
    said = cluster.api.text(f"{path}/pods/client/log")
    assert client["status"]["phase"] == "Succeeded", said
    assert said.strip() == '{"hello":"kairay"}'
