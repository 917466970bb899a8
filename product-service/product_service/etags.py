"""Entity tags of products: `"<version>.<stock version>"`."""

from typing import Any

from werkzeug.datastructures import ETags


def etag_of(product: Any) -> str:
    """Return the entity tag of a product's present state, in its quotes."""
    return f'"{product.version}.{product.stock_version}"'


def versions_in(tags: ETags) -> frozenset[int] | None:
    """Return the versions that an `If-Match` accepts, None for any; the stock doesn't count."""
    if tags.star_tag:
        return None
    heads = (tag.partition(".")[0] for tag in tags.as_set(include_weak=True) if tag)
    return frozenset(int(head) for head in heads if head.isascii() and head.isdigit() and len(head) < 10)
