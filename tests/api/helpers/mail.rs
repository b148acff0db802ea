//! The mails that users received.

use serde::Deserialize;
use serde_json::Value;

use super::Service;

impl Service {
    /// Returns the mails to an address, oldest first.
    pub(crate) async fn mails_to(&self, address: &str) -> Vec<Mail> {
        let address = address.replace('+', "%2B");
        let url = format!("{}/_aws/ses?email={address}", self.aws);
        let inbox: Inbox = self.http.get(url).send().await.unwrap().json().await.unwrap();
        inbox.messages
    }
}

#[derive(Deserialize)]
struct Inbox {
    messages: Vec<Mail>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Mail {
    pub(crate) source: String,
    pub(crate) subject: String,
    pub(crate) destination: Destination,
    pub(crate) reply_to_addresses: Vec<String>,
    pub(crate) headers: Vec<Value>,
    pub(crate) body: MailBody,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Destination {
    #[serde(rename = "ToAddresses")]
    pub(crate) to: Vec<String>,
    #[serde(rename = "CcAddresses")]
    pub(crate) cc: Vec<String>,
    #[serde(rename = "BccAddresses")]
    pub(crate) bcc: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct MailBody {
    pub(crate) text_part: String,
    pub(crate) html_part: String,
}

impl Mail {
    /// The reset code in the mail's text: its only line of six digits.
    #[track_caller]
    pub(crate) fn code(&self) -> String {
        let is_code = |line: &&str| line.len() == 6 && line.bytes().all(|byte| byte.is_ascii_digit());
        let codes: Vec<&str> = self.body.text_part.lines().map(str::trim).filter(is_code).collect();
        let [code] = codes[..] else { panic!("not one code: {self:?}") };
        code.to_owned()
    }
}
