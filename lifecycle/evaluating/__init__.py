"""How good a checkpoint is: scored by the engine that serves it, reported for people and for the registry, compared."""
