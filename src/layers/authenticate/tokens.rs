//! Static tokens: found by their id, compared by the hash of their secret. The file is read again
//! when it changes; what is gone from it ends at once, open streams included.

use std::{collections::HashMap, path::Path, sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use subtle::ConstantTimeEq as _;
use tokio_util::sync::CancellationToken;

use super::{
    AuthError,
    refusal::Refusal,
    reload::{Origin, reloaded},
    token_file::{Digest, TokenEntry, TokenFile, TokenFileError, TokenText},
    watched_file::WatchedFile,
};
use crate::{
    layers::{Caller, Identity, Validity},
    model::{Principal, Scopes},
};

#[derive(Debug)]
pub(super) struct Tokens {
    file: Mutex<WatchedFile>,
    live: ArcSwap<Live>,
}

type Live = HashMap<String, Arc<Known>>;

#[derive(Debug)]
struct Known {
    entry: TokenEntry,
    principal: Principal,
    scopes: Scopes,
    /// Shared by all lives of the token that allow the same.
    revoked: CancellationToken,
}

impl Tokens {
    pub(super) fn open(path: &Path) -> Result<Self, AuthError> {
        let error = |error: TokenFileError| AuthError::TokenFile {
            file: path.to_owned(),
            error,
        };
        let (file, content) = WatchedFile::open(path).map_err(|e| error(e.into()))?;
        let live = next(&Live::new(), &content).map_err(error)?;
        Ok(Self {
            file: Mutex::new(file),
            live: ArcSwap::from_pointee(live),
        })
    }

    pub(super) fn warn(&self) {
        self.file.lock().warn_if_open_to_others();
    }

    pub(super) fn verify(&self, text: &str) -> Result<Caller, Refusal> {
        let token = TokenText::parse(text).ok_or(Refusal::Malformed)?;
        let live = self.live.load();
        let known = live.get(token.id());
        // Also for an id that is not there: it takes as long.
        let wanted = known.map_or(Digest([0; 32]), |known| known.entry.hash);
        let same: bool = token.digest().0.ct_eq(&wanted.0).into();
        let known = known.filter(|_| same).ok_or(Refusal::UnknownToken)?;
        if known.entry.is_expired(SystemTime::now()) {
            return Err(Refusal::Expired);
        }
        Ok(Caller {
            principal: Arc::clone(&known.principal),
            scopes: known.scopes.clone(),
            identity: Identity::Token,
            validity: Validity {
                expires: known.entry.expires.map(|end| end.time()),
                revoked: Some(known.revoked.clone()),
            },
        })
    }

    /// Takes up what changed in the file. Blocks.
    pub(super) fn reload(&self) {
        let mut file = self.file.lock();
        let changed = match file.changed() {
            Ok(None) => return,
            Ok(Some(content)) => Ok(content),
            Err(error) => Err(TokenFileError::from(error)),
        };
        let live = changed.and_then(|content| next(&self.live.load(), &content));
        let taken = live.map(|live| self.take(live));
        file.warn_if_open_to_others();
        reloaded(Origin::Tokens, file.path().display(), &taken);
    }

    fn take(&self, live: Live) {
        let tokens = live.len();
        let before = self.live.swap(Arc::new(live));
        let revoked = self.revoke(&before);
        tracing::info!(tokens, revoked, "tokens changed");
    }

    /// Ends what of `before` is not allowed any more.
    fn revoke(&self, before: &Live) -> usize {
        let live = self.live.load();
        let gone = before.iter().filter(|(id, known)| {
            let now = live.get(*id);
            now.is_none_or(|now| !now.entry.allows_as_much_as(&known.entry))
        });
        gone.map(|(_, known)| known.revoked.cancel()).count()
    }
}

/// The tokens in `content`. Those that stay keep what their open streams wait for.
fn next(before: &Live, content: &[u8]) -> Result<Live, TokenFileError> {
    let tokens = TokenFile::parse(content)?.tokens.into_iter();
    let known = tokens.map(|entry| {
        let known = match before.get(&entry.id) {
            Some(known) if known.entry == entry => Arc::clone(known),
            Some(known) if entry.allows_as_much_as(&known.entry) => {
                Arc::new(Known::new(entry, known.revoked.clone())?)
            }
            _ => Arc::new(Known::new(entry, CancellationToken::new())?),
        };
        Ok((known.entry.id.clone(), known))
    });
    known.collect()
}

impl Known {
    fn new(entry: TokenEntry, revoked: CancellationToken) -> Result<Self, TokenFileError> {
        Ok(Self {
            principal: Arc::from(entry.principal.as_str()),
            scopes: entry.scopes()?,
            entry,
            revoked,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;
    use crate::{
        layers::authenticate::{Moment, NewToken},
        model::Action,
    };

    struct Bed {
        _dir: tempfile::TempDir,
        path: PathBuf,
        tokens: Tokens,
    }

    fn made(principal: &str, scope: &str) -> NewToken {
        NewToken::make(principal.into(), vec![scope.into()], None, None).unwrap()
    }

    fn write(path: &Path, entries: &[&TokenEntry]) {
        let tokens = entries.iter().map(|&entry| entry.clone()).collect();
        fs::write(path, toml::to_string(&TokenFile { tokens }).unwrap()).unwrap();
    }

    fn bed(entries: &[&TokenEntry]) -> Bed {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        write(&path, entries);
        let tokens = Tokens::open(&path).unwrap();
        Bed {
            _dir: dir,
            path,
            tokens,
        }
    }

    impl Bed {
        fn put(&self, entries: &[&TokenEntry]) {
            write(&self.path, entries);
            self.tokens.reload();
        }

        fn refused(&self, text: &str) -> Refusal {
            self.tokens.verify(text).unwrap_err()
        }
    }

    fn moment(text: &str) -> Moment {
        Moment(text.parse().unwrap())
    }

    #[test]
    fn only_the_very_token_is_known() {
        let (own, other) = (made("pi17", "ingest:a"), made("pi18", "ingest:b"));
        let bed = bed(&[&own.entry, &other.entry]);
        let caller = bed.tokens.verify(&own.text.reveal()).unwrap();
        assert_eq!(
            (&*caller.principal, caller.identity),
            ("pi17", Identity::Token)
        );
        assert!(caller.scopes.allow_all_of(Action::Ingest, "a"));
        let (text, others) = (own.text.reveal(), other.text.reveal());
        let tampered = format!("{}x", &text[..text.len() - 1]);
        let id = own.text.id();
        let mixed = others.replace(other.text.id(), id);
        let unknown = text.replace(id, "0123456789abcdef");
        let empty_secret_hash = format!("rf_{id}_0");
        for bad in [&tampered, &mixed, &unknown, &empty_secret_hash] {
            assert_eq!(bed.refused(bad), Refusal::UnknownToken, "{bad}");
        }
        assert_eq!(bed.refused("rf_x"), Refusal::Malformed);
    }

    #[test]
    fn an_expired_token_says_so_only_to_who_has_it() {
        let mut token = made("pi17", "ingest:a");
        token.entry.expires = Some(moment("2020-01-01T00:00:00Z"));
        let bed = bed(&[&token.entry]);
        assert_eq!(bed.refused(&token.text.reveal()), Refusal::Expired);
        let guess = format!("rf_{}_guess", token.text.id());
        assert_eq!(bed.refused(&guess), Refusal::UnknownToken);
    }

    #[test]
    fn what_is_gone_or_changed_ends_and_the_rest_goes_on() {
        let [gone, hash, scopes, sooner, later, same] =
            std::array::from_fn(|_| made("p", "ingest:a"));
        let all = [&gone, &hash, &scopes, &sooner, &later, &same];
        let bed = bed(&all.map(|token| &token.entry));
        let revoked = all.map(|token| {
            let caller = bed.tokens.verify(&token.text.reveal()).unwrap();
            caller.validity.revoked.unwrap()
        });
        let change = |token: &NewToken, change: &dyn Fn(&mut TokenEntry)| {
            let mut entry = token.entry.clone();
            change(&mut entry);
            entry
        };
        let new = made("new", "ingest:a");
        bed.put(&[
            &change(&hash, &|entry| entry.hash = new.entry.hash),
            &change(&scopes, &|entry| entry.scopes = vec!["ingest:b".into()]),
            &change(&sooner, &|entry| {
                entry.expires = Some(moment("2100-01-01T00:00:00Z"));
            }),
            &change(&later, &|entry| entry.description = Some("new".into())),
            &same.entry,
            &new.entry,
        ]);
        let ended = revoked.each_ref().map(CancellationToken::is_cancelled);
        assert_eq!(ended, [true, true, true, true, false, false]);
        assert_eq!(bed.refused(&gone.text.reveal()), Refusal::UnknownToken);
        assert_eq!(bed.refused(&hash.text.reveal()), Refusal::UnknownToken);
        assert!(bed.tokens.verify(&new.text.reveal()).is_ok());
        let caller = bed.tokens.verify(&scopes.text.reveal()).unwrap();
        assert!(!caller.validity.revoked.unwrap().is_cancelled());
        // What was changed harmlessly before can still be taken back.
        bed.put(&[&same.entry]);
        assert!(revoked[4].is_cancelled() && !revoked[5].is_cancelled());
    }

    #[test]
    fn a_broken_file_changes_nothing() {
        let token = made("p", "ingest:a");
        let bed = bed(&[&token.entry]);
        let text = token.text.reveal();
        let revoked = bed.tokens.verify(&text).unwrap().validity.revoked.unwrap();
        for broken in ["[[token", "[[token]]\nid = 1", "\u{0}"] {
            fs::write(&bed.path, broken).unwrap();
            bed.tokens.reload();
            assert!(
                bed.tokens.verify(&text).is_ok() && !revoked.is_cancelled(),
                "{broken:?}"
            );
        }
        fs::remove_file(&bed.path).unwrap();
        bed.tokens.reload();
        assert!(bed.tokens.verify(&text).is_ok() && !revoked.is_cancelled());
        let mut bad_scope = token.entry;
        bad_scope.scopes = vec!["look:a".into()];
        bed.put(&[&bad_scope]);
        assert!(bed.tokens.verify(&text).is_ok() && !revoked.is_cancelled());
        bed.put(&[]);
        assert!(bed.tokens.verify(&text).is_err() && revoked.is_cancelled());
    }

    #[test]
    fn a_caller_is_one_until_its_token_ends() {
        let (mut ends, endless) = (made("p", "ingest:a"), made("p", "ingest:a"));
        ends.entry.expires = Some(Moment("2100-01-01T00:00:00Z".parse().unwrap()));
        let bed = bed(&[&ends.entry, &endless.entry]);
        let end = |token: &NewToken| {
            let caller = bed.tokens.verify(&token.text.reveal()).unwrap();
            caller.validity.expires
        };
        assert_eq!(end(&ends), ends.entry.expires.map(Moment::time));
        assert_eq!(end(&endless), None);
    }
}
