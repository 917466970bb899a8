"""Alembic's entry point."""

from chassis.migrations import run_env

run_env()
