"""The fault lab: breaks a running suite on purpose, then counts what is left."""
