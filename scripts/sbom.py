"""Write build/sbom.cdx.json: what the suite consists of, as one CycloneDX 1.6 document.

In it: the four services with their pinned Python packages and these packages' hashes; the images of
docker-compose.yml and the one that ours are built on; and, for each image that the Docker engine has here,
its digest and the Debian or Alpine packages inside.
"""

import json
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "build/sbom.cdx.json"
SERVICES = ("user-service", "product-service", "order-service", "notification-service")
PIN = re.compile(r"([a-z0-9._-]+)(?:\[[a-z0-9,._-]+\])?==([^\s;\\]+)")
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
VERSION = re.compile(r'^version = "(.+)"', re.MULTILINE)
# Prints the distribution's name, then `name version` for each package; both kinds of image have a shell.
LIST_PACKAGES = """\
. /etc/os-release; echo "$ID"
if command -v dpkg-query >/dev/null; then dpkg-query -W -f '${Package} ${Version}\\n'
else apk info -v 2>/dev/null | sed -E 's/^(.*)-([0-9][^-]*-r[0-9]+)$/\\1 \\2/'; fi
"""
Component = dict[str, Any]


def read_pins(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Yield name, version and hashes of each package of a compiled requirements file."""
    text = re.sub(r"(?m)^ *#.*\n", "", path.read_text(encoding="utf-8"))
    for entry in re.split(r"\n(?=[a-z])", text):
        if pin := PIN.match(entry):
            yield pin[1], pin[2], HASH.findall(entry)


def package(name: str, version: str, hashes: Iterable[str]) -> Component:
    """Describe a Python package; each hash is that of one of its files."""
    purl = f"pkg:pypi/{name}@{version}"
    files = [{"alg": "SHA-256", "content": content} for content in hashes]
    page = {"type": "distribution", "url": f"https://pypi.org/project/{name}/{version}/#files"}
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "externalReferences": [page | {"hashes": files}],
    }


def image_names() -> list[str]:
    """Name the images that are not ours: those of the compose file, and what ours are built on."""
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    dockerfiles = [(ROOT / service / "Dockerfile").read_text(encoding="utf-8") for service in SERVICES]
    found = {*re.findall(r"^ +image: (\S+)$", compose, re.MULTILINE)}
    found |= {name for text in dockerfiles for name in re.findall(r"^FROM (\S+)", text, re.MULTILINE)}
    return sorted(name for name in found if not name.startswith("ecommerce-basic/"))


def image(name: str, digest: str) -> Component:
    """Describe a container image; the digest is empty where the engine does not have it."""
    repository, _, tag = name.partition(":")
    purl = f"pkg:docker/{repository}@{digest.replace(':', '%3A') or tag}"
    component: Component = {
        "type": "container",
        "bom-ref": f"image:{name}",
        "name": repository,
        "version": tag,
    }
    return component | {"purl": purl + (f"?tag={tag}" if digest else "")}


def ask_docker(*arguments: str) -> str:
    """Return what a command of Docker's prints, or nothing when there is no engine or no such image."""
    docker = shutil.which("docker")
    if docker is None:
        return ""
    done = subprocess.run([docker, *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def system_packages(name: str) -> list[Component]:
    """List the operating system's packages of an image that the engine has."""
    options = ("--rm", "--pull=never", "--network=none", "--entrypoint=sh")
    distribution, *lines = ask_docker("run", *options, name, "-c", LIST_PACKAGES).splitlines() or [""]
    kind = "apk" if distribution == "alpine" else "deb"
    pairs = [line.split() for line in lines]
    return [
        {"type": "library", "bom-ref": purl, "name": pair[0], "version": pair[1], "purl": purl}
        for pair in pairs
        if len(pair) == 2
        if (purl := f"pkg:{kind}/{distribution}/{pair[0]}@{pair[1].replace(':', '%3A')}")
    ]


def build_document() -> dict[str, Any]:
    """Return the whole document."""
    version = VERSION.findall((ROOT / "chassis/pyproject.toml").read_text(encoding="utf-8"))[0]
    suite = {"type": "application", "bom-ref": "suite", "name": "ecommerce-basic", "version": version}
    components: dict[str, Component] = {}
    needs: dict[str, list[str]] = {"suite": []}

    def add(parent: str, component: Component) -> str:
        reference = component["bom-ref"]
        components.setdefault(reference, component)
        needs[parent].append(reference)
        needs.setdefault(reference, [])
        return str(reference)

    for service in SERVICES:
        own = {"type": "application", "bom-ref": service, "name": service, "version": version}
        reference = add("suite", own)
        for pin in read_pins(ROOT / service / "requirements.txt"):
            add(reference, package(*pin))
    for name in image_names():
        reference = add("suite", image(name, ask_docker("image", "inspect", "--format", "{{.Id}}", name)))
        for component in system_packages(name):
            add(reference, component)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {"component": suite},
        "components": list(components.values()),
        "dependencies": [{"ref": ref, "dependsOn": sorted(set(used))} for ref, used in needs.items()],
    }


def complaints(text: str) -> str:
    """Say where the document breaks the standard's schema; nothing when it keeps it."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    return str(JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) or "")


def main() -> int:
    """Write the document, once it keeps the standard."""
    document = build_document()
    text = json.dumps(document, indent=2) + "\n"
    if complaint := complaints(text):
        print(f"The document would break CycloneDX's schema: {complaint}", file=sys.stderr)
        return 1
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(text, encoding="utf-8")
    print(f"{TARGET.relative_to(ROOT)}: {len(document['components'])} components")
    return 0


if __name__ == "__main__":
    sys.exit(main())
