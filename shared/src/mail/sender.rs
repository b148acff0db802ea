//! The `From` and `Reply-To` of all mails.

use crate::domain::{EmailAddress, is_invisible};
use crate::settings::{ConfigError, Settings};

/// The most characters of the sender's name.
const MAX_IDENTIFIER_CHARS: usize = 100;

/// The longest encoded word in a header (RFC 2047 §2), without its frame `=?UTF-8?Q?` and `?=`.
const MAX_ENCODED_WORD: usize = 75 - 12;

/// The sender of all mails.
#[derive(Debug)]
pub(super) struct Sender {
    /// `From`: an address, or a name and an address in angle brackets (RFC 5322 §3.4).
    pub(super) from: String,
    /// `Reply-To`, if replies do not go to the sender's address.
    pub(super) reply_to: Option<EmailAddress>,
}

impl Sender {
    /// The address `MAIL_FROM`, with the name `MAIL_FROM_NAME` if that is set, and `MAIL_REPLY_TO` for answers.
    pub(super) fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let address = |variable: &str, written: &str| {
            EmailAddress::parse(written)
                .map_err(|_| ConfigError::new(variable, "must be an e-mail address that SES takes"))
        };
        let from = address("MAIL_FROM", &settings.required("MAIL_FROM")?)?;
        let reply_to = settings.optional("MAIL_REPLY_TO");
        let reply_to = reply_to.map(|written| address("MAIL_REPLY_TO", &written)).transpose()?;
        let from = match settings.optional("MAIL_FROM_NAME") {
            None => from.as_str().to_owned(),
            Some(name) if name.contains(is_invisible) || name.chars().count() > MAX_IDENTIFIER_CHARS => {
                let problem = format!("must be one line of at most {MAX_IDENTIFIER_CHARS} characters");
                return Err(ConfigError::new("MAIL_FROM_NAME", &problem));
            }
            Some(name) => format!("{} <{}>", phrase(&name), from.as_str()),
        };
        Ok(Self { from, reply_to })
    }
}

/// A name as a header has it: a quoted string (RFC 5322 §3.2.4) if it is ASCII, else encoded words (RFC 2047).
fn phrase(name: &str) -> String {
    if name.is_ascii() {
        return format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
    }
    let mut words = vec![String::new()];
    for character in name.chars() {
        let encoded = character.to_string().into_bytes().into_iter().map(|byte| match byte {
            b' ' => "_".to_owned(),
            _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            _ => format!("={byte:02X}"),
        });
        let encoded: String = encoded.collect();
        match words.last_mut() {
            // A character must not be split between words (RFC 2047 §5).
            Some(word) if word.len() + encoded.len() <= MAX_ENCODED_WORD => word.push_str(&encoded),
            _ => words.push(encoded),
        }
    }
    words.iter().map(|word| format!("=?UTF-8?Q?{word}?=")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(name: &'static str, reply_to: &'static str) -> Result<Sender, String> {
        let settings = Settings::new(move |variable| match variable {
            "MAIL_FROM" => Some("no-reply@example.com".to_owned()),
            "MAIL_FROM_NAME" => Some(name.to_owned()),
            "MAIL_REPLY_TO" => Some(reply_to.to_owned()),
            _ => None,
        });
        Sender::from_settings(&settings).map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_is_quoted_or_encoded() {
        for (name, from) in [
            ("", "no-reply@example.com"),
            ("Postern", "\"Postern\" <no-reply@example.com>"),
            ("R&D, \"gate\" <a@b.c>\\", "\"R&D, \\\"gate\\\" <a@b.c>\\\\\" <no-reply@example.com>"),
            ("Pförtner am Tor", "=?UTF-8?Q?Pf=C3=B6rtner_am_Tor?= <no-reply@example.com>"),
        ] {
            assert_eq!(sender(name, "").unwrap().from, from);
        }
        let from = sender("門番門番門番門番", "").unwrap().from;
        let seven = "=E9=96=80=E7=95=AA=E9=96=80=E7=95=AA=E9=96=80=E7=95=AA=E9=96=80";
        assert_eq!(from, format!("=?UTF-8?Q?{seven}?= =?UTF-8?Q?=E7=95=AA?= <no-reply@example.com>"));
    }

    #[test]
    fn a_name_that_is_not_one_line_and_an_address_that_is_none_stop_the_start() {
        for name in ["a\r\nBcc: b@example.com", "a\u{202e}b"] {
            assert_eq!(
                sender(name, "").unwrap_err(),
                "MAIL_FROM_NAME must be one line of at most 100 characters"
            );
        }
        assert_eq!(sender("", "help@example.com").unwrap().reply_to.unwrap().as_str(), "help@example.com");
        for reply_to in ["help", "help@localhost", "Help <help@example.com>"] {
            assert_eq!(
                sender("", reply_to).unwrap_err(),
                "MAIL_REPLY_TO must be an e-mail address that SES takes"
            );
        }
    }
}
