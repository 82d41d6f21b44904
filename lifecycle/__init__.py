"""The build-time side of a model's life: import, train, publish, promote. Never in the serving image."""
