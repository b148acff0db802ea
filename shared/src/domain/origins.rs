use std::str::FromStr;

/// The origins whose pages may send requests and read responses, in addition to the API's own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AllowedOrigins {
    /// Every origin.
    Any,
    /// These, in the form in which browsers send them (RFC 6454 §6.2). There may be none.
    Listed(Vec<String>),
}

/// The error of a text that is neither `*` nor a list of origins.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("must be * or scheme://host[:port] in lower case, several separated by commas")]
pub struct OriginsError;

impl AllowedOrigins {
    /// Returns whether pages of `origin`, the value of an `Origin` header, may send requests and read responses.
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

/// Returns whether `origin`, the value of an `Origin` header, is that of the API itself at `domain`, the domain name
/// that API Gateway saw. API Gateway serves HTTPS only; plain HTTP is for the local stack, which is on this machine.
#[must_use]
pub fn is_own_origin(origin: &str, domain: &str) -> bool {
    match origin.split_once("://") {
        Some(("https", host)) => host == domain,
        Some(("http", host)) => host == domain && is_on_this_machine(host),
        _ => false,
    }
}

/// Returns whether verifiers of tokens can find the metadata of `issuer` (RFC 8414 §2): whether it is an HTTPS URL
/// without query and fragment, or a plain HTTP one of this machine. Verifiers compare issuers byte for byte, so the form
/// is that of origins, and there is no slash at the end.
#[must_use]
pub fn is_issuer_url(issuer: &str) -> bool {
    let path = issuer.match_indices('/').nth(2).map_or(issuer.len(), |(start, _)| start);
    let (origin, path) = issuer.split_at(path);
    let is_protected = match origin.split_once("://") {
        Some(("https", _)) => true,
        Some(("http", host)) => is_on_this_machine(host),
        _ => false,
    };
    // RFC 3986 §3.3.
    let is_path =
        path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:@".contains(&byte));
    is_protected && is_origin(origin) && is_path && !issuer.ends_with('/')
}

/// `host` may have a port.
fn is_on_this_machine(host: &str) -> bool {
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    ["127.0.0.1", "localhost"].contains(&name)
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

    #[test]
    fn the_apis_own_origin_is_its_domain_name_by_https_or_a_local_address() {
        let deployed = "auth.example.com";
        for (origin, domain, is_own) in [
            ("https://auth.example.com", deployed, true),
            ("http://auth.example.com", deployed, false),
            ("https://auth.example.com/", deployed, false),
            ("https://auth.example.com:443", deployed, false),
            ("https://AUTH.example.com", deployed, false),
            ("https://x.auth.example.com", deployed, false),
            ("https://auth.example.com.evil.example", deployed, false),
            ("https://auth.example.com,https://auth.example.com", deployed, false),
            ("auth.example.com", deployed, false),
            ("null", deployed, false),
            ("", deployed, false),
            ("http://127.0.0.1:3000", "127.0.0.1:3000", true),
            ("http://localhost:3000", "localhost:3000", true),
            ("http://127.0.0.1:3001", "127.0.0.1:3000", false),
            ("http://127.0.0.1.evil.example", "127.0.0.1.evil.example", false),
            ("http://10.0.0.1", "10.0.0.1", false),
        ] {
            assert_eq!(is_own_origin(origin, domain), is_own, "{origin} of {domain}");
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

        #[test]
        fn every_https_url_without_query_and_slash_at_the_end_can_be_an_issuer(
            issuer in "https://([a-z0-9._-]{1,30}|\\[[0-9a-f:.]{1,39}\\])(:[1-9][0-9]{0,3})?(/[a-zA-Z0-9._~%!$&'()*+,;=:@-]{1,9}){0,3}"
        ) {
            prop_assert!(is_issuer_url(&issuer));
        }

        #[test]
        fn verifiers_find_the_metadata_of_every_accepted_issuer(
            issuer in "(https?|ftp)://([a-zA-Z0-9._@ -]{0,9}|localhost|127\\.0\\.0\\.1)(:[0-9]{0,6})?(/[ -~]{0,9})?"
        ) {
            if is_issuer_url(&issuer) {
                let (scheme, rest) = issuer.split_once("://").unwrap();
                let authority = rest.split('/').next().unwrap();
                let host = authority.split(':').next().unwrap();
                prop_assert!(scheme == "https" || scheme == "http" && ["127.0.0.1", "localhost"].contains(&host));
                prop_assert!(!host.is_empty() && !authority.contains('@'));
                prop_assert_eq!(host.to_lowercase(), host);
                // These are in no path (RFC 3986 §3.3).
                prop_assert!(!rest.contains(|other: char| " \"#<>?[\\]^`{|}".contains(other)), "{}", issuer);
                prop_assert!(!issuer.ends_with('/'));
            }
        }
    }
}
