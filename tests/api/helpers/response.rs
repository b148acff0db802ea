//! Responses of the API.

use serde_json::Value;

use crate::answers::Documented;
use crate::documents::openapi::assert_documented;

/// What the service answered, read to its end.
#[derive(Debug)]
pub(crate) struct ApiResponse {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: String,
}

impl ApiResponse {
    /// Sends a request to the API. Whatever is answered has to be in `openapi.yaml`.
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

    /// Asserts the documented status and body, and the headers that every answer has.
    #[track_caller]
    pub(crate) fn is(&self, (status, body): (u16, &str)) {
        assert_eq!((self.status, self.body.as_str()), (status, body), "{:?}", self.headers);
        assert_eq!(self.header("content-type"), Some("application/json"));
        assert_eq!(self.header("cache-control"), Some("no-store"));
    }

    /// Asserts that the answer is a refusal for now, and returns for how many seconds.
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

    /// The token of a success without a session, whose body has nothing else.
    #[track_caller]
    pub(crate) fn token(&self) -> String {
        let token = self.field("token");
        self.is((200, &format!(r#"{{"token":"{token}"}}"#)));
        token
    }

    /// The token that a session token was good for.
    #[track_caller]
    pub(crate) fn token_of_session(&self) -> String {
        let token = self.field("token");
        self.is((202, &format!(r#"{{"msg":"Session token is good","token":"{token}"}}"#)));
        token
    }

    /// The token and the session token of a success, whose body has nothing else.
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

/// Counts the answers that are each of these, and asserts that there are no others.
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
