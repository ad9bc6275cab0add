"""The plain Kubernetes objects that a Workspace owns, each drawn as one literal (pure)."""
