//! SES: the mails that users get, in text and HTML, from the templates in `templates/`.
//!
//! Every mail goes to all of a user's addresses as blind copies, so that none of them shows the others.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use askama::Template;
use aws_sdk_sesv2::Client;
use aws_sdk_sesv2::types::{Body, Content, Destination, EmailContent, Message};
use aws_types::SdkConfig;

use crate::aws::Dependency::Ses;
use crate::aws::{Lazy, lazy};
use crate::config::{ConfigError, Environment};
use crate::domain::{EmailAddress, ResetCode, SessionInformation, Timestamp, User};
use crate::error::Failure;

/// The language of a mail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Language {
    /// `en`
    English,
    /// `de`
    German,
}

impl Language {
    /// The language's tag (RFC 5646).
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::German => "de",
        }
    }
}

impl FromStr for Language {
    type Err = ();

    fn from_str(tag: &str) -> Result<Self, ()> {
        [Self::English, Self::German].into_iter().find(|language| language.tag() == tag).ok_or(())
    }
}

/// Sends the deployment's mails.
#[derive(Debug)]
pub struct Mailer {
    client: Lazy<Client>,
    sender: EmailAddress,
    configuration_set: Option<String>,
    product_name: String,
    /// For users without a language of their own.
    language: Language,
}

/// What a user is told about a change of the password.
#[derive(Debug)]
pub struct PasswordChanged<'a> {
    /// When it was changed.
    pub changed_at: Timestamp,
    /// From where, unless an administrator changed it.
    pub source_ip: Option<IpAddr>,
    /// What the client said about itself.
    pub information: Option<&'a SessionInformation>,
}

#[derive(Template)]
#[template(path = "reset_code.html")]
struct ResetCodeHtml<'a> {
    language: Language,
    product_name: &'a str,
    subject: &'a str,
    code: &'a str,
    validity: &'a str,
}

#[derive(Template)]
#[template(path = "reset_code.txt")]
struct ResetCodeText<'a> {
    language: Language,
    product_name: &'a str,
    code: &'a str,
    validity: &'a str,
}

#[derive(Template)]
#[template(path = "password_changed.html")]
struct PasswordChangedHtml<'a> {
    language: Language,
    product_name: &'a str,
    subject: &'a str,
    changed_at: &'a str,
    source_ip: Option<IpAddr>,
    information: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "password_changed.txt")]
struct PasswordChangedText<'a> {
    language: Language,
    product_name: &'a str,
    changed_at: &'a str,
    source_ip: Option<IpAddr>,
    information: Option<&'a str>,
}

impl Mailer {
    /// A mailer that sends from `MAIL_FROM`, by the SES configuration set `MAIL_CONFIGURATION_SET` if that is set, in
    /// the name of `PRODUCT_NAME`, in the language `MAIL_LANGUAGE`.
    pub fn new(environment: &Environment, aws: &SdkConfig) -> Result<Self, ConfigError> {
        let sender = EmailAddress::parse(&environment.required("MAIL_FROM")?)
            .map_err(|_| ConfigError::new("MAIL_FROM", "must be an e-mail address"))?;
        let product_name = environment.text("PRODUCT_NAME", "Postern");
        if product_name.contains(is_unprintable) {
            return Err(ConfigError::new("PRODUCT_NAME", "must be one line of text"));
        }
        Ok(Self {
            client: lazy(aws, Client::new),
            sender,
            configuration_set: environment.optional("MAIL_CONFIGURATION_SET"),
            product_name,
            language: environment.one_of("MAIL_LANGUAGE", Language::English, "en, de")?,
        })
    }

    /// Sends a user a reset code that is valid for `time_to_live`.
    pub async fn send_reset_code(
        &self,
        user: &User,
        code: &ResetCode,
        time_to_live: Duration,
    ) -> Result<(), Failure> {
        let (language, product_name) = (self.language_of(user), &*self.product_name);
        let subject = match language {
            Language::English => format!("Reset your {product_name} password"),
            Language::German => format!("Passwort für {product_name} zurücksetzen"),
        };
        let validity = validity(language, time_to_live);
        let (code, validity) = (code.expose(), &*validity);
        let html = ResetCodeHtml { language, product_name, subject: &subject, code, validity };
        let text = ResetCodeText { language, product_name, code, validity };
        self.send(user, &subject, &text, &html).await
    }

    /// Tells a user that the password was changed. The change stands whether the mail can be sent or not.
    pub async fn notify_password_changed(&self, user: &User, change: &PasswordChanged<'_>) {
        if user.email_addresses.is_empty() {
            return;
        }
        if let Err(failure) = self.send_password_changed(user, change).await {
            tracing::warn!(cause = %failure, "user not told of the changed password");
        }
    }

    async fn send_password_changed(&self, user: &User, change: &PasswordChanged<'_>) -> Result<(), Failure> {
        let (language, product_name) = (self.language_of(user), &*self.product_name);
        let subject = match language {
            Language::English => format!("Your {product_name} password was changed"),
            Language::German => format!("Ihr Passwort für {product_name} wurde geändert"),
        };
        let changed_at = change.changed_at.to_rfc3339();
        // A client's line breaks must not start lines of their own in a text that we sign.
        let information =
            change.information.map(|information| information.as_str().replace(is_unprintable, " "));
        let changed_at = &*changed_at;
        let (source_ip, information) = (change.source_ip, information.as_deref());
        let html = PasswordChangedHtml {
            language,
            product_name,
            subject: &subject,
            changed_at,
            source_ip,
            information,
        };
        let text = PasswordChangedText { language, product_name, changed_at, source_ip, information };
        self.send(user, &subject, &text, &html).await
    }

    /// The user's own language if there are texts in it.
    fn language_of(&self, user: &User) -> Language {
        let own = user.locale.as_ref().and_then(|locale| locale.language().parse().ok());
        own.unwrap_or(self.language)
    }

    async fn send(
        &self,
        user: &User,
        subject: &str,
        text: &impl Template,
        html: &impl Template,
    ) -> Result<(), Failure> {
        let body = Body::builder().text(content(render(text)?)?).html(content(render(html)?)?).build();
        let message = Message::builder().subject(content(subject.to_owned())?).body(body).build();
        let recipients = user.email_addresses.iter().map(|address| address.as_str().to_owned()).collect();
        self.client
            .send_email()
            .from_email_address(self.sender.as_str())
            .set_configuration_set_name(self.configuration_set.clone())
            .destination(Destination::builder().set_bcc_addresses(Some(recipients)).build())
            .content(EmailContent::builder().simple(message).build())
            .send()
            .await
            .map(drop)
            .map_err(|error| Ses.failure("SendEmail", &error))
    }
}

/// What could end a line (Unicode Standard, §5.8) or steer a terminal.
fn is_unprintable(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

fn render(template: &impl Template) -> Result<String, Failure> {
    template.render().map_err(|error| Failure::Defect(format!("rendering a mail: {error}")))
}

fn content(data: String) -> Result<Content, Failure> {
    Content::builder()
        .data(data)
        .charset("UTF-8")
        .build()
        .map_err(|error| Failure::Defect(format!("building a mail: {error}")))
}

/// «10 minutes», or in seconds where they are not whole minutes.
fn validity(language: Language, time_to_live: Duration) -> String {
    let seconds = time_to_live.as_secs();
    let (amount, in_minutes) =
        if seconds.is_multiple_of(60) { (seconds / 60, true) } else { (seconds, false) };
    let unit = match (language, in_minutes, amount) {
        (Language::English, true, 1) => "minute",
        (Language::English, true, _) => "minutes",
        (Language::English, false, 1) => "second",
        (Language::English, false, _) => "seconds",
        (Language::German, true, 1) => "Minute",
        (Language::German, true, _) => "Minuten",
        (Language::German, false, 1) => "Sekunde",
        (Language::German, false, _) => "Sekunden",
    };
    format!("{amount} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_escaped_and_text_is_not() {
        let html = PasswordChangedHtml {
            language: Language::English,
            product_name: "A & B",
            subject: "<s>",
            changed_at: "now",
            source_ip: None,
            information: Some("<script>alert(1)</script>"),
        };
        let html = html.render().unwrap();
        assert!(!html.contains("<script>") && !html.contains("<s>") && !html.contains("A & B"), "{html}");
        let text = ResetCodeText {
            language: Language::German,
            product_name: "A & B",
            code: "000042",
            validity: "10 Minuten",
        };
        let text = text.render().unwrap();
        assert!(text.contains("\n    000042\n") && text.ends_with("\n\nA & B"), "{text}");
    }

    #[test]
    fn validity_is_in_words() {
        assert_eq!(validity(Language::English, Duration::from_mins(10)), "10 minutes");
        assert_eq!(validity(Language::German, Duration::from_mins(1)), "1 Minute");
        assert_eq!(validity(Language::English, Duration::from_secs(90)), "90 seconds");
    }
}
