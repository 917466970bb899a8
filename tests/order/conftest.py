"""The order service on real PostgreSQL and Redis, beside a product service with books of its own."""

import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chassis.migrations import migrate
from order_service import create_app, make_providers
from order_service.config import Settings
from order_service.payments.registry import Providers
from order_service.payments.sandbox import Sandbox
from tests.apps import close_app
from tests.order.product_books import KEY, NOTIFICATION_KEY, USER_KEY, ProductBooks, make_server
from tests.order.shop import WEBHOOK_SECRET, Person, Shop
from tests.servers import PostgresServer, RedisServer

ADDRESSES = ("product_service_url", "user_service_url", "notification_service_url")
numbers = itertools.count(1000)


@pytest.fixture(scope="session")
def signing_key() -> Ed25519PrivateKey:
    """The user service's key."""
    return Ed25519PrivateKey.generate()


@pytest.fixture(scope="session")
def run_products(signing_key: Ed25519PrivateKey) -> Iterator[Callable[[], tuple[ProductBooks, str]]]:
    """Run a product service, here also user and notification service; return books and address."""
    public = orjson.loads(jwt.algorithms.OKPAlgorithm.to_jwk(signing_key.public_key()))
    servers = []

    def run() -> tuple[ProductBooks, str]:
        books = ProductBooks(key_set={"keys": [{**public, "kid": "k1", "alg": "EdDSA"}]})
        server = make_server(books)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        return books, f"http://127.0.0.1:{server.server_port}"

    yield run
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def make_settings(postgres_server: PostgresServer, redis_server: RedisServer) -> Callable[..., Settings]:
    """Make settings for a database of that name."""

    def make(name: str, **changes: Any) -> Settings:
        database = postgres_server.database(name)
        values = {
            "db_host": database.host,
            "db_port": database.port,
            "db_name": database.name,
            "db_user": database.user,
            "db_password": database.password,
            "redis_host": redis_server.host,
            "redis_port": redis_server.port,
            "redis_password": redis_server.password,
            "order_product_key": KEY,
            "order_user_key": USER_KEY,
            "order_notification_key": NOTIFICATION_KEY,
            "payment_sandbox_webhook_secret": WEBHOOK_SECRET,
        }
        return Settings(**(values | changes))

    return make


@pytest.fixture(scope="session")
def migrated_database(postgres_server: PostgresServer, make_settings: Callable[..., Settings]) -> str:
    """Return the name of a database with every table and nothing in it."""
    postgres_server.make_database("order_migrated")
    migrate(create_app(make_settings("order_migrated")))
    return "order_migrated"


@pytest.fixture(scope="session")
def make_shop(
    postgres_server: PostgresServer,
    make_settings: Callable[..., Settings],
    migrated_database: str,
    run_products: Callable[[], tuple[ProductBooks, str]],
    signing_key: Ed25519PrivateKey,
) -> Iterator[Callable[..., Shop]]:
    """Make a shop on a migrated database of its own."""
    apps = []

    def make(**changes: Any) -> Shop:
        database = f"order_{next(numbers)}"
        postgres_server.make_database(database, template=migrated_database)
        products, url = run_products()
        settings = make_settings(database, **(dict.fromkeys(ADDRESSES, url) | changes))
        app = create_app(settings)
        apps.append(app)
        shop = Shop(app, products, signing_key)
        # The sandbox's silence need not last here.
        sandbox = Sandbox(lambda: app.extensions["sqlalchemy"].engine, WEBHOOK_SECRET, silent_seconds=0)
        others = [p for p in make_providers(settings) if p.method != sandbox.method]
        providers = Providers([sandbox, *others], offer_test_methods=settings.offers_test_methods)
        app.extensions["desk"] = dataclasses.replace(shop.desk, providers=providers)
        return shop

    yield make
    for app in apps:
        close_app(app)


@pytest.fixture(scope="session")
def common_shop(make_shop: Callable[..., Shop]) -> Shop:
    return make_shop()


@pytest.fixture
def shop(common_shop: Shop) -> Iterator[Shop]:
    """A shop that other tests use too: people and products are new in each."""
    yield common_shop
    common_shop.products.before.clear()
    common_shop.products.after.clear()


@pytest.fixture
def own_shop(make_shop: Callable[..., Shop]) -> Shop:
    """A shop that nobody else uses."""
    return make_shop()


@pytest.fixture
def buyer(shop: Shop) -> Person:
    """A new customer."""
    return shop.person(next(numbers))


@pytest.fixture
def admin(shop: Shop) -> Person:
    """A new administrator."""
    return shop.person(next(numbers), "admin")


@pytest.fixture
def tea(shop: Shop) -> int:
    """A product at 10.00, 100 pieces of it."""
    return shop.products.add()
