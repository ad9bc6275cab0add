"""The back end without Kubernetes: one Ray instance on this machine."""
