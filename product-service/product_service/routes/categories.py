"""Categories."""

from chassis.api import Answer, Api
from product_service.errors import CategoryInUse
from product_service.schemas import CategoryChange, CategoryIn, CategoryTree, CategoryView
from product_service.services import categories, db

api = Api("categories")


@api.get("/categories", who="anyone", answers={200: CategoryTree})
def list_categories() -> object:
    """Show all categories as a tree."""
    return {"items": categories.category_tree(db.session)}


@api.post("/categories", who="admin", body=CategoryIn, answers={201: CategoryView})
def create_category(body: CategoryIn) -> object:
    """Add a category."""
    return categories.create_category(db.session, body.model_dump())


@api.put("/categories/<id:category_id>", who="admin", body=CategoryChange, answers={200: CategoryView})
def change_category(category_id: int, body: CategoryChange) -> object:
    """Rename or move a category."""
    return categories.change_category(db.session, category_id, body.model_dump(exclude_unset=True))


@api.delete("/categories/<id:category_id>", who="admin", answers={204: None}, errors=(CategoryInUse,))
def delete_category(category_id: int) -> Answer:
    """Delete a category that has neither products nor children."""
    categories.delete_category(db.session, category_id)
    return Answer(204)
