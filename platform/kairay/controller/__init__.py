"""The loop that makes the cluster what Workspaces say."""
