"""Alembic's entry: the chassis runs it."""

from chassis.migrations import run_env

run_env()
