//! The keys that JWT are checked with. Each is for one algorithm, which its own kind decides, never
//! a token: so no public key is ever taken for a secret.

use std::fmt;

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;

/// Shorter secrets are guessed.
const MIN_SECRET_BYTES: usize = 32;
/// More keys are not looked at.
const MAX_KEYS: usize = 100;
/// A signature of nothing: whoever can compare it is a key.
const NO_SIGNATURE: &str = "AAAA";

pub(super) struct Key {
    /// `None`: it is good for tokens of whatever key id.
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeys {
    #[error("the secret is shorter than 32 bytes; make one with `openssl rand -hex 32`")]
    ShortSecret,
    #[error("a PEM key is no secret for HS256; name the algorithm of that key instead")]
    PemForSecret,
    #[error("it holds a private key; the server needs the public one")]
    Private,
    #[error("it is no PEM public key (\"BEGIN PUBLIC KEY\") for any of the algorithms")]
    Pem,
    #[error("it is no JWKS: {0}")]
    Jwks(String),
    #[error("none of its keys is for any of the algorithms")]
    NoneFits,
}

/// A file with one key: for HS256 the secret, less line ends behind it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library has more algorithms than can be configured"
)]
pub(super) fn from_file(content: &[u8], allowed: &[Algorithm]) -> Result<Vec<Key>, InvalidKeys> {
    let pem = content.windows(11).any(|part| part == b"-----BEGIN ");
    if allowed.contains(&Algorithm::HS256) {
        return match pem {
            true => Err(InvalidKeys::PemForSecret),
            false => Ok(vec![secret(None, content.trim_ascii_end())?]),
        };
    }
    let text = String::from_utf8_lossy(content);
    if text.contains("PRIVATE KEY-----") {
        return Err(InvalidKeys::Private);
    }
    // A certificate is refused: what is taken for its key there need not be one.
    if !text.contains("PUBLIC KEY-----") {
        return Err(InvalidKeys::Pem);
    }
    let read = |algorithm: &Algorithm| {
        let key = match algorithm {
            Algorithm::RS256 => DecodingKey::from_rsa_pem(content),
            Algorithm::ES256 => DecodingKey::from_ec_pem(content),
            Algorithm::EdDSA => DecodingKey::from_ed_pem(content),
            _ => return None,
        };
        Key::new(None, *algorithm, key.ok()?)
    };
    let key = allowed.iter().find_map(read).ok_or(InvalidKeys::Pem)?;
    Ok(vec![key])
}

/// A JWKS. Keys for other purposes may be among them.
pub(super) fn from_jwks(content: &[u8], allowed: &[Algorithm]) -> Result<Vec<Key>, InvalidKeys> {
    #[derive(Deserialize)]
    struct Jwks {
        keys: Vec<serde_json::Value>,
    }
    let jwks: Jwks = serde_json::from_slice(content)
        .map_err(|error| InvalidKeys::Jwks(format!("line {}", error.line())))?;
    let keys = jwks.keys.into_iter().take(MAX_KEYS);
    // One that this program does not know must not keep it from the others.
    let keys = keys.filter_map(|key| from_jwk(&serde_json::from_value(key).ok()?));
    let keys: Vec<Key> = keys
        .filter(|key| allowed.contains(&key.algorithm))
        .collect();
    match keys.is_empty() {
        true => Err(InvalidKeys::NoneFits),
        false => Ok(keys),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library adds kinds of keys; what is not known is passed over"
)]
fn from_jwk(jwk: &Jwk) -> Option<Key> {
    let common = &jwk.common;
    if !matches!(common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        AlgorithmParameters::OctetKey(_) => (Algorithm::HS256, KeyAlgorithm::HS256),
        _ => return None,
    };
    if common.key_algorithm.is_some_and(|given| given != named) {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    if algorithm == Algorithm::HS256 {
        return secret(common.key_id.clone(), key.try_get_as_bytes().ok()?).ok();
    }
    Key::new(common.key_id.clone(), algorithm, key)
}

fn secret(id: Option<String>, secret: &[u8]) -> Result<Key, InvalidKeys> {
    if secret.len() < MIN_SECRET_BYTES {
        return Err(InvalidKeys::ShortSecret);
    }
    Ok(Key {
        id,
        algorithm: Algorithm::HS256,
        key: DecodingKey::from_secret(secret),
    })
}

impl Key {
    /// `None`: the key is not of that algorithm.
    fn new(id: Option<String>, algorithm: Algorithm, key: DecodingKey) -> Option<Self> {
        let works = jsonwebtoken::crypto::verify(NO_SIGNATURE, b"", &key, algorithm).is_ok();
        works.then_some(Self { id, algorithm, key })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}
