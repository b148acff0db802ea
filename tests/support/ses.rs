//! The stand-in for SES v2: accepts mail, and shows it in an inbox, as JSON and as a page. It delivers nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::aws;
use crate::stack::StartError;

/// The path of `SendEmail`.
pub(crate) const SEND_EMAIL: &str = "/v2/email/outbound-emails";
/// The maximum number of recipients of a mail.
const MAX_RECIPIENTS: usize = 50;

/// The sent mail, oldest first.
pub(crate) struct Inbox(Mutex<Mails>);

struct Mails {
    all: Vec<Mail>,
    /// A file with one line of JSON for each mail.
    file: Option<File>,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Mail {
    id: String,
    timestamp: String,
    source: String,
    subject: String,
    destination: Destination,
    #[serde(default)]
    reply_to_addresses: Vec<String>,
    #[serde(default)]
    headers: Vec<Header>,
    body: MailBody,
}

/// An additional header of a mail.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Header {
    name: String,
    value: String,
}

#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(default)]
struct Destination {
    #[serde(rename = "ToAddresses")]
    to: Vec<String>,
    #[serde(rename = "CcAddresses")]
    cc: Vec<String>,
    #[serde(rename = "BccAddresses")]
    bcc: Vec<String>,
}

#[derive(Clone, Deserialize, Serialize)]
struct MailBody {
    text_part: Option<String>,
    html_part: Option<String>,
}

/// The inbox as JSON.
#[derive(Serialize)]
struct Messages<'a> {
    messages: Vec<&'a Mail>,
}

/// A `SendEmail` request. Other members are ignored.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SendEmail {
    #[serde(default)]
    from_email_address: String,
    #[serde(default)]
    destination: Destination,
    #[serde(default)]
    reply_to_addresses: Vec<String>,
    content: EmailContent,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EmailContent {
    simple: Simple,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Simple {
    subject: Part,
    body: SimpleBody,
    #[serde(default)]
    headers: Vec<Header>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SimpleBody {
    text: Option<Part>,
    html: Option<Part>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Part {
    data: String,
}

/// The filter of the inbox: the address of a recipient, or none for all mail.
#[derive(Deserialize)]
pub(crate) struct Filter {
    email: Option<String>,
}

impl Inbox {
    /// Opens the inbox with the mail in the folder. Without a folder it is empty.
    pub(crate) fn open(data_dir: Option<&Path>) -> Result<Self, StartError> {
        let mails = match data_dir.map(|folder| folder.join("mail.jsonl")) {
            Some(path) => Mails::read(&path).map_err(|error| StartError::new(path.display(), error))?,
            None => Mails { all: Vec::new(), file: None },
        };
        Ok(Self(Mutex::new(mails)))
    }

    /// The ids of the mails to this address.
    pub(crate) fn ids_of_mails_to(&self, address: &str) -> Vec<String> {
        self.mails().all.iter().filter(|mail| mail.is_to(address)).map(|mail| mail.id.clone()).collect()
    }

    fn mails(&self) -> MutexGuard<'_, Mails> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mails {
    fn read(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mut lines = Vec::new();
        file.read_to_end(&mut lines)?;
        // If the process was killed while it wrote a line, the mail was never accepted.
        lines.truncate(lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        file.set_len(lines.len() as u64)?;
        file.seek(io::SeekFrom::End(0))?;
        let all = serde_json::Deserializer::from_slice(&lines).into_iter().collect::<Result<_, _>>()?;
        Ok(Self { all, file: Some(file) })
    }

    fn add(&mut self, mail: Mail) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            let mut line = serde_json::to_vec(&mail)?;
            line.push(b'\n');
            file.write_all(&line)?;
        }
        self.all.push(mail);
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.set_len(0)?;
            file.rewind()?;
        }
        self.all.clear();
        Ok(())
    }
}

impl Mail {
    fn is_to(&self, address: &str) -> bool {
        self.destination.all().any(|recipient| bare(recipient).to_lowercase() == address.to_lowercase())
    }
}

impl Destination {
    fn all(&self) -> impl Iterator<Item = &String> {
        self.to.iter().chain(&self.cc).chain(&self.bcc)
    }
}

impl SendEmail {
    /// Returns the mail, or the message with which SES refuses it.
    fn into_mail(self) -> Result<Mail, &'static str> {
        let Self { from_email_address: source, destination, reply_to_addresses, content } = self;
        let Simple { subject, body: SimpleBody { text, html }, headers } = content.simple;
        if source.is_empty() {
            return Err("Missing required parameter: FromEmailAddress");
        }
        let recipients = destination.all().count();
        if recipients == 0 {
            return Err("Missing required parameter: Destination");
        }
        if recipients > MAX_RECIPIENTS {
            return Err("Recipient count exceeds 50.");
        }
        for mailbox in destination.all().chain([&source]).chain(&reply_to_addresses) {
            check(mailbox)?;
        }
        let is_token =
            |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        if headers.iter().any(|Header { name, value }| {
            !is_token(name) || value.contains(|c: char| !matches!(c, ' '..='~'))
        }) {
            return Err("Invalid header");
        }
        if text.is_none() && html.is_none() {
            return Err("Missing required parameter: Content.Simple.Body");
        }
        Ok(Mail {
            id: Uuid::new_v4().to_string(),
            timestamp: OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
            source,
            subject: subject.data,
            destination,
            reply_to_addresses,
            headers,
            body: MailBody { text_part: text.map(|part| part.data), html_part: html.map(|part| part.data) },
        })
    }
}

/// Refuses a mailbox that SES is known or reported to refuse, with the message of SES if it is known.
fn check(mailbox: &str) -> Result<(), &'static str> {
    if mailbox.chars().any(char::is_control) {
        return Err("Local address contains control or whitespace");
    }
    // Names must be encoded words (RFC 2047), domains must be ASCII, and other local parts are not supported.
    if !mailbox.is_ascii() {
        return Err("Address contains non-ASCII characters");
    }
    let Some((local, domain)) = bare(mailbox).rsplit_once('@').filter(|(local, _)| !local.is_empty()) else {
        return Err("Missing final '@domain'");
    };
    if local.contains(['"', ' ', '@']) {
        return Err("Local address contains control or whitespace");
    }
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if !domain.contains('.') || !domain.split('.').all(is_label) {
        return Err("Domain contains illegal character or missing dot");
    }
    Ok(())
}

/// Extracts the address from `Name <address>`, or returns the whole text if it has no name.
pub(crate) fn bare(address: &str) -> &str {
    let inner = address.rsplit_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inner.map_or(address, |(inner, _)| inner).trim()
}

/// Serves `SendEmail`.
pub(crate) async fn send_email(State(inbox): State<Arc<Inbox>>, body: Bytes) -> Response {
    let refuse = |message: &str| aws::refuse(StatusCode::BAD_REQUEST, "BadRequestException", message);
    let mail = match serde_json::from_slice::<SendEmail>(&body) {
        Ok(request) => match request.into_mail() {
            Ok(mail) => mail,
            Err(message) => return refuse(message),
        },
        Err(error) => return refuse(&error.to_string()),
    };
    let id = mail.id.clone();
    match inbox.mails().add(mail) {
        Ok(()) => Json(json!({"MessageId": id})).into_response(),
        Err(error) => not_saved(&error),
    }
}

/// Shows the inbox, as a page if the client prefers HTML, and otherwise as JSON.
pub(crate) async fn show(
    State(inbox): State<Arc<Inbox>>,
    Query(filter): Query<Filter>,
    headers: HeaderMap,
) -> Response {
    let headers_for_both = [(CACHE_CONTROL, "no-store"), (VARY, "accept")];
    if prefers_html(&headers) {
        return (headers_for_both, page().await).into_response();
    }
    let mails = inbox.mails();
    let shown = |mail: &&Mail| filter.email.as_ref().is_none_or(|address| mail.is_to(address.trim()));
    let messages = mails.all.iter().filter(shown).collect();
    (headers_for_both, Json(Messages { messages })).into_response()
}

/// Shows the inbox as a page, which fetches the JSON.
pub(crate) async fn page() -> Response {
    aws::page(include_str!("inbox.html"))
}

/// Empties the inbox.
pub(crate) async fn clear(State(inbox): State<Arc<Inbox>>) -> Response {
    match inbox.mails().clear() {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => not_saved(&error),
    }
}

fn not_saved(error: &io::Error) -> Response {
    tracing::error!(%error, "could not save the mail");
    aws::refuse(StatusCode::INTERNAL_SERVER_ERROR, "InternalServiceError", "The mail could not be saved")
}

fn prefers_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let types = accept.split(',').map(|range| range.split(';').next().unwrap_or_default().trim());
    types.into_iter().find(|kind| matches!(*kind, "text/html" | "application/json")) == Some("text/html")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn request(destination: &Value) -> Value {
        json!({
            "FromEmailAddress": "Postern <no-reply@example.com>",
            "Destination": destination,
            "ReplyToAddresses": [],
            "Content": {"Simple": {
                "Subject": {"Data": "Code"},
                "Body": {"Text": {"Data": "482901"}},
                "Headers": [],
            }},
        })
    }

    fn mail(request: Value) -> Result<Mail, &'static str> {
        serde_json::from_value::<SendEmail>(request).unwrap().into_mail()
    }

    #[test]
    fn mail_is_found_by_any_of_its_recipients() {
        let mail = mail(request(&json!({
            "ToAddresses": ["a@example.com"], "CcAddresses": ["B <b@example.com>"], "BccAddresses": ["C@Example.com"],
        })))
        .unwrap();
        for address in ["a@example.com", "B@example.com", "c@example.com"] {
            assert!(mail.is_to(address), "{address}");
        }
        for address in ["example.com", "no-reply@example.com", "aa@example.com", ""] {
            assert!(!mail.is_to(address), "{address}");
        }
    }

    #[test]
    fn mail_that_ses_refuses_is_refused() {
        let many: Vec<String> = (0..51).map(|number| format!("{number}@example.com")).collect();
        for destination in [
            json!({}),
            json!({"BccAddresses": many}),
            json!({"ToAddresses": ["alice"]}),
            json!({"ToAddresses": ["a@example.com\r\nBcc: b@example.com"]}),
            json!({"ToAddresses": ["a@example.com, b@example.com"]}),
            json!({"ToAddresses": ["a@localhost"]}),
            json!({"ToAddresses": ["a@exa_mple.com"]}),
            json!({"ToAddresses": ["a@münchen.example"]}),
            json!({"ToAddresses": ["ä@example.com"]}),
            json!({"ToAddresses": ["\"a\"@example.com"]}),
            json!({"ToAddresses": ["\"a@b\"@example.com"]}),
            json!({"ToAddresses": ["a@example.com", "a@exa_mple.com"]}),
        ] {
            assert!(mail(request(&destination)).is_err(), "{destination}");
        }
        let destination = json!({"ToAddresses": ["a@example.com"]});
        assert!(mail(request(&destination)).is_ok());
        for (pointer, value) in [
            ("/FromEmailAddress", json!("")),
            ("/FromEmailAddress", json!("Pförtner <no-reply@example.com>")),
            ("/ReplyToAddresses", json!(["help"])),
            ("/Content/Simple/Headers", json!([{"Name": "Auto Submitted", "Value": "auto-generated"}])),
            ("/Content/Simple/Headers", json!([{"Name": "X", "Value": "a\r\nBcc: b@example.com"}])),
            ("/Content/Simple/Body", json!({})),
        ] {
            let mut request = request(&destination);
            *request.pointer_mut(pointer).unwrap() = value;
            assert!(mail(request).is_err(), "{pointer}");
        }
    }
}
