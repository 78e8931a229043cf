"""compat: what libraries and frontends expect of ipykernel."""
