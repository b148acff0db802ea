//! Settings: environment variables, parsed once at the start.
//!
//! Each part of the service reads its own settings when it is made, and the README lists them all; this module has the
//! common parts.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::domain::{AllowedOrigins, Blocklist, OriginsError, PasswordPolicy, is_invisible};

/// The deployment's settings, looked up by the names of environment variables.
pub struct Settings {
    lookup: Box<Lookup>,
}

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

/// A setting that is missing or out of bounds. Shows the variable's name and its requirements, never its value.
#[derive(Clone, Eq, PartialEq, thiserror::Error)]
#[error("{variable} {problem}")]
pub struct ConfigError {
    variable: String,
    problem: String,
}

impl Settings {
    /// Settings from `lookup`, which answers a variable's name with its value.
    pub fn new(lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { lookup: Box::new(lookup) }
    }

    /// Settings from this process's environment variables.
    #[must_use]
    pub fn from_environment() -> Self {
        Self::new(|variable| std::env::var(variable).ok())
    }

    /// A setting that has to be there. An empty variable counts as missing.
    pub fn required(&self, variable: &str) -> Result<String, ConfigError> {
        self.optional(variable).ok_or_else(|| ConfigError::new(variable, "is not set"))
    }

    /// A text that need not be there. An empty variable counts as missing.
    #[must_use]
    pub fn optional(&self, variable: &str) -> Option<String> {
        (self.lookup)(variable).filter(|text| !text.is_empty())
    }

    /// A text that falls back to `default`.
    #[must_use]
    pub fn text(&self, variable: &str, default: &str) -> String {
        self.optional(variable).unwrap_or_else(|| default.to_owned())
    }

    /// A whole number within `range` that falls back to `default`.
    pub fn number(
        &self,
        variable: &str,
        default: u32,
        range: RangeInclusive<u32>,
    ) -> Result<u32, ConfigError> {
        let Some(text) = self.optional(variable) else {
            return Ok(default);
        };
        text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
            let problem = format!("must be a whole number from {} to {}", range.start(), range.end());
            ConfigError::new(variable, &problem)
        })
    }

    /// A value that parses from one of the words in `words`, and falls back to `default`.
    pub fn one_of<T: FromStr>(&self, variable: &str, default: T, words: &str) -> Result<T, ConfigError> {
        match self.optional(variable) {
            None => Ok(default),
            Some(text) => {
                text.parse().map_err(|_| ConfigError::new(variable, &format!("must be one of {words}")))
            }
        }
    }

    /// The name of the product, by `PRODUCT_NAME`.
    pub fn product_name(&self) -> Result<String, ConfigError> {
        let name = self.text("PRODUCT_NAME", "Postern");
        if name.contains(is_invisible) {
            return Err(ConfigError::new("PRODUCT_NAME", "must be one line of text"));
        }
        Ok(name)
    }

    /// The minimum number of characters of a new password, by `PASSWORD_MIN_LENGTH`.
    pub fn password_min_length(&self) -> Result<u32, ConfigError> {
        self.number("PASSWORD_MIN_LENGTH", 8, 1..=256)
    }

    /// The policy that new passwords have to meet, by `PASSWORD_MIN_LENGTH`, `PASSWORD_BLOCKLIST` and `PRODUCT_NAME`.
    /// Only for functions that set passwords: the list is then linked into them, and into no other.
    pub fn password_policy(&self) -> Result<PasswordPolicy, ConfigError> {
        let min_chars = self.password_min_length()?;
        let blocklist = match &*self.text("PASSWORD_BLOCKLIST", "common") {
            "common" => Some(Blocklist::new(&self.product_name()?)),
            "off" => None,
            _ => return Err(ConfigError::new("PASSWORD_BLOCKLIST", "must be one of common, off")),
        };
        Ok(PasswordPolicy::new(min_chars, blocklist))
    }

    /// Returns whether responses must not reveal that a user exists, by `PREVENT_USER_EXISTENCE_ERRORS`.
    pub fn prevents_user_existence_errors(&self) -> Result<bool, ConfigError> {
        self.one_of("PREVENT_USER_EXISTENCE_ERRORS", false, "true, false")
    }

    /// Returns whether tokens are also accepted in the query, by `ALLOW_TOKEN_IN_QUERY`.
    pub fn allows_token_in_query(&self) -> Result<bool, ConfigError> {
        self.one_of("ALLOW_TOKEN_IN_QUERY", true, "true, false")
    }

    /// The origins whose pages may send requests, by `CORS_ALLOW_ORIGINS`: none unless it is set.
    pub fn allowed_origins(&self) -> Result<AllowedOrigins, ConfigError> {
        self.origins("CORS_ALLOW_ORIGINS")
    }

    /// The origins whose pages may get the tokens of users who sign in on a page of this service, by `RETURN_ORIGINS`:
    /// none unless it is set, and never all.
    pub fn return_origins(&self) -> Result<AllowedOrigins, ConfigError> {
        match self.origins("RETURN_ORIGINS")? {
            AllowedOrigins::Any => Err(ConfigError::new("RETURN_ORIGINS", "must name each origin")),
            listed @ AllowedOrigins::Listed(_) => Ok(listed),
        }
    }

    fn origins(&self, variable: &str) -> Result<AllowedOrigins, ConfigError> {
        let parse = |text: String| {
            text.parse().map_err(|error: OriginsError| ConfigError::new(variable, &error.to_string()))
        };
        self.optional(variable).map_or(Ok(AllowedOrigins::Listed(Vec::new())), parse)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Environment")
    }
}

impl fmt::Debug for ConfigError {
    /// Displays the error, because a `main` that returns it prints its Debug output.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl ConfigError {
    /// An error that reads "`variable` `problem`", for example "`MAIL_FROM` is not set".
    #[must_use]
    pub fn new(variable: &str, problem: &str) -> Self {
        Self { variable: variable.to_owned(), problem: problem.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(value: &'static str) -> Settings {
        Settings::new(move |_| Some(value.to_owned()))
    }

    #[test]
    fn an_empty_variable_counts_as_missing() {
        assert_eq!(settings("").required("MAIL_FROM").unwrap_err().to_string(), "MAIL_FROM is not set");
        assert_eq!(settings("").text("JWT_ISSUER", "lumen-jwt"), "lumen-jwt");
    }

    #[test]
    fn a_number_keeps_to_its_range_and_the_error_names_the_variable() {
        assert_eq!(settings("256").number("PASSWORD_MIN_LENGTH", 8, 1..=256), Ok(256));
        for value in ["0", "257", "eight", "8.5", "-1"] {
            assert_eq!(
                settings(value).number("PASSWORD_MIN_LENGTH", 8, 1..=256).unwrap_err().to_string(),
                "PASSWORD_MIN_LENGTH must be a whole number from 1 to 256"
            );
        }
    }
}
