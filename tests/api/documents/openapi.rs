//! `openapi.yaml`: every response that a test gets must agree with it, and its examples with its schemas.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use jsonschema::{Registry, Validator};
use serde_json::{Value, json};

use crate::documents::template::functions;
use crate::helpers::{ApiResponse, Service};

/// The headers of HTTP itself, which the document leaves out.
const HEADERS_OF_HTTP: [&str; 4] = ["connection", "content-length", "content-type", "date"];

const YAML: &str = include_str!("../../../openapi.yaml");

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| yaml_serde::from_str(YAML).unwrap());

static REGISTRY: LazyLock<Registry<'static>> =
    LazyLock::new(|| Registry::new().add("urn:openapi", &*DOCUMENT).unwrap().prepare().unwrap());

static OPERATIONS: LazyLock<Vec<Operation>> = LazyLock::new(|| {
    let paths = DOCUMENT["paths"].as_object().unwrap().iter();
    let operations = paths.flat_map(|(path, methods)| {
        methods.as_object().unwrap().keys().map(|method| Operation::of(path, method))
    });
    operations.collect()
});

/// One method of one path, with the answers that it has by their status.
struct Operation {
    method: String,
    path: &'static str,
    request: Option<Validator>,
    answers: HashMap<&'static str, Documented>,
}

struct Documented {
    headers: HashMap<String, Header>,
    /// `None` if the answer has no body.
    body: Option<Validator>,
}

struct Header {
    required: bool,
    value: Validator,
}

impl Operation {
    fn of(path: &'static str, method: &str) -> Self {
        let pointer = format!("/paths/{}/{method}", path.replace('/', "~1"));
        let answers = at(&format!("{pointer}/responses")).as_object().unwrap().keys();
        let request = format!("{pointer}/requestBody/content/application~1json/schema");
        Self {
            method: method.to_uppercase(),
            path,
            request: DOCUMENT.pointer(&request).map(|_| validator(&request)),
            answers: answers
                .map(|status| (&**status, Documented::at(&format!("{pointer}/responses/{status}"))))
                .collect(),
        }
    }

    fn has(&self, method: &str, path: &str) -> bool {
        let (expected, given): (Vec<_>, Vec<_>) = (self.path.split('/').collect(), path.split('/').collect());
        let is_parameter = |segment: &str| segment.starts_with('{');
        self.method == method
            && expected.len() == given.len()
            && expected
                .iter()
                .zip(given)
                .all(|(expected, given)| *expected == given || is_parameter(expected) && !given.is_empty())
    }
}

impl Documented {
    fn at(pointer: &str) -> Self {
        let pointer = resolved(pointer);
        let headers = at(&format!("{pointer}/headers")).as_object().unwrap().keys().map(|name| {
            let header = resolved(&format!("{pointer}/headers/{name}"));
            let required = at(&header)["required"] == true;
            (name.to_lowercase(), Header { required, value: validator(&format!("{header}/schema")) })
        });
        Self {
            headers: headers.collect(),
            body: at(&pointer)
                .get("content")
                .map(|_| validator(&format!("{pointer}/content/application~1json/schema"))),
        }
    }
}

fn at(pointer: &str) -> &'static Value {
    DOCUMENT.pointer(pointer).unwrap_or_else(|| panic!("nothing is at {pointer}"))
}

/// Resolves the references at `pointer`.
fn resolved(pointer: &str) -> String {
    match at(pointer)["$ref"].as_str() {
        Some(reference) => resolved(reference.trim_start_matches('#')),
        None => pointer.to_owned(),
    }
}

/// A validator of the schema at `pointer`, whose own references lead into the document.
fn validator(pointer: &str) -> Validator {
    let fragment = pointer.replace('{', "%7B").replace('}', "%7D");
    let schema = json!({"$ref": format!("urn:openapi#{fragment}")});
    jsonschema::options().with_registry(&REGISTRY).build(&schema).unwrap()
}

/// Asserts that the document has this response with its status, headers and body, and the request if it succeeded.
#[track_caller]
pub(crate) fn assert_documented(method: &str, path: &str, request: &[u8], answer: &ApiResponse) {
    let Some(operation) = OPERATIONS.iter().find(|operation| operation.has(method, path)) else {
        let is_preflight = method == "OPTIONS" && answer.status == 204;
        let of_gateway = if is_preflight { (204, "") } else { (404, r#"{"message":"Not Found"}"#) };
        assert_eq!((answer.status, &*answer.body), of_gateway, "{method} {path}");
        return;
    };
    let told = || format!("{method} {path}, by openapi.yaml: {answer:?}");
    let documented = operation.answers.get(&*answer.status.to_string());
    let documented = documented.unwrap_or_else(|| panic!("no such status of {}", told()));
    assert_eq!(
        answer.header("content-type"),
        documented.body.as_ref().map(|_| "application/json"),
        "{}",
        told()
    );
    for (name, header) in &documented.headers {
        assert!(!header.required || answer.header(name).is_some(), "no {name} from {}", told());
    }
    let names = answer.headers.keys().map(reqwest::header::HeaderName::as_str);
    for name in names.filter(|name| !HEADERS_OF_HTTP.contains(name)) {
        let header = documented.headers.get(name).unwrap_or_else(|| panic!("no such {name} from {}", told()));
        let value = answer.header(name).unwrap();
        let number = value.parse::<u64>();
        let is_valid = header.value.is_valid(&json!(value))
            || number.is_ok_and(|number| header.value.is_valid(&json!(number)));
        assert!(is_valid, "no such value of {name} from {}", told());
    }
    match &documented.body {
        Some(body) => assert!(body.is_valid(&answer.json()), "no such body from {}", told()),
        None => assert_eq!(answer.body, "", "{}", told()),
    }
    if let (200..300, Some(schema)) = (answer.status, &operation.request) {
        let request = serde_json::from_slice(request).unwrap();
        assert!(schema.is_valid(&request), "no such request to {}", told());
    }
}

/// The examples at `pointer`, with the schema that they are of.
fn examples(media_type: &str) -> Vec<(String, &'static Value)> {
    let named = at(media_type)["examples"].as_object();
    let named = named.into_iter().flatten().map(|(_, example)| &example["value"]);
    named.chain(at(media_type).get("example")).map(|value| (format!("{media_type}/schema"), value)).collect()
}

#[test]
fn every_example_matches_its_schema() {
    let mut count = 0;
    for operation in &*OPERATIONS {
        let pointer =
            format!("/paths/{}/{}", operation.path.replace('/', "~1"), operation.method.to_lowercase());
        let answers =
            operation.answers.keys().map(|status| resolved(&format!("{pointer}/responses/{status}")));
        let request = operation.request.as_ref().map(|_| format!("{pointer}/requestBody"));
        for media_type in answers.chain(request).map(|pointer| format!("{pointer}/content/application~1json"))
        {
            for (schema, example) in
                DOCUMENT.pointer(&media_type).map_or(Vec::new(), |_| examples(&media_type))
            {
                assert!(validator(&schema).is_valid(example), "{media_type}: {example}");
                count += 1;
            }
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn operations_that_answer_401_require_a_token() {
    for Operation { method, path, answers, .. } in &*OPERATIONS {
        let security = &DOCUMENT["paths"][path][method.to_lowercase()]["security"];
        let asks = !security.as_array().unwrap().is_empty();
        assert_eq!(asks, answers.contains_key("401"), "{method} {path}");
    }
}

#[test]
fn the_version_is_that_of_the_service() {
    assert_eq!(DOCUMENT["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_documented_routes_are_the_deployed_ones() {
    let deployed = functions().into_iter().flat_map(|function| function.routes);
    let deployed: BTreeSet<_> = deployed.map(|route| (route.method, route.path)).collect();
    let documented = OPERATIONS.iter().map(|operation| (operation.method.clone(), operation.path.to_owned()));
    assert_eq!(documented.collect::<BTreeSet<_>>(), deployed);
}

#[tokio::test]
async fn the_document_is_served_beside_the_api() {
    let service = Service::new();
    if !support::embedded() {
        return;
    }
    assert_eq!(service.page("/openapi.yaml").await, ("application/yaml".to_owned(), YAML.to_owned()));
    let (kind, json) = service.page("/openapi.json").await;
    assert_eq!(
        (&*kind, serde_json::from_str::<Value>(&json).unwrap()),
        ("application/json", DOCUMENT.clone())
    );
    assert!(service.page("/openapi").await.0.starts_with("text/html"));
}
