"""Searching by words, in the database: the functions are made by the first migration.

`search_words` cuts Chinese into pairs and Latin into stems, `search_query` cuts a question alike, so that
pairs are found that no dictionary knows. Everything but words is left out on both sides, and so no question
is an error.
"""

from typing import Any

from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.orm import aliased

from product_service.models import Product

columns: Any = Product.__table__.c


def find_words(question: str, *conditions: ColumnElement[bool]) -> tuple[Any, ColumnElement[int]]:
    """Return the products that have all words and meet the conditions, and their relevance: 1 or 0.

    A word in the name is worth more than one in the description alone.
    """
    query = func.search_query(question, "&")
    relevance = case((columns.name_words.op("@@")(query), 1), else_=0).label("relevance")
    found = select(Product, relevance).where(columns.words.op("@@")(query), *conditions)
    # OFFSET 0 makes the planner find all matches by the index: the statistics of words mislead it, and it
    # would rather walk the whole list in its order, some 100 times slower for a rare word.
    hits = found.offset(0).subquery()
    return aliased(Product, hits), hits.c.relevance
