// A stack of a release of Postern, in an app of the CDK: npm ci && npx aws-cdk@3 deploy
import { join } from "node:path";

import { App, Stack } from "aws-cdk-lib";
import { CfnInclude } from "aws-cdk-lib/cloudformation-include";
import { Asset } from "aws-cdk-lib/aws-s3-assets";
import { CfnFunction } from "aws-cdk-lib/aws-sam";

const release = join(import.meta.dirname, "..");
const architecture = process.env.ARCHITECTURE ?? "arm64";

const app = new App();
const stack = new Stack(app, "postern");
const postern = new CfnInclude(stack, "Postern", {
  templateFile: join(release, `template-${architecture}.yaml`),
  // Functions refer to their alarms, and alarms to versions, which SAM makes resources of their own.
  allowCyclicalReferences: true,
  // The others keep their defaults. The names of all are in the template.
  parameters: { MailFrom: "no-reply@example.com", PasswordMinLength: 15, AllowTokenInQuery: "false" },
});

// The CDK forgets their order, which matters: first the values of parameters, from which SAM makes versions.
stack.templateOptions.transforms = ["AWS::LanguageExtensions", "AWS::Serverless-2016-10-31"];

// The template names the packages by their paths, and the CDK uploads them.
for (const construct of postern.node.findAll()) {
  if (construct instanceof CfnFunction) {
    const code = new Asset(construct, "Code", { path: join(release, construct.codeUri) });
    construct.codeUri = code.s3ObjectUrl;
  }
}
