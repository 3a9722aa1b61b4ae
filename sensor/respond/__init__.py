"""Isolating a container: an alert's container and an action in, a plan, its result and a record out."""
