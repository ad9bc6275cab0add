"""Ray objects, drawn from a plan: the job and the Serve configuration (pure)."""
