//! What a caller may do with one feed or key: each decision is one line of a handler. It is asked
//! before the feed is looked for, so that an answer does not tell who may not know whether there is
//! one.

use tonic::Status;

use crate::{
    errors::{Answer, Reason},
    hub::KeyFilter,
    layers::Call,
    model::{Action, FeedName, Globs, Keys},
    proto::v1,
};

/// Whoever may do anything with a feed sees it.
const SEES: &[Action] = &Action::ALL;
/// Who may do one of these with a key sees that it is there.
const SEES_KEYS: &[Action] = &[Action::Subscribe, Action::Observe];

/// The caller does this with some keys of a feed: which ones it may.
pub(super) fn keys(call: &Call, action: Action, feed: &FeedName) -> Result<Keys, Status> {
    let keys = call.caller().scopes.keys(action, feed.as_str());
    keys.ok_or_else(|| denied(&[action], feed))
}

/// The caller lists keys of a feed: which ones it may see.
pub(super) fn visible_keys(call: &Call, feed: &FeedName) -> Result<Keys, Status> {
    let scopes = &call.caller().scopes;
    let keys = SEES_KEYS.iter().map(|a| scopes.keys(*a, feed.as_str()));
    let both = keys.flatten().reduce(Keys::or);
    both.ok_or_else(|| denied(SEES_KEYS, feed))
}

/// The caller does this with a feed, be it for some of its keys.
pub(super) fn part_of(call: &Call, action: Action, feed: &FeedName) -> Result<(), Status> {
    if may(call, action, feed) {
        return Ok(());
    }
    Err(denied(&[action], feed))
}

/// The caller does this with all of a feed.
pub(super) fn all_of(call: &Call, action: Action, feed: &FeedName) -> Result<(), Status> {
    if call.caller().scopes.allow_all_of(action, feed.as_str()) {
        return Ok(());
    }
    Err(denied(&[action], feed))
}

/// The caller does this with these keys, of which it may `allowed`.
pub(super) fn each_key<'a>(
    allowed: &Keys,
    action: Action,
    feed: &FeedName,
    keys: impl IntoIterator<Item = &'a str>,
) -> Result<(), Status> {
    match keys.into_iter().find(|key| !allowed.contain(key)) {
        None => Ok(()),
        Some(key) => Err(denied_key(action, feed, key)),
    }
}

/// The caller asks for a feed.
pub(super) fn sees(call: &Call, feed: &FeedName) -> Result<(), Status> {
    if may_see(call, feed) {
        return Ok(());
    }
    Err(denied(SEES, feed))
}

/// Whether a feed is on the caller's list.
pub(super) fn may_see(call: &Call, feed: &FeedName) -> bool {
    call.caller().scopes.see(feed.as_str())
}

/// Whether the caller may do this with a feed, be it for some of its keys.
pub(super) fn may(call: &Call, action: Action, feed: &FeedName) -> bool {
    let scopes = &call.caller().scopes;
    scopes.allow_part_of(action, feed.as_str())
}

/// Keeps a filter within the keys that the caller may follow; what is to be said of it.
pub(super) fn narrow(
    call: &Call,
    feed: &FeedName,
    filter: &mut KeyFilter,
) -> Result<Option<v1::Narrowed>, Status> {
    let Keys::Matching(allowed) = keys(call, Action::Subscribe, feed)? else {
        return Ok(None);
    };
    if filter.stays_within(&allowed) {
        return Ok(None);
    }
    let narrowed = v1::Narrowed {
        feed: feed.to_string(),
        key_globs: allowed.texts().to_vec(),
        ..v1::Narrowed::default()
    };
    filter.within = Some(allowed);
    Ok(Some(narrowed))
}

/// The caller follows feeds that match: what is to be said when it may not see all that could.
pub(super) fn narrow_feeds(call: &Call, asked: &Globs) -> Option<v1::Narrowed> {
    let feed_globs = call.caller().scopes.feed_globs(Action::Subscribe);
    let sees = |glob| feed_globs.iter().any(|own| own == "*" || own == glob);
    if asked.texts().iter().all(sees) {
        return None;
    }
    Some(v1::Narrowed {
        feed_globs,
        ..v1::Narrowed::default()
    })
}

fn denied(actions: &[Action], feed: &FeedName) -> Status {
    let actions: Vec<_> = actions.iter().map(|action| action.name()).collect();
    let actions = actions.join(" or ");
    let message = format!("the caller's scopes do not allow this on feed \"{feed}\": {actions}");
    let answer = Answer::new(Reason::PermissionDenied, message);
    answer.fact("action", actions).fact("feed", feed).status()
}

fn denied_key(action: Action, feed: &FeedName, key: &str) -> Status {
    let action = action.name();
    let message =
        format!("the caller's scopes do not allow {action} of key \"{key}\" in feed \"{feed}\"");
    let answer = Answer::new(Reason::PermissionDenied, message).fact("action", action);
    answer.fact("feed", feed).fact("key", key).status()
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_types::StatusExt as _;

    use super::*;
    use crate::{
        layers::{Caller, Rpc},
        model::Scopes,
    };

    fn call(scopes: &[&str]) -> Call {
        let call = Call::new(Rpc::of_path(""), "1");
        call.identify(Caller::anonymous(Scopes::parse(scopes, "me").unwrap()));
        call
    }

    fn feed(name: &str) -> FeedName {
        name.parse().unwrap()
    }

    fn globs(texts: &[&str]) -> Globs {
        let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
        Globs::new(&texts).unwrap()
    }

    fn facts(denied: &Status) -> Vec<(String, String)> {
        assert_eq!(denied.code(), Code::PermissionDenied);
        let info = denied.get_details_error_info().unwrap();
        assert_eq!(info.reason, "PERMISSION_DENIED");
        let mut facts: Vec<_> = info.metadata.into_iter().collect();
        facts.sort();
        facts
    }

    #[test]
    fn a_refusal_names_action_feed_and_key() {
        let call = call(&["ingest:a:x*"]);
        let denied = part_of(&call, Action::Ingest, &feed("b")).unwrap_err();
        let fact = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            facts(&denied),
            [fact("action", "ingest"), fact("feed", "b")]
        );
        let allowed = keys(&call, Action::Ingest, &feed("a")).unwrap();
        let denied = each_key(&allowed, Action::Ingest, &feed("a"), ["x1", "y"]).unwrap_err();
        assert_eq!(facts(&denied)[2], fact("key", "y"));
        each_key(&allowed, Action::Ingest, &feed("a"), ["x1"]).unwrap();
    }

    #[test]
    fn some_keys_are_not_all_of_a_feed() {
        let call = call(&["admin:a:x*", "admin:b"]);
        all_of(&call, Action::Admin, &feed("b")).unwrap();
        all_of(&call, Action::Admin, &feed("a")).unwrap_err();
        part_of(&call, Action::Admin, &feed("a")).unwrap();
        part_of(&call, Action::Ingest, &feed("a")).unwrap_err();
    }

    #[test]
    fn a_feed_is_seen_by_whoever_may_do_anything_with_it() {
        for action in Action::ALL {
            let call = call(&[&format!("{}:a:x", action.name())]);
            sees(&call, &feed("a")).unwrap();
            sees(&call, &feed("b")).unwrap_err();
        }
    }

    #[test]
    fn keys_are_seen_by_whoever_reads_or_observes_them() {
        let call = call(&["subscribe:a:x", "observe:a:y", "ingest:a:z", "observe:b"]);
        let visible = visible_keys(&call, &feed("a")).unwrap();
        assert!(visible.contain("x") && visible.contain("y") && !visible.contain("z"));
        assert_eq!(visible_keys(&call, &feed("b")).unwrap(), Keys::All);
        visible_keys(&call, &feed("c")).unwrap_err();
    }

    #[test]
    fn a_filter_is_kept_within_what_may_be_followed_and_that_is_said() {
        let call = call(&["subscribe:a:x*", "subscribe:b", "ingest:c"]);
        let mut all = KeyFilter::default();
        assert_eq!(narrow(&call, &feed("b"), &mut all).unwrap(), None);
        assert!(all.is_all());
        let said = narrow(&call, &feed("a"), &mut all).unwrap().unwrap();
        assert_eq!(
            (said.feed.as_str(), &said.key_globs[..]),
            ("a", &["x*".to_owned()][..])
        );
        assert!(all.wants("x1") && !all.wants("y"));
        narrow(&call, &feed("c"), &mut all).unwrap_err();

        let mut named = KeyFilter {
            include: Some(["x1".to_owned()].into()),
            include_globs: globs(&["x*"]),
            ..KeyFilter::default()
        };
        assert_eq!(narrow(&call, &feed("a"), &mut named).unwrap(), None);
        assert_eq!(named.within, None);
        named.include_globs = globs(&["x1*"]);
        assert!(narrow(&call, &feed("a"), &mut named).unwrap().is_some());
    }

    #[test]
    fn a_list_of_feeds_that_may_not_all_be_seen_is_narrowed() {
        let some = call(&["subscribe:a*:k", "subscribe:b", "observe:c"]);
        assert_eq!(narrow_feeds(&some, &globs(&["a*", "b"])), None);
        let said = narrow_feeds(&some, &globs(&["a*", "c*"])).unwrap();
        assert_eq!(said.feed_globs, ["a*", "b"]);
        assert_eq!(narrow_feeds(&call(&["*:*"]), &globs(&["c*"])), None);
    }
}
