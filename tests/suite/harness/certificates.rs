//! Certificates of a test: an authority, and who it vouches for. Keys stay in the test's own
//! directory.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// Signs certificates.
pub(crate) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { pem, issuer }
    }

    /// In PEM, for whoever is to trust it.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// For a server on loopback.
    pub(crate) fn server(&self) -> Pair {
        let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
        self.sign(vec![
            dns("localhost"),
            SanType::IpAddress([127, 0, 0, 1].into()),
        ])
    }

    /// For a client with this URI.
    pub(crate) fn client(&self, uri: &str) -> Pair {
        self.sign(vec![SanType::URI(uri.try_into().unwrap())])
    }

    fn sign(&self, names: Vec<SanType>) -> Pair {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.subject_alt_names = names;
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A client that trusts this authority.
    pub(crate) fn trusted(&self) -> ClientTlsConfig {
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.pem))
    }
}

impl Pair {
    /// Writes both to files of a directory, as settings name them; the paths.
    pub(crate) fn write(&self, dir: &Path) -> (PathBuf, PathBuf) {
        let (cert, key) = (dir.join("server.pem"), dir.join("server.key"));
        std::fs::write(&cert, &self.cert).unwrap();
        std::fs::write(&key, &self.key).unwrap();
        (cert, key)
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity::from_pem(&self.cert, &self.key)
    }
}
