//! New passwords: the deployment's policy, and the service that knows breached passwords, if there is one.

use std::fmt::Write;
use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::time::timeout;

use crate::domain::{ApprovedPassword, Password, PasswordPolicy, TooCommon, UncommonPassword};
use crate::http_client::HttpClient;
use crate::settings::{ConfigError, Settings};
use crate::telemetry;

/// The largest response that is read: several times the size of a padded range.
const MAX_RANGE_BYTES: usize = 256 * 1024;

/// The hexadecimal digits of a SHA-1 that the service learns.
const PREFIX_DIGITS: usize = 5;

/// The deployment's requirements for new passwords, and the only way to approve one.
#[derive(Debug)]
pub struct NewPasswords {
    policy: PasswordPolicy,
    breaches: Option<BreachService>,
    /// The time that the service of breached passwords has to answer. A person waits for it.
    breach_timeout: Duration,
}

impl NewPasswords {
    /// The requirements by the settings of [`Settings::password_policy`], and by `PASSWORD_BREACH_URL` and
    /// `PASSWORD_BREACH_TIMEOUT_MS`.
    pub fn new(settings: &Settings) -> Result<Self, ConfigError> {
        let breaches = settings.optional("PASSWORD_BREACH_URL");
        let breaches = breaches.as_deref().map(BreachService::new).transpose()?;
        let timeout = settings.number("PASSWORD_BREACH_TIMEOUT_MS", 1000, 100..=5000)?;
        let breach_timeout = Duration::from_millis(timeout.into());
        Ok(Self { policy: settings.password_policy()?, breaches, breach_timeout })
    }

    /// The requirements that need no service.
    #[must_use]
    pub fn policy(&self) -> &PasswordPolicy {
        &self.policy
    }

    /// Approves a password unless the service knows it to be breached. Only if nothing else is wrong with the request,
    /// and the old password or the code was found right: other requests must not cause calls of the service.
    ///
    /// A password that cannot be compared is approved, with a warning in the log, because it meets all other
    /// requirements.
    pub async fn approve(&self, password: UncommonPassword) -> Result<ApprovedPassword, TooCommon> {
        if let Some(service) = &self.breaches {
            match service.knows(password.as_password(), self.breach_timeout).await {
                Ok(true) => return Err(TooCommon),
                Ok(false) => {}
                Err(cause) => telemetry::warn("new password not compared with breached ones", cause),
            }
        }
        Ok(password.approve())
    }
}

/// A service with the range API of Have I Been Pwned (<https://haveibeenpwned.com/API/v3#PwnedPasswords>): it returns
/// the breached passwords whose SHA-1 begins with five given digits, and so learns nothing else (k-anonymity).
#[derive(Debug)]
struct BreachService {
    url: String,
    // With the operating system's authorities, because the service is none of AWS's.
    http: HttpClient,
}

impl BreachService {
    fn new(url: &str) -> Result<Self, ConfigError> {
        let http = HttpClient::for_url("PASSWORD_BREACH_URL", url)?;
        Ok(Self { url: url.trim_end_matches('/').to_owned(), http })
    }

    /// Returns whether the service knows `password`, or the reason why it did not say so within `limit`.
    async fn knows(&self, password: &Password, limit: Duration) -> Result<bool, String> {
        let mut hash = String::new();
        for byte in digest(&SHA1_FOR_LEGACY_USE_ONLY, password.expose()).as_ref() {
            // Writing to a string does not fail.
            let _ = write!(hash, "{byte:02X}");
        }
        let (prefix, suffix) = hash.split_at(PREFIX_DIGITS);
        // The authorities are loaded once, which is not the service's time.
        self.http.prepare();
        let range = match timeout(limit, self.range(prefix)).await {
            Ok(range) => range?,
            Err(_) => return Err("timed out".to_owned()),
        };
        has_breached(&range, suffix).ok_or_else(|| "the response is not a range".to_owned())
    }

    async fn range(&self, prefix: &str) -> Result<String, String> {
        let request = HttpRequest::get(format!("{}/range/{prefix}", self.url));
        let mut request = request.map_err(|error| error.to_string())?;
        // Adds passwords that were never breached, so that the size of the response does not reveal the prefix.
        request.headers_mut().insert("add-padding", "true");
        let response = self.http.send(request, MAX_RANGE_BYTES).await?;
        match response.status {
            200 => {}
            status => return Err(format!("status {status}")),
        }
        String::from_utf8(response.body).map_err(|_| "the response is not a range".to_owned())
    }
}

/// Returns whether a password whose SHA-1 ends with `suffix` is in a range, with a count above zero: padding has the
/// count zero. `None` if this is no range, which is lines of `SUFFIX:COUNT`.
fn has_breached(range: &str, suffix: &str) -> Option<bool> {
    if range.is_empty() {
        return None;
    }
    let mut is_breached = false;
    for line in range.lines() {
        let (listed, count) = line.split_once(':')?;
        let count: u64 = count.parse().ok()?;
        if listed.len() != suffix.len() || !listed.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        is_breached |= count > 0 && listed.eq_ignore_ascii_case(suffix);
    }
    Some(is_breached)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The SHA-1 of "password" without its first five digits, 5BAA6.
    const SUFFIX: &str = "1E4C9B93F3F0682250B6CF8331B7EE68FD8";
    const OTHER: &str = "003D68EB55068C33ACE09247EE4C639306B";

    #[test]
    fn a_breached_password_is_in_the_range_with_a_count() {
        for (range, breached) in [
            (format!("{OTHER}:3\r\n{SUFFIX}:9545824\r\n"), true),
            (format!("{SUFFIX}:1"), true),
            (format!("{}:1\n{OTHER}:3", SUFFIX.to_lowercase()), true),
            (format!("{OTHER}:3\r\n{SUFFIX}:0\r\n"), false),
            (format!("{OTHER}:3"), false),
        ] {
            assert_eq!(has_breached(&range, SUFFIX), Some(breached), "{range}");
        }
    }

    #[test]
    fn other_texts_are_no_range() {
        let longer = format!("{OTHER}0:1");
        let no_digit = format!("{}G:1", &OTHER[1..]);
        let [no_count, negative] = ["", "-1"].map(|count| format!("{SUFFIX}:1\n{OTHER}:{count}"));
        for range in
            ["", "\n", "<html></html>", "{\"a\":1}", SUFFIX, &longer, &no_digit, &no_count, &negative]
        {
            assert_eq!(has_breached(range, SUFFIX), None, "{range:?}");
        }
    }

    #[tokio::test]
    async fn the_reason_why_the_service_was_not_asked_reveals_nothing_about_the_password() {
        // Nothing listens on this port.
        let service = BreachService::new("http://127.0.0.1:1").unwrap();
        let password = Password::parse("password".to_owned()).unwrap();
        let cause = service.knows(&password, Duration::from_secs(1)).await.unwrap_err();
        assert!(
            cause.contains("onnect") && !cause.contains("5BAA6") && !cause.contains("password"),
            "{cause}"
        );
    }
}
