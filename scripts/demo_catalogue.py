"""A believable catalogue: the things of demo_catalogue.tsv, three makes each, in both languages."""

import csv
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

TABLE = Path(__file__).with_suffix(".tsv")
BRANDS = {
    "": ("山岚", "青禾", "拾光", "云栖", "禾木", "南屿"),
    "_en": ("Northwind", "Alder & Co", "Brightside", "Harbour", "Maple Lane", "Copperleaf"),
}


@dataclass(frozen=True)
class Ware:
    """One product of the demonstration, and the shelf it lies on; categories are named in both languages."""

    department: str
    shelf: str
    sku: str
    name: str
    description: str
    price: str
    stock: int


def wares() -> Iterator[Ware]:
    """Yield the whole catalogue, the same each time."""
    with TABLE.open(encoding="utf-8", newline="") as table:
        for number, thing in enumerate(csv.DictReader(table, delimiter="\t"), start=1):
            for language in BRANDS:
                yield from _makes(number, thing, language)


def _makes(number: int, thing: dict[str, str], language: str) -> Iterator[Ware]:
    for step, make in enumerate(thing["makes" + language].split("|")):
        name = f"{thing['name' + language]} {make}"
        # Chosen by a checksum of the name: it looks like chance and never changes.
        chance = zlib.crc32(name.encode())
        price = Decimal(thing["price"]) * (100 + 25 * step + chance % 15) // 100 + Decimal("0.90")
        yield Ware(
            f"{thing['department']} {thing['department_en']}",
            f"{thing['shelf']} {thing['shelf_en']}",
            sku=f"DEMO-{number:02}-{step + 1}-{'EN' if language else 'ZH'}",
            name=f"{BRANDS[language][chance % 6]} {name}",
            description=thing["description" + language],
            price=str(price),
            stock=0 if chance % 25 == 0 else chance // 7 % 200 + 1,
        )
