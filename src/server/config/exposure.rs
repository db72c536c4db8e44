//! What is open to the network because the settings say so; for the log and the page.

use super::{Config, Reachable};

impl Config {
    pub(in crate::server) fn open_to_the_network(&self) -> Vec<&'static str> {
        if self.reachable() == Reachable::Loopback {
            return vec![];
        }
        let facts = [
            (
                !self.tls.is_on(),
                "Traffic is not encrypted: whoever is on its way can read and change it.",
            ),
            (
                self.anonymous,
                "Callers need no token: whoever reaches this address can call.",
            ),
            (
                self.anonymous && self.allowed_hosts.is_empty(),
                "Any host name may be asked for: web pages anywhere can make browsers call. Set allowed_hosts.",
            ),
        ];
        let open = facts.into_iter().filter(|(open, _)| *open);
        open.map(|(_, fact)| fact).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_open_is_said() {
        let facts = |listen: &str, anonymous, hosts: &[&str]| {
            let config = Config {
                listen: listen.parse().unwrap(),
                anonymous,
                allowed_hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
                ..Config::default()
            };
            config.open_to_the_network().len()
        };
        assert_eq!(facts("127.0.0.1:1", true, &[]), 0);
        assert_eq!(facts("0.0.0.0:1", true, &[]), 3);
        assert_eq!(facts("0.0.0.0:1", true, &["feeds.example"]), 2);
        assert_eq!(facts("0.0.0.0:1", false, &[]), 1);
    }
}
