//! Tokens that were made to deceive.

use super::*;

#[tokio::test]
async fn tampering_is_seen() {
    for pair in all() {
        let bed = Bed::of_key(pair);
        let token = pair.sign(&good());
        let [head, _, signature] = token.split('.').collect::<Vec<_>>()[..] else {
            panic!("{token}");
        };
        let body = base64(with("sub", "admin").to_string());
        for bad in [
            format!("{head}.{body}.{signature}"),
            format!("{head}.{body}."),
            token.replace(signature, &signature[..32]),
        ] {
            let refused = bed.refused(&bad).await;
            assert_eq!(refused, Refusal::Signature, "{}: {bad}", pair.name());
        }
    }
}

/// A token with a head of our choice, signed by `secret` with HS256.
fn headed(head: &Value, secret: &[u8]) -> String {
    let message = format!(
        "{}.{}",
        base64(head.to_string()),
        base64(good().to_string())
    );
    let key = EncodingKey::from_secret(secret);
    let signed = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
    format!("{message}.{}", signed.unwrap())
}

#[tokio::test]
async fn no_head_talks_the_server_into_anything() {
    let bed = Bed::of_jwks(&[ES256.jwk("a"), HMAC.jwk("b")], &["ES256", "HS256"]);
    let secret = SECRET.as_bytes();
    assert!(
        bed.verify(&headed(&json!({"alg": "HS256"}), secret))
            .await
            .is_ok()
    );
    for (head, refusal) in [
        (json!({"alg": "none"}), Refusal::Algorithm),
        (json!({"alg": "None"}), Refusal::Algorithm),
        (json!({"alg": ""}), Refusal::Algorithm),
        (json!({"alg": "HS512"}), Refusal::Algorithm),
        (json!({"alg": "RS256"}), Refusal::Algorithm),
        (json!({"alg": "ES256"}), Refusal::Signature),
        (json!({"typ": "JWT"}), Refusal::Malformed),
        (json!({"alg": "HS256", "crit": ["exp"]}), Refusal::Malformed),
        (json!({"alg": "HS256", "kid": "c"}), Refusal::UnknownKey),
        // The key of that id is for another algorithm.
        (json!({"alg": "HS256", "kid": "a"}), Refusal::UnknownKey),
    ] {
        assert_eq!(bed.refused(&headed(&head, secret)).await, refusal, "{head}");
    }
    // The key that a head brings along is not asked.
    let brought = json!({"alg": "HS256", "jwk": hmac("another-secret-of-32-bytes-length").jwk});
    let signed = headed(&brought, b"another-secret-of-32-bytes-length");
    assert_eq!(bed.refused(&signed).await, Refusal::Signature);
    for text in [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "ä.b.c",
        "e30.e30.e30",
    ] {
        assert_eq!(bed.refused(text).await, Refusal::Malformed, "{text:?}");
    }
    let unsigned = headed(&json!({"alg": "none"}), secret);
    let unsigned = unsigned.rsplit_once('.').unwrap().0;
    assert_eq!(
        bed.refused(&format!("{unsigned}.")).await,
        Refusal::Algorithm
    );
}

/// The classic: what is public as a key of one kind is tried as the secret of another.
#[tokio::test]
async fn a_public_key_is_never_a_secret() {
    for pair in [&*RSA, &*ES256, &*EDDSA] {
        let forged = headed(&json!({"alg": "HS256", "kid": "a"}), pair.public.as_bytes());
        let trimmed = headed(&json!({"alg": "HS256"}), pair.public.trim_end().as_bytes());
        for bed in [
            Bed::of_key(pair),
            Bed::of_jwks(&[pair.jwk("a")], &[&pair.name()]),
        ] {
            assert_eq!(bed.refused(&forged).await, Refusal::Algorithm);
            assert_eq!(bed.refused(&trimmed).await, Refusal::Algorithm);
        }
        // Even where both kinds are accepted.
        let both = Bed::of_jwks(&[pair.jwk("a"), HMAC.jwk("b")], &[&pair.name(), "HS256"]);
        assert_eq!(both.refused(&forged).await, Refusal::UnknownKey);
        assert_eq!(both.refused(&trimmed).await, Refusal::Signature);
        // And nobody configures it by mistake.
        let dir = tempfile::tempdir().unwrap();
        let error = open_in(dir.path(), "key", &pair.public, options(&["HS256"])).unwrap_err();
        assert!(error.to_string().contains("PEM"), "{error}");
        let both = options(&[&pair.name(), "HS256"]);
        let error = open_in(dir.path(), "key", &pair.public, both).unwrap_err();
        assert!(matches!(error, JwtError::MixedKeyFile), "{error}");
    }
}
