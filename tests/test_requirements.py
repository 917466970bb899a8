"""The compiled requirements: one version of each package, pinned with hashes, free of any machine's paths."""

import re
from importlib.metadata import distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
COMPILED = sorted([*ROOT.glob("*-service/requirements.txt"), ROOT / "deploy/local/requirements.txt"])
EVERYTHING = ROOT / "requirements-dev.txt"
ALL = [*COMPILED, EVERYTHING, ROOT / "requirements-audit.txt"]
# Pinned packages for other systems are not.
INSTALLED = {canonicalize_name(one.name) for one in distributions()}
PIN = re.compile(r"^([a-z0-9._-]+)(?:\[.*\])?==(\S+)", re.MULTILINE)


def pins(path: Path) -> dict[str, str]:
    """Read `{name: version}` out of a compiled file."""
    return dict(PIN.findall(path.read_text()))


def test_each_service_has_its_own_file():
    assert {path.parent.name for path in COMPILED} == {
        "user-service", "product-service", "order-service", "notification-service", "local",
    }  # fmt: skip


@pytest.mark.parametrize("path", COMPILED, ids=lambda path: path.parent.name)
def test_a_service_uses_the_versions_that_are_tested(path):
    everything = pins(EVERYTHING)
    assert pins(path) == {name: everything[name] for name in pins(path)}


@pytest.mark.parametrize("path", ALL, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_requirement_is_pinned_with_hashes(path):
    for requirement in re.split(r"\n(?=[a-z])", re.sub(r"(?m)^ *#.*\n", "", path.read_text())):
        assert PIN.match(requirement), requirement
        assert "--hash=sha256:" in requirement, requirement


@pytest.mark.parametrize("path", ALL, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_address_or_absolute_path_is_written_down(path):
    text = path.read_text()
    assert "://" not in text
    assert "-index" not in text
    assert not re.search(r"(^|\s)/\w", text)


def needs(name: str, extra: str) -> list[Requirement]:
    """List what an installed package asks for here, with or (empty) without an extra of its."""
    asked = [Requirement(line) for line in requires(name) or ()]
    return [one for one in asked if one.marker is None or one.marker.evaluate({"extra": extra})]


@pytest.mark.parametrize("path", [*COMPILED, EVERYTHING], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_a_package_asks_for_is_there(path):
    # pip installs them without a look at what they ask for.
    pinned, seen = pins(path), set()
    waiting = [(name, "") for name in pinned if name in INSTALLED]
    while waiting:
        seen.add(one := waiting.pop())
        for asked in needs(*one):
            name = canonicalize_name(asked.name)
            assert name in pinned, f"{one[0]} asks for {asked}"
            assert asked.specifier.contains(pinned[name], prereleases=True), f"{one[0]} asks for {asked}"
            waiting += {(name, extra) for extra in asked.extras} - seen
