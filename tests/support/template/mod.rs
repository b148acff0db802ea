//! The stand-in for SAM: `template.yaml` as AWS reads it for one stack.
//!
//! Only the parts that the local stack needs are evaluated. Unknown constructs in these parts are errors.

mod intrinsics;
mod policy;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use shared::settings::Settings;

pub(crate) use self::policy::{ATTRIBUTES, LEADING_KEYS, is_match};
pub use self::policy::{Condition, Statement};
use self::yaml::{Document, elements, merge, optional_text, parse, text, texts};
pub use self::yaml::{Resource, parse_other};
use crate::aws;
use crate::metric_filters::{Metric, MetricFilter};
use crate::stack::StartError;

/// `template.yaml` for one stack in the local region and account.
#[derive(Clone, Debug)]
pub struct Template {
    document: &'static Document,
    /// The values of parameters and pseudo parameters.
    values: BTreeMap<String, Value>,
    /// The ARNs of the secrets that exist, which end in random characters. For other secrets, `Ref` returns the ARN
    /// without them, which identifies a secret too.
    secrets: BTreeMap<String, String>,
}

/// The declaration of a parameter.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Parameter {
    #[serde(rename = "Type")]
    kind: String,
    /// The default value.
    #[serde(default, deserialize_with = "optional_text")]
    pub default: Option<String>,
    /// The smallest valid number.
    pub min_value: Option<i64>,
    /// The largest valid number.
    pub max_value: Option<i64>,
    /// The regular expression that a value, or each element of a list, must match as a whole.
    pub allowed_pattern: Option<String>,
    /// The valid values; empty if they are not restricted.
    #[serde(default, deserialize_with = "texts")]
    pub allowed_values: Vec<String>,
}

/// A Lambda function.
#[derive(Clone, Debug)]
pub struct Function {
    /// The logical id, after which `sam build` names the folder of the binary.
    pub id: String,
    /// The name of the crate, its folder and its binary.
    pub name: String,
    /// The name in Lambda.
    pub function_name: String,
    /// The time limit of an invocation.
    pub timeout: Duration,
    /// The memory size in MB.
    pub memory_size: u32,
    /// The concurrent executions that are reserved for it.
    pub reserved_concurrency: Option<u32>,
    /// The environment variables.
    pub variables: BTreeMap<String, String>,
    /// The routes of the API that it handles.
    pub routes: Vec<Route>,
    /// The statements of its role.
    pub statements: Vec<Statement>,
    /// The name of its log group.
    pub log_group: String,
    /// The minimum level of Lambda's own log lines, unless it is the default.
    pub system_log_level: Option<String>,
    /// The X-Ray mode: `Active` if X-Ray samples by itself, `PassThrough` if it follows the caller.
    pub tracing: String,
}

/// The access log of API Gateway.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// The format of a line, with variables of API Gateway.
    pub format: String,
    /// True if its log group has the class Infrequent Access, which costs half as much.
    pub is_infrequent_access: bool,
}

/// The resources of a stack that cost a fixed price each month.
#[derive(Clone, Copy, Debug)]
pub struct MonthlyResources {
    /// The number of custom metrics, one for each combination of dimensions.
    pub metrics: usize,
    /// The number of metrics in alarms, counted once for each alarm.
    pub metrics_in_alarms: usize,
    /// The number of dashboards.
    pub dashboards: usize,
    /// The number of secrets.
    pub secrets: usize,
}

/// A route of the API.
#[derive(Clone, Debug)]
pub struct Route {
    /// The method in upper case.
    pub method: String,
    /// The path. A segment in braces is a parameter.
    pub path: String,
}

/// A metric that an alarm watches.
#[derive(Clone, Debug)]
pub struct WatchedMetric {
    /// The id within the alarm; empty if it is the only metric.
    pub id: String,
    /// The metric, if it is one of the stack; `None` if an AWS service reports it.
    pub own: Option<Metric>,
}

/// The CORS configuration of the API.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Cors {
    pub(crate) allow_origins: Vec<String>,
    pub(crate) allow_methods: Vec<String>,
    pub(crate) allow_headers: Vec<String>,
    pub(crate) expose_headers: Vec<String>,
    pub(crate) max_age: u32,
}

/// A DynamoDB table.
pub(crate) struct Table {
    /// The request of `CreateTable`.
    pub(crate) definition: Value,
    /// The request of `UpdateTimeToLive`, if items expire.
    pub(crate) time_to_live: Option<Value>,
}

/// A secret of Secrets Manager.
pub(crate) struct Secret {
    id: String,
    pub(crate) name: String,
    /// The request of `GetRandomPassword` that makes its value, if it is created with one.
    pub(crate) generate: Option<Value>,
}

const FUNCTION: &str = "AWS::Serverless::Function";
const API: &str = "AWS::Serverless::HttpApi";
const TABLE: &str = "AWS::DynamoDB::Table";
const SECRET: &str = "AWS::SecretsManager::Secret";
const ALARM: &str = "AWS::CloudWatch::Alarm";
const DASHBOARD: &str = "AWS::CloudWatch::Dashboard";
const LOG_GROUP: &str = "AWS::Logs::LogGroup";
const METRIC_FILTER: &str = "AWS::Logs::MetricFilter";

static DOCUMENT: LazyLock<Result<Document, String>> =
    LazyLock::new(|| parse(include_str!("../../../template.yaml")));

type Result<T, E = StartError> = std::result::Result<T, E>;

impl Template {
    /// Creates the template for the stack `stack_name`. Each parameter takes its value from the setting with its name,
    /// for example `PasswordMinLength` from `PASSWORD_MIN_LENGTH`, or else its default.
    pub fn for_stack(stack_name: &str, settings: &Settings) -> Result<Self> {
        let document = DOCUMENT.as_ref().map_err(unreadable)?;
        Ok(Self::new(document, stack_name, settings))
    }

    fn new(document: &'static Document, stack_name: &str, settings: &Settings) -> Self {
        let mut values = BTreeMap::from([
            ("AWS::AccountId".to_owned(), json!(aws::ACCOUNT)),
            ("AWS::NoValue".to_owned(), Value::Null),
            ("AWS::Partition".to_owned(), json!("aws")),
            ("AWS::Region".to_owned(), json!(aws::REGION)),
            ("AWS::StackName".to_owned(), json!(stack_name)),
        ]);
        for (name, parameter) in &document.parameters {
            let given = settings.text(&setting_of(name), "");
            let value = if given.is_empty() { parameter.default.clone() } else { Some(given) };
            if let Some(value) = value {
                let list = parameter.kind == "CommaDelimitedList";
                let value = if list { value.split(',').map(str::trim).collect() } else { value.into() };
                values.insert(name.clone(), value);
            }
        }
        Self { document, values, secrets: BTreeMap::new() }
    }

    /// Returns the properties that all functions have unless they have their own.
    #[must_use]
    pub fn globals(&self) -> &'static Value {
        &self.document.globals.function
    }

    /// Returns the parameters, by the names of settings.
    #[must_use]
    pub fn parameters(&self) -> BTreeMap<String, &'static Parameter> {
        self.document.parameters.iter().map(|(name, parameter)| (setting_of(name), parameter)).collect()
    }

    /// Finds the parameter for a setting.
    #[must_use]
    pub fn parameter(&self, setting: &str) -> Option<&'static Parameter> {
        self.parameters().remove(setting)
    }

    /// Returns the functions in the order of their logical ids.
    pub fn functions(&self) -> Result<Vec<Function>> {
        self.of_kind(FUNCTION)?.map(|(id, resource)| self.function(id, resource)).collect()
    }

    fn function(&self, id: &str, resource: &Resource) -> Result<Function> {
        let properties = merge(&self.document.globals.function, &resource.properties);
        let mut routes = Vec::new();
        for event in properties["Events"].as_object().into_iter().flat_map(Map::values) {
            if event["Type"] != "HttpApi" {
                return Err(not_understood("an event", &event["Type"]));
            }
            let properties = &event["Properties"];
            routes.push(Route {
                method: self.read(&properties["Method"])?,
                path: self.read(&properties["Path"])?,
            });
        }
        let folder: String = self.read(&properties["CodeUri"])?;
        Ok(Function {
            id: id.to_owned(),
            name: folder.rsplit('/').next().unwrap_or_default().to_owned(),
            function_name: self.read(&properties["FunctionName"])?,
            timeout: Duration::from_secs(self.read(&properties["Timeout"])?),
            memory_size: self.read(&properties["MemorySize"])?,
            reserved_concurrency: self.number(&properties["ReservedConcurrentExecutions"])?,
            variables: self.read(&properties["Environment"]["Variables"])?,
            routes,
            statements: self.role(&properties["Role"])?,
            log_group: self.read(&properties["LoggingConfig"]["LogGroup"])?,
            system_log_level: self.read(&properties["LoggingConfig"]["SystemLogLevel"])?,
            tracing: self.read(&properties["Tracing"])?,
        })
    }

    /// Reads a number, which is text if it is the value of a parameter.
    fn number(&self, value: &Value) -> Result<Option<u32>> {
        let value = self.resolve(value)?;
        if value.is_null() { Ok(None) } else { text(&value)?.parse().map(Some).map_err(unreadable) }
    }

    /// Returns the statements of a role, to which a `GetAtt` refers: those of its own policies, of the managed policies
    /// that it names, and of those that name it.
    fn role(&self, reference: &Value) -> Result<Vec<Statement>> {
        let role = self.target(reference)?;
        let own = self.resolve(&role.properties["Policies"])?;
        let mut policies: Vec<&Value> = elements(&own).collect();
        for managed in elements(&role.properties["ManagedPolicyArns"]) {
            policies.push(&self.target(managed)?.properties);
        }
        for (_, managed) in self.of_kind("AWS::IAM::ManagedPolicy")? {
            for attached in elements(&managed.properties["Roles"]) {
                if std::ptr::eq(self.target(attached)?, role) {
                    policies.push(&managed.properties);
                }
            }
        }
        let mut statements = Vec::new();
        for policy in policies {
            statements.extend(self.read::<Vec<Statement>>(&policy["PolicyDocument"]["Statement"])?);
        }
        Ok(statements)
    }

    /// Returns the CORS configuration of the API, if it has one.
    pub(crate) fn cors(&self) -> Result<Option<Cors>> {
        let (_, api) = self.of_kind(API)?.next().ok_or_else(|| not_understood("no resource of", API))?;
        self.read(&api.properties["CorsConfiguration"])
    }

    /// Returns the tables of the stack, and those that parameters name as replacements, as `UsersTable` does for
    /// `TableUsers`, with the same definition.
    pub(crate) fn tables(&self) -> Result<Vec<Table>> {
        let mut tables = Vec::new();
        for (id, resource) in self.of_kind(TABLE)? {
            let properties = self.resolve(&resource.properties)?;
            let restored = self.values.get(&format!("{}Table", id.trim_start_matches("Table")));
            for name in restored.filter(|name| **name != "").into_iter().chain([&properties["TableName"]]) {
                let mut definition = Map::from_iter([("TableName".to_owned(), name.clone())]);
                // Deletion protection is left out, because local tables are disposable.
                for property in ["BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes"]
                {
                    if let Some(value) = properties.get(property) {
                        definition.insert(property.to_owned(), value.clone());
                    }
                }
                let time_to_live = properties.get("TimeToLiveSpecification").map(
                    |specification| json!({"TableName": name, "TimeToLiveSpecification": specification}),
                );
                tables.push(Table { definition: definition.into(), time_to_live });
            }
        }
        Ok(tables)
    }

    pub(crate) fn secrets(&self) -> Result<Vec<Secret>> {
        let mut secrets = Vec::new();
        for (id, resource) in self.of_kind(SECRET)? {
            let name = self.read(&resource.properties["Name"])?;
            let generate = self.read(&resource.properties["GenerateSecretString"])?;
            secrets.push(Secret { id: id.clone(), name, generate });
        }
        Ok(secrets)
    }

    /// Records the ARN of a secret that exists.
    pub(crate) fn created(&mut self, secret: Secret, arn: String) {
        self.secrets.insert(secret.id, arn);
    }

    /// Returns the metrics of each alarm, by the logical ids of the alarms.
    pub fn alarms(&self) -> Result<BTreeMap<&'static str, Vec<WatchedMetric>>> {
        let alarms = self.of_kind(ALARM)?.map(|(id, resource)| {
            let properties = &resource.properties;
            let mut metrics = Vec::new();
            if !properties["MetricName"].is_null() {
                metrics.push(self.watched("", properties)?);
            }
            for metric in elements(&properties["Metrics"]).filter(|metric| !metric["MetricStat"].is_null()) {
                metrics.push(self.watched(&text(&metric["Id"])?, &metric["MetricStat"]["Metric"])?);
            }
            Ok((id.as_str(), metrics))
        });
        alarms.collect()
    }

    fn watched(&self, id: &str, metric: &Value) -> Result<WatchedMetric> {
        let namespace: String = self.read(&metric["Namespace"])?;
        let own = if Some(namespace.as_str()) == self.values["AWS::StackName"].as_str() {
            let dimensions = elements(&metric["Dimensions"])
                .map(|dimension| Ok((self.read(&dimension["Name"])?, self.read(&dimension["Value"])?)));
            let dimensions = dimensions.collect::<Result<_>>()?;
            Some(Metric { name: self.read(&metric["MetricName"])?, dimensions })
        } else {
            None
        };
        Ok(WatchedMetric { id: id.to_owned(), own })
    }

    /// Returns the metric filters by their logical ids.
    pub fn metric_filters(&self) -> Result<BTreeMap<&'static str, MetricFilter>> {
        let filters = self.of_kind(METRIC_FILTER)?.map(|(id, Resource { properties, .. })| {
            let transformations = self.resolve(&properties["MetricTransformations"])?;
            let [transformation] = elements(&transformations).collect::<Vec<_>>()[..] else {
                return Err(not_understood("the transformations of", id));
            };
            let log_group = self.read(&properties["LogGroupName"])?;
            let pattern: String = self.read(&properties["FilterPattern"])?;
            let filter = MetricFilter::new(log_group, &pattern, transformation);
            Ok((id.as_str(), filter.map_err(|error| not_understood(id, error))?))
        });
        filters.collect()
    }

    /// Returns the names of the log groups.
    pub fn log_group_names(&self) -> Result<Vec<String>> {
        self.of_kind(LOG_GROUP)?.map(|(_, group)| self.read(&group.properties["LogGroupName"])).collect()
    }

    /// Returns the text of each saved query, by logical id.
    pub fn queries(&self) -> Result<BTreeMap<&'static str, String>> {
        let queries = self.of_kind("AWS::Logs::QueryDefinition")?;
        queries.map(|(id, query)| Ok((id.as_str(), text(&query.properties["QueryString"])?))).collect()
    }

    /// Returns the widgets of the dashboard, with all references removed except for the name of the stack.
    pub fn widgets(&self) -> Result<Vec<Value>> {
        let (_, dashboard) =
            self.of_kind(DASHBOARD)?.next().ok_or_else(|| not_understood("no resource of", DASHBOARD))?;
        let mut body = text(&dashboard.properties["DashboardBody"]["Fn::Sub"])?
            .replace("${AWS::StackName}", &text(&self.values["AWS::StackName"])?);
        while let Some((before, (_, after))) =
            body.split_once("${").and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
        {
            body = format!("{before}{after}");
        }
        let mut body: Value = serde_json::from_str(&body).map_err(unreadable)?;
        serde_json::from_value(body["widgets"].take()).map_err(unreadable)
    }

    /// Returns the access log of the API.
    pub fn access_log(&self) -> Result<AccessLog> {
        let (_, api) = self.of_kind(API)?.next().ok_or_else(|| not_understood("no resource of", API))?;
        let settings = &api.properties["AccessLogSettings"];
        let group = self.target(&settings["DestinationArn"])?;
        let class: Option<String> = self.read(&group.properties["LogGroupClass"])?;
        let is_infrequent_access = class.as_deref() == Some("INFREQUENT_ACCESS");
        Ok(AccessLog { format: self.read(&settings["Format"])?, is_infrequent_access })
    }

    /// Counts the resources of the stack that cost a fixed price each month.
    pub fn monthly_resources(&self) -> Result<MonthlyResources> {
        let metrics: BTreeSet<_> = self.metric_filters()?.values().flat_map(MetricFilter::metrics).collect();
        Ok(MonthlyResources {
            metrics: metrics.len(),
            metrics_in_alarms: self.alarms()?.values().map(Vec::len).sum(),
            dashboards: self.of_kind(DASHBOARD)?.count(),
            secrets: self.of_kind(SECRET)?.count(),
        })
    }

    /// Returns the resources of the stack by their logical ids, without those whose condition does not hold.
    pub fn resources(&self) -> Result<BTreeMap<&'static String, &'static Resource>> {
        let mut resources = BTreeMap::new();
        for (id, resource) in &self.document.resources {
            if resource.condition.as_deref().map_or(Ok(true), |condition| self.condition(condition))? {
                resources.insert(id, resource);
            }
        }
        Ok(resources)
    }

    fn of_kind(&self, kind: &str) -> Result<impl Iterator<Item = (&'static String, &'static Resource)>> {
        Ok(self.resources()?.into_iter().filter(move |(_, resource)| resource.kind == kind))
    }
}

/// Returns the name of the setting for a parameter: `PASSWORD_MIN_LENGTH` for `PasswordMinLength`.
fn setting_of(parameter: &str) -> String {
    let mut setting = String::new();
    for character in parameter.chars() {
        if character.is_ascii_uppercase() && !setting.is_empty() {
            setting.push('_');
        }
        setting.push(character.to_ascii_uppercase());
    }
    setting
}

fn unreadable(error: impl std::fmt::Display) -> StartError {
    StartError::new("template.yaml", error)
}

fn not_understood(what: &str, value: impl std::fmt::Display) -> StartError {
    unreadable(format_args!("{what} {value} is not understood"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = "
        Parameters:
          UsersTable: {Type: String, Default: ''}
          JwtRotationDays: {Type: Number, Default: 30}
          Subnets: {Type: CommaDelimitedList, Default: ''}
          MailFrom: {Type: String}
        Conditions:
          Own: !Equals [!Ref UsersTable, '']
          Restored: !Not [!Condition Own]
        Globals: {Function: {Timeout: 20}}
        Resources:
          TableUsers:
            Type: AWS::DynamoDB::Table
            Properties: {TableName: !Sub '${AWS::StackName}-users', DeletionProtectionEnabled: true}
          Key:
            Type: AWS::SecretsManager::Secret
            Properties: {Name: !Sub '${AWS::StackName}/key', GenerateSecretString: {PasswordLength: 64}}
          Topic: {Type: AWS::SNS::Topic}
    ";

    pub(super) fn template(settings: &'static [(&str, &str)]) -> Template {
        let document = Box::leak(Box::new(parse(YAML).unwrap()));
        let setting = |name: &str| settings.iter().find(|(setting, _)| *setting == name);
        let settings = Settings::new(move |name| setting(name).map(|(_, value)| (*value).to_owned()));
        Template::new(document, "test", &settings)
    }

    #[test]
    fn a_restored_table_has_the_same_definition() {
        let definitions = |settings| {
            let tables = template(settings).tables().unwrap().into_iter();
            tables.map(|table| table.definition).collect::<Vec<_>>()
        };
        assert_eq!(definitions(&[]), [json!({"TableName": "test-users"})]);
        let both = ["restored", "test-users"].map(|name| json!({"TableName": name}));
        assert_eq!(definitions(&[("USERS_TABLE", "restored")]), both);
    }
}
