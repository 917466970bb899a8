"""The ways out: one module a channel; each sends one message or raises a `DeliveryError`."""
