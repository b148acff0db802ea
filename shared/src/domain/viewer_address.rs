use std::net::IpAddr;
use std::str::FromStr;

/// The address of a client of `CloudFront`, read from the value of `CloudFront-Viewer-Address`: the address, a colon and
/// the port. `CloudFront` puts no brackets around an IPv6 address (`2001:db8::1:46532`), so the port begins at the last
/// colon.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ViewerAddress(IpAddr);

/// The error of a text that is not an address with a port.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not an address with a port")]
pub struct ViewerAddressError;

impl ViewerAddress {
    /// The address without the port.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        self.0
    }
}

impl FromStr for ViewerAddress {
    type Err = ViewerAddressError;

    fn from_str(text: &str) -> Result<Self, ViewerAddressError> {
        let (address, port) = text.rsplit_once(':').ok_or(ViewerAddressError)?;
        // Numbers parse with a plus sign too.
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
        let address = address.parse().ok().filter(|_| is_port).ok_or(ViewerAddressError)?;
        Ok(Self(address))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_port_begins_at_the_last_colon() {
        for (text, address) in [
            ("198.51.100.10:46532", "198.51.100.10"),
            ("2001:db8::1:46532", "2001:db8::1"),
            ("2001:db8:0:0:1:2:3:4:443", "2001:db8:0:0:1:2:3:4"),
            ("2001:0DB8:85a3:0000:0000:8a2e:0370:7334:1", "2001:db8:85a3::8a2e:370:7334"),
            ("2001:db8:::0", "2001:db8::"),
            (":::65535", "::"),
            ("::ffff:203.0.113.9:80", "::ffff:203.0.113.9"),
        ] {
            assert_eq!(text.parse().map(ViewerAddress::ip), Ok(address.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn texts_that_are_not_an_address_with_a_port_are_refused() {
        for text in [
            "",
            ":",
            "198.51.100.10",
            "198.51.100.10:",
            "198.51.100.10:+80",
            "198.51.100.10:65536",
            "198.51.100.10:http",
            "198.51.100.10: 80",
            " 198.51.100.10:80",
            "198.51.100.10:80,203.0.113.9:80",
            "203.0.113.9, 198.51.100.10:80",
            "198.51.100.010:80",
            "2001:db8:0:0:1:2:3:4",
            "fe80::1%eth0:80",
            "localhost:80",
            "unknown",
        ] {
            assert_eq!(text.parse::<ViewerAddress>(), Err(ViewerAddressError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_address_is_found_before_its_port(address: IpAddr, port: u16) {
            prop_assert_eq!(format!("{address}:{port}").parse(), Ok(ViewerAddress(address)));
        }
    }
}
