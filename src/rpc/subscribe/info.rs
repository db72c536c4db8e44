//! Key descriptions on a stream: a key's before its first record, and again when it changes.

use std::{collections::HashMap, sync::Arc};

use crate::{hub::Feed, proto::v1};

#[derive(Debug)]
pub(super) struct InfoSender {
    feed: Arc<Feed>,
    version: u64,
    /// What was sent of each key.
    sent: HashMap<String, v1::KeyInfo>,
}

impl InfoSender {
    pub(super) fn new(feed: &Arc<Feed>) -> Self {
        Self {
            feed: Arc::clone(feed),
            version: feed.info_version(),
            sent: HashMap::new(),
        }
    }

    /// The descriptions to send before something of these keys.
    pub(super) fn before<'a>(
        &mut self,
        keys: impl Iterator<Item = &'a str>,
    ) -> Vec<v1::KeyInfoUpdate> {
        let mut updates = self.changed();
        for key in keys {
            if !self.sent.contains_key(key) {
                let info = self.feed.key_info(key);
                updates.push(self.update(key, &info));
                self.sent.insert(key.to_owned(), info);
            }
        }
        updates
    }

    fn changed(&mut self) -> Vec<v1::KeyInfoUpdate> {
        let version = self.feed.info_version();
        if version == self.version {
            return vec![];
        }
        self.version = version;
        let current = |key: &String| (key.clone(), self.feed.key_info(key));
        let now: Vec<_> = self.sent.keys().map(current).collect();
        let differs = |(key, info): &(String, v1::KeyInfo)| self.sent.get(key) != Some(info);
        let changed: Vec<_> = now.into_iter().filter(differs).collect();
        let updates = changed
            .iter()
            .map(|(key, info)| self.update(key, info))
            .collect();
        self.sent.extend(changed);
        updates
    }

    fn update(&self, key: &str, info: &v1::KeyInfo) -> v1::KeyInfoUpdate {
        v1::KeyInfoUpdate {
            feed: self.feed.name().to_string(),
            key: key.to_owned(),
            info: Some(info.clone()),
        }
    }
}
