use std::fmt;

/// An address that mail can be sent to, `local-part@domain` in ASCII (RFC 5321 without SMTPUTF8, which SES lacks).
#[derive(Clone, Eq, PartialEq)]
pub struct EmailAddress(String);

impl EmailAddress {
    /// Parses an address; `None` when it is not one.
    #[must_use]
    pub fn parse(written: &str) -> Option<Self> {
        let options = email_address::Options::default().without_display_text().without_domain_literal();
        // RFC 5321 §4.1.2 has no control characters, where RFC 5322 folds lines even within an address.
        let printable = written.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let valid = printable && email_address::EmailAddress::parse_with_options(written, options).is_ok();
        valid.then(|| Self(written.to_owned()))
    }

    /// The address as it was written.
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
    use super::*;

    #[test]
    fn only_plain_ascii_addresses_are_taken() {
        for written in ["st.huber@example.com", "a+b@xn--mnchen-3ya.example", "\"st huber\"@example.com"] {
            assert_eq!(EmailAddress::parse(written).as_ref().map(EmailAddress::as_str), Some(written));
        }
        for written in [
            "",
            "huber",
            "@example.com",
            "huber@",
            "a b@example.com",
            "Huber <huber@example.com>",
            "huber@[127.0.0.1]",
            "hüber@example.com",
            "huber@example.com\r\nBcc: x@example.com",
            "huber@example.com,x@example.com",
            "\"st\thuber\"@example.com",
            "\"st\r\n huber\"@example.com",
            "\"st\0huber\"@example.com",
            "\"st\u{7f}huber\"@example.com",
        ] {
            assert!(EmailAddress::parse(written).is_none(), "{written}");
        }
    }
}
