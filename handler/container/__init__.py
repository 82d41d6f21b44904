"""The service as a container, on a GPU or anywhere else: one long-lived process for many requests at once."""
