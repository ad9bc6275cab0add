"""The only place that talks to the Kubernetes API server: one small interface, a fake of it, the real one, a cache."""
