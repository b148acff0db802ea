//! The checks: requests as a client sends them, and the documented answers.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::{clock, random};

use crate::probe::Probe;
use crate::report::Report;
use crate::service::{Answer, Request, Service};

const INFORMATION: &str = "Smoke test";

/// The longest life of a token, in seconds.
const TOKEN_LIFE: i64 = 3600;
/// The most that the clocks of two functions may differ, in seconds.
const CLOCK_SKEW: i64 = 60;

/// The checks of one test.
pub(crate) struct Checks<'a> {
    pub(crate) service: &'a Service<'a>,
    pub(crate) probe: &'a Probe,
}

/// The tokens of a sign-in.
#[derive(Deserialize)]
pub(crate) struct Tokens {
    token: String,
    session_token: String,
}

/// The claims of a token that do not depend on settings.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    iat: i64,
    exp: i64,
}

impl Checks<'_> {
    /// Signs in with a wrong and with the right password, and uses both tokens.
    pub(crate) async fn sign_in(&self, report: &mut Report) -> Option<Tokens> {
        report.check("refuse_wrong_password", self.refuse_wrong_password()).await?;
        let tokens = report.check("sign_in", self.sign_in_with_password()).await?;
        report.check("list_sessions", self.list_sessions(&tokens.token)).await;
        report.check("sign_in_with_session", self.sign_in_with_session(&tokens)).await;
        Some(tokens)
    }

    async fn refuse_wrong_password(&self) -> Result<(), String> {
        let answer = self.send_signin(&random::secret_key()).await?;
        let msg = "Username or password is wrong";
        let refusal = json!({ "msg": msg, "error_code": "username_or_password_incorrect" });
        answer.with_status(400)?.is(&refusal)
    }

    async fn sign_in_with_password(&self) -> Result<Tokens, String> {
        let answer = self.send_signin(self.probe.password()).await?;
        let tokens: Tokens = answer.with_status(200)?.read()?;
        self.verify_claims(&tokens.token)?;
        Ok(tokens)
    }

    async fn send_signin(&self, password: &str) -> Result<Answer, String> {
        let body = json!({
            "username": self.probe.username(),
            "password": password,
            "session_information": INFORMATION,
            "stay_logged_in": true,
        });
        self.service.send(Request::post("signin", "/api/auth/signin", &body)).await
    }

    fn verify_claims(&self, token: &str) -> Result<(), String> {
        verify_claims(token, self.probe.user_id(), clock::now().as_seconds())
    }

    async fn list_sessions(&self, token: &str) -> Result<(), String> {
        let answer = self.send_list(token).await?.with_status(200)?;
        match answer.body["sessions"].as_array().map(Vec::as_slice) {
            Some([session]) if session["information"] == INFORMATION => Ok(()),
            _ => Err("the session is missing".to_owned()),
        }
    }

    async fn send_list(&self, token: &str) -> Result<Answer, String> {
        self.service.send(Request::get("sessions", "/api/v1/user/myself/session", token)).await
    }

    async fn sign_in_with_session(&self, tokens: &Tokens) -> Result<(), String> {
        let answer = self.send_session_signin(tokens).await?.with_status(202)?;
        self.verify_claims(answer.body["token"].as_str().unwrap_or_default())
    }

    async fn send_session_signin(&self, tokens: &Tokens) -> Result<Answer, String> {
        let body = json!({ "session_token": tokens.session_token });
        self.service.send(Request::post("session_signin", "/api/auth/IamLoggedIn", &body)).await
    }

    /// Requests a reset code.
    pub(crate) async fn request_code(&self, report: &mut Report) -> Option<()> {
        report.check("request_code", self.send_code()).await
    }

    async fn send_code(&self) -> Result<(), String> {
        let body = json!({ "username": self.probe.username() });
        let path = "/api/auth/forgotPassword/sendEmail";
        let answer = self.service.send(Request::post("forgot_password_send_email", path, &body)).await?;
        // In safe mode, the answer does not reveal that there is no address.
        if self.probe.email_address.is_none() && answer.body["error_code"] == "no_email_addresses" {
            return Ok(());
        }
        answer.with_status(200)?.is(&json!({ "msg": "Sent" }))
    }

    /// Uses the tokens of the user, who was deleted.
    pub(crate) async fn refuse_deleted(&self, report: &mut Report, tokens: &Tokens) {
        let refuse = async |answer: Result<Answer, String>, status, error_code| {
            let answer = answer?.with_status(status)?;
            if answer.body["error_code"] == error_code { Ok(()) } else { Err(answer.told()) }
        };
        let token = async { refuse(self.send_list(&tokens.token).await, 401, "token_incorrect").await };
        report.check("refuse_token_of_deleted_user", token).await;
        let session =
            async { refuse(self.send_session_signin(tokens).await, 400, "session_token_incorrect").await };
        report.check("refuse_session_of_deleted_user", session).await;
    }
}

/// Verifies the claims of a token of a user at this second, but not its signature: that it is right shows when the token
/// is used.
fn verify_claims(token: &str, user_id: &str, now: i64) -> Result<(), String> {
    let claims = token.split('.').nth(1).and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
    let claims = claims.and_then(|json| serde_json::from_slice(&json).ok());
    let Claims { sub, iat, exp } = claims.ok_or("the token is no JSON Web Token")?;
    if sub != user_id {
        return Err("the token is another user's".to_owned());
    }
    if (now - iat).abs() > CLOCK_SKEW || !(1..=TOKEN_LIFE).contains(&(exp - iat)) {
        return Err(format!("the token is valid from {iat} to {exp}, and now is {now}"));
    }
    Ok(())
}

impl Answer {
    fn with_status(self, status: u16) -> Result<Self, String> {
        if self.status == status { Ok(self) } else { Err(self.told()) }
    }

    fn is(&self, body: &Value) -> Result<(), String> {
        if self.body == *body { Ok(()) } else { Err(self.told()) }
    }

    fn read<'de, T: Deserialize<'de>>(&'de self) -> Result<T, String> {
        T::deserialize(&self.body).map_err(|_| self.told())
    }

    /// The status and the error code. The rest of the body may hold a token.
    fn told(&self) -> String {
        match self.body["error_code"].as_str() {
            Some(error_code) => format!("status {}, {error_code}", self.status),
            None => format!("status {}, without an error code", self.status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_its_users_and_of_now() {
        let verified = |claims: &Value| {
            let token = format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()));
            verify_claims(&token, "smoke-test-0", 1_000_000)
        };
        let claims = |iat: i64, exp: i64| json!({"sub": "smoke-test-0", "iat": iat, "exp": exp});
        for (iat, exp) in [(1_000_000, 1_003_600), (999_940, 999_941), (1_000_060, 1_003_660)] {
            assert_eq!(verified(&claims(iat, exp)), Ok(()), "{iat} {exp}");
        }
        for (iat, exp) in
            [(1_000_000, 1_003_601), (1_000_000, 1_000_000), (999_939, 1_003_539), (1_000_061, 1_003_661)]
        {
            assert!(verified(&claims(iat, exp)).is_err(), "{iat} {exp}");
        }
        assert!(verified(&json!({"sub": "33", "iat": 1_000_000, "exp": 1_003_600})).is_err());
        assert!(verified(&json!({"sub": "smoke-test-0"})).is_err());
        for token in ["", "e30", "e30.e30.c2ln", "a.b.c"] {
            assert!(verify_claims(token, "smoke-test-0", 1_000_000).is_err(), "{token}");
        }
    }

    #[test]
    fn the_cause_of_a_failure_holds_no_token() {
        let told = |body: Value| Answer { status: 200, body }.told();
        assert_eq!(told(json!({"error_code": "internal_error", "token": "t"})), "status 200, internal_error");
        assert_eq!(told(json!({"token": "t"})), "status 200, without an error code");
    }
}
