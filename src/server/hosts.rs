//! Which hosts may be asked for. A web page whose own name was made to point at this machine (DNS
//! rebinding) is to the browser of one origin with us; but the host it asks for is its own.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, Uri, header, uri::Authority};

#[derive(Clone, Debug)]
pub(super) enum Hosts {
    All,
    Listed {
        listen: IpAddr,
        /// In lower case, with a port where only that one will do.
        names: Vec<String>,
    },
}

impl Hosts {
    /// Those of a listener. Without `names` one on loopback has the names of loopback, and one that
    /// can be reached from elsewhere may have any.
    pub(super) fn new(listen: SocketAddr, names: &[String]) -> Self {
        let listen = listen.ip();
        if names.is_empty() && !listen.is_loopback() {
            return Self::All;
        }
        let names = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        Self::Listed { listen, names }
    }

    /// Whether all hosts that a request names are ours, and it names one.
    pub(super) fn allow(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        if matches!(self, Self::All) {
            return true;
        }
        let in_headers = headers.get_all(header::HOST).iter();
        let in_headers = in_headers.map(|host| host.to_str().unwrap_or_default());
        let mut asked = uri
            .authority()
            .map(Authority::as_str)
            .into_iter()
            .chain(in_headers);
        let Some(first) = asked.next() else {
            return false;
        };
        self.has(first) && asked.all(|host| self.has(host))
    }

    fn has(&self, host: &str) -> bool {
        let Self::Listed { listen, names } = self else {
            return true;
        };
        let Some(authority) = parse(host) else {
            return false;
        };
        let name = authority.host().to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        if let Some(address) = address(name) {
            // A name is what rebinding needs. Where names are listed, addresses do as well.
            return address.is_loopback() || address == *listen || !names.is_empty();
        }
        let with_port = authority.port().map(|port| format!("{name}:{port}"));
        (listen.is_loopback() && name == "localhost")
            || names
                .iter()
                .any(|n| n == name || Some(n) == with_port.as_ref())
    }
}

/// `None`: not a host with or without a port.
pub(super) fn parse(host: &str) -> Option<Authority> {
    let authority: Authority = host.parse().ok()?;
    (!host.contains('@')).then_some(authority)
}

fn address(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(listen: &str, names: &[&str], hosts: &[&str]) -> Vec<bool> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let set = Hosts::new(listen.parse().unwrap(), &names);
        let allow = |host: &&str| {
            let headers = [(header::HOST, host.parse().unwrap())]
                .into_iter()
                .collect();
            set.allow(&Uri::from_static("/"), &headers)
        };
        hosts.iter().map(allow).collect()
    }

    #[test]
    fn loopback_has_its_own_names_only() {
        let ours = [
            "localhost",
            "LOCALHOST:50051",
            "localhost.",
            "127.0.0.1:1",
            "[::1]:50051",
            "127.0.0.2",
        ];
        assert_eq!(allowed("127.0.0.1:50051", &[], &ours), [true; 6]);
        let forged = [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.168.1.2",
            "localhost@evil.example",
            "evil.example@localhost",
            "",
            "local host",
        ];
        assert_eq!(allowed("127.0.0.1:50051", &[], &forged), [false; 8]);
    }

    #[test]
    fn beyond_loopback_the_list_decides_if_there_is_one() {
        let hosts = [
            "feeds.example:443",
            "Feeds.Example",
            "10.0.0.7",
            "other.example",
        ];
        assert_eq!(allowed("0.0.0.0:1", &[], &hosts), [true; 4]);
        let listed = allowed("0.0.0.0:1", &["feeds.example"], &hosts);
        assert_eq!(listed, [true, true, true, false]);
        let with_port = allowed("0.0.0.0:1", &["feeds.example:443"], &hosts);
        assert_eq!(with_port, [true, false, true, false]);
        assert_eq!(allowed("0.0.0.0:1", &["x"], &["localhost"]), [false]);
    }

    #[test]
    fn each_host_of_a_request_has_to_be_ours() {
        let set = Hosts::new("127.0.0.1:1".parse().unwrap(), &[]);
        let none = HeaderMap::new();
        assert!(!set.allow(&Uri::from_static("/"), &none));
        let uri = Uri::from_static("http://localhost/");
        assert!(set.allow(&uri, &none));
        let forged = [(header::HOST, "evil.example".parse().unwrap())];
        assert!(!set.allow(&uri, &forged.into_iter().collect()));
    }
}
