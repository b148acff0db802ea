//! SES: the mails that users get, in text and HTML, from the templates in `templates/`.
//!
//! Every address of a user gets a mail of its own, with that address alone as `To`: none of them shows the others, and
//! one that SES refuses does not keep a mail from the others.

mod sender;
mod wording;

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use askama::Template;
use aws_sdk_sesv2::Client;
use aws_sdk_sesv2::error::BuildError;
use aws_sdk_sesv2::types::{Body, Content, Destination, EmailContent, Message, MessageHeader};
use aws_types::SdkConfig;
use futures_util::future::join_all;

use self::sender::Sender;
use crate::aws::Dependency::Ses;
use crate::aws::{Lazy, had_no_effect, lazy, single_attempt};
use crate::domain::{EmailAddress, ResetCode, SessionInformation, Timestamp, User};
use crate::failure::Failure;
use crate::settings::{ConfigError, Settings};
use crate::telemetry;

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
    sender: Sender,
    configuration_set: Option<String>,
    product_name: String,
    /// For users without a language of their own.
    language: Language,
}

/// A request for a reset code, as its mail describes it.
#[derive(Debug)]
pub struct CodeRequest {
    /// The life of the code.
    pub time_to_live: Duration,
    /// The time of the request.
    pub requested_at: Timestamp,
    /// The address that the request came from.
    pub source_ip: IpAddr,
}

/// A change of a password, as its notice describes it.
#[derive(Debug)]
pub struct PasswordChanged<'a> {
    /// The time of the change.
    pub changed_at: Timestamp,
    /// The address that the request came from; `None` if an administrator changed the password.
    pub source_ip: Option<IpAddr>,
    /// The client's information about itself.
    pub information: Option<&'a SessionInformation>,
    /// True if a session began with the change, beside those that ended with it.
    pub begins_session: bool,
}

/// The reason why no address of a user got a mail.
#[derive(Debug)]
pub enum Undelivered {
    /// SES refused the mails to all addresses: none will arrive.
    Refused(Failure),
    /// A response was lost, so that a mail may arrive all the same.
    Unknown(Failure),
}

impl From<Undelivered> for Failure {
    fn from(undelivered: Undelivered) -> Self {
        match undelivered {
            Undelivered::Refused(failure) | Undelivered::Unknown(failure) => failure,
        }
    }
}

#[derive(Template)]
#[template(path = "reset_code.html")]
struct ResetCodeHtml<'a> {
    language: Language,
    product_name: &'a str,
    heading: &'a str,
    account: &'a str,
    code: &'a str,
    validity: &'a str,
    requested_at: &'a str,
    source_ip: IpAddr,
}

#[derive(Template)]
#[template(path = "reset_code.txt")]
struct ResetCodeText<'a> {
    language: Language,
    product_name: &'a str,
    account: &'a str,
    code: &'a str,
    validity: &'a str,
    requested_at: &'a str,
    source_ip: IpAddr,
}

#[derive(Template)]
#[template(path = "password_changed.html")]
struct PasswordChangedHtml<'a> {
    language: Language,
    product_name: &'a str,
    heading: &'a str,
    account: &'a str,
    begins_session: bool,
    changed_at: &'a str,
    source_ip: Option<IpAddr>,
    information: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "password_changed.txt")]
struct PasswordChangedText<'a> {
    language: Language,
    product_name: &'a str,
    account: &'a str,
    begins_session: bool,
    changed_at: &'a str,
    source_ip: Option<IpAddr>,
    information: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "addresses_changed.html")]
struct AddressesChangedHtml<'a> {
    language: Language,
    product_name: &'a str,
    heading: &'a str,
    account: &'a str,
    changed_at: &'a str,
    /// True in mails to the addresses that the user has now.
    is_used: bool,
}

#[derive(Template)]
#[template(path = "addresses_changed.txt")]
struct AddressesChangedText<'a> {
    language: Language,
    product_name: &'a str,
    account: &'a str,
    changed_at: &'a str,
    is_used: bool,
}

#[derive(Template)]
#[template(path = "new_network.html")]
struct NewNetworkHtml<'a> {
    language: Language,
    product_name: &'a str,
    heading: &'a str,
    account: &'a str,
    signed_in_at: &'a str,
    source_ip: IpAddr,
}

#[derive(Template)]
#[template(path = "new_network.txt")]
struct NewNetworkText<'a> {
    language: Language,
    product_name: &'a str,
    account: &'a str,
    signed_in_at: &'a str,
    source_ip: IpAddr,
}

impl Mailer {
    /// A mailer that sends from `MAIL_FROM`, by the SES configuration set `MAIL_CONFIGURATION_SET` if that is set, in
    /// the name of `PRODUCT_NAME`, in the language `MAIL_LANGUAGE`. `MAIL_FROM_NAME` and `MAIL_REPLY_TO` are optional.
    pub fn new(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            // SES has no token against repetitions: a retry after a lost response would send the mail again.
            client: lazy(aws, |aws| Client::new(&single_attempt(aws))),
            sender: Sender::from_settings(settings)?,
            configuration_set: settings.optional("MAIL_CONFIGURATION_SET"),
            product_name: settings.product_name()?,
            language: settings.one_of("MAIL_LANGUAGE", Language::English, "en, de")?,
        })
    }

    /// Sends a reset code to all addresses of a user. Fails if SES took the mail for none of them.
    pub async fn send_reset_code(
        &self,
        user: &User,
        code: &ResetCode,
        request: &CodeRequest,
    ) -> Result<(), Undelivered> {
        let (language, product_name) = (self.language_of(user), &*self.product_name);
        let account = &*wording::one_line(user.username.display());
        let heading = &*match language {
            Language::English => format!("Reset your {product_name} password"),
            Language::German => format!("Passwort für {product_name} zurücksetzen"),
        };
        let validity = &*wording::duration(language, request.time_to_live);
        let requested_at = &*wording::date_and_time(language, request.requested_at);
        let (code, source_ip) = (code.expose(), request.source_ip);
        let html = ResetCodeHtml {
            language,
            product_name,
            heading,
            account,
            code,
            validity,
            requested_at,
            source_ip,
        };
        let text = ResetCodeText { language, product_name, account, code, validity, requested_at, source_ip };
        self.send(&user.email_addresses, heading, account, &text, &html).await
    }

    /// Notifies a user at all addresses that the password was changed. The change stands whether SES takes the mails or
    /// not.
    pub async fn notify_password_changed(&self, user: &User, change: &PasswordChanged<'_>) {
        if user.email_addresses.is_empty() {
            return;
        }
        if let Err(undelivered) = self.send_password_changed(user, change).await {
            telemetry::warn("user not told of the changed password", Failure::from(undelivered));
        }
    }

    async fn send_password_changed(
        &self,
        user: &User,
        change: &PasswordChanged<'_>,
    ) -> Result<(), Undelivered> {
        let (language, product_name) = (self.language_of(user), &*self.product_name);
        let account = &*wording::one_line(user.username.display());
        let heading = &*match language {
            Language::English => format!("Your {product_name} password was changed"),
            Language::German => format!("Ihr Passwort für {product_name} wurde geändert"),
        };
        let changed_at = &*wording::date_and_time(language, change.changed_at);
        let information = change.information.map(wording::quoted);
        let information = information.as_deref();
        let &PasswordChanged { source_ip, begins_session, .. } = change;
        let html = PasswordChangedHtml {
            language,
            product_name,
            heading,
            account,
            begins_session,
            changed_at,
            source_ip,
            information,
        };
        let text = PasswordChangedText {
            language,
            product_name,
            account,
            begins_session,
            changed_at,
            source_ip,
            information,
        };
        self.send(&user.email_addresses, heading, account, &text, &html).await
    }

    /// Notifies a user, at the former and the present addresses, that an administrator changed them. No mail shows an
    /// address. Does nothing if they are the same ones. The change stands whether SES takes the mails or not.
    pub async fn notify_addresses_changed(
        &self,
        user: &User,
        former: &[EmailAddress],
        changed_at: Timestamp,
    ) {
        let present = &user.email_addresses;
        let removed: Vec<_> = former.iter().filter(|address| !present.contains(address)).cloned().collect();
        if removed.is_empty() && present.iter().all(|address| former.contains(address)) {
            return;
        }
        let told =
            join_all([(present, true), (&removed, false)].map(|(addresses, is_used)| {
                self.send_addresses_changed(user, addresses, is_used, changed_at)
            }));
        for undelivered in told.await.into_iter().filter_map(Result::err) {
            telemetry::warn("user not told of the changed addresses", Failure::from(undelivered));
        }
    }

    async fn send_addresses_changed(
        &self,
        user: &User,
        addresses: &[EmailAddress],
        is_used: bool,
        changed_at: Timestamp,
    ) -> Result<(), Undelivered> {
        let (language, product_name) = (self.language_of(user), &*self.product_name);
        let account = &*wording::one_line(user.username.display());
        let heading = &*match language {
            Language::English => format!("The e-mail addresses of your {product_name} account were changed"),
            Language::German => {
                format!("Die E-Mail-Adressen Ihres Kontos bei {product_name} wurden geändert")
            }
        };
        let changed_at = &*wording::date_and_time(language, changed_at);
        let html = AddressesChangedHtml { language, product_name, heading, account, changed_at, is_used };
        let text = AddressesChangedText { language, product_name, account, changed_at, is_used };
        self.send(addresses, heading, account, &text, &html).await
    }

    /// Notifies a user at all addresses of a sign-in from a network that was not known. Fails if SES took the mail for none
    /// of them.
    pub async fn notify_new_network(
        &self,
        user: &User,
        signed_in_at: Timestamp,
        source_ip: IpAddr,
    ) -> Result<(), Undelivered> {
        let (language, product_name) = (self.language_of(user), &*self.product_name);
        let account = &*wording::one_line(user.username.display());
        let heading = &*match language {
            Language::English => format!("New sign-in to your {product_name} account"),
            Language::German => format!("Neue Anmeldung bei Ihrem Konto bei {product_name}"),
        };
        let signed_in_at = &*wording::date_and_time(language, signed_in_at);
        let html = NewNetworkHtml { language, product_name, heading, account, signed_in_at, source_ip };
        let text = NewNetworkText { language, product_name, account, signed_in_at, source_ip };
        self.send(&user.email_addresses, heading, account, &text, &html).await
    }

    /// The user's own language if there are texts in it.
    fn language_of(&self, user: &User) -> Language {
        let own = user.locale.as_ref().and_then(|locale| locale.language().parse().ok());
        own.unwrap_or(self.language)
    }

    /// Sends a mail to each of these addresses of a user, at the same time. Its subject also names the account, so that
    /// mail programs do not put the mails of several accounts together. Addresses that SES refuses are in the log as
    /// a number with the reasons.
    async fn send(
        &self,
        addresses: &[EmailAddress],
        heading: &str,
        account: &str,
        text: &impl Template,
        html: &impl Template,
    ) -> Result<(), Undelivered> {
        let subject = format!("{heading} ({})", wording::beginning(account));
        let message = message(subject, text, html).map_err(Undelivered::Refused)?;
        let sent = addresses.iter().map(|address| self.send_to(address, message.clone()));
        let (mut taken, mut refused, mut unknown) = (0_usize, Vec::new(), Vec::new());
        for outcome in join_all(sent).await {
            match outcome {
                Ok(()) => taken += 1,
                Err(Undelivered::Refused(failure)) => refused.push(failure),
                Err(Undelivered::Unknown(failure)) => unknown.push(failure),
            }
        }
        let failures: Vec<_> = unknown.iter().chain(&refused).map(ToString::to_string).collect();
        match (taken, unknown.pop(), refused.pop()) {
            (0, Some(failure), _) => Err(Undelivered::Unknown(failure)),
            (0, None, Some(failure)) => Err(Undelivered::Refused(failure)),
            _ => {
                if !failures.is_empty() {
                    let (failed, of) = (failures.len(), taken + failures.len());
                    let cause = format!("{failed} of {of}: {}", failures.join(", "));
                    telemetry::warn("mail not sent to all addresses", cause);
                }
                Ok(())
            }
        }
    }

    async fn send_to(&self, address: &EmailAddress, message: Message) -> Result<(), Undelivered> {
        let reply_to = self.sender.reply_to.iter().map(|address| address.as_str().to_owned()).collect();
        self.client
            .send_email()
            .from_email_address(&self.sender.from)
            .set_reply_to_addresses(Some(reply_to))
            .set_configuration_set_name(self.configuration_set.clone())
            .destination(Destination::builder().to_addresses(address.as_str()).build())
            .content(EmailContent::builder().simple(message).build())
            .send()
            .await
            .map(drop)
            .map_err(|error| {
                let undelivered =
                    if had_no_effect(&error) { Undelivered::Refused } else { Undelivered::Unknown };
                undelivered(Ses.record_failure("SendEmail", &error))
            })
    }
}

/// A mail without its recipient.
fn message(subject: String, text: &impl Template, html: &impl Template) -> Result<Message, Failure> {
    let built = |error: BuildError| Failure::Defect(format!("building a mail: {error}"));
    let content = |data: String| Content::builder().data(data).charset("UTF-8").build().map_err(built);
    let body = Body::builder().text(content(render(text)?)?).html(content(render(html)?)?).build();
    // Keeps out-of-office replies away (RFC 3834 §5).
    let automatic = MessageHeader::builder().name("Auto-Submitted").value("auto-generated").build();
    Ok(Message::builder().subject(content(subject)?).body(body).headers(automatic.map_err(built)?).build())
}

fn render(template: &impl Template) -> Result<String, Failure> {
    template.render().map_err(|error| Failure::Defect(format!("rendering a mail: {error}")))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn html_is_escaped_and_text_is_not() {
        let html = PasswordChangedHtml {
            language: Language::English,
            product_name: "A & B",
            heading: "<s>",
            account: "<i>",
            begins_session: false,
            changed_at: "now",
            source_ip: None,
            information: Some("<script>alert(1)</script>"),
        };
        let html = html.render().unwrap();
        for raw in ["<script>", "<s>", "<i>", "A & B"] {
            assert!(!html.contains(raw), "{html}");
        }
        let text = ResetCodeText {
            language: Language::German,
            product_name: "A & B",
            account: "<i>",
            code: "482901",
            validity: "10 Minuten",
            requested_at: "26. November 2026, 17:58 UTC",
            source_ip: Ipv4Addr::LOCALHOST.into(),
        };
        let text = text.render().unwrap();
        assert!(text.contains("\n    482901\n") && text.ends_with("\n\nA & B"), "{text}");
        assert!(text.contains("\nKonto: <i>\n") && text.contains("\nIP-Adresse: 127.0.0.1\n"), "{text}");
    }
}
