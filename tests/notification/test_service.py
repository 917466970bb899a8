"""What holds the service together: its migrations, its settings, its worker's plan."""

import pytest

from chassis.config import BadSetting, ExampleSecret
from chassis.migrations import is_current
from tests.apps import settings_of


def test_models_and_migrations_agree(app):
    assert is_current(app)


def test_the_worker_reads_every_queue_of_the_service(app):
    plan = app.extensions["worker"]
    assert plan.queues == ["user.events", "product.events", "order.events", "notification.tasks"]
    assert {job.name for job in plan.jobs} == {"sweep", "purge idempotency keys"}


def test_the_queues_and_what_has_an_effect_are_listed(app):
    lines = app.test_cli_runner().invoke(args=["consumers"]).output.splitlines()
    assert [line.split()[0] for line in lines] == ["user.events", "product.events", "order.events"]
    assert lines[1] == "product.events product.stock.updated"


def test_health_is_there(client):
    assert client.get("/health").get_json()["checks"]["database"] == "ok"


def test_metrics_are_there(client):
    assert b"outbox_unsent 0.0" in client.get("/metrics").data


@pytest.mark.parametrize("value", ["nobody", "Shop", "Shop <shop@example.com>\r\nBcc: x@example.com", ""])
def test_a_sender_without_an_address_is_refused_at_start(value):
    with pytest.raises(BadSetting):
        settings_of("notification_service", mail_from=value)


def test_a_production_start_on_a_published_key_is_refused():
    with pytest.raises(ExampleSecret, match="NOTIFICATION_USER_KEY"):
        settings_of(
            "notification_service",
            app_env="production",
            amqp_password="secret",
            redis_password="secret",
            notification_user_key="x-change-me",
        )


def test_a_production_start_needs_no_secret_of_what_is_not_used():
    settings_of("notification_service", app_env="production", amqp_password="secret", redis_password="secret")


def test_secrets_are_in_no_printed_settings():
    secrets = {"smtp_password": "s3cret", "vapid_private_key": "s3cret", "aliyun_access_key_secret": "s3cret"}
    assert "s3cret" not in repr(settings_of("notification_service", **secrets))
