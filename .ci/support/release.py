"""Checks a release folder and its examples: release.py FOLDER BUILD CDK_OUT TERRAFORM_OUT

The templates have to be the one of the repository, but for the packages: as SAM transforms it, as the CDK included it in
CDK_OUT, and as Terraform hands it to CloudFormation, as of terraform.py.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from samcli.yamlhelper import yaml_parse
from transform import defaults, read, transformed

FUNCTION = "AWS::Serverless::Function"
ARCHITECTURE = "x86_64"


def check(is_right: bool, message: str) -> None:
    if not is_right:
        sys.exit(f"release: {message}")


def plain(value: Any) -> Any:
    """A template without the differences between forms of the same."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    whole = re.fullmatch(r"\$\{([\w.]+)\}", str(value.get("Fn::Sub")))
    if whole:
        return {"Ref": whole[1]}
    return {key: plain(item) for key, item in value.items() if key != "Metadata"}


def deployed(path: Path) -> dict[str, Any]:
    """The resources of a template, as SAM transforms it."""
    template = read(str(path))
    result = transformed(template, defaults(template) | {"Architecture": ARCHITECTURE})
    parts = plain({name: result[name] for name in ("Conditions", "Outputs", "Resources")})
    # The id of a version is made of the text of its function, in which the form of a reference may differ.
    return json.loads(re.sub(r"Version[0-9a-f]{10}\b", "Version", json.dumps(parts)))


def packages(template: dict[str, Any]) -> dict[str, str]:
    """The package of each function."""
    resources = template["Resources"].items()
    return {name: value["Properties"]["CodeUri"] for name, value in resources if value["Type"] == FUNCTION}


def raw(path: Path) -> dict[str, Any]:
    """A template as it is written, in which the packages are."""
    return json.loads(json.dumps(yaml_parse(path.read_text(encoding="utf-8"))))


def check_folder(folder: Path, build: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    template = folder / f"template-{ARCHITECTURE}.yaml"
    check(
        deployed(template) == deployed(Path("template.yaml")),
        f"{template} is another stack than template.yaml",
    )
    files = packages(raw(template))
    check(
        {folder / file for file in files.values()} == set((folder / ARCHITECTURE).iterdir()), "other packages"
    )
    for name, file in files.items():
        with zipfile.ZipFile(folder / file) as archive:
            (entry,) = archive.infolist()
            check(entry.external_attr >> 16 == 0o100755, f"{file} is not executable")
            check(
                archive.read("bootstrap") == (build / name / "bootstrap").read_bytes(),
                f"{file} is another function",
            )


def check_cdk(folder: Path, out: Path) -> None:
    original = raw(folder / f"template-{ARCHITECTURE}.yaml")
    template = json.loads((out / "postern.template.json").read_text(encoding="utf-8"))
    check(
        template["Transform"] == original["Transform"],
        f"the CDK has the transformations {template['Transform']}",
    )
    check(template["Globals"] == original["Globals"], "the CDK has other globals")
    attributes = ("Type", "Condition", "DeletionPolicy", "UpdateReplacePolicy")
    found, wanted = (
        {name: [resource.get(key) for key in attributes] for name, resource in each["Resources"].items()}
        for each in (template, original)
    )
    found.pop("CDKMetadata", None)
    check(found == wanted, "the CDK has other resources")
    files = packages(original)
    for name, uri in packages(template).items():
        asset = out / f"asset.{uri['Fn::Sub'].rsplit('/', 1)[1]}"
        check(asset.read_bytes() == (folder / files[name]).read_bytes(), f"the CDK uploads another {name}")


def check_terraform(folder: Path, out: Path) -> None:
    outputs = json.loads(out.read_text(encoding="utf-8"))
    body = folder / "body.yaml"
    body.write_text(outputs["body"], encoding="utf-8")
    check(deployed(body) == deployed(Path("template.yaml")), "Terraform deploys another stack")
    keys = {f"s3://packages/postern/{package}" for package in outputs["packages"]}
    check(
        set(packages(raw(body)).values()) == keys, "Terraform uploads other packages than the template names"
    )
    body.unlink()


def main() -> None:
    folder, build, cdk, terraform = (Path(argument) for argument in sys.argv[1:])
    check_folder(folder, build)
    check_cdk(folder, cdk)
    check_terraform(folder, terraform)
    print(f"{folder}: the packages, the example of the CDK and that of Terraform deploy template.yaml")


main()
