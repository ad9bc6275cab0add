"""Training jobs: what runs inside a Ray job, also by hand with `ray job submit`."""
