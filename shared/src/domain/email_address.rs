use std::fmt;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

/// An address that mail can be sent to: `local-part@domain` in ASCII (RFC 5321 without SMTPUTF8, which SES lacks),
/// with the domain in lower case, and of the kind that SES takes.
///
/// Two addresses are equal if they differ at most in the case of the domain as it was written.
#[derive(Clone, Eq, PartialEq)]
pub struct EmailAddress(String);

/// The rule that a text breaks, so that it is no [`EmailAddress`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EmailAddressError {
    /// The text is no address by RFC 5321, or is one with characters beyond ASCII in its local part.
    #[error("is not an e-mail address")]
    Malformed,
    /// The local part is a quoted string, which SES refuses.
    #[error("has a quoted local part, which the mail service refuses")]
    QuotedLocalPart,
    /// The domain has no dot, which SES refuses.
    #[error("has no dot in its domain, which the mail service refuses")]
    DotlessDomain,
    /// The domain has an underscore, which SES refuses.
    #[error("has an underscore in its domain, which the mail service refuses")]
    UnderscoreInDomain,
}

impl EmailAddress {
    /// Parses an address in ASCII.
    pub fn parse(written: &str) -> Result<Self, EmailAddressError> {
        let (local, domain) = written.rsplit_once('@').ok_or(EmailAddressError::Malformed)?;
        if domain.contains('_') {
            return Err(EmailAddressError::UnderscoreInDomain);
        }
        let address = format!("{local}@{}", domain.to_ascii_lowercase());
        let options = email_address::Options::default().without_display_text().without_domain_literal();
        // RFC 5321 §4.1.2 has no control characters, where RFC 5322 folds lines even within an address.
        let printable = address.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !printable || email_address::EmailAddress::parse_with_options(&address, options).is_err() {
            return Err(EmailAddressError::Malformed);
        }
        if local.starts_with('"') {
            return Err(EmailAddressError::QuotedLocalPart);
        }
        if !domain.contains('.') {
            return Err(EmailAddressError::DotlessDomain);
        }
        Ok(Self(address))
    }

    /// Parses an address whose domain may be internationalised, and converts the domain to its ASCII form
    /// (UTS #46). Only for addresses that come into the store: the tables of Unicode that this needs are then linked
    /// into the functions that write addresses, and into no other.
    pub fn parse_new(written: &str) -> Result<Self, EmailAddressError> {
        let (local, domain) = written.rsplit_once('@').ok_or(EmailAddressError::Malformed)?;
        let domain = Uts46::new()
            .to_ascii(domain.as_bytes(), AsciiDenyList::URL, Hyphens::CheckFirstLast, DnsLength::Verify)
            .map_err(|_| EmailAddressError::Malformed)?;
        Self::parse(&format!("{local}@{domain}"))
    }

    /// Takes over an address as [`Self::as_str`] gave it to the store. `None` if it cannot be one.
    #[must_use]
    pub fn from_stored(stored: &str) -> Option<Self> {
        let printable = stored.bytes().all(|byte| byte.is_ascii_graphic() && !b",;<>".contains(&byte));
        (printable && stored.contains('@')).then(|| Self(stored.to_owned()))
    }

    /// The part before the `@`, as it was written.
    #[must_use]
    pub fn local_part(&self) -> &str {
        self.0.rsplit_once('@').map_or(&*self.0, |(local, _)| local)
    }

    /// The address, with its domain in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EmailAddress")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(written: &str) -> Result<String, EmailAddressError> {
        EmailAddress::parse_new(written).map(|address| address.as_str().to_owned())
    }

    #[test]
    fn a_plain_address_is_kept_with_its_domain_in_lower_case() {
        for (written, kept) in [
            ("st.huber@example.com", "st.huber@example.com"),
            ("St.Huber+code@Example.COM", "St.Huber+code@example.com"),
            ("a+b@xn--mnchen-3ya.example", "a+b@xn--mnchen-3ya.example"),
            ("o'hara_1@a--b.example", "o'hara_1@a--b.example"),
        ] {
            assert_eq!(parsed(written).as_deref(), Ok(kept));
            assert_eq!(EmailAddress::parse(written).unwrap().as_str(), kept);
            let stored = EmailAddress::from_stored(kept).unwrap();
            assert_eq!(stored.as_str(), kept);
            assert!(kept.starts_with(&format!("{}@", stored.local_part())));
        }
    }

    #[test]
    fn an_internationalised_domain_becomes_its_ascii_form() {
        for (written, kept) in [
            ("huber@münchen.example", "huber@xn--mnchen-3ya.example"),
            ("huber@MÜNCHEN.example", "huber@xn--mnchen-3ya.example"),
            ("huber@mu\u{308}nchen.example", "huber@xn--mnchen-3ya.example"),
            ("huber@straße.example", "huber@xn--strae-oqa.example"),
            ("huber@例え。テスト", "huber@xn--r8jz45g.xn--zckzah"),
        ] {
            assert_eq!(parsed(written).as_deref(), Ok(kept), "{written}");
        }
    }

    #[test]
    fn addresses_that_ses_refuses_are_refused_by_name() {
        for (written, error) in [
            ("\"st huber\"@example.com", EmailAddressError::QuotedLocalPart),
            ("\"<>\"@example.com", EmailAddressError::QuotedLocalPart),
            ("\"a@b\"@example.com", EmailAddressError::QuotedLocalPart),
            ("huber@localhost", EmailAddressError::DotlessDomain),
            ("huber@exa_mple.com", EmailAddressError::UnderscoreInDomain),
            ("huber@_dmarc.example.com", EmailAddressError::UnderscoreInDomain),
            ("huber@exa\u{ff3f}mple.com", EmailAddressError::UnderscoreInDomain),
        ] {
            assert_eq!(parsed(written), Err(error), "{written}");
        }
    }

    #[test]
    fn malformed_addresses_are_refused() {
        for written in [
            "",
            "huber",
            "@example.com",
            "huber@",
            "huber@.",
            "a b@example.com",
            "Huber <huber@example.com>",
            "huber@[127.0.0.1]",
            "hüber@example.com",
            "huber@example.com\r\nBcc: x@example.com",
            "huber@example.com,x@example.com",
            "huber@example..com",
            "huber@-example.com",
            "huber@xn--a.example",
            "huber@exam\u{200b}ple\u{202e}.com",
            ".huber@example.com",
            "\"st\thuber\"@example.com",
            "\"st\r\n huber\"@example.com",
            "\"st\0huber\"@example.com",
            "\"st\u{7f}huber\"@example.com",
        ] {
            assert_eq!(parsed(written), Err(EmailAddressError::Malformed), "{written:?}");
        }
        let long = format!("{}@example.com", "x".repeat(65));
        assert_eq!(parsed(&long), Err(EmailAddressError::Malformed));
    }

    proptest! {
        #[test]
        fn every_address_that_is_taken_is_read_from_the_store_and_taken_again(
            written in "[a-zA-Z.+]{1,5}@[a-zäß.A-Z-]{1,8}\\.(com|Example)"
        ) {
            if let Ok(address) = EmailAddress::parse_new(&written) {
                prop_assert_eq!(EmailAddress::from_stored(address.as_str()), Some(address.clone()));
                prop_assert_eq!(EmailAddress::parse_new(address.as_str()), Ok(address));
            }
        }
    }
}
