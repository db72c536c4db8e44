//! JSON Web Tokens: signed with one of the configured algorithms by one of the known keys, in force,
//! and meant for us. `exp` and `sub` are required.

mod claims;
mod keys;
mod remote;
mod source;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, Validation, decode, errors::ErrorKind};
use parking_lot::Mutex;
use serde::Deserialize;

use self::{
    claims::{Claims, Said, Terms},
    keys::Key,
    source::Source,
};
pub use self::{keys::InvalidKeys, remote::InvalidUrl};
use super::{grants::Grants, refusal::Refusal};
use crate::{
    layers::{Caller, Identity, Validity},
    model::Scopes,
};

/// Verified tokens that are remembered; beyond that all are forgotten.
const MAX_VERIFIED: usize = 10_000;
/// A greater one is no difference of clocks.
const MAX_LEEWAY: Duration = Duration::from_secs(3_600);
const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("HS256", Algorithm::HS256),
    ("RS256", Algorithm::RS256),
    ("ES256", Algorithm::ES256),
    ("EdDSA", Algorithm::EdDSA),
];

/// As the settings have it.
#[derive(Clone, Debug, Default)]
pub struct JwtOptions {
    /// None: no JWT is accepted.
    pub algorithms: Vec<String>,
    pub key_file: Option<PathBuf>,
    pub jwks_file: Option<PathBuf>,
    pub jwks_url: Option<String>,
    pub issuer: Option<String>,
    pub audience: Option<String>,
    pub leeway: Duration,
    pub scope_claim: String,
}

#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    #[error("algorithms: \"{0}\" is none; take HS256, RS256, ES256 or EdDSA")]
    Algorithm(String),
    #[error("algorithms are missing; name those that tokens are signed with")]
    NoAlgorithm,
    #[error("one of key_file, jwks_file and jwks_url is needed, and no more than one")]
    Sources,
    #[error("a key_file is for HS256 alone or for others, not for both")]
    MixedKeyFile,
    #[error("leeway is at most 1h")]
    Leeway,
    #[error("{}: {error}", file.display())]
    File {
        file: PathBuf,
        error: std::io::Error,
    },
    #[error("{}: {error}", file.display())]
    Keys { file: PathBuf, error: InvalidKeys },
    #[error("jwks_url: {0}")]
    Url(#[from] InvalidUrl),
}

#[derive(Debug)]
pub(super) struct Jwt {
    terms: Terms,
    allowed: Vec<Algorithm>,
    keys: ArcSwap<Keys>,
    source: Source,
}

/// What was known of keys at one time, and the tokens that were verified with it.
#[derive(Debug, Default)]
struct Keys {
    keys: Vec<Key>,
    /// By the hash of the token.
    verified: Mutex<HashMap<[u8; 32], Caller>>,
}

/// The head of a token.
#[derive(Debug, Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    /// Extensions that a reader must know.
    crit: Option<serde_json::Value>,
}

impl JwtOptions {
    /// Whether any JWT is accepted.
    pub fn is_used(&self) -> bool {
        !self.algorithms.is_empty()
    }

    fn names_keys(&self) -> bool {
        self.key_file.is_some() || self.jwks_file.is_some() || self.jwks_url.is_some()
    }

    fn allowed(&self) -> Result<Vec<Algorithm>, JwtError> {
        let algorithms = self
            .algorithms
            .iter()
            .map(|name| algorithm(name).ok_or_else(|| JwtError::Algorithm(name.clone())));
        algorithms.collect()
    }
}

fn algorithm(name: &str) -> Option<Algorithm> {
    let mut all = ALGORITHMS.iter();
    all.find(|(own, _)| *own == name).map(|(_, found)| *found)
}

impl Jwt {
    /// `None`: no JWT is accepted. Files are read; what is behind a URL comes later.
    pub(super) fn open(options: JwtOptions) -> Result<Option<Self>, JwtError> {
        if !options.is_used() {
            return match options.names_keys() {
                true => Err(JwtError::NoAlgorithm),
                false => Ok(None),
            };
        }
        if options.leeway > MAX_LEEWAY {
            return Err(JwtError::Leeway);
        }
        let allowed = options.allowed()?;
        let (source, keys) = Source::open(&options, &allowed)?;
        Ok(Some(Self {
            terms: Terms {
                issuer: options.issuer,
                audience: options.audience,
                leeway: options.leeway,
                scope_claim: options.scope_claim,
            },
            allowed,
            keys: ArcSwap::from_pointee(Keys::new(keys)),
            source,
        }))
    }

    pub(super) fn warn(&self) {
        self.source.warn(&self.allowed);
        if self.terms.audience.is_none() {
            tracing::warn!(
                "auth.jwt.audience is not set: tokens that are meant for other services are accepted"
            );
        }
    }

    pub(super) async fn verify(&self, token: &str, grants: &Grants) -> Result<Caller, Refusal> {
        let now = SystemTime::now();
        let hash = *blake3::hash(token.as_bytes()).as_bytes();
        let keys = self.keys.load_full();
        if let Some(caller) = keys.verified(&hash) {
            return match caller.validity.expires {
                Some(end) if end <= now => Err(Refusal::Expired),
                _ => Ok(caller),
            };
        }
        let head = Head::of(token)?;
        let algorithm = algorithm(&head.alg).filter(|found| self.allowed.contains(found));
        let algorithm = algorithm.ok_or(Refusal::Algorithm)?;
        let keys = match keys.knows(&head, algorithm) {
            true => keys,
            false => self.ask_for(&head, algorithm).await?,
        };
        let claims = keys.claims_of(token, &head, algorithm)?;
        let caller = caller(self.terms.check(&claims, now)?, grants);
        keys.remember(hash, &caller);
        Ok(caller)
    }

    /// A key that is not known may be a new one.
    async fn ask_for(&self, head: &Head, algorithm: Algorithm) -> Result<Arc<Keys>, Refusal> {
        self.source
            .ask(self, || self.keys.load().knows(head, algorithm))
            .await;
        let keys = self.keys.load_full();
        if keys.keys.is_empty() {
            return Err(Refusal::KeysUnavailable);
        }
        match keys.knows(head, algorithm) {
            true => Ok(keys),
            false => Err(Refusal::UnknownKey),
        }
    }

    /// Takes up what changed in files. Blocks.
    pub(super) fn reload_file(&self) {
        self.source.reload_file(self);
    }

    /// Takes up what changed behind a URL, when it is time to look.
    pub(super) async fn refresh(&self) {
        self.source.refresh(self).await;
    }

    fn put(&self, keys: Vec<Key>) {
        self.keys.store(Arc::new(Keys::new(keys)));
    }
}

fn caller(said: Said, grants: &Grants) -> Caller {
    let scopes = match said.scopes {
        None => grants.of(&said.principal),
        Some(texts) => {
            // Other services' scopes stand beside ours.
            let read = |text: &String| Scopes::parse([text], &said.principal).is_ok();
            let own: Vec<String> = texts.into_iter().filter(read).collect();
            Scopes::parse(own, &said.principal).unwrap_or_default()
        }
    };
    Caller {
        principal: said.principal.into(),
        scopes,
        identity: Identity::Jwt,
        validity: Validity {
            expires: Some(said.expires),
            revoked: None,
        },
    }
}

impl Head {
    fn of(token: &str) -> Result<Self, Refusal> {
        let parts: Vec<&str> = token.split('.').collect();
        let [head, _, _] = parts.as_slice() else {
            return Err(Refusal::Malformed);
        };
        let json = BASE64_URL_SAFE_NO_PAD.decode(head);
        let json = json.map_err(|_bad| Refusal::Malformed)?;
        let head: Self = serde_json::from_slice(&json).map_err(|_bad| Refusal::Malformed)?;
        match head.crit {
            Some(_) => Err(Refusal::Malformed),
            None => Ok(head),
        }
    }
}

impl Keys {
    fn new(keys: Vec<Key>) -> Self {
        Self {
            keys,
            verified: Mutex::default(),
        }
    }

    /// Keys that a token may have been signed with.
    fn fitting(&self, head: &Head, algorithm: Algorithm) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| {
            key.algorithm == algorithm
                && (head.kid.is_none() || key.id.is_none() || key.id == head.kid)
        })
    }

    fn knows(&self, head: &Head, algorithm: Algorithm) -> bool {
        self.fitting(head, algorithm).next().is_some()
    }

    /// The claims of a token that one of the keys signed.
    fn claims_of(&self, token: &str, head: &Head, algorithm: Algorithm) -> Result<Claims, Refusal> {
        let mut validation = Validation::new(algorithm);
        // The claims are checked here: this program reads numbers in JSON as they stand, which the
        // library's own checks take for no numbers.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        for key in self.fitting(head, algorithm) {
            match decode::<Claims>(token, &key.key, &validation) {
                Ok(token) => return Ok(token.claims),
                Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {}
                Err(_) => return Err(Refusal::Malformed),
            }
        }
        Err(Refusal::Signature)
    }

    fn verified(&self, hash: &[u8; 32]) -> Option<Caller> {
        self.verified.lock().get(hash).cloned()
    }

    fn remember(&self, hash: [u8; 32], caller: &Caller) {
        let mut verified = self.verified.lock();
        if verified.len() >= MAX_VERIFIED {
            verified.clear();
        }
        verified.insert(hash, caller.clone());
    }
}
