use std::str::FromStr;

/// The origins whose pages may read answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AllowedOrigins {
    /// Every origin.
    Any,
    /// These, in the form in which browsers send them (RFC 6454 §6.2).
    Listed(Vec<String>),
}

/// The error of a text that is neither `*` nor a list of origins.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("must be * or scheme://host[:port] in lower case, several separated by commas")]
pub struct OriginsError;

impl AllowedOrigins {
    /// Returns whether pages of `origin`, the value of an `Origin` header, may read answers.
    #[must_use]
    pub fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(origins) => origins.iter().any(|allowed| allowed == origin),
        }
    }
}

impl FromStr for AllowedOrigins {
    type Err = OriginsError;

    fn from_str(text: &str) -> Result<Self, OriginsError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let origins: Vec<String> = text.split(',').map(str::to_owned).collect();
        if origins.iter().all(|origin| is_origin(origin)) {
            Ok(Self::Listed(origins))
        } else {
            Err(OriginsError)
        }
    }
}

fn is_origin(origin: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    // The colons of an IPv6 address are in brackets.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    is_scheme(scheme) && is_host(host) && port.is_none_or(is_port)
}

fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.'))
}

fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => {
            !address.is_empty()
                && address.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b':' | b'.'))
        }
        None => {
            !host.is_empty()
                && host.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_'))
        }
    }
}

/// Browsers write no leading zeros.
fn is_port(port: &str) -> bool {
    port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_allows_every_origin() {
        let any: AllowedOrigins = "*".parse().unwrap();
        assert_eq!(any, AllowedOrigins::Any);
        assert!(any.allows("https://app.example.com") && any.allows("null"));
    }

    #[test]
    fn a_list_allows_its_origins_alone() {
        let list: AllowedOrigins = "https://app.example.com,capacitor://localhost".parse().unwrap();
        assert!(list.allows("https://app.example.com") && list.allows("capacitor://localhost"));
        for origin in [
            "",
            "*",
            "null",
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com/",
            "https://app.example.com.evil.example",
            "https://evil.example",
            "HTTPS://APP.EXAMPLE.COM",
            "https://app.example.com,capacitor://localhost",
        ] {
            assert!(!list.allows(origin), "{origin}");
        }
    }

    proptest! {
        #[test]
        fn every_origin_is_accepted(
            origins in prop::collection::vec("[a-z][a-z0-9+.-]{0,9}://([a-z0-9._-]{1,30}|\\[[0-9a-f:.]{1,39}\\])(:[1-9][0-9]{0,3})?", 1..4)
        ) {
            prop_assert_eq!(origins.join(",").parse(), Ok(AllowedOrigins::Listed(origins)));
        }

        #[test]
        fn what_is_accepted_has_no_character_that_an_origin_has_not(text in "[a-zA-Z0-9:/*.,@ \\[\\]-]{0,20}") {
            if let Ok(AllowedOrigins::Listed(origins)) = text.parse() {
                for origin in origins {
                    prop_assert!(!origin.contains(|character: char| "*, @".contains(character)), "{}", origin);
                    prop_assert_eq!(origin.to_lowercase(), &*origin);
                    prop_assert_eq!(origin.matches('/').count(), 2);
                }
            }
        }
    }
}
