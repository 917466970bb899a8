"""What only the suite's operators see: its databases, its keys, and tokens that its keys sign."""

from collections.abc import Mapping
from typing import Any

import psycopg2
import redis

from chassis.tokens import sign_service_token
from tests.e2e.suite import Suite
from user_service.services.keys import Vault

DATABASES = {
    "user-service": "user_db",
    "product-service": "product_db",
    "order-service": "order_db",
    "notification-service": "notification_db",
}
# Who calls whom, by the setting that holds the key of the two.
PAIRS = {
    "ORDER_PRODUCT_KEY": ("order-service", "product-service"),
    "ORDER_USER_KEY": ("order-service", "user-service"),
    "ORDER_NOTIFICATION_KEY": ("order-service", "notification-service"),
    "NOTIFICATION_USER_KEY": ("notification-service", "user-service"),
}


def connect(suite: Suite, service: str) -> Any:
    """Open a service's database as its superuser; every statement is a transaction of its own."""
    connection = psycopg2.connect(
        host="127.0.0.1",
        port=suite.env["POSTGRES_PORT"],
        dbname=DATABASES[service],
        user="postgres",
        password=suite.env["POSTGRES_PASSWORD"],
    )
    connection.autocommit = True
    return connection


def execute(suite: Suite, service: str, statement: str, values: tuple[Any, ...] = ()) -> list[tuple]:
    """Run one statement in a service's database and return its rows."""
    connection = connect(suite, service)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def open_redis(suite: Suite) -> redis.Redis:
    """Connect to the suite's Redis; texts stay bytes."""
    return redis.Redis("127.0.0.1", int(suite.env["REDIS_PORT"]), password=suite.env["REDIS_PASSWORD"])


def signing_key(suite: Suite) -> tuple[str, Any]:
    """Return id and private half of the key that signs access tokens now."""
    newest = "SELECT kid, private_key FROM signing_keys WHERE signs_from <= now() ORDER BY signs_from DESC"
    (kid, closed), *_ = execute(suite, "user-service", newest)
    key = Vault(suite.env["KEY_ENCRYPTION_SECRET"]).open(kid, bytes(closed))
    assert key is not None
    return kid, key


def service_token(env: Mapping[str, str], pair: str, *, scope: str, audience: str | None = None) -> str:
    """Sign what the first of a pair sends to the second, or says to another."""
    issuer, right = PAIRS[pair]
    return sign_service_token(env[pair], issuer=issuer, audience=audience or right, scope=scope)
