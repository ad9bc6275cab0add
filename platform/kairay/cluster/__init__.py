"""Commands on the current kube context: Workspaces of a cluster, and ways to what runs inside it."""
