//! `openapi.yaml`: every response that a test gets must agree with it, and its examples with its schemas.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use jsonschema::{Registry, Validator};
use serde_json::{Map, Value, json};

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
    id: &'static str,
    method: String,
    path: &'static str,
    request: Option<Validator>,
    answers: HashMap<&'static str, Documented>,
}

struct Documented {
    headers: HashMap<String, Header>,
    /// The media types of the body; none if the answer has no body.
    media_types: Vec<&'static str>,
    /// `None` if the answer has no body in JSON.
    body: Option<Validator>,
    /// Of an error, all bodies, except those with `errors`.
    examples: Vec<&'static Value>,
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
            id: at(&format!("{pointer}/operationId")).as_str().unwrap(),
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
        let json = format!("{pointer}/content/application~1json");
        Self {
            headers: headers.collect(),
            media_types: at(&pointer)["content"]
                .as_object()
                .into_iter()
                .flat_map(Map::keys)
                .map(|name| &**name)
                .collect(),
            body: DOCUMENT.pointer(&json).map(|_| validator(&format!("{json}/schema"))),
            examples: examples(&json),
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
    let media_type = answer.header("content-type").map(|kind| kind.trim_end_matches("; charset=utf-8"));
    let is_documented = match media_type {
        Some(media_type) => documented.media_types.contains(&media_type),
        None => documented.media_types.is_empty(),
    };
    assert!(is_documented, "no such media type of {}", told());
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
    let Some(schema) = &documented.body else {
        assert_eq!(answer.body.is_empty(), media_type.is_none(), "{}", told());
        return;
    };
    let body = answer.json();
    assert!(schema.is_valid(&body), "no such body from {}", told());
    if answer.status >= 400 {
        let mut errors = body["errors"].as_array().into_iter().flatten();
        let is_known = body.get("errors").is_some() || documented.examples.contains(&&body);
        assert!(is_known && errors.all(is_numbered_error), "no such error from {}", told());
    }
    if let (200..300, Some(schema)) = (answer.status, &operation.request) {
        let request = serde_json::from_slice(request).unwrap();
        assert!(schema.is_valid(&request), "no such request to {}", told());
    }
}

/// The text of one of the numbered errors of `change_password` without the numbers in its message, which are the deployment's.
fn without_numbers(error: &Value) -> String {
    error["code"].to_string() + &error.to_string().replace(|character: char| character.is_ascii_digit(), "")
}

/// Returns whether the document has a numbered error.
fn is_numbered_error(error: &Value) -> bool {
    let known = at("/components/schemas/PasswordChangeError/examples").as_array().unwrap();
    known.iter().any(|known| without_numbers(known) == without_numbers(error))
}

/// The examples of a media type, if there is one.
fn examples(media_type: &str) -> Vec<&'static Value> {
    if DOCUMENT.pointer(media_type).is_none() {
        return Vec::new();
    }
    let named = at(media_type)["examples"].as_object().into_iter().flatten();
    let named = named.map(|(name, _)| at(&resolved(&format!("{media_type}/examples/{name}"))));
    named.map(|example| &example["value"]).chain(at(media_type).get("example")).collect()
}

/// The error codes of every operation but `change_password`, which has none: the operation's id, the status and the code. One
/// error has no code, and neither have those of API Gateway, which are left out.
pub(crate) fn error_codes() -> BTreeSet<(String, u16, Option<String>)> {
    let mut codes = BTreeSet::new();
    for Operation { id, answers, .. } in
        OPERATIONS.iter().filter(|operation| operation.id != "changePassword")
    {
        for (status, documented) in answers.iter().filter(|(status, _)| **status >= "400") {
            let own = documented.examples.iter().filter(|example| example.get("msg").is_some());
            let named = own.map(|example| example["error_code"].as_str());
            // 422 has no examples, because its errors are those of the fields.
            let named = if *status == "422" { vec![Some("validation_failed")] } else { named.collect() };
            let status: u16 = status.parse().unwrap();
            codes.extend(named.into_iter().map(|code| ((*id).to_owned(), status, code.map(str::to_owned))));
        }
    }
    codes
}

/// The schema of a body by its name. If API Gateway has a response with the same status, the service's own.
fn body_schema(media_type: &str) -> &'static Value {
    let schema = at(&resolved(&format!("{media_type}/schema")));
    let own = schema["oneOf"][0]["$ref"].as_str();
    own.map_or(schema, |own| at(own.trim_start_matches('#')))
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
            for example in examples(&media_type) {
                assert!(
                    validator(&format!("{media_type}/schema")).is_valid(example),
                    "{media_type}: {example}"
                );
                count += 1;
            }
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn the_error_codes_of_a_response_are_those_of_its_examples() {
    let mut count = 0;
    for Operation { id, path, method, answers, .. } in &*OPERATIONS {
        for (status, documented) in answers.iter().filter(|(_, documented)| documented.body.is_some()) {
            let pointer =
                format!("/paths/{}/{}/responses/{status}", path.replace('/', "~1"), method.to_lowercase());
            let schema = body_schema(&format!("{}/content/application~1json", resolved(&pointer)));
            let Some(codes) = schema["properties"]["error_code"]["enum"].as_array() else { continue };
            let own = documented.examples.iter().filter(|example| example.get("msg").is_some());
            let (with, without): (Vec<_>, Vec<_>) =
                own.map(|example| &example["error_code"]).partition(|code| code.is_string());
            let documented: BTreeSet<_> = with.iter().map(|code| code.as_str().unwrap()).collect();
            let allowed: BTreeSet<_> = codes.iter().map(|code| code.as_str().unwrap()).collect();
            assert!(documented == allowed || *status == "422", "{id} {status}: {documented:?} {allowed:?}");
            let is_required = schema["required"].as_array().unwrap().contains(&json!("error_code"));
            assert_eq!(is_required, without.is_empty(), "{id} {status}");
            count += 1;
        }
    }
    assert!(count > 50, "{count}");
}

/// Generators of clients name types and functions by these.
#[test]
fn every_operation_and_every_body_has_a_name() {
    let mut ids = BTreeSet::new();
    for Operation { id, .. } in &*OPERATIONS {
        let is_camel_case = id.starts_with(|first: char| first.is_ascii_lowercase())
            && id.chars().all(|character| character.is_ascii_alphanumeric());
        assert!(is_camel_case && ids.insert(id), "{id}");
    }
    let mut media_types = 0;
    visit(&DOCUMENT, "", &mut |pointer, value| {
        if let Some(schema) = value.get("schema").filter(|_| pointer.ends_with("/application~1json")) {
            assert!(schema["$ref"].is_string(), "{pointer}: {schema}");
            media_types += 1;
        }
        for alternative in value["oneOf"].as_array().into_iter().flatten() {
            let is_named =
                pointer.strip_prefix("/components/schemas/").is_some_and(|name| !name.contains('/'));
            assert!(is_named && alternative["$ref"].is_string(), "{pointer}: {alternative}");
        }
    });
    assert!(media_types > 50, "{media_types}");
}

/// Shows `see` every object of a document with its pointer.
fn visit(value: &Value, pointer: &str, see: &mut impl FnMut(&str, &Value)) {
    if let Some(object) = value.as_object() {
        see(pointer, value);
        for (name, member) in object {
            visit(member, &format!("{pointer}/{}", name.replace('/', "~1")), see);
        }
    }
    for (index, element) in value.as_array().into_iter().flatten().enumerate() {
        visit(element, &format!("{pointer}/{index}"), see);
    }
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
fn the_readme_checks_a_typed_client_as_ci_does() {
    let (_, commands) = include_str!("../../../README.md").split_once("**Typed clients.**").unwrap();
    let commands = commands.split("```").nth(1).unwrap().strip_prefix("sh\n").unwrap();
    assert!(include_str!("../../../.ci/steps/openapi").contains(commands), "{commands}");
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
