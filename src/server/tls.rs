//! TLS with certificates that are read again when their files change. A pair that does not fit
//! leaves the one before in force: files are often replaced one after the other.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use tokio::{net::TcpStream, task::spawn_blocking, time::interval};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::config::{ClientAuth, TlsConfig};
use crate::metrics;

const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path} cannot be read: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} is not what it should be: {source}")]
    Pem { path: PathBuf, source: pem::Error },
    #[error("{path} has no certificate in it")]
    Empty { path: PathBuf },
    #[error("certificate and key cannot be used: {0}")]
    Pair(#[from] rustls::Error),
    #[error("client certificates cannot be verified: {0}")]
    Clients(#[from] VerifierBuilderError),
}

/// The files as they were read.
#[derive(Clone, PartialEq, Eq)]
struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// What handshakes are made with at present.
pub(super) struct Tls {
    paths: Paths,
    client_auth: ClientAuth,
    /// Read last, whether or not they were good.
    seen: Mutex<Files>,
    current: ArcSwap<ServerConfig>,
}

#[derive(Clone, Debug)]
struct Paths {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("paths", &self.paths)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// `None`: no TLS is set.
    pub(super) fn open(config: &TlsConfig) -> Result<Option<Arc<Self>>, TlsError> {
        let (Some(cert), Some(key)) = (&config.cert, &config.key) else {
            return Ok(None);
        };
        let paths = Paths {
            cert: cert.clone(),
            key: key.clone(),
            client_ca: config.client_ca.clone(),
        };
        let files = paths.read()?;
        let first = paths.server_config(&files, config.client_auth)?;
        Ok(Some(Arc::new(Self {
            paths,
            client_auth: config.client_auth,
            seen: Mutex::new(files),
            current: ArcSwap::from_pointee(first),
        })))
    }

    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = self.current.load_full();
        TlsAcceptor::from(config).accept(stream).await
    }

    /// Looks after the files for as long as it is polled. What they say counts, not their times:
    /// those are kept by a copy, and stand still for a second on some disks.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut tick = interval(LOOK);
        loop {
            tick.tick().await;
            let tls = Arc::clone(&self);
            if let Err(error) = spawn_blocking(move || tls.look()).await {
                tracing::error!(%error, "looking at the certificate files failed");
            }
        }
    }

    fn look(&self) {
        let files = match self.paths.read() {
            Ok(files) => files,
            // Between a removal and a rename: the next look may find it.
            Err(error) => {
                tracing::debug!(%error, "the certificate files cannot be read now");
                return;
            }
        };
        let mut seen = self.seen.lock();
        if *seen == files {
            return;
        }
        match self.paths.server_config(&files, self.client_auth) {
            Ok(config) => {
                self.current.store(Arc::new(config));
                metrics::count_tls_reload("ok");
                tracing::info!(cert = %self.paths.cert.display(), "new connections get the new certificate");
            }
            Err(error) => {
                metrics::count_tls_reload("failed");
                tracing::warn!(%error, "the changed certificate files are no good; the certificate before stays");
            }
        }
        *seen = files;
    }
}

impl Paths {
    fn read(&self) -> Result<Files, TlsError> {
        let client_ca = self.client_ca.as_deref().map(read).transpose()?;
        Ok(Files {
            cert: read(&self.cert)?,
            key: read(&self.key)?,
            client_ca,
        })
    }

    fn server_config(
        &self,
        files: &Files,
        client_auth: ClientAuth,
    ) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(&self.cert, &files.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&files.key).map_err(|source| TlsError::Pem {
            path: self.key.clone(),
            source,
        })?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13, &TLS12])?;
        let builder = match (&self.client_ca, &files.client_ca) {
            (Some(path), Some(ca)) => {
                let roots = certificates(path, ca)?;
                builder.with_client_cert_verifier(verifier(roots, client_auth, provider)?)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::File {
        path: path.to_owned(),
        source,
    })
}

fn certificates(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let all = all.map_err(|source| TlsError::Pem {
        path: path.to_owned(),
        source,
    })?;
    if all.is_empty() {
        let path = path.to_owned();
        return Err(TlsError::Empty { path });
    }
    Ok(all)
}

fn verifier(
    roots: Vec<CertificateDer<'static>>,
    client_auth: ClientAuth,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root)?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider);
    let builder = match client_auth {
        ClientAuth::Optional => builder.allow_unauthenticated(),
        ClientAuth::Required => builder,
    };
    Ok(builder.build()?)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};

    use super::*;

    fn pair() -> CertifiedKey<KeyPair> {
        generate_simple_self_signed(["localhost".to_owned()]).unwrap()
    }

    fn write(dir: &Path, cert: &CertifiedKey<KeyPair>, key: &CertifiedKey<KeyPair>) {
        fs::write(dir.join("cert.pem"), cert.cert.pem()).unwrap();
        fs::write(dir.join("key.pem"), key.signing_key.serialize_pem()).unwrap();
    }

    fn config(dir: &Path) -> TlsConfig {
        TlsConfig {
            cert: Some(dir.join("cert.pem")),
            key: Some(dir.join("key.pem")),
            ..TlsConfig::default()
        }
    }

    #[test]
    fn a_half_replaced_pair_leaves_the_old_one_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (pair(), pair());
        write(dir.path(), &old, &old);
        let tls = Tls::open(&config(dir.path())).unwrap().unwrap();
        let first = tls.current.load_full();
        let unchanged = || Arc::ptr_eq(&first, &tls.current.load_full());
        tls.look();
        assert!(unchanged(), "nothing changed");
        write(dir.path(), &new, &old);
        tls.look();
        assert!(unchanged(), "certificate and key do not fit");
        fs::remove_file(dir.path().join("key.pem")).unwrap();
        tls.look();
        assert!(unchanged(), "a file is missing");
        fs::write(dir.path().join("key.pem"), "-----BEGIN PRIV").unwrap();
        tls.look();
        assert!(unchanged(), "a file is cut off");
        write(dir.path(), &new, &new);
        tls.look();
        assert!(!unchanged(), "both are new");
    }

    #[test]
    fn what_cannot_work_is_said_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let error = || Tls::open(&config(dir.path())).unwrap_err().to_string();
        assert!(error().contains("cert.pem cannot be read"), "{}", error());
        write(dir.path(), &pair(), &pair());
        assert!(error().contains("cannot be used"), "{}", error());
        fs::write(dir.path().join("cert.pem"), "").unwrap();
        assert!(error().contains("no certificate"), "{}", error());
        assert!(Tls::open(&TlsConfig::default()).unwrap().is_none());
    }
}
