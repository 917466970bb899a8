"""The list of what the suite consists of holds every pinned package and every image."""

import pytest
import yaml

from scripts import sbom
from tests.test_requirements import ROOT, pins


@pytest.fixture
def document(monkeypatch):
    """Return the document as it is where no Docker engine answers."""
    monkeypatch.setattr(sbom, "ask_docker", lambda *arguments: "")
    return sbom.build_document()


def uses(document, reference):
    """Return what a component of the document is made of."""
    [entry] = [entry for entry in document["dependencies"] if entry["ref"] == reference]
    return entry["dependsOn"]


@pytest.mark.parametrize("service", sbom.SERVICES)
def test_each_service_has_its_pinned_packages_with_their_hashes(document, service):
    expected = pins(ROOT / service / "requirements.txt")
    assert set(uses(document, service)) == {
        f"pkg:pypi/{name}@{version}" for name, version in expected.items()
    }
    components = {component["bom-ref"]: component for component in document["components"]}
    for reference in uses(document, service):
        [files] = components[reference]["externalReferences"]
        assert files["hashes"]


def test_the_images_are_those_of_the_compose_file_and_their_base(document):
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].values()
    images = {service["image"] for service in services if not service["image"].startswith("ecommerce-basic/")}
    listed = {f"{c['name']}:{c['version']}" for c in document["components"] if c["type"] == "container"}
    assert listed == images | {"python:3.13-slim"}


def test_everything_is_listed_once_and_belongs_to_something(document):
    references = [component["bom-ref"] for component in document["components"]]
    assert len(references) == len(set(references))
    used = {reference for entry in document["dependencies"] for reference in entry["dependsOn"]}
    assert used == set(references)


def test_packages_of_an_image_are_listed_where_the_engine_has_it(monkeypatch):
    monkeypatch.setattr(sbom, "ask_docker", lambda *arguments: "debian\nbash 5.2.15-2+b7\nzlib1g 1:1.2.13-1")
    names = [component["purl"] for component in sbom.system_packages("python:3.13-slim")]
    assert names == ["pkg:deb/debian/bash@5.2.15-2+b7", "pkg:deb/debian/zlib1g@1%3A1.2.13-1"]
