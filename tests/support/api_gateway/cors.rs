//! The headers of CORS, which API Gateway adds without asking the functions.

use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use shared::domain::AllowedOrigins;
use shared::settings::{ConfigError, Settings};

use crate::stack::StartError;
use crate::template;

/// The setting for the headers that pages may send.
const ALLOW_HEADERS: &str = "CORS_ALLOW_HEADERS";

/// Checks the names of headers that pages may send. A star does not allow `Authorization` (Fetch Standard §3.3.5), so it
/// is not a name here.
pub(crate) fn check_allowed_headers(settings: &Settings) -> Result<(), ConfigError> {
    let is_name = |name: &str| HeaderName::from_bytes(name.as_bytes()).is_ok() && !name.contains('*');
    match settings.optional(ALLOW_HEADERS) {
        Some(names) if !names.split(',').all(is_name) => {
            Err(ConfigError::new(ALLOW_HEADERS, "must be names of headers, several separated by commas"))
        }
        _ => Ok(()),
    }
}

/// The CORS configuration: the origins that may read responses, and the headers for them.
pub(super) struct Cors {
    origins: AllowedOrigins,
    allowed_methods: HeaderValue,
    allowed_headers: HeaderValue,
    exposed_headers: HeaderValue,
    max_age: HeaderValue,
}

impl Cors {
    pub(super) fn new(cors: &template::Cors) -> Result<Self, StartError> {
        let header = |names: &[String]| {
            names.join(",").parse().map_err(|error| StartError::new("CorsConfiguration", error))
        };
        Ok(Self {
            origins: (cors.allow_origins.join(","))
                .parse()
                .map_err(|error| StartError::new("AllowOrigins", error))?,
            allowed_methods: header(&cors.allow_methods)?,
            allowed_headers: header(&cors.allow_headers)?,
            exposed_headers: header(&cors.expose_headers)?,
            max_age: cors.max_age.into(),
        })
    }

    /// Replaces the CORS headers of a function, as API Gateway does when it has a CORS configuration.
    pub(super) fn apply(&self, request: &Parts, response: &mut HeaderMap) {
        for name in [
            ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_HEADERS,
            ACCESS_CONTROL_EXPOSE_HEADERS,
            ACCESS_CONTROL_MAX_AGE,
        ] {
            response.remove(name);
        }
        let Some(origin) = request.headers.get(ORIGIN) else {
            return;
        };
        let allowed = if self.origins == AllowedOrigins::Any {
            HeaderValue::from_static("*")
        } else {
            response.append(VARY, HeaderValue::from_static("origin"));
            if !origin.to_str().is_ok_and(|origin| self.origins.allows(origin)) {
                return;
            }
            origin.clone()
        };
        response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if request.method != Method::OPTIONS {
            response.insert(ACCESS_CONTROL_EXPOSE_HEADERS, self.exposed_headers.clone());
        } else if request.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
            response.insert(ACCESS_CONTROL_ALLOW_METHODS, self.allowed_methods.clone());
            response.insert(ACCESS_CONTROL_ALLOW_HEADERS, self.allowed_headers.clone());
            response.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::text;
    use super::super::tests::request;
    use super::*;

    /// Returns the CORS headers of the response to a request with this method and origin.
    fn cors(origins: &str, method: &str, origin: Option<&str>) -> Vec<String> {
        let mut headers: Vec<(&str, &[u8])> = vec![("access-control-request-method", b"POST")];
        headers.extend(origin.map(|origin| ("origin", origin.as_bytes())));
        let mut response = HeaderMap::new();
        response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("of the function"));
        let texts = |texts: &str| texts.split(',').map(str::to_owned).collect();
        let cors = Cors::new(&template::Cors {
            allow_origins: texts(origins),
            allow_methods: texts("GET,POST,DELETE"),
            allow_headers: texts("authorization,content-type"),
            expose_headers: texts("retry-after"),
            max_age: 3600,
        });
        cors.unwrap().apply(&request(method, "/", &headers), &mut response);
        let mut headers: Vec<String> =
            response.iter().map(|(name, value)| format!("{name}: {}", text(value))).collect();
        headers.sort();
        headers
    }

    #[test]
    fn cors_headers_are_sent_to_allowed_origins_only() {
        let here = "https://here.example";
        assert_eq!(cors("*", "POST", None), [""; 0]);
        assert_eq!(
            cors("*", "POST", Some(here)),
            ["access-control-allow-origin: *", "access-control-expose-headers: retry-after"]
        );
        let list = "https://here.example,https://there.example";
        assert_eq!(
            cors(list, "OPTIONS", Some(here)),
            [
                "access-control-allow-headers: authorization,content-type",
                "access-control-allow-methods: GET,POST,DELETE",
                "access-control-allow-origin: https://here.example",
                "access-control-max-age: 3600",
                "vary: origin",
            ]
        );
        assert_eq!(cors(list, "POST", Some("https://elsewhere.example")), ["vary: origin"]);
    }
}
