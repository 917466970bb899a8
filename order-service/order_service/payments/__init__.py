"""Payment providers: one module each, and the registry of those that are there."""
