use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::User;

/// The number of networks that are remembered of a user.
const REMEMBERED: usize = 5;

/// A network that a request came from: an IPv4 /24 or an IPv6 /64, such as `203.0.113.0/24`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Network(String);

/// The networks from which a user's right password came since it was set: the last five, the most recent one first.
/// Attempts from these have budgets of their own, so that strangers cannot use those up.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Networks(Vec<Network>);

/// The two budgets that a username has of each kind: failed sign-ins, tries of a code and sends. Each is exact by
/// itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Budget {
    /// For requests from the user's known [`Networks`].
    Known,
    /// For all other requests, and for all requests on an unknown username.
    Other,
}

impl Budget {
    /// The budget in which a request from `network` counts; `user` is `None` if the username is unknown.
    #[must_use]
    pub fn of(user: Option<&User>, network: &Network) -> Self {
        if user.is_some_and(|user| user.networks.contains(network)) { Self::Known } else { Self::Other }
    }
}

impl Network {
    /// The network as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                Self(format!("{}/24", Ipv4Addr::new(a, b, c, 0)))
            }
            IpAddr::V6(address) => Self(ipv6_network(address)),
        }
    }
}

/// The /64 of an address, which is the least that an IPv6 subscriber has.
pub(crate) fn ipv6_network(address: Ipv6Addr) -> String {
    let [a, b, c, d, ..] = address.segments();
    format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
}

impl Networks {
    /// Takes over stored networks, the most recent one first.
    #[must_use]
    pub fn from_stored(networks: Vec<String>) -> Self {
        Self(networks.into_iter().map(Network).collect())
    }

    /// The networks to store, the most recent one first.
    pub fn iter(&self) -> impl Iterator<Item = &Network> {
        self.0.iter()
    }

    /// Returns whether no network is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether `network` is a known one.
    #[must_use]
    pub fn contains(&self, network: &Network) -> bool {
        self.0.contains(network)
    }

    /// The networks once the right password came from `network`; `None` if they are the same.
    #[must_use]
    pub fn after(&self, network: &Network) -> Option<Self> {
        let others = self.0.iter().filter(|other| *other != network).cloned();
        let after = Self(std::iter::once(network.clone()).chain(others).take(REMEMBERED).collect());
        (after != *self).then_some(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> Network {
        Network::from(address.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn a_network_is_an_ipv4_24_or_an_ipv6_64() {
        for (address, expected) in [
            ("203.0.113.9", "203.0.113.0/24"),
            ("::ffff:203.0.113.200", "203.0.113.0/24"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ] {
            assert_eq!(network(address).as_str(), expected);
        }
        assert_ne!(network("203.0.112.9"), network("203.0.113.9"));
    }

    #[test]
    fn the_last_five_networks_are_remembered_the_most_recent_one_first() {
        let addresses: Vec<String> = (0..6).map(|number| format!("10.0.{number}.1")).collect();
        let mut networks = Networks::default();
        for address in &addresses {
            networks = networks.after(&network(address)).unwrap();
        }
        let written = |networks: &Networks| {
            networks.iter().map(|network| network.as_str().to_owned()).collect::<Vec<_>>()
        };
        let expected = ["10.0.5.0/24", "10.0.4.0/24", "10.0.3.0/24", "10.0.2.0/24", "10.0.1.0/24"];
        assert_eq!(written(&networks), expected);
        assert!(networks.contains(&network("10.0.1.77")) && !networks.contains(&network("10.0.0.1")));

        assert_eq!(networks.after(&network("10.0.5.9")), None);
        let again = networks.after(&network("10.0.1.9")).unwrap();
        let expected = ["10.0.1.0/24", "10.0.5.0/24", "10.0.4.0/24", "10.0.3.0/24", "10.0.2.0/24"];
        assert_eq!(written(&again), expected);
        let stored = written(&again);
        assert_eq!(Networks::from_stored(stored), again);
    }
}
