"""What only Lambda's runtime asks for: its API, for responses that stream, and the hooks around a snapshot.

`python -m handler.runtime MODULE:APPLICATION` runs any ASGI application on Lambda in place of awslambdaric and sends
its responses as they are made. All but `snapshot` knows nothing of this service.
"""
