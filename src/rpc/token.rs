//! Resume tokens: the subscription as it would have to be asked for now, signed by the server.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use prost::Message as _;
use tonic::Status;

use super::status;
use crate::proto::v1::SubscribeRequest;

const VERSION: &str = "rf1.";
const TAG_BYTES: usize = 16;

pub(super) fn issue(secret: &[u8; 32], request: &SubscribeRequest) -> String {
    let request = request.encode_to_vec();
    let bytes = [tag(secret, &request).as_slice(), &request].concat();
    format!("{VERSION}{}", URL_SAFE_NO_PAD.encode(bytes))
}

pub(super) fn read(secret: &[u8; 32], token: &str) -> Result<SubscribeRequest, Status> {
    let refused = || {
        let text = "was not issued by this server or was changed; subscribe with selectors";
        status::invalid_argument("resume_token", text)
    };
    let text = token.strip_prefix(VERSION).ok_or_else(refused)?;
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_e| refused())?;
    let (claimed, request) = bytes.split_first_chunk::<TAG_BYTES>().ok_or_else(refused)?;
    // `blake3::Hash` compares in constant time; so does this.
    let differs = claimed
        .iter()
        .zip(tag(secret, request))
        .fold(0, |d, (a, b)| d | (a ^ b));
    if differs != 0 {
        return Err(refused());
    }
    SubscribeRequest::decode(request).map_err(|_e| refused())
}

fn tag(secret: &[u8; 32], request: &[u8]) -> [u8; TAG_BYTES] {
    let hash = blake3::keyed_hash(secret, request);
    let (tag, _) = hash
        .as_bytes()
        .split_first_chunk()
        .unwrap_or((&[0; TAG_BYTES], &[]));
    *tag
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::Selector;

    #[test]
    fn a_changed_token_is_refused() {
        let selector = Selector {
            feed: "stocks".into(),
            ..Default::default()
        };
        let request = SubscribeRequest {
            selectors: vec![selector],
            ..Default::default()
        };
        let token = issue(&[7; 32], &request);
        assert_eq!(read(&[7; 32], &token).unwrap(), request);
        assert!(read(&[8; 32], &token).is_err());
        assert!(read(&[7; 32], "").is_err());
        for at in VERSION.len()..token.len() - 1 {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(read(&[7; 32], &changed).is_err(), "byte {at}");
        }
    }
}
