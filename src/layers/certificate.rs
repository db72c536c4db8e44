//! Whose a client certificate is: one of its subject alternative names.

use std::{net::IpAddr, sync::Arc};

use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::model::Principal;

/// The first name of the most telling kind: a URI (SPIFFE), then DNS, e-mail, address. `None` when
/// there is none, or the certificate cannot be read; a common name is no name.
pub fn certificate_name(der: &[u8]) -> Option<Principal> {
    let (_rest, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let names = names.value.general_names.iter().filter_map(ranked);
    // Of equal rank the first one stays.
    let (_rank, name) = names.min_by_key(|(rank, _)| *rank)?;
    Some(Arc::from(name))
}

fn ranked(name: &GeneralName<'_>) -> Option<(u8, String)> {
    let (rank, name) = match *name {
        GeneralName::URI(uri) => (0, uri.to_owned()),
        GeneralName::DNSName(name) => (1, name.to_owned()),
        GeneralName::RFC822Name(address) => (2, address.to_owned()),
        GeneralName::IPAddress(bytes) => (3, address(bytes)?.to_string()),
        GeneralName::OtherName(..)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => return None,
    };
    (!name.is_empty()).then_some((rank, name))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn name_of(names: Vec<SanType>) -> Option<String> {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "common");
        params.subject_alt_names = names;
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        certificate_name(certificate.der()).map(|name| name.to_string())
    }

    #[test]
    fn the_most_telling_name_is_the_principal() {
        let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
        let uri = |name: &str| SanType::URI(name.try_into().unwrap());
        let mail = SanType::Rfc822Name("ops@plant.example".try_into().unwrap());
        let v6 = SanType::IpAddress("2001:db8::17".parse().unwrap());
        let all = vec![
            v6.clone(),
            mail.clone(),
            dns("pi17.example"),
            uri("spiffe://plant/pi17"),
            uri("spiffe://plant/pi18"),
        ];
        assert_eq!(name_of(all).as_deref(), Some("spiffe://plant/pi17"));
        let no_uri = vec![v6.clone(), mail.clone(), dns("pi17"), dns("pi18")];
        assert_eq!(name_of(no_uri).as_deref(), Some("pi17"));
        assert_eq!(
            name_of(vec![v6.clone(), mail]).as_deref(),
            Some("ops@plant.example")
        );
        assert_eq!(name_of(vec![v6]).as_deref(), Some("2001:db8::17"));
        assert_eq!(name_of(vec![]), None, "a common name is no name");
        assert_eq!(certificate_name(b"garbage"), None);
    }
}
