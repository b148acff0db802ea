"""Writes a bill of materials (CycloneDX 1.6) of every built function: sbom.py BUILD TARGET OUT

It lists the crates that a binary is linked from, with their licences and checksums: no build scripts, macros or test
dependencies. Clients of AWS are listed only if the binary has a trace of them, because the linker drops those that a
function never calls. (It may drop other crates too, which are listed all the same.) Every crate of which the binary has
a trace has to be listed. Every document is validated against the schema of CycloneDX.
"""

import hashlib
import re
import subprocess
import sys
import tomllib
import uuid
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

# A line of `cargo tree`: depth, name, version, the source unless it is the registry, and the licence.
LINE = re.compile(r"^(\d+)(\S+) v(\S+)( \([^*].*\))?\|(.*?)( \(\*\))?$")
# The path of a crate's source, which the compiler puts into the binary for the messages of panics.
TRACE = re.compile(rb"/registry/src/[^/]+/([A-Za-z0-9_-]+?)-(\d+\.\d+\.\d+[^/]*)/")
CLIENT = re.compile(rb"aws_sdk_([a-z0-9]+)")

Crate = tuple[str, str]


class Graph:
    """The crates that a package is linked from, each with the crates that it uses."""

    def __init__(self, package: str, target: str) -> None:
        command = ["cargo", "tree", "--locked", "--package", package, "--target", target]
        command += ["--edges", "normal,no-proc-macro", "--prefix", "depth", "--format", "{p}|{l}"]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        self.uses: dict[Crate, set[Crate]] = {}
        self.licences: dict[Crate, str] = {}
        path: list[Crate] = []
        for line in lines:
            parts = LINE.match(line)
            if not parts:
                sys.exit(f"not understood: {line}")
            crate = (parts[2], parts[3])
            del path[int(parts[1]) :]
            if path:
                self.uses[path[-1]].add(crate)
            path.append(crate)
            self.uses.setdefault(crate, set())
            self.licences[crate] = parts[5]
        self.root = path[0]

    def linked(self, binary: bytes) -> set[Crate]:
        """Everything that the package uses, except for clients of AWS that are not in the binary."""
        clients = {f"aws-sdk-{name.decode()}" for name in CLIENT.findall(binary)}
        found: set[Crate] = set()
        waiting = [self.root]
        while waiting:
            crate = waiting.pop()
            if crate in found or (crate[0].startswith("aws-sdk-") and crate[0] not in clients):
                continue
            found.add(crate)
            waiting += self.uses[crate]
        return found


def checksums() -> dict[Crate, str]:
    """The checksums of the registry's crates, from the lock file."""
    lock = tomllib.loads(Path("Cargo.lock").read_text(encoding="utf-8"))
    return {
        (crate["name"], crate["version"]): crate["checksum"]
        for crate in lock["package"]
        if "checksum" in crate
    }


def sha256(value: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=value)


def document(graph: Graph, binary: bytes, known: dict[Crate, str]) -> str:
    """The bill of materials of one binary."""
    licences = LicenseFactory()
    linked = graph.linked(binary)
    traces = {(name.decode(), version.decode()) for name, version in TRACE.findall(binary)}
    if not traces or traces - linked:
        sys.exit(f"{graph.root[0]}: in the binary, but not in its dependencies: {sorted(traces - linked)}")

    digest = hashlib.sha256(binary).hexdigest()
    components = {}
    for crate in sorted(linked):
        name, version = crate
        of_registry = crate in known
        hashes = [sha256(known[crate])] if of_registry else []
        components[crate] = Component(
            name=name,
            version=version,
            type=ComponentType.APPLICATION if crate == graph.root else ComponentType.LIBRARY,
            bom_ref=f"{name}@{version}",
            licenses=[licences.make_from_string(graph.licences[crate].replace("/", " OR "))],
            purl=PackageURL("cargo", None, name, version) if of_registry else None,
            hashes=[sha256(digest)] if crate == graph.root else hashes,
        )
    main = components.pop(graph.root)
    bom = Bom(components=components.values(), serial_number=uuid.uuid5(uuid.NAMESPACE_OID, digest))
    bom.metadata.component = main
    components[graph.root] = main
    for crate, component in components.items():
        bom.register_dependency(component, [components[used] for used in graph.uses[crate] & linked])
    text = JsonV1Dot6(bom).output_as_string(indent=1)
    if problem := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"{graph.root[0]}: {problem}")
    print(f"{graph.root[0]:32} {len(linked):4} crates, {len(traces)} of them seen in the binary")
    return text


def main() -> None:
    build, target, out = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    out.mkdir(parents=True, exist_ok=True)
    known = checksums()
    for package in sorted(path.name for path in Path("functions").iterdir()):
        logical_id = "".join(word.capitalize() for word in package.split("_"))
        binary = (build / logical_id / "bootstrap").read_bytes()
        text = document(Graph(package, target), binary, known)
        (out / f"{package}.cdx.json").write_text(text, encoding="utf-8")


main()
