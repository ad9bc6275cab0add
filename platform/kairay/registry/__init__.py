"""Models and adapters as OCI artifacts, and the ways to bring a model to this machine."""
