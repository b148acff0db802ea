//! SAM: `template.yaml` as AWS would read it for one stack.
//!
//! Only what a stack on this machine has use for is ever evaluated; of that, what is not understood is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use shared::settings::Settings;

use crate::aws::{self, arn};
use crate::iam::Permission;
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

/// A statement of an IAM policy.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    #[serde(rename = "Effect")]
    _effect: Effect,
    /// What is allowed, as `service:Action`,
    #[serde(rename = "Action", deserialize_with = "texts")]
    pub actions: Vec<String>,
    /// to any of these ARNs,
    #[serde(rename = "Resource", deserialize_with = "texts")]
    pub resources: Vec<String>,
    /// under this condition.
    #[serde(rename = "Condition", default)]
    pub condition: Condition,
}

#[derive(Clone, Debug, Deserialize)]
enum Effect {
    Allow,
}

impl Statement {
    /// Every single action on every single resource, and on every single attribute where these are restricted.
    pub fn permissions(&self, function: &str) -> Vec<Permission> {
        let attributes = match self.condition.attributes() {
            Some(attributes) => attributes.iter().cloned().map(Some).collect(),
            None => vec![None],
        };
        let mut permissions = Vec::new();
        for action in &self.actions {
            for resource in &self.resources {
                permissions.extend(attributes.iter().map(|attribute| Permission {
                    function: function.to_owned(),
                    action: action.clone(),
                    resource: resource.clone(),
                    attribute: attribute.clone(),
                }));
            }
        }
        permissions
    }
}

/// The condition of a statement: condition keys and the values that are allowed to them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Keys that a request has to have.
    #[serde(rename = "StringEquals", default)]
    string_equals: BTreeMap<String, Texts>,
    /// Keys that a request need not have.
    #[serde(rename = "StringEqualsIfExists", default)]
    string_equals_if_exists: BTreeMap<String, Texts>,
    /// Keys of which a request may have several values.
    #[serde(rename = "ForAllValues:StringEquals", default)]
    for_all_values: BTreeMap<String, Texts>,
}

/// One text or several.
#[derive(Clone, Debug, Deserialize)]
struct Texts(#[serde(deserialize_with = "texts")] Vec<String>);

/// The condition key for the attributes that a call to DynamoDB names.
pub(crate) const ATTRIBUTES: &str = "dynamodb:Attributes";

impl Condition {
    /// Returns whether it holds for a call that has these keys and values.
    pub(crate) fn holds(&self, context: &BTreeMap<&'static str, BTreeSet<String>>) -> bool {
        let allows = |(key, allowed): (&String, &Texts), without: bool| {
            context
                .get(key.as_str())
                .map_or(without, |values| values.iter().all(|value| allowed.0.contains(value)))
        };
        self.string_equals.iter().all(|key| allows(key, false))
            && self.string_equals_if_exists.iter().all(|key| allows(key, true))
            && self.for_all_values.iter().all(|key| allows(key, true))
    }

    /// The attributes that it allows, where it restricts them.
    pub(crate) fn attributes(&self) -> Option<&[String]> {
        self.for_all_values.get(ATTRIBUTES).map(|attributes| &*attributes.0)
    }
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

/// The template as it is written, with the functions in their long form.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    parameters: BTreeMap<String, Parameter>,
    conditions: BTreeMap<String, Value>,
    globals: Globals,
    resources: BTreeMap<String, Resource>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Globals {
    function: Value,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Resource {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(default)]
    properties: Value,
}

const FUNCTION: &str = "AWS::Serverless::Function";
const API: &str = "AWS::Serverless::HttpApi";
const TABLE: &str = "AWS::DynamoDB::Table";
const SECRET: &str = "AWS::SecretsManager::Secret";
const ALARM: &str = "AWS::CloudWatch::Alarm";
const DASHBOARD: &str = "AWS::CloudWatch::Dashboard";
const METRIC_FILTER: &str = "AWS::Logs::MetricFilter";

static DOCUMENT: LazyLock<Result<Document, String>> =
    LazyLock::new(|| parse(include_str!("../../template.yaml")));

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

    fn resource(&self, id: &str) -> Result<&'static Resource> {
        self.document.resources.get(id).ok_or_else(|| not_understood("no resource is called", id))
    }

    /// The resource that a `Ref` or the `Arn` of a `GetAtt` is about.
    fn target(&self, value: &Value) -> Result<&'static Resource> {
        let id = value["Ref"].as_str().or_else(|| value["Fn::GetAtt"].as_str()?.strip_suffix(".Arn"));
        self.resource(id.ok_or_else(|| not_understood("no reference", value))?)
    }

    fn read<T: DeserializeOwned>(&self, value: &Value) -> Result<T> {
        T::deserialize(self.resolve(value)?).map_err(unreadable)
    }

    /// The value with everything in it evaluated. `AWS::NoValue` is null, and takes its property with it.
    fn resolve(&self, value: &Value) -> Result<Value> {
        match value {
            Value::Array(array) => {
                let elements = array.iter().map(|element| self.resolve(element));
                let elements = elements.filter(|element| !matches!(element, Ok(Value::Null)));
                Ok(Value::Array(elements.collect::<Result<_>>()?))
            }
            Value::Object(object) => {
                if let Some((function, argument)) = call(object) {
                    return self.evaluate(function, argument);
                }
                let members = object.iter().map(|(name, value)| Ok((name.clone(), self.resolve(value)?)));
                let members = members.filter(|member| !matches!(member, Ok((_, Value::Null))));
                Ok(Value::Object(members.collect::<Result<_>>()?))
            }
            scalar => Ok(scalar.clone()),
        }
    }

    fn evaluate(&self, function: &str, argument: &Value) -> Result<Value> {
        let wrong = || not_understood(function, argument);
        match (function, argument) {
            ("Ref", Value::String(name)) => self.reference(name),
            ("Fn::GetAtt", Value::String(path)) => self.attribute(path).map(Value::from),
            ("Fn::Sub", Value::String(pattern)) => self.substitute(pattern, &Value::Null).map(Value::from),
            ("Fn::Sub", Value::Array(arguments)) => {
                let [Value::String(pattern), own] = &arguments[..] else { return Err(wrong()) };
                self.substitute(pattern, &self.resolve(own)?).map(Value::from)
            }
            ("Fn::If", Value::Array(arguments)) => {
                let [Value::String(condition), then, otherwise] = &arguments[..] else { return Err(wrong()) };
                self.resolve(if self.condition(condition)? { then } else { otherwise })
            }
            ("Fn::Select", Value::Array(arguments)) => {
                let [index, list] = &arguments[..] else { return Err(wrong()) };
                let index: usize = text(index)?.parse().map_err(|_| wrong())?;
                self.resolve(list)?.get(index).cloned().ok_or_else(wrong)
            }
            ("Fn::Split", Value::Array(arguments)) => {
                let [Value::String(separator), list] = &arguments[..] else { return Err(wrong()) };
                Ok(text(&self.resolve(list)?)?.split(separator.as_str()).collect())
            }
            _ => Err(wrong()),
        }
    }

    fn reference(&self, name: &str) -> Result<Value> {
        if let Some(value) = self.values.get(name) {
            return Ok(value.clone());
        }
        let Resource { kind, properties, .. } = self.resource(name)?;
        match (kind.as_str(), self.secrets.get(name)) {
            (FUNCTION, _) => self.resolve(&properties["FunctionName"]),
            (TABLE, _) => self.resolve(&properties["TableName"]),
            ("AWS::SES::ConfigurationSet", _) => self.resolve(&properties["Name"]),
            (SECRET, Some(arn)) => Ok(arn.as_str().into()),
            (SECRET, None) => {
                let name: String = self.read(&properties["Name"])?;
                Ok(arn("secretsmanager", &format!("secret:{name}")).into())
            }
            _ => Err(not_understood("Ref", name)),
        }
    }

    fn attribute(&self, path: &str) -> Result<String> {
        let (id, attribute) = path.split_once('.').unwrap_or((path, ""));
        let Resource { kind, properties, .. } = self.resource(id)?;
        let name = |property: &str| text(&self.resolve(&properties[property])?);
        match (kind.as_str(), attribute) {
            (FUNCTION, "Arn") => Ok(arn("lambda", &format!("function:{}", name("FunctionName")?))),
            (TABLE, "Arn") => Ok(arn("dynamodb", &format!("table/{}", name("TableName")?))),
            ("AWS::Logs::LogGroup", "Arn") => {
                Ok(arn("logs", &format!("log-group:{}:*", name("LogGroupName")?)))
            }
            _ => Err(not_understood("Fn::GetAtt", path)),
        }
    }

    /// The text with `${Name}` and `${Resource.Attribute}` replaced, by `own` values first.
    fn substitute(&self, pattern: &str, own: &Value) -> Result<String> {
        let mut pieces = pattern.split("${");
        let mut substituted = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let (name, rest) = piece.split_once('}').ok_or_else(|| not_understood("Fn::Sub", pattern))?;
            let value = match own.get(name) {
                Some(value) => text(value)?,
                None if name.contains('.') => self.attribute(name)?,
                None => text(&self.reference(name)?)?,
            };
            substituted.push_str(&value);
            substituted.push_str(rest);
        }
        Ok(substituted)
    }

    fn condition(&self, name: &str) -> Result<bool> {
        let condition = self.document.conditions.get(name);
        self.holds(condition.ok_or_else(|| not_understood("no condition is called", name))?)
    }

    fn holds(&self, condition: &Value) -> Result<bool> {
        let wrong = || not_understood("the condition", condition);
        let (function, argument) = condition.as_object().and_then(call).ok_or_else(wrong)?;
        match (function, argument) {
            ("Condition", Value::String(name)) => self.condition(name),
            ("Fn::Equals", Value::Array(arguments)) => {
                let [left, right] = &arguments[..] else { return Err(wrong()) };
                Ok(text(&self.resolve(left)?)? == text(&self.resolve(right)?)?)
            }
            ("Fn::Not", Value::Array(arguments)) => {
                let [condition] = &arguments[..] else { return Err(wrong()) };
                Ok(!self.holds(condition)?)
            }
            _ => Err(wrong()),
        }
    }
}

/// Reads a template, and gives each short tag, such as `!Ref Name`, its long form.
fn parse(yaml: &str) -> Result<Document, String> {
    let value: yaml_serde::Value = yaml_serde::from_str(yaml).map_err(|error| error.to_string())?;
    Document::deserialize(long_form(value)?).map_err(|error| error.to_string())
}

fn long_form(value: yaml_serde::Value) -> Result<Value, String> {
    use yaml_serde::Value as Yaml;
    match value {
        Yaml::Tagged(tagged) => {
            let tag = tagged.tag.to_string();
            let name = tag.trim_start_matches('!');
            let name =
                if ["Ref", "Condition"].contains(&name) { name.to_owned() } else { format!("Fn::{name}") };
            Ok(Value::Object(Map::from_iter([(name, long_form(tagged.value)?)])))
        }
        Yaml::Sequence(sequence) => sequence.into_iter().map(long_form).collect(),
        Yaml::Mapping(mapping) => {
            let members = mapping.into_iter().map(|(key, value)| match key {
                Yaml::String(key) => Ok((key, long_form(value)?)),
                key => Err(format!("the key {key:?} is no text")),
            });
            Ok(Value::Object(members.collect::<Result<_, _>>()?))
        }
        scalar => serde_json::to_value(scalar).map_err(|error| error.to_string()),
    }
}

/// The function that an object is a call of, in its long form, and its argument.
fn call(object: &Map<String, Value>) -> Option<(&str, &Value)> {
    let (name, argument) = object.iter().next().filter(|_| object.len() == 1)?;
    (name.starts_with("Fn::") || ["Ref", "Condition"].contains(&name.as_str())).then_some((name, argument))
}

/// The globals with what a resource says itself: mappings are merged, lists joined, all else is replaced.
fn merge(global: &Value, own: &Value) -> Value {
    match (global, own) {
        (Value::Object(global), Value::Object(own)) => {
            let mut merged = global.clone();
            for (name, own) in own {
                let value = global.get(name).map_or_else(|| own.clone(), |global| merge(global, own));
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (Value::Array(global), Value::Array(own)) => global.iter().chain(own).cloned().collect(),
        _ => own.clone(),
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

fn elements(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A scalar as a text, which is how AWS passes all of them.
fn text(value: &Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        _ => Err(not_understood("no scalar", value)),
    }
}

fn optional_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    text(&Value::deserialize(deserializer)?).map(Some).map_err(serde::de::Error::custom)
}

/// One or several scalars.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let values = if let Value::Array(values) = value { values } else { vec![value] };
    values.iter().map(text).collect::<Result<_>>().map_err(serde::de::Error::custom)
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

    fn template(settings: &'static [(&str, &str)]) -> Template {
        let document = Box::leak(Box::new(parse(YAML).unwrap()));
        let setting = |name: &str| settings.iter().find(|(setting, _)| *setting == name);
        let settings = Settings::new(move |name| setting(name).map(|(_, value)| (*value).to_owned()));
        Template::new(document, "test", &settings)
    }

    #[track_caller]
    fn resolved(template: &Template, yaml: &str) -> Value {
        let value = long_form(yaml_serde::from_str(yaml).unwrap()).unwrap();
        template.resolve(&value).unwrap()
    }

    #[test]
    fn functions_are_evaluated() {
        let template = template(&[("CORS_ALLOW_ORIGINS", "https://a.example, https://b.example")]);
        for (yaml, expected) in [
            ("!Ref JwtRotationDays", json!("30")),
            ("!Ref CorsAllowOrigins", json!(["https://a.example", "https://b.example"])),
            ("!Ref TableUsers", json!("test-users")),
            ("!GetAtt TableUsers.Arn", json!("arn:aws:dynamodb:eu-central-1:000000000000:table/test-users")),
            ("!Ref Key", json!("arn:aws:secretsmanager:eu-central-1:000000000000:secret:test/key")),
            (
                "!Sub ['${TableUsers.Arn}/${Own}.${AWS::Region}', {Own: !Ref JwtRotationDays}]",
                json!("arn:aws:dynamodb:eu-central-1:000000000000:table/test-users/30.eu-central-1"),
            ),
            ("!Select [1, !Split ['@', a@b]]", json!("b")),
            ("{A: !If [Own, !Ref AWS::NoValue, 1], B: [!If [Restored, !Ref Topic, 2]]}", json!({"B": [2]})),
        ] {
            assert_eq!(resolved(&template, yaml), expected, "{yaml}");
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        let template = template(&[]);
        for yaml in [
            "!Ref Nothing",
            "!Ref MailFrom",
            "!Ref Topic",
            "!GetAtt Topic.Arn",
            "!GetAtt TableUsers.StreamArn",
            "!Sub '${Nothing}'",
            "!Sub '${Own'",
            "!If [Nothing, 1, 2]",
            "!Select [1, [a]]",
            "!ImportValue a",
            "!Own",
        ] {
            let value = long_form(yaml_serde::from_str(yaml).unwrap()).unwrap();
            assert!(template.resolve(&value).is_err(), "{yaml}");
        }
        assert!(parse("Parameters: {A: {Type: String}, A: {Type: String}}").is_err());
    }

    #[test]
    fn a_restored_table_has_the_form_of_the_own_one() {
        let names = |settings| template(settings).tables().unwrap().remove(0).definition["TableName"].clone();
        assert_eq!(names(&[]), "test-users");
        assert_eq!(names(&[("USERS_TABLE", "restored")]), "restored");
        let definition = template(&[]).tables().unwrap().remove(0).definition;
        assert_eq!(definition, json!({"TableName": "test-users"}));
    }

    #[test]
    fn globals_are_merged() {
        let global = json!({"Timeout": 20, "Environment": {"Variables": {"A": 1, "B": 1}}, "Layers": [1]});
        let own = json!({"Timeout": 29, "Environment": {"Variables": {"B": 2}}, "Layers": [2], "Role": "r"});
        assert_eq!(
            merge(&global, &own),
            json!({"Timeout": 29, "Environment": {"Variables": {"A": 1, "B": 2}}, "Layers": [1, 2], "Role": "r"})
        );
    }
}
