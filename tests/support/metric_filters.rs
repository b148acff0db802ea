//! The stand-in for the metric filters of CloudWatch Logs, which count metrics in the lines of the log.
//!
//! Only the part of the pattern syntax
//! (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntaxForMetricFilters.html>) that the
//! template needs is supported: comparisons of top-level fields, joined by `&&` or `||`, with parentheses if both occur.
//! Other patterns are errors.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Number, Value};

/// A metric as CloudWatch identifies and bills it within a namespace: a name, and dimensions with their values.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Metric {
    /// The name.
    pub name: String,
    /// The values of the dimensions by their names.
    pub dimensions: BTreeMap<String, String>,
}

/// A metric filter.
#[derive(Clone, Debug)]
pub struct MetricFilter {
    /// The name of the log group whose lines it reads.
    pub log_group: String,
    /// The namespace of the metrics.
    pub namespace: String,
    /// The unit, if there is one.
    pub unit: Option<String>,
    name: String,
    pattern: Pattern,
    value: Term,
    /// The fields with the values of the dimensions, by the names of the dimensions.
    dimensions: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
enum Pattern {
    All(Vec<Self>),
    Any(Vec<Self>),
    Is { field: String, text: String },
    IsText { field: String },
    IsTrue { field: String },
    IsGreater { field: String, than: f64, or_equal: bool },
}

#[derive(Clone, Debug)]
enum Term {
    Field(String),
    Number(Number),
}

impl MetricFilter {
    /// A filter of the lines of a log group, by its pattern and its transformation as the template has them.
    pub fn new(log_group: String, pattern: &str, transformation: &Value) -> Result<Self, String> {
        let text = |key: &str| transformation[key].as_str().map(str::to_owned);
        let required = |key: &str| text(key).ok_or_else(|| format!("a metric filter has no {key}"));
        let pattern = Pattern::parse(pattern)?;
        let value = required("MetricValue")?;
        let value = match (field_of(&value), value.parse()) {
            (Some(field), _) => Term::Field(field),
            (None, Ok(number)) => Term::Number(number),
            (None, Err(_)) => return Err(format!("the value {value} is not understood")),
        };
        let mut dimensions = BTreeMap::new();
        for dimension in transformation["Dimensions"].as_array().into_iter().flatten() {
            let [key, value] = ["Key", "Value"].map(|member| dimension[member].as_str().unwrap_or_default());
            let field = field_of(value).ok_or_else(|| format!("the dimension {value} is not a field"))?;
            dimensions.insert(key.to_owned(), field);
        }
        // CloudWatch reads only fields that the pattern names.
        let taken =
            dimensions.values().chain(if let Term::Field(field) = &value { Some(field) } else { None });
        if let Some(missing) = taken.into_iter().find(|field| !pattern.fields().contains(field.as_str())) {
            return Err(format!("the field {missing} is not in the pattern"));
        }
        if dimensions.len() > 3 || (!dimensions.is_empty() && !transformation["DefaultValue"].is_null()) {
            return Err("CloudWatch takes three dimensions, and none beside a default value".to_owned());
        }
        let (namespace, name) = (required("MetricNamespace")?, required("MetricName")?);
        Ok(Self { log_group, namespace, unit: text("Unit"), name, pattern, value, dimensions })
    }

    /// Returns the metric that a line counts towards and the value it adds, or `None` if the line does not match.
    #[must_use]
    pub fn apply(&self, line: &Value) -> Option<(Metric, Number)> {
        if !self.pattern.matches(line) {
            return None;
        }
        let value = match &self.value {
            Term::Number(number) => number.clone(),
            Term::Field(field) => line[field].as_number()?.clone(),
        };
        let dimensions = self.dimensions.iter();
        let dimensions =
            dimensions.map(|(name, field)| Some((name.clone(), line[field].as_str()?.to_owned())));
        Some((Metric { name: self.name.clone(), dimensions: dimensions.collect::<Option<_>>()? }, value))
    }

    /// Returns all metrics that the filter can produce, or none if a dimension can have any value.
    #[must_use]
    pub fn metrics(&self) -> BTreeSet<Metric> {
        let mut metrics = BTreeSet::from([Metric { name: self.name.clone(), dimensions: BTreeMap::new() }]);
        for (dimension, field) in &self.dimensions {
            let with = |metric: &Metric, value: &String| {
                let mut metric = metric.clone();
                metric.dimensions.insert(dimension.clone(), value.clone());
                metric
            };
            let values = self.pattern.values_of(field);
            metrics = metrics
                .iter()
                .flat_map(|metric| values.iter().map(move |value| with(metric, value)))
                .collect();
        }
        metrics
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let inner = text.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        let mut tokens = tokens(inner.ok_or_else(|| format!("{text} is not a JSON pattern"))?)?;
        tokens.reverse();
        let pattern = Self::expression(&mut tokens)?;
        if tokens.is_empty() { Ok(pattern) } else { Err(format!("{tokens:?} at the end of {text}")) }
    }

    /// Parses operands that are joined by the same operator, from the end of `tokens`.
    fn expression(tokens: &mut Vec<String>) -> Result<Self, String> {
        let mut operands = vec![Self::operand(tokens)?];
        let operator = tokens.pop_if(|token| ["&&", "||"].contains(&token.as_str()));
        let Some(operator) = operator else { return Ok(operands.remove(0)) };
        operands.push(Self::operand(tokens)?);
        while tokens.pop_if(|token| *token == operator).is_some() {
            operands.push(Self::operand(tokens)?);
        }
        Ok(if operator == "&&" { Self::All(operands) } else { Self::Any(operands) })
    }

    fn operand(tokens: &mut Vec<String>) -> Result<Self, String> {
        let first = tokens.pop().unwrap_or_default();
        if first == "(" {
            let inner = Self::expression(tokens)?;
            return tokens
                .pop_if(|token| token == ")")
                .map(|_| inner)
                .ok_or("a parenthesis is open".to_owned());
        }
        let [operator, operand] = [(); 2].map(|()| tokens.pop().unwrap_or_default());
        let wrong = || format!("{first} {operator} {operand} is not understood");
        let field = field_of(&first).ok_or_else(wrong)?;
        let text = operand.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        Ok(match (operator.as_str(), text, operand.parse::<f64>()) {
            // An asterisk is a wildcard.
            ("=", Some("*"), _) => Self::IsText { field },
            ("=", Some(text), _) if !text.contains('*') => Self::Is { field, text: text.to_owned() },
            ("IS", None, _) if operand == "TRUE" => Self::IsTrue { field },
            (">" | ">=", None, Ok(than)) => Self::IsGreater { field, than, or_equal: operator == ">=" },
            _ => return Err(wrong()),
        })
    }

    fn matches(&self, line: &Value) -> bool {
        match self {
            Self::All(patterns) => patterns.iter().all(|pattern| pattern.matches(line)),
            Self::Any(patterns) => patterns.iter().any(|pattern| pattern.matches(line)),
            Self::Is { field, text } => line[field] == **text,
            Self::IsText { field } => line[field].is_string(),
            Self::IsTrue { field } => line[field] == true,
            Self::IsGreater { field, than, or_equal } => {
                let value = line[field].as_f64();
                value.is_some_and(|value| if *or_equal { value >= *than } else { value > *than })
            }
        }
    }

    fn leaves(&self) -> Vec<&Self> {
        match self {
            Self::All(patterns) | Self::Any(patterns) => patterns.iter().flat_map(Self::leaves).collect(),
            leaf => vec![leaf],
        }
    }

    fn fields(&self) -> BTreeSet<&str> {
        let fields = self.leaves().into_iter().filter_map(|leaf| match leaf {
            Self::Is { field, .. }
            | Self::IsText { field }
            | Self::IsTrue { field }
            | Self::IsGreater { field, .. } => Some(&**field),
            Self::All(_) | Self::Any(_) => None,
        });
        fields.collect()
    }

    /// Returns the strings to which the pattern compares a field.
    fn values_of(&self, wanted: &str) -> BTreeSet<String> {
        let values = self.leaves().into_iter().filter_map(|leaf| match leaf {
            Self::Is { field, text } if field == wanted => Some(text.clone()),
            _ => None,
        });
        values.collect()
    }
}

/// Returns the name of the top-level field in a selector such as `$.outcome`.
fn field_of(selector: &str) -> Option<String> {
    let name = selector.strip_prefix("$.")?;
    let is_name = name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_');
    is_name.then(|| name.to_owned())
}

fn tokens(text: &str) -> Result<Vec<String>, String> {
    let (mut tokens, mut rest) = (Vec::new(), text.trim_start());
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '(' | ')' => 1,
            '"' => 2 + rest[1..].find('"').ok_or_else(|| format!("{rest} has an open quotation mark"))?,
            _ => rest.find([' ', '(', ')']).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token.to_owned());
        rest = after.trim_start();
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filter(pattern: &str, transformation: &Value) -> Result<MetricFilter, String> {
        let mut all = json!({"MetricNamespace": "test", "MetricName": "Metric", "MetricValue": "1"});
        all.as_object_mut().unwrap().extend(transformation.as_object().unwrap().clone());
        MetricFilter::new("log".to_owned(), pattern, &all)
    }

    #[test]
    fn patterns_match_as_cloudwatch_documents_them() {
        let line = json!({"event": "signin", "outcome": "signed_in", "ms": 0.5, "cold": true});
        for (pattern, matches) in [
            (r#"{ $.event = "signin" }"#, true),
            (r#"{ $.event = "sign" }"#, false),
            (r#"{ ($.event = "signin") && ($.outcome = "refused") }"#, false),
            (r#"{ ($.event = "signin") && (($.outcome = "refused") || ($.outcome = "signed_in")) }"#, true),
            (r#"{ ($.event = "x") || ($.none = "y") }"#, false),
            (r#"{ $.event = "*" }"#, true),
            (r#"{ $.none = "*" }"#, false),
            (r#"{ $.ms = "*" }"#, false),
            ("{ $.cold IS TRUE }", true),
            ("{ $.warm IS TRUE }", false),
            ("{ $.ms > 0 }", true),
            ("{ $.ms >= 0.5 }", true),
            ("{ $.ms > 0.5 }", false),
            ("{ $.none >= 0 }", false),
        ] {
            let filter = filter(pattern, &json!({})).unwrap();
            assert_eq!(filter.apply(&line).is_some(), matches, "{pattern}");
        }
    }

    #[test]
    fn an_unsupported_pattern_is_an_error() {
        for pattern in [
            "",
            "ERROR",
            "{ }",
            r#"{ $.a = "b }"#,
            r#"{ $.a = "b*" }"#,
            r#"{ $.a != "b" }"#,
            r#"{ $.a.b = "c" }"#,
            r#"{ ($.a = "b" }"#,
            r#"{ ($.a = "b")) }"#,
            r#"{ ($.a = "b") && ($.c = "d") || ($.e = "f") }"#,
        ] {
            assert!(filter(pattern, &json!({})).is_err(), "{pattern}");
        }
    }

    #[test]
    fn values_and_dimensions_are_fields_that_the_pattern_names() {
        let dimensions = json!([{"Key": "Outcome", "Value": "$.outcome"}]);
        let counted = filter("{ $.ms > 0 }", &json!({"MetricValue": "$.ms"})).unwrap();
        assert_eq!(counted.apply(&json!({"ms": 3.5})).unwrap().1.as_f64(), Some(3.5));
        let pattern = r#"{ ($.outcome = "a") || ($.outcome = "b") }"#;
        let counted = filter(pattern, &json!({"Dimensions": dimensions})).unwrap();
        let (metric, value) = counted.apply(&json!({"outcome": "b"})).unwrap();
        assert_eq!((metric.dimensions["Outcome"].as_str(), value), ("b", Number::from(1)));
        assert_eq!(counted.metrics().len(), 2);
        let counted = filter(r#"{ $.outcome = "*" }"#, &json!({"Dimensions": dimensions})).unwrap();
        assert_eq!(counted.apply(&json!({"outcome": "c"})).unwrap().0.dimensions["Outcome"], "c");
        assert!(counted.metrics().is_empty());
        for (pattern, transformation) in [
            ("{ $.ms > 0 }", json!({"Dimensions": dimensions})),
            ("{ $.ms > 0 }", json!({"MetricValue": "$.hash_ms"})),
            (pattern, json!({"Dimensions": dimensions, "DefaultValue": 0})),
            (pattern, json!({"Dimensions": [{"Key": "Outcome", "Value": "outcome"}]})),
        ] {
            assert!(filter(pattern, &transformation).is_err(), "{transformation}");
        }
    }
}
