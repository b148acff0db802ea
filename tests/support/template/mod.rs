//! SAM: `template.yaml` as AWS would read it for one stack.
//!
//! Only what a stack on this machine has use for is ever evaluated; of that, what is not understood is an error.

mod intrinsics;
mod policy;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use shared::settings::Settings;

pub(crate) use self::policy::ATTRIBUTES;
pub use self::policy::{Condition, Statement};
use self::yaml::{Document, Resource, elements, merge, optional_text, parse, text, texts};
use crate::aws;
use crate::metric_filters::{Metric, MetricFilter};
use crate::stack::StartError;

/// `template.yaml` for one stack in this machine's region and account.
#[derive(Clone, Debug)]
pub struct Template {
    document: &'static Document,
    /// What `Ref` gives for parameters and pseudo parameters.
    values: BTreeMap<String, Value>,
    /// The ARNs of the secrets that are there. They end in random characters; until then, `Ref` gives what comes
    /// before these, which names the secret too.
    secrets: BTreeMap<String, String>,
}

/// A parameter as it is declared.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Parameter {
    #[serde(rename = "Type")]
    kind: String,
    /// The value unless another one is given.
    #[serde(default, deserialize_with = "optional_text")]
    pub default: Option<String>,
    /// The least number that is taken.
    pub min_value: Option<i64>,
    /// The greatest number that is taken.
    pub max_value: Option<i64>,
    /// The regular expression that a value, or each element of a list, has to match as a whole.
    pub allowed_pattern: Option<String>,
    /// The only values that are taken, unless there are none here.
    #[serde(default, deserialize_with = "texts")]
    pub allowed_values: Vec<String>,
}

/// A Lambda function.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its logical id, which `sam build` names its folder by.
    pub id: String,
    /// The name of its crate, its folder and its binary.
    pub name: String,
    /// The name that Lambda knows it by.
    pub function_name: String,
    /// How long an invocation may take.
    pub timeout: Duration,
    /// Its memory in MB.
    pub memory_size: u32,
    /// Its environment variables.
    pub variables: BTreeMap<String, String>,
    /// The routes of the API that it answers.
    pub routes: Vec<Route>,
    /// All that its role allows it to do.
    pub statements: Vec<Statement>,
    /// The least level of Lambda's own lines in the log, if it is not Lambda's default.
    pub system_log_level: Option<String>,
    /// Whether X-Ray samples by itself, `Active`, or only follows the caller.
    pub tracing: String,
}

/// API Gateway's access log.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// A line, with API Gateway's variables.
    pub format: String,
    /// Whether its group is of the class that costs half as much, Infrequent Access.
    pub is_infrequent_access: bool,
}

/// What a stack pays for by the month, whatever its traffic.
#[derive(Clone, Copy, Debug)]
pub struct MonthlyResources {
    /// Custom metrics, one for each combination of dimensions.
    pub metrics: usize,
    /// Metrics that alarms watch, each as often as an alarm does.
    pub metrics_in_alarms: usize,
    /// Dashboards.
    pub dashboards: usize,
    /// Secrets.
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
    /// Its id within the alarm; empty where it is the only one.
    pub id: String,
    /// The metric, if it is one of the stack's own; `None` if AWS's services report it.
    pub own: Option<Metric>,
}

/// What the API tells browsers of other origins.
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
    /// What `CreateTable` takes.
    pub(crate) definition: Value,
    /// What `UpdateTimeToLive` takes, where items expire.
    pub(crate) time_to_live: Option<Value>,
}

/// A secret of Secrets Manager.
pub(crate) struct Secret {
    id: String,
    pub(crate) name: String,
    /// What `GetRandomPassword` takes.
    pub(crate) generate: Value,
}

const FUNCTION: &str = "AWS::Serverless::Function";
const API: &str = "AWS::Serverless::HttpApi";
const TABLE: &str = "AWS::DynamoDB::Table";
const SECRET: &str = "AWS::SecretsManager::Secret";
const ALARM: &str = "AWS::CloudWatch::Alarm";
const DASHBOARD: &str = "AWS::CloudWatch::Dashboard";
const METRIC_FILTER: &str = "AWS::Logs::MetricFilter";

static DOCUMENT: LazyLock<Result<Document, String>> =
    LazyLock::new(|| parse(include_str!("../../../template.yaml")));

type Result<T, E = StartError> = std::result::Result<T, E>;

impl Template {
    /// The template for the stack called `stack_name`. Each parameter takes its value from the setting of its name,
    /// such as `PasswordMinLength` from `PASSWORD_MIN_LENGTH`, or else its default.
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

    /// The parameter that is the setting of this name.
    #[must_use]
    pub fn parameter(&self, setting: &str) -> Option<&Parameter> {
        let mut parameters = self.document.parameters.iter();
        parameters.find(|(name, _)| setting_of(name) == setting).map(|(_, parameter)| parameter)
    }

    /// The functions, in the order of their logical ids.
    pub fn functions(&self) -> Result<Vec<Function>> {
        self.of_kind(FUNCTION).map(|(id, resource)| self.function(id, resource)).collect()
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
            variables: self.read(&properties["Environment"]["Variables"])?,
            routes,
            statements: self.role(&self.target(&properties["Role"])?.properties)?,
            system_log_level: self.read(&properties["LoggingConfig"]["SystemLogLevel"])?,
            tracing: self.read(&properties["Tracing"])?,
        })
    }

    /// What a role allows.
    fn role(&self, role: &Value) -> Result<Vec<Statement>> {
        let mut policies: Vec<&Value> = elements(&role["Policies"]).collect();
        for managed in elements(&role["ManagedPolicyArns"]) {
            policies.push(&self.target(managed)?.properties);
        }
        let mut statements = Vec::new();
        for policy in policies {
            statements.extend(self.read::<Vec<Statement>>(&policy["PolicyDocument"]["Statement"])?);
        }
        Ok(statements)
    }

    pub(crate) fn cors(&self) -> Result<Cors> {
        let (_, api) = self.of_kind(API).next().ok_or_else(|| not_understood("no resource of", API))?;
        self.read(&api.properties["CorsConfiguration"])
    }

    /// The tables that the functions use. Where a parameter names one to be used in place of the stack's own, as
    /// `UsersTable` does for `TableUsers`, it is one of the same form.
    pub(crate) fn tables(&self) -> Result<Vec<Table>> {
        let tables = self.of_kind(TABLE).map(|(id, resource)| {
            let properties = self.resolve(&resource.properties)?;
            let restored = self.values.get(&format!("{}Table", id.trim_start_matches("Table")));
            let name = restored.filter(|name| **name != "").unwrap_or(&properties["TableName"]);
            let mut definition = Map::from_iter([("TableName".to_owned(), name.clone())]);
            // Not the protection from deletion: what is here is here to be thrown away.
            for property in ["BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes"] {
                if let Some(value) = properties.get(property) {
                    definition.insert(property.to_owned(), value.clone());
                }
            }
            let time_to_live = properties
                .get("TimeToLiveSpecification")
                .map(|specification| json!({"TableName": name, "TimeToLiveSpecification": specification}));
            Ok(Table { definition: definition.into(), time_to_live })
        });
        tables.collect()
    }

    pub(crate) fn secrets(&self) -> Result<Vec<Secret>> {
        let secrets = self.of_kind(SECRET).map(|(id, resource)| {
            let name = self.read(&resource.properties["Name"])?;
            let generate = self.resolve(&resource.properties["GenerateSecretString"])?;
            Ok(Secret { id: id.clone(), name, generate })
        });
        secrets.collect()
    }

    /// Notes that a secret is there.
    pub(crate) fn created(&mut self, secret: Secret, arn: String) {
        self.secrets.insert(secret.id, arn);
    }

    /// The alarms by their logical ids, with the metrics that they watch.
    pub fn alarms(&self) -> Result<BTreeMap<&'static str, Vec<WatchedMetric>>> {
        let alarms = self.of_kind(ALARM).map(|(id, resource)| {
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

    /// The metric filters by their logical ids. All of them read the functions' log.
    pub fn metric_filters(&self) -> Result<BTreeMap<&'static str, MetricFilter>> {
        let filters = self.of_kind(METRIC_FILTER).map(|(id, Resource { properties, .. })| {
            let transformations = self.resolve(&properties["MetricTransformations"])?;
            let [transformation] = elements(&transformations).collect::<Vec<_>>()[..] else {
                return Err(not_understood("the transformations of", id));
            };
            if properties["LogGroupName"]["Ref"] != "LogGroup" {
                return Err(not_understood("the log group of", id));
            }
            let pattern: String = self.read(&properties["FilterPattern"])?;
            let filter = MetricFilter::new(&pattern, transformation);
            Ok((id.as_str(), filter.map_err(|error| not_understood(id, error))?))
        });
        filters.collect()
    }

    /// The saved queries by their logical ids, as they are written.
    pub fn queries(&self) -> Result<BTreeMap<&'static str, String>> {
        let queries = self.of_kind("AWS::Logs::QueryDefinition");
        queries.map(|(id, query)| Ok((id.as_str(), text(&query.properties["QueryString"])?))).collect()
    }

    /// The widgets of the dashboard, in which other resources than the stack's name are left out.
    pub fn widgets(&self) -> Result<Vec<Value>> {
        let (_, dashboard) =
            self.of_kind(DASHBOARD).next().ok_or_else(|| not_understood("no resource of", DASHBOARD))?;
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

    /// The API's access log.
    pub fn access_log(&self) -> Result<AccessLog> {
        let (_, api) = self.of_kind(API).next().ok_or_else(|| not_understood("no resource of", API))?;
        let settings = &api.properties["AccessLogSettings"];
        let group = self.target(&settings["DestinationArn"])?;
        let class: Option<String> = self.read(&group.properties["LogGroupClass"])?;
        let is_infrequent_access = class.as_deref() == Some("INFREQUENT_ACCESS");
        Ok(AccessLog { format: self.read(&settings["Format"])?, is_infrequent_access })
    }

    /// What the stack pays for by the month, whatever its traffic.
    pub fn monthly_resources(&self) -> Result<MonthlyResources> {
        let metrics: BTreeSet<_> = self.metric_filters()?.values().flat_map(MetricFilter::metrics).collect();
        Ok(MonthlyResources {
            metrics: metrics.len(),
            metrics_in_alarms: self.alarms()?.values().map(Vec::len).sum(),
            dashboards: self.of_kind(DASHBOARD).count(),
            secrets: self.of_kind(SECRET).count(),
        })
    }

    fn of_kind(&self, kind: &str) -> impl Iterator<Item = (&'static String, &'static Resource)> {
        self.document.resources.iter().filter(move |(_, resource)| resource.kind == kind)
    }
}

/// The name of the setting that a parameter is: `PASSWORD_MIN_LENGTH` of `PasswordMinLength`.
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
          CorsAllowOrigins: {Type: CommaDelimitedList, Default: '*'}
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
    fn a_restored_table_has_the_form_of_the_own_one() {
        let names = |settings| template(settings).tables().unwrap().remove(0).definition["TableName"].clone();
        assert_eq!(names(&[]), "test-users");
        assert_eq!(names(&[("USERS_TABLE", "restored")]), "restored");
        let definition = template(&[]).tables().unwrap().remove(0).definition;
        assert_eq!(definition, json!({"TableName": "test-users"}));
    }
}
