//! Responses of the API.

use serde_json::Value;

use crate::answers::Documented;
use crate::documents::openapi::assert_documented;

/// The headers that every response of a function has, besides its content type.
pub(crate) const HEADERS: [(&str, &str); 5] = [
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("strict-transport-security", "max-age=31536000; includeSubDomains"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("referrer-policy", "no-referrer"),
];

/// A complete response of the API.
#[derive(Debug)]
pub(crate) struct ApiResponse {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: String,
}

impl ApiResponse {
    /// Sends a request to the API, and fails if `openapi.yaml` does not have the response.
    pub(crate) async fn to(request: reqwest::RequestBuilder) -> Self {
        let (client, request) = request.build_split();
        let request = request.unwrap();
        let (method, path) = (request.method().to_string(), request.url().path().to_owned());
        let body = request.body().and_then(reqwest::Body::as_bytes).unwrap_or_default().to_vec();
        let response = client.execute(request).await.unwrap();
        let answer = Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.text().await.unwrap(),
        };
        assert_documented(&method, &path, &body, &answer);
        answer
    }

    /// Asserts the documented status and body, and the headers that every response has.
    #[track_caller]
    pub(crate) fn is(&self, (status, body): (u16, &str)) {
        assert_eq!((self.status, self.body.as_str()), (status, body), "{:?}", self.headers);
        assert_eq!(self.header("content-type"), Some("application/json"));
        for (name, value) in HEADERS {
            assert_eq!(self.header(name), Some(value), "{name}");
        }
    }

    /// Asserts a temporary refusal, and returns the seconds in its `Retry-After` header.
    #[track_caller]
    pub(crate) fn is_refused_for(&self, documented: Documented) -> u64 {
        self.is(documented);
        let seconds = self.header("retry-after").expect("a Retry-After header").parse().unwrap();
        assert!(seconds >= 1);
        seconds
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Returns the token of a successful response without a session, and fails if the body has other fields.
    #[track_caller]
    pub(crate) fn token(&self) -> String {
        let token = self.field("token");
        self.is((200, &format!(r#"{{"token":"{token}"}}"#)));
        token
    }

    /// Returns the token of a sign-in by session token.
    #[track_caller]
    pub(crate) fn token_of_session(&self) -> String {
        let token = self.field("token");
        self.is((202, &format!(r#"{{"msg":"Session token is good","token":"{token}"}}"#)));
        token
    }

    /// Returns the token and the session token of a success, and fails if the body has other fields.
    #[track_caller]
    pub(crate) fn token_and_session_token(&self) -> (String, String) {
        let (token, session_token) = (self.field("token"), self.field("session_token"));
        self.is((200, &format!(r#"{{"token":"{token}","session_token":"{session_token}"}}"#)));
        (token, session_token)
    }

    #[track_caller]
    fn field(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_else(|| panic!("no {name}: {self:?}")).to_owned()
    }
}

/// Counts the responses of each documented kind, and fails if there is any other.
#[track_caller]
pub(crate) fn count<const N: usize>(answers: &[ApiResponse], documented: [Documented; N]) -> [usize; N] {
    let mut counts = [0; N];
    for answer in answers {
        let which =
            documented.iter().position(|&(status, body)| (status, body) == (answer.status, &answer.body));
        counts[which.unwrap_or_else(|| panic!("{answer:?}"))] += 1;
    }
    counts
}
