"""Ray Serve applications: what runs inside a replica."""
