# A stack of a release of Postern: terraform init && terraform apply

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "stack_name" {
  description = "Name of the stack"
  type        = string
  default     = "postern"
}

variable "bucket" {
  description = "Bucket for the packages, in the region of the stack"
  type        = string
}

variable "architecture" {
  description = "Processor of the functions: arm64 or x86_64"
  type        = string
  default     = "arm64"
}

variable "parameters" {
  description = "Parameters of the template, which has their names and defaults; MailFrom is required"
  type        = map(string)
}

locals {
  release  = "${path.module}/.."
  template = "template-${var.architecture}.yaml"
  # The names of the packages contain their checksums, so what a version of the stack uses stays as it is.
  packages = fileset(local.release, "${var.architecture}/*.zip")
  body = replace(
    file("${local.release}/${local.template}"),
    "CodeUri: ${var.architecture}/",
    "CodeUri: s3://${var.bucket}/postern/${var.architecture}/",
  )
}

resource "aws_s3_object" "package" {
  for_each = local.packages
  bucket   = var.bucket
  key      = "postern/${each.value}"
  source   = "${local.release}/${each.value}"
}

# By its checksum as well, because CloudFormation takes a template under a known address for an unchanged one.
resource "aws_s3_object" "template" {
  bucket  = var.bucket
  key     = "postern/${sha256(local.body)}.yaml"
  content = local.body
}

resource "aws_cloudformation_stack" "postern" {
  name         = var.stack_name
  template_url = "https://${var.bucket}.s3.amazonaws.com/${aws_s3_object.template.key}"
  parameters   = var.parameters
  # Roles, and the transformations LanguageExtensions and Serverless.
  capabilities = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
  depends_on   = [aws_s3_object.package]
}

output "outputs" {
  description = "The outputs of the stack, such as ApiUrl"
  value       = aws_cloudformation_stack.postern.outputs
}
