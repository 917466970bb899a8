"""The tree of categories."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.errors import Invalid, NotFound
from product_service.errors import CategoryInUse
from product_service.models import Category

# Deep enough for any shop, and shallow enough for every JSON reader.
DEEPEST = 10

Tree = list[dict[str, Any]]


def category_tree(session: Session) -> Tree:
    """Return all categories as a forest of `{id, name, parent_id, children}`."""
    rows = session.execute(
        select(Category.id, Category.name, Category.parent_id).order_by(Category.id)
    ).mappings()
    nodes: dict[int, dict[str, Any]] = {row["id"]: {**row, "children": []} for row in rows}
    for node in nodes.values():
        if node["parent_id"] is not None:
            nodes[node["parent_id"]]["children"].append(node)
    return [node for node in nodes.values() if node["parent_id"] is None]


def create_category(session: Session, values: Mapping[str, Any]) -> Category:
    """Add a category."""
    category = Category(**values)
    with transaction(session):
        _place(session, category)
        session.add(category)
    return category


def change_category(session: Session, category_id: int, changes: Mapping[str, Any]) -> Category:
    """Rename or move a category with everything below it; never below itself."""
    with transaction(session):
        _lock_tree(session)
        category = session.get(Category, category_id, populate_existing=True)
        if category is None:
            raise NotFound
        for name, value in changes.items():
            setattr(category, name, value)
        _place(session, category)
    return category


def delete_category(session: Session, category_id: int) -> None:
    """Delete a category that has neither products nor children."""
    deleting = delete(Category).where(Category.id == category_id).returning(Category.id)
    with transaction(session):
        _lock_tree(session)
        try:
            gone = session.scalar(deleting)
        except IntegrityError as error:
            raise CategoryInUse from error
        if gone is None:
            raise NotFound


def _lock_tree(session: Session) -> None:
    """Let one writer at a time judge the tree's shape; readers and products go on."""
    session.execute(text("LOCK TABLE categories IN SHARE ROW EXCLUSIVE MODE"))


def _place(session: Session, category: Category) -> None:
    """Check that the category's parent exists, is not below it, and is not too deep; lock the tree."""
    _lock_tree(session)
    parents = dict(session.execute(select(Category.id, Category.parent_id)).all())
    if category.parent_id is not None and category.parent_id not in parents:
        raise Invalid("parent_id", "there is no such category")
    above, at = 0, category.parent_id
    while at is not None:
        if at == category.id:
            raise Invalid("parent_id", "a category can't be below itself")
        above, at = above + 1, parents[at]
    if above + _height(parents, category.id) > DEEPEST:
        raise Invalid("parent_id", f"categories are at most {DEEPEST} deep")


def _height(parents: Mapping[int, int | None], root: int | None) -> int:
    """Count the levels of the subtree under `root`, its own included."""
    children: dict[int | None, list[int]] = defaultdict(list)
    for child, parent in parents.items():
        children[parent].append(child)
    level, height = [root], 0
    while level and height <= DEEPEST:
        level, height = [child for at in level if at is not None for child in children[at]], height + 1
    return height
