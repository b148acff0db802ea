//! The intrinsic functions, such as `Ref` and `Fn::Sub`, and the conditions.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::yaml::{Resource, text};
use super::{FUNCTION, LOG_GROUP, Result, SECRET, TABLE, Template, not_understood, unreadable};
use crate::aws::arn;
use crate::lambda::LATEST;

impl Template {
    pub(super) fn resource(&self, id: &str) -> Result<&'static Resource> {
        self.document.resources.get(id).ok_or_else(|| not_understood("no resource is called", id))
    }

    /// Finds the resource to which a `Ref` or the `Arn` of a `GetAtt` refers.
    pub(super) fn target(&self, value: &Value) -> Result<&'static Resource> {
        let id = value["Ref"].as_str().or_else(|| value["Fn::GetAtt"].as_str()?.strip_suffix(".Arn"));
        self.resource(id.ok_or_else(|| not_understood("no reference", value))?)
    }

    pub(super) fn read<T: DeserializeOwned>(&self, value: &Value) -> Result<T> {
        T::deserialize(self.resolve(value)?).map_err(unreadable)
    }

    /// Evaluates everything in a value. `AWS::NoValue` is null, and removes the property that it is the value of.
    pub(super) fn resolve(&self, value: &Value) -> Result<Value> {
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
        if let Some(function) = name.strip_suffix(".Version") {
            return Ok(format!("{}:{LATEST}", self.attribute(&format!("{function}.Arn"))?).into());
        }
        let Resource { kind, properties, .. } = self.resource(name)?;
        match (kind.as_str(), self.secrets.get(name)) {
            (FUNCTION, _) => self.resolve(&properties["FunctionName"]),
            (TABLE, _) => self.resolve(&properties["TableName"]),
            (LOG_GROUP, _) => self.resolve(&properties["LogGroupName"]),
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
            (FUNCTION, "Version.Version") => Ok(LATEST.to_owned()),
            (TABLE, "Arn") => Ok(arn("dynamodb", &format!("table/{}", name("TableName")?))),
            (LOG_GROUP, "Arn") => Ok(arn("logs", &format!("log-group:{}:*", name("LogGroupName")?))),
            _ => Err(not_understood("Fn::GetAtt", path)),
        }
    }

    /// Replaces `${Name}` and `${Resource.Attribute}` in a pattern, with precedence for the values in `own`.
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

    /// Returns the descriptions of the assertions for which `CloudFormation` refuses the values of parameters.
    pub fn refusals(&self) -> Result<Vec<&'static str>> {
        let mut refusals = Vec::new();
        for rule in self.document.rules.values() {
            if self.holds(&rule.rule_condition)? {
                for assertion in &rule.assertions {
                    if !self.holds(&assertion.assert)? {
                        refusals.push(assertion.assert_description.as_str());
                    }
                }
            }
        }
        Ok(refusals)
    }

    pub(super) fn condition(&self, name: &str) -> Result<bool> {
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
            ("Fn::And" | "Fn::Or", Value::Array(conditions)) => {
                let holds: Vec<bool> =
                    conditions.iter().map(|condition| self.holds(condition)).collect::<Result<_>>()?;
                Ok(if function == "Fn::And" { !holds.contains(&false) } else { holds.contains(&true) })
            }
            _ => Err(wrong()),
        }
    }
}

/// Returns the function and the argument, if an object is a call of an intrinsic function in its long form.
fn call(object: &Map<String, Value>) -> Option<(&str, &Value)> {
    let (name, argument) = object.iter().next().filter(|_| object.len() == 1)?;
    (name.starts_with("Fn::") || ["Ref", "Condition"].contains(&name.as_str())).then_some((name, argument))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::template;
    use super::super::yaml::{long_form, parse};
    use super::*;

    #[track_caller]
    fn resolved(template: &Template, yaml: &str) -> Value {
        let value = long_form(yaml_serde::from_str(yaml).unwrap()).unwrap();
        template.resolve(&value).unwrap()
    }

    #[test]
    fn functions_are_evaluated() {
        let template = template(&[("SUBNETS", "a, b")]);
        for (yaml, expected) in [
            ("!Ref JwtRotationDays", json!("30")),
            ("!Ref Subnets", json!(["a", "b"])),
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
    fn unknown_constructs_are_errors() {
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
}
