"""GPU nodes: what is there, and (with a provider) what should be."""
