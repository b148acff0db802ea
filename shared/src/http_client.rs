//! HTTP requests that no client of the SDK makes.

use std::error::Error;
use std::fmt::Write;
use std::sync::LazyLock;

use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Connector, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::http::Headers;
use http_body_util::{BodyExt, Limited};
use lambda_http::http::Uri;

use crate::aws::{self, USER_AGENT};
use crate::settings::{ConfigError, Settings};

/// A client with connections of its own. It follows no redirects and repeats no request.
#[derive(Debug)]
pub struct HttpClient(LazyLock<Connector, Box<dyn FnOnce() -> Connector + Send>>);

/// A response, whatever its status.
#[derive(Debug)]
pub struct HttpResponse {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

impl HttpClient {
    /// A client for the URL in `variable`, to which paths are added: one of `https`, or of `http` on this machine. It
    /// trusts the operating system's authorities, which are loaded when they are first needed.
    pub fn for_url(variable: &'static str, url: &str) -> Result<Self, ConfigError> {
        let scheme = scheme(url).ok_or_else(|| {
            ConfigError::new(variable, "must be an https:// URL, or an http:// one of this machine")
        })?;
        let roots = TrustStore::empty().with_native_roots(scheme == Scheme::Https);
        let tls = TlsContext::builder()
            .with_trust_store(roots)
            .build()
            .map_err(|error| ConfigError::new(variable, &format!("is refused: {error}")))?;
        Ok(Self::new(tls))
    }

    /// A client for AWS's endpoints, which trusts the authorities that the SDK's clients trust.
    pub fn for_aws(settings: &Settings) -> Result<Self, ConfigError> {
        Ok(Self::new(aws::tls(settings)?))
    }

    fn new(tls: TlsContext) -> Self {
        let connect = || {
            ConnectorBuilder::default()
                .tls_provider(Provider::Rustls(CryptoMode::Ring))
                .tls_context(tls)
                .build()
        };
        Self(LazyLock::new(Box::new(connect)))
    }

    /// Loads the authorities, unless that was done before.
    pub fn prepare(&self) {
        LazyLock::force(&self.0);
    }

    /// Sends a request, and reads the response. Fails if the body has more than `limit` bytes. The caller limits the
    /// time.
    pub async fn send(&self, mut request: HttpRequest, limit: usize) -> Result<HttpResponse, String> {
        request.headers_mut().insert("user-agent", USER_AGENT);
        let response = self.0.call(request).await.map_err(|error| sources(&error))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = Limited::new(response.into_body(), limit).collect().await;
        let body = body.map_err(|error| sources(&*error))?.to_bytes();
        Ok(HttpResponse { status, headers, body: body.into() })
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Scheme {
    Http,
    Https,
}

/// The scheme of a URL that a path can be added to: `https`, or `http` on this machine.
fn scheme(url: &str) -> Option<Scheme> {
    let uri: Uri = url.parse().ok().filter(|_| !url.contains(['@', '?', '#']))?;
    match (uri.scheme_str()?, uri.host()?) {
        ("https", _) => Some(Scheme::Https),
        ("http", "127.0.0.1" | "localhost") => Some(Scheme::Http),
        _ => None,
    }
}

/// An error with its sources.
fn sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        // Writing to a string does not fail.
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_leave_this_machine_over_tls_only() {
        for (url, expected) in [
            ("https://api.pwnedpasswords.com", Some(Scheme::Https)),
            ("https://breaches.example.com:8443/v1/", Some(Scheme::Https)),
            ("http://127.0.0.1:3000", Some(Scheme::Http)),
            ("http://localhost", Some(Scheme::Http)),
            ("http://api.pwnedpasswords.com", None),
            ("http://127.0.0.1.example.com", None),
            ("https://key@breaches.example.com", None),
            ("https://breaches.example.com?key=1", None),
            ("https://breaches.example.com#range", None),
            ("ftp://localhost", None),
            ("api.pwnedpasswords.com", None),
            ("https://", None),
            ("/range", None),
        ] {
            assert_eq!(scheme(url), expected, "{url}");
        }
    }
}
