# shellcheck shell=bash
# shellcheck disable=SC2016 # Names and hashes with a dollar sign.
# To be run before the commands of the documents: what they expect of a deployment, on the emulators.

export POSTERN_STACK=postern

# The API, with its stage, and alarms.
api=$(aws apigatewayv2 create-api --name postern --protocol-type HTTP --query ApiId --output text)
aws apigatewayv2 create-stage --api-id "$api" --stage-name '$default'
for name in WrongCodes SesErrors; do
  aws cloudwatch put-metric-alarm --alarm-name postern-$name --namespace postern --metric-name $name \
    --statistic Sum --period 300 --evaluation-periods 1 --threshold 1 --comparison-operator GreaterThanThreshold
done

# Functions with a version that is live.
python3 -c 'import zipfile; zipfile.ZipFile("function.zip", "w").writestr("bootstrap", "")'
for name in signin forgot_password_send_email authorizer sessions; do
  aws lambda create-function --function-name "postern-$name" --runtime provided.al2023 --handler bootstrap \
    --role arn:aws:iam::000000000000:role/postern --zip-file fileb://function.zip --publish
  # The stack has that of the last one.
  [ $name = sessions ] || aws lambda create-alias --function-name "postern-$name" --name live --function-version 1
done

# The stack, with the trail of its audit, an alias, and something in place of the application of CodeDeploy.
cat >stack.yaml <<STACK
Resources:
  Trail: {Type: AWS::S3::Bucket}
  ServerlessDeploymentApplication: {Type: AWS::SNS::Topic}
  Live: {Type: AWS::Lambda::Alias, Properties: {FunctionName: postern-sessions, FunctionVersion: '1', Name: live}}
Outputs: {TrailBucketName: {Value: !Ref Trail}}
STACK
aws cloudformation create-stack --stack-name postern --template-body file://stack.yaml
aws cloudformation wait stack-create-complete --stack-name postern
bucket=$(aws cloudformation describe-stacks --stack-name postern --query 'Stacks[0].Outputs[0].OutputValue' --output text)
gzip >records.json.gz <<RECORDS
{"Records":[{"eventName":"Invoke","requestParameters":{"functionName":"postern-manage_users"}}]}
RECORDS
aws s3 cp records.json.gz "s3://$bucket/AWSLogs/000000000000/CloudTrail/eu-central-1/2026/11/21/records.json.gz"

for group in /aws/lambda/postern{,-administration} /aws/vendedlogs/apigateway/postern /aws/events/postern-mail; do
  aws logs create-log-group --log-group-name "$group"
done
aws sesv2 create-email-identity --email-identity example.com
aws secretsmanager create-secret --name postern/jwt-secret --secret-string of-no-use
for region in eu-central-1 us-east-1; do
  aws secretsmanager create-secret --region $region --name postern/origin-secret --secret-string of-no-use
done

# The files of an import.
printf 'username,email_addresses,activated,password_hash\n%s,a@example.com,true,%s\n' from.csv \
  '$2b$04$/prl90asGvDdO0LP0gq7GeCZEwCdvlU1U/yM4TVV5Erp22k5bJA.S' >users.csv
echo '{"username":"from.jsonl","email_addresses":["a@example.com"]}' >users.jsonl
echo '{"base64_signer_key":"a2V5","base64_salt_separator":"Bw==","rounds":8,"mem_cost":14}' >hash_config

# Leaves a version of the JWT secret as a rotation that is stuck does, and prints its id.
stuck_rotation() {
  aws secretsmanager put-secret-value --secret-id postern/jwt-secret --version-stages AWSPENDING \
    --secret-string "$(openssl rand -hex 32)" --query VersionId --output text
}

# Checks the parameters of a deployment, in place of the deployment.
sam() {
  local argument
  for argument; do
    case $argument in
      *=*) grep -q "^  ${argument%%=*}:" template.yaml || { echo "there is no parameter $argument" >&2; return 1; } ;;
    esac
  done
}
