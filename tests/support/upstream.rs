//! Passing HTTP requests on to another server.

use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use axum::http::request::Parts;
use axum::http::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// An HTTP server that requests are passed on to.
#[derive(Clone, Debug)]
pub struct Upstream {
    url: String,
    http: Client<HttpConnector, Body>,
}

impl Upstream {
    /// The server at this base URL. Nothing is sent yet.
    #[must_use]
    pub fn new(url: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http = Client::builder(TokioExecutor::new()).build(connector);
        Self { url: url.trim_end_matches('/').to_owned(), http }
    }

    /// Sends the request with its method, path, body and headers, except for those that describe the connection, and
    /// returns the whole response.
    pub async fn send(&self, mut head: Parts, body: Bytes) -> Result<Response<Bytes>, axum::Error> {
        for name in [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION] {
            head.headers.remove(name);
        }
        head.uri = format!("{}{}", self.url, head.uri.path()).parse().map_err(axum::Error::new)?;
        let request = Request::from_parts(head, Body::from(body));
        let (head, body) = self.http.request(request).await.map_err(axum::Error::new)?.into_parts();
        Ok(Response::from_parts(head, to_bytes(Body::new(body), usize::MAX).await?))
    }
}
