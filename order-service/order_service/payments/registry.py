"""Which providers there are, and which of them buyers may use."""

from collections.abc import Iterable

from order_service.payments.base import Provider


class Providers:
    """The shop's payment providers; one that is not offered still settles what it began."""

    def __init__(self, providers: Iterable[Provider], *, offer_test_methods: bool) -> None:
        self._all = {provider.method: provider for provider in providers}
        self._heard = [p for p in self._all.values() if p.moves_money or offer_test_methods]
        self.offered = [p for p in self._heard if p.takes_payments]

    def find(self, method: str) -> Provider:
        """Return the provider of a payment that was made with it."""
        return self._all[method]

    def find_offered(self, method: str) -> Provider | None:
        """Return the provider of a method that buyers may use."""
        return _find(self.offered, method)

    def find_heard(self, method: str) -> Provider | None:
        """Return the provider whose webhooks count: also one that takes no new payments."""
        return _find(self._heard, method)


def _find(providers: Iterable[Provider], method: str) -> Provider | None:
    return next((provider for provider in providers if provider.method == method), None)
