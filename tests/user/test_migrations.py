"""The migrations make what the models say."""

from chassis.migrations import is_current


def test_models_and_migrations_agree(app):
    assert is_current(app)
