"""HTTP: one module per resource, its schemas beside it."""
