"""What lies around a container is what lies around a worker in Lambda."""

from tests.functional.events.conftest import place

__all__ = ["place"]
