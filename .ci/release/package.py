"""Adds the functions, built for one processor, to a release folder: package.py ARCHITECTURE BUILD SBOM OUT

BUILD is what `sam build` wrote, and SBOM what sbom.py did. The folder then has a package of each function, whose name
contains its checksum; a template that names these packages; and the files that go with every processor: examples for
the CDK and for Terraform, users.py, and templates for the key, the edge and the rights to deploy. The same files in give
the same files out.
"""

import hashlib
import re
import shutil
import sys
import tomllib
import zipfile
from pathlib import Path

from samcli.yamlhelper import yaml_dump, yaml_parse

HERE = Path(__file__).parent
COMMON = [
    *(HERE / name for name in ("README.md", "cdk", "deployer.yaml", "kept.json", "reattach.py", "terraform")),
    *(
        Path(name)
        for name in ("LICENSE", "edge.yaml", "functions/manage_users/users.py", "key.yaml", "samconfig.toml")
    ),
]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def package(binary: Path, name: str, folder: Path) -> str:
    """Writes the package of a function, and returns its name."""
    path = folder / "package.zip"
    # The time and the rights of the file are always the same.
    entry = zipfile.ZipInfo("bootstrap", (1980, 1, 1, 0, 0, 0))
    entry.create_system = 3
    entry.external_attr = 0o100755 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, binary.read_bytes())
    return path.rename(folder / f"{name}-{sha256(path)[:16]}.zip").name


def template(architecture: str, build: Path, out: Path) -> str:
    """The template of the packages, which it writes."""
    text = Path("template.yaml").read_text(encoding="utf-8")
    result = yaml_parse(text)
    folder = out / architecture
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    result["Parameters"]["Architecture"] |= {"Default": architecture, "AllowedValues": [architecture]}
    for logical_id, resource in result["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function":
            name = Path(resource["Properties"]["CodeUri"]).name
            file = package(build / logical_id / "bootstrap", name, folder)
            resource["Properties"]["CodeUri"] = f"{architecture}/{file}"
            del resource["Metadata"]
    # A reference to something that SAM makes of a resource; in this form, the CDK lets it pass.
    return re.sub(r"\bRef: (\w+\.\w+)$", r"Fn::Sub: ${\1}", yaml_dump(result), flags=re.MULTILINE)


def main() -> None:
    architecture, build, sbom, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
    version = tomllib.loads(Path("Cargo.toml").read_text(encoding="utf-8"))["workspace"]["package"]["version"]
    out.mkdir(parents=True, exist_ok=True)
    body = template(architecture, build, out)
    (out / f"template-{architecture}.yaml").write_text(
        f"# Postern {version} for {architecture}\n{body}", encoding="utf-8"
    )
    shutil.copytree(sbom, out / "sbom" / architecture, dirs_exist_ok=True)
    for source in COMMON:
        if source.is_dir():
            shutil.copytree(source, out / source.name, dirs_exist_ok=True)
        elif source.exists():
            shutil.copy(source, out / source.name)
    (out / "SHA256SUMS").unlink(missing_ok=True)
    files = sorted(path for path in out.rglob("*") if path.is_file())
    sums = "".join(f"{sha256(path)}  {path.relative_to(out)}\n" for path in files)
    (out / "SHA256SUMS").write_text(sums, encoding="utf-8")
    print(f"{out}: {len(files)} files")


main()
