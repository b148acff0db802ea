//! A stand-in for the service of breached passwords.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// A password that [`BREACHES`] has.
pub(crate) const BREACHED: &str = "correct horse battery staple";
/// A password that is padding in [`BREACHES`].
pub(crate) const PADDING: &str = "a password in padding";
/// The ends of SHA-1 hashes, with the numbers of breaches.
pub(crate) const BREACHES: &str = "0018A45C4D1DEF81644B54AB7F969B88D65:3\r\n\
     AD6438836DBE526AA231ABDE2D0EEF74D42:384\r\n\
     C747F7C697B260180F21B863791EFD5341B:0\r\n";

/// The stand-in, which sends the same response to every request.
pub(crate) struct BreachService {
    pub(crate) url: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl BreachService {
    /// Starts one that responds with a status and a body.
    pub(crate) async fn answering(status: u16, body: &str) -> Self {
        Self::start(Some(response(status, body)), None).await
    }

    /// Starts one that never responds.
    pub(crate) async fn silent() -> Self {
        Self::start(None, None).await
    }

    /// Starts one with [`BREACHES`] behind TLS, and returns it with the certificate of its authority.
    pub(crate) async fn behind_tls() -> (Self, String) {
        let (acceptor, root) = tls::acceptor().unwrap();
        (Self::start(Some(response(200, BREACHES)), Some(acceptor)).await, root)
    }

    async fn start(response: Option<String>, tls: Option<tls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let heads = Arc::default();
        let noted = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (response, tls, noted) = (response.clone(), tls.clone(), Arc::clone(&noted));
                tokio::spawn(async move {
                    match tls {
                        None => respond(connection, response, &noted).await,
                        // A client that does not trust the certificate closes the connection.
                        Some(tls) => match tls.accept(connection).await {
                            Ok(connection) => respond(connection, response, &noted).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        Self { url: format!("{scheme}://localhost:{port}"), heads }
    }

    /// The heads of the requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn response(status: u16, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Status\r\ncontent-length: {length}\r\nlocation: /\r\nconnection: close\r\n\r\n{body}"
    )
}

/// Reads one request, and sends the response; `None` if the client closes the connection.
async fn respond(
    mut connection: impl AsyncRead + AsyncWrite + Unpin,
    response: Option<String>,
    heads: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.ok()?);
    }
    heads.lock().unwrap().push(String::from_utf8(head).unwrap());
    let Some(response) = response else { std::future::pending().await };
    connection.write_all(response.as_bytes()).await.ok()?;
    connection.shutdown().await.ok()
}
