"""A real Kubernetes with the real KubeRay operator on one Linux machine, without Docker: `python -m onebox up`."""
