//! Tokens as they should be, and as they should not. All keys are made here.

mod forged;

use std::{fs, path::Path, sync::LazyLock};

use jsonwebtoken::{EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use rsa::{
    RsaPrivateKey,
    pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding},
    traits::PublicKeyParts as _,
};
use serde_json::{Value, json};

use super::*;
use crate::{layers::authenticate::Grant, model::Action};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A key as its owner has it, and as everybody may see it.
struct Pair {
    algorithm: Algorithm,
    private: EncodingKey,
    /// PEM; the secret of HS256.
    public: String,
    jwk: Value,
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn hmac(secret: &str) -> Pair {
    Pair {
        algorithm: Algorithm::HS256,
        private: EncodingKey::from_secret(secret.as_bytes()),
        public: secret.into(),
        jwk: json!({"kty": "oct", "k": base64(secret)}),
    }
}

fn rsa() -> Pair {
    let key = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2_048).unwrap();
    let public = key.to_public_key();
    let pem = key.to_pkcs8_pem(LineEnding::LF).unwrap();
    let (n, e) = (public.n().to_bytes_be(), public.e().to_bytes_be());
    Pair {
        algorithm: Algorithm::RS256,
        private: EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(),
        public: public.to_public_key_pem(LineEnding::LF).unwrap(),
        jwk: json!({"kty": "RSA", "alg": "RS256", "use": "sig", "n": base64(n), "e": base64(e)}),
    }
}

fn es256() -> Pair {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let point = key.public_key_raw();
    Pair {
        algorithm: Algorithm::ES256,
        private: EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).unwrap(),
        public: key.public_key_pem(),
        jwk: json!({"kty": "EC", "crv": "P-256", "x": base64(&point[1..33]), "y": base64(&point[33..])}),
    }
}

fn eddsa() -> Pair {
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    Pair {
        algorithm: Algorithm::EdDSA,
        private: EncodingKey::from_ed_pem(key.serialize_pem().as_bytes()).unwrap(),
        public: key.public_key_pem(),
        jwk: json!({"kty": "OKP", "crv": "Ed25519", "x": base64(key.public_key_raw())}),
    }
}

static RSA: LazyLock<Pair> = LazyLock::new(rsa);
static ES256: LazyLock<Pair> = LazyLock::new(es256);
static EDDSA: LazyLock<Pair> = LazyLock::new(eddsa);
static HMAC: LazyLock<Pair> = LazyLock::new(|| hmac(SECRET));

fn all() -> [&'static Pair; 4] {
    [&HMAC, &RSA, &ES256, &EDDSA]
}

impl Pair {
    fn name(&self) -> String {
        format!("{:?}", self.algorithm)
    }

    fn sign(&self, claims: &Value) -> String {
        self.sign_as(None, claims)
    }

    fn sign_as(&self, id: Option<&str>, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = id.map(str::to_owned);
        encode(&header, claims, &self.private).unwrap()
    }

    fn jwk(&self, id: &str) -> Value {
        let mut jwk = self.jwk.clone();
        jwk["kid"] = id.into();
        jwk
    }
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs()
}

fn good() -> Value {
    json!({"sub": "pi17", "exp": now() + 600, "iss": "me", "aud": "ringfeed", "scope": "ingest:a"})
}

fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = good();
    claims[name] = value.into();
    claims
}

fn without(name: &str) -> Value {
    let mut claims = good();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn options(algorithms: &[&str]) -> JwtOptions {
    JwtOptions {
        algorithms: algorithms.iter().map(|&name| name.into()).collect(),
        issuer: Some("me".into()),
        audience: Some("ringfeed".into()),
        leeway: Duration::from_secs(30),
        scope_claim: "scope".into(),
        ..JwtOptions::default()
    }
}

struct Bed {
    dir: tempfile::TempDir,
    jwt: Jwt,
    grants: Grants,
}

impl Bed {
    fn open(file: &str, content: &str, options: JwtOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let jwt = open_in(dir.path(), file, content, options).unwrap();
        let grant = Grant {
            principals: "*".into(),
            scopes: vec!["observe:*".into()],
        };
        Self {
            dir,
            jwt,
            grants: Grants::new(vec![grant]).unwrap(),
        }
    }

    fn of_key(pair: &Pair) -> Self {
        Self::open("key", &pair.public, options(&[&pair.name()]))
    }

    fn of_jwks(keys: &[Value], algorithms: &[&str]) -> Self {
        let jwks = json!({"keys": keys}).to_string();
        Self::open("jwks", &jwks, options(algorithms))
    }

    async fn verify(&self, token: &str) -> Result<Caller, Refusal> {
        self.jwt.verify(token, &self.grants).await
    }

    async fn refused(&self, token: &str) -> Refusal {
        self.verify(token).await.unwrap_err()
    }
}

fn open_in(
    dir: &Path,
    file: &str,
    content: &str,
    mut options: JwtOptions,
) -> Result<Jwt, JwtError> {
    let path = dir.join(file);
    fs::write(&path, content).unwrap();
    match file {
        "key" => options.key_file = Some(path),
        _ => options.jwks_file = Some(path),
    }
    Jwt::open(options).map(Option::unwrap)
}

#[tokio::test]
async fn each_algorithm_knows_its_own_tokens_and_no_others() {
    for own in all() {
        let (bed, set) = (
            Bed::of_key(own),
            Bed::of_jwks(&[own.jwk("a")], &[&own.name()]),
        );
        for bed in [&bed, &set] {
            let caller = bed.verify(&own.sign(&good())).await.unwrap();
            assert_eq!(
                (&*caller.principal, caller.identity),
                ("pi17", Identity::Jwt)
            );
            assert!(caller.scopes.allow_all_of(Action::Ingest, "a"));
            assert!(
                !caller.scopes.allow_some(Action::Observe),
                "no grant beside a claim"
            );
            for other in all().into_iter().filter(|o| o.algorithm != own.algorithm) {
                let refused = bed.refused(&other.sign(&good())).await;
                assert_eq!(refused, Refusal::Algorithm, "{}", own.name());
            }
        }
        let stranger = [
            hmac("fedcba9876543210fedcba9876543210"),
            rsa(),
            es256(),
            eddsa(),
        ];
        let same = |stranger: &&Pair| stranger.algorithm == own.algorithm;
        let stranger = stranger.iter().find(same).unwrap();
        let forged = stranger.sign(&good());
        assert_eq!(
            bed.refused(&forged).await,
            Refusal::Signature,
            "{}",
            own.name()
        );
    }
}

#[tokio::test]
async fn claims_have_to_hold() {
    let bed = Bed::of_key(&ES256);
    for (what, claims, refusal) in [
        ("expired", with("exp", now() - 31), Refusal::Expired),
        ("without end", without("exp"), Refusal::Claims),
        ("odd end", with("exp", "tomorrow"), Refusal::Claims),
        ("end of time", with("exp", 1e300), Refusal::Claims),
        ("early", with("nbf", now() + 60), Refusal::NotYetValid),
        ("wrong issuer", with("iss", "you"), Refusal::Issuer),
        ("no issuer", without("iss"), Refusal::Issuer),
        (
            "several issuers",
            with("iss", vec!["me", "you"]),
            Refusal::Issuer,
        ),
        (
            "wrong audience",
            with("aud", "ringfeeds"),
            Refusal::Audience,
        ),
        (
            "wrong audiences",
            with("aud", vec!["a", "b"]),
            Refusal::Audience,
        ),
        ("no audience", without("aud"), Refusal::Audience),
        ("nobody", without("sub"), Refusal::Claims),
        ("empty name", with("sub", ""), Refusal::Claims),
        ("odd name", with("sub", "a\nb"), Refusal::Claims),
        ("number as name", with("sub", 7), Refusal::Claims),
        ("long name", with("sub", "x".repeat(257)), Refusal::Claims),
    ] {
        assert_eq!(bed.refused(&ES256.sign(&claims)).await, refusal, "{what}");
    }
    for (what, claims) in [
        ("expired within the leeway", with("exp", now() - 20)),
        ("early within the leeway", with("nbf", now() + 20)),
        ("fractions", with("exp", now() as f64 + 600.5)),
        (
            "one of several audiences",
            with("aud", vec!["x", "ringfeed"]),
        ),
    ] {
        assert!(bed.verify(&ES256.sign(&claims)).await.is_ok(), "{what}");
    }
}

#[tokio::test]
async fn scopes_are_a_text_or_a_list_or_come_by_grant() {
    let bed = Bed::of_key(&HMAC);
    let scopes = async |claims: &Value| {
        let caller = bed.verify(&HMAC.sign(claims)).await.unwrap();
        caller.scopes.texts().map(str::to_owned).collect::<Vec<_>>()
    };
    let both = ["ingest:a", "subscribe:b:{principal}.*"];
    assert_eq!(scopes(&with("scope", both.join(" "))).await, both);
    assert_eq!(scopes(&with("scope", both.to_vec())).await, both);
    assert_eq!(
        scopes(&with("scope", "openid ingest:a ingest:a[")).await,
        ["ingest:a"]
    );
    assert!(
        scopes(&with("scope", "")).await.is_empty(),
        "no more than it says"
    );
    assert!(scopes(&with("scope", 7)).await.is_empty());
    assert_eq!(scopes(&without("scope")).await, ["observe:*"]);
}

#[tokio::test]
async fn a_token_ends_with_the_leeway_also_when_it_is_remembered() {
    let mut options = options(&["HS256"]);
    options.leeway = Duration::ZERO;
    let bed = Bed::open("key", SECRET, options);
    let end = now() + 600;
    let token = HMAC.sign(&with("exp", end));
    let expires = bed.verify(&token).await.unwrap().validity.expires.unwrap();
    assert_eq!(expires, SystemTime::UNIX_EPOCH + Duration::from_secs(end));
    // As if it were later.
    let hash = *blake3::hash(token.as_bytes()).as_bytes();
    let keys = bed.jwt.keys.load_full();
    assert!(keys.verified(&hash).is_some());
    let mut old = keys.verified(&hash).unwrap();
    old.validity.expires = Some(SystemTime::now());
    keys.remember(hash, &old);
    assert_eq!(bed.refused(&token).await, Refusal::Expired);
}

#[tokio::test]
async fn a_set_has_keys_of_several_kinds_and_names() {
    let second = es256();
    let odd = [
        json!({"kty": "new", "x": 1}),
        json!(7),
        json!({"kty": "EC", "crv": "P-521"}),
    ];
    let mut encrypts = hmac("another-secret-of-32-bytes-length").jwk("e");
    encrypts["use"] = "enc".into();
    let mut keys = odd.to_vec();
    keys.extend([ES256.jwk("a"), second.jwk("b"), RSA.jwk("c"), encrypts]);
    let bed = Bed::of_jwks(&keys, &["ES256", "RS256", "HS256"]);
    for (pair, id) in [(&*ES256, "a"), (&second, "b"), (&*RSA, "c")] {
        assert!(
            bed.verify(&pair.sign_as(Some(id), &good())).await.is_ok(),
            "{id}"
        );
        assert!(
            bed.verify(&pair.sign(&good())).await.is_ok(),
            "{id} without its name"
        );
    }
    let wrong = ES256.sign_as(Some("b"), &good());
    assert_eq!(bed.refused(&wrong).await, Refusal::Signature);
    let unknown = ES256.sign_as(Some("z"), &good());
    assert_eq!(bed.refused(&unknown).await, Refusal::UnknownKey);
    let encrypting = hmac("another-secret-of-32-bytes-length").sign_as(Some("e"), &good());
    assert_eq!(bed.refused(&encrypting).await, Refusal::UnknownKey);
}

#[tokio::test]
async fn changed_keys_are_taken_up_and_broken_ones_are_not() {
    let (old, new) = (es256(), es256());
    let bed = Bed::of_jwks(&[old.jwk("old")], &["ES256"]);
    let path = bed.dir.path().join("jwks");
    let (first, second) = (
        old.sign_as(Some("old"), &good()),
        new.sign_as(Some("new"), &good()),
    );
    assert!(bed.verify(&first).await.is_ok());
    for broken in ["", "{\"keys\": [", "{\"keys\": []}", "{\"keys\": [7]}"] {
        fs::write(&path, broken).unwrap();
        bed.jwt.reload_file();
        assert!(bed.verify(&first).await.is_ok(), "{broken:?}");
    }
    assert_eq!(bed.refused(&second).await, Refusal::UnknownKey);
    fs::write(&path, json!({"keys": [new.jwk("new")]}).to_string()).unwrap();
    bed.jwt.reload_file();
    assert!(bed.verify(&second).await.is_ok());
    // Also though it was verified before.
    assert_eq!(bed.refused(&first).await, Refusal::UnknownKey);
}

#[tokio::test]
async fn what_is_remembered_is_bounded() {
    let bed = Bed::of_key(&HMAC);
    let caller = bed.verify(&HMAC.sign(&good())).await.unwrap();
    let keys = bed.jwt.keys.load_full();
    for n in 0_usize..MAX_VERIFIED + 1 {
        keys.remember(*blake3::hash(&n.to_le_bytes()).as_bytes(), &caller);
    }
    assert!(keys.verified.lock().len() <= MAX_VERIFIED);
}

#[test]
fn settings_that_cannot_work_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = |file: &str, content: &str, options: JwtOptions| {
        let error = open_in(dir.path(), file, content, options).unwrap_err();
        error.to_string()
    };
    assert!(error("key", SECRET, options(&["HS384"])).contains("\"HS384\" is none"));
    assert!(error("key", SECRET, options(&["none"])).contains("\"none\" is none"));
    assert!(error("key", SECRET, options(&[])).contains("algorithms are missing"));
    let mut two = options(&["HS256"]);
    two.jwks_url = Some("https://x/y".into());
    assert!(error("key", SECRET, two).contains("no more than one"));
    assert!(matches!(
        Jwt::open(options(&["HS256"])),
        Err(JwtError::Sources)
    ));
    let short = error("key", "topsecret", options(&["HS256"]));
    assert!(
        short.contains("32 bytes") && !short.contains("topsecret"),
        "{short}"
    );
    assert!(error("key", &RSA.public, options(&["ES256"])).contains("no PEM public key"));
    assert!(error("key", SECRET, options(&["ES256"])).contains("no PEM public key"));
    let private = KeyPair::generate().unwrap().serialize_pem();
    assert!(error("key", &private, options(&["ES256"])).contains("private key"));
    let wrong_kind = json!({"keys": [HMAC.jwk("a")]}).to_string();
    assert!(error("jwks", &wrong_kind, options(&["ES256"])).contains("none of its keys"));
    let broken = error("jwks", "{\"keys\": [\"topsecret", options(&["ES256"]));
    assert!(
        broken.contains("no JWKS") && !broken.contains("topsecret"),
        "{broken}"
    );
    let mut late = options(&["HS256"]);
    late.leeway = Duration::from_secs(3_601);
    assert!(error("key", SECRET, late).contains("leeway"));
    for (url, what) in [
        ("x", "no URL"),
        ("ftp://x/y", "no URL"),
        ("http://login.example.com/jwks", "https"),
        ("https://me:topsecret@x/y", "password"),
    ] {
        let mut by_url = options(&["ES256"]);
        by_url.jwks_url = Some(url.into());
        let error = Jwt::open(by_url).unwrap_err().to_string();
        assert!(
            error.contains(what) && !error.contains("topsecret"),
            "{error}"
        );
    }
}

#[test]
fn keys_are_not_shown() {
    let bed = Bed::of_key(&HMAC);
    let shown = format!("{:?}", bed.jwt);
    assert!(
        shown.contains("HS256") && !shown.contains(SECRET),
        "{shown}"
    );
    assert!(
        !shown.contains(&format!("{:?}", SECRET.as_bytes())),
        "{shown}"
    );
}
