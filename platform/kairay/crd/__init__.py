"""The Workspace CRD and its admission rules, drawn from the types that people's files are parsed into (pure)."""
