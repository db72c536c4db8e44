//! What is open to the network because the settings say so; for the log and the page.

use super::{Config, Reachable};

impl Config {
    pub(in crate::server) fn open_to_the_network(&self) -> Vec<String> {
        let listen = self.listen;
        let mut open = vec![];
        if self.reachable() == Reachable::Loopback {
            return open;
        }
        if !self.tls.is_on() {
            open.push(format!(
                "{listen} can be reached from the network, and traffic is unencrypted (plaintext)"
            ));
        }
        if self.anonymous || !self.auth_options().has_source() {
            let scopes = self.auth.anonymous_scopes.join(" ");
            open.push(format!(
                "{listen} can be reached from the network, and callers without a token may do {scopes} (anonymous)"
            ));
            if self.allowed_hosts.is_empty() {
                let text = "any host name may be asked for, so web pages anywhere can make browsers call; set allowed_hosts";
                open.push(text.to_owned());
            }
        }
        open
    }
}
