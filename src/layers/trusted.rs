//! Proxies that are believed what they say of their callers.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Peer;

/// By address or by the name in their certificate.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    names: Vec<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is no network; write for instance 10.0.0.0/8, one address, or the name in a certificate"
)]
pub struct InvalidNetwork(String);

impl TrustedProxies {
    /// Each is a network, an address, or a certificate's name.
    pub fn parse(texts: &[String]) -> Result<Self, InvalidNetwork> {
        let mut proxies = Self::default();
        for text in texts {
            let address = text.split('/').next().unwrap_or_default();
            if let Ok(network) = text.parse() {
                proxies.networks.push(network);
            } else if let Ok(address) = text.parse::<IpAddr>() {
                proxies.networks.push(address.into());
            } else if text.is_empty() || address.parse::<IpAddr>().is_ok() {
                return Err(InvalidNetwork(text.clone()));
            } else {
                proxies.names.push(text.as_str().into());
            }
        }
        Ok(proxies)
    }

    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.names.is_empty()
    }

    pub fn is_trusted(&self, peer: &Peer) -> bool {
        // A listener of both families shows 10.0.0.1 as ::ffff:10.0.0.1.
        let address = peer.address.ip().to_canonical();
        let name = peer.certificate.as_deref();
        self.networks
            .iter()
            .any(|network| network.contains(&address))
            || name.is_some_and(|name| self.names.iter().any(|own| &**own == name))
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::layers::Security;

    fn proxies(texts: &[&str]) -> Result<TrustedProxies, InvalidNetwork> {
        let texts: Vec<String> = texts.iter().map(|&text| text.into()).collect();
        TrustedProxies::parse(&texts)
    }

    fn peer(address: &str, certificate: Option<&str>) -> Peer {
        Peer {
            address: address.parse().unwrap(),
            security: Security::Plaintext,
            certificate: certificate.map(Into::into),
            leaving: CancellationToken::new(),
            places: crate::layers::Places::default(),
        }
    }

    #[test]
    fn a_proxy_is_known_by_its_network_or_its_name() {
        let proxies = proxies(&["10.0.0.0/8", "192.168.1.7", "fd00::/8", "envoy.mesh"]).unwrap();
        for (address, name, trusted) in [
            ("10.1.2.3:4", None, true),
            ("[::ffff:10.1.2.3]:4", None, true),
            ("11.1.2.3:4", None, false),
            ("192.168.1.7:4", None, true),
            ("192.168.1.8:4", None, false),
            ("[fd12::1]:4", None, true),
            ("[fe12::1]:4", None, false),
            ("11.1.2.3:4", Some("envoy.mesh"), true),
            ("11.1.2.3:4", Some("envoy.mesh.evil"), false),
            ("11.1.2.3:4", Some("10.0.0.0/8"), false),
        ] {
            assert_eq!(
                proxies.is_trusted(&peer(address, name)),
                trusted,
                "{address} {name:?}"
            );
        }
        assert!(!TrustedProxies::default().is_trusted(&peer("127.0.0.1:1", Some("x"))));
    }

    #[test]
    fn a_misspelt_network_is_no_name() {
        for text in ["10.0.0.0/33", "10.0.0.1/", "fd00::/129", ""] {
            assert!(proxies(&[text]).is_err(), "{text}");
        }
    }
}
