//! Feeds by name: created, changed, trimmed, deleted; all of it durable before it is answered.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    CatalogError, Feed, Hub,
    commit::Writer,
    cursors,
    info::InfoScope,
    options::AutoCreate,
    producers::{ProducerKey, ProducerView},
    save,
};
use crate::{
    model::{self, FeedId, FeedName, FeedSpec, Globs, Offset, Retention, Visibility, compile_glob},
    proto::v1::KeyInfo,
    store::{Engine, RingSpec, Space, StoreError},
};

const NEXT_FEED_KEY: &[u8] = b"next-feed";
const SECRET_KEY: &[u8] = b"secret";

/// What changes of a feed; `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedChange {
    pub max_bytes: Option<u64>,
    /// `Some(None)`: no age limit any more.
    pub max_age: Option<Option<Duration>>,
    pub visibility: Option<Visibility>,
}

impl Hub {
    /// A feed by name.
    pub fn feed(&self, name: &FeedName) -> Result<Arc<Feed>, CatalogError> {
        let feed = self.feeds.read().get(name).cloned();
        feed.ok_or_else(|| CatalogError::UnknownFeed { name: name.clone() })
    }

    /// The feed an upload goes to; created where that is allowed.
    pub async fn feed_for_append(&self, name: &FeedName) -> Result<Arc<Feed>, CatalogError> {
        match self.feed(name) {
            Err(CatalogError::UnknownFeed { .. })
                if self.options.auto_create == AutoCreate::Yes =>
            {
                match self.create_feed(name.clone(), None, None).await {
                    Err(CatalogError::FeedExists { .. }) => self.feed(name),
                    created => created,
                }
            }
            found => found,
        }
    }

    /// Feeds by name, beginning after `after`.
    pub fn feeds(&self, after: Option<&FeedName>, limit: usize) -> Vec<Arc<Feed>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.feeds
            .read()
            .range((from, Unbounded))
            .take(limit)
            .map(|(_, f)| Arc::clone(f))
            .collect()
    }

    /// The feeds that one glob matches and no other excludes, by name.
    pub fn matching_feeds(&self, globs: &Globs, exclude: &Globs) -> Vec<Arc<Feed>> {
        let wants = |name: &str| globs.matches(name) && !exclude.matches(name);
        let feeds = self.feeds.read();
        let wanted = feeds.values().filter(|feed| wants(feed.name().as_str()));
        wanted.cloned().collect()
    }

    /// Changes whenever a feed comes or goes; look at the list after that.
    pub fn watch_feeds(&self) -> watch::Receiver<u64> {
        self.feed_list.subscribe()
    }

    pub async fn create_feed(
        &self,
        name: FeedName,
        retention: Option<Retention>,
        visibility: Option<Visibility>,
    ) -> Result<Arc<Feed>, CatalogError> {
        let retention = retention.unwrap_or(self.options.retention);
        let visibility = visibility.unwrap_or(self.options.visibility);
        self.room_for(&name, retention.max_bytes)?;
        let spec = FeedSpec {
            id: FeedId(0),
            name: name.clone(),
            epoch: 0,
            retention,
            visibility,
            created: model::now(),
        };
        let feed = Arc::new(self.admin(move |writer| create(writer, spec)).await??);
        match self.register(&feed) {
            Ok(()) => Ok(feed),
            Err(exists) => {
                self.admin(move |writer| discard(writer, &feed)).await??;
                Err(exists)
            }
        }
    }

    /// Two calls may have created it side by side; the first one to come here wins.
    fn register(&self, feed: &Arc<Feed>) -> Result<(), CatalogError> {
        let mut feeds = self.feeds.write();
        if feeds.contains_key(feed.name()) {
            return Err(CatalogError::FeedExists {
                name: feed.name().clone(),
            });
        }
        feeds.insert(feed.name().clone(), Arc::clone(feed));
        drop(feeds);
        self.feed_list.send_modify(|changes| *changes += 1);
        Ok(())
    }

    fn room_for(&self, name: &FeedName, asked: u64) -> Result<(), CatalogError> {
        let feeds = self.feeds.read();
        if feeds.contains_key(name) {
            return Err(CatalogError::FeedExists { name: name.clone() });
        }
        if feeds.len() >= self.options.max_feeds {
            return Err(CatalogError::FeedLimit {
                limit: self.options.max_feeds,
            });
        }
        let others = feeds.values();
        let (taken, unwritten) = others.fold((0_u64, 0_u64), |(taken, unwritten), feed| {
            let max = feed.ring.max_bytes();
            (
                taken + max,
                unwritten + max.saturating_sub(feed.bounds().bytes),
            )
        });
        drop(feeds);
        self.fits(asked, taken, unwritten)
    }

    /// Whether a ring of `asked` bytes fits beside `taken` bytes of rings, `unwritten` of which
    /// are still to come.
    fn fits(&self, asked: u64, taken: u64, unwritten: u64) -> Result<(), CatalogError> {
        let allowed = self.options.max_total_bytes.saturating_sub(taken);
        let free = self
            .engine
            .free_bytes()?
            .unwrap_or(u64::MAX)
            .saturating_sub(unwritten);
        let left = allowed.min(free);
        if asked > left {
            return Err(CatalogError::NoRoom { asked, left });
        }
        Ok(())
    }

    pub async fn update_feed(
        &self,
        name: &FeedName,
        change: FeedChange,
    ) -> Result<Arc<Feed>, CatalogError> {
        let feed = self.feed(name)?;
        if let Some(asked) = change.max_bytes {
            let others = self.feeds.read();
            let others = others.values().filter(|other| other.id() != feed.id());
            let taken = others.map(|other| other.ring.max_bytes()).sum();
            self.fits(asked, taken, 0)?;
        }
        let changed = Arc::clone(&feed);
        self.admin(move |writer| update(writer, &changed, change))
            .await??;
        Ok(feed)
    }

    /// Drops the records before `offset`.
    pub async fn trim_feed(
        &self,
        name: &FeedName,
        offset: Offset,
    ) -> Result<Arc<Feed>, CatalogError> {
        let feed = self.feed(name)?;
        let trimmed = Arc::clone(&feed);
        self.admin(move |writer| {
            let bounds = trimmed.ring.trim(offset)?;
            trimmed.state().keys.drop_before(bounds.head);
            save::now(writer.engine.as_ref(), &trimmed)?;
            writer.flush()?;
            trimmed.publish(bounds);
            Ok::<_, CatalogError>(())
        })
        .await??;
        Ok(feed)
    }

    pub async fn delete_feed(&self, name: &FeedName) -> Result<(), CatalogError> {
        let feed = self.feed(name)?;
        self.feeds.write().remove(name);
        feed.mark_deleted();
        self.feed_list.send_modify(|changes| *changes += 1);
        self.admin(move |writer| discard(writer, &feed)).await?
    }

    /// Describes keys; `None` takes a description back.
    pub async fn set_key_info(
        &self,
        name: &FeedName,
        scope: InfoScope,
        info: Option<KeyInfo>,
    ) -> Result<(), CatalogError> {
        let feed = self.feed(name)?;
        if let InfoScope::Glob(glob) = &scope {
            compile_glob(glob)?;
        }
        self.admin(move |writer| {
            let value = info.as_ref().map(prost::Message::encode_to_vec);
            let key = save::info_key(feed.id(), &scope);
            writer.engine.put(Space::Catalog, &key, value.as_deref())?;
            writer.flush()?;
            feed.state().infos.set(&scope, info)
        })
        .await?
    }

    /// Forgets keys; how many were known.
    pub async fn delete_keys(
        &self,
        name: &FeedName,
        keys: Vec<String>,
    ) -> Result<u64, CatalogError> {
        let feed = self.feed(name)?;
        self.admin(move |writer| {
            let known = {
                let mut state = feed.state();
                keys.iter().filter(|key| state.keys.remove(key)).count()
            };
            for key in keys {
                let scope = InfoScope::Key(key);
                writer
                    .engine
                    .put(Space::Catalog, &save::info_key(feed.id(), &scope), None)?;
                feed.state().infos.set(&scope, None)?;
            }
            save::now(writer.engine.as_ref(), &feed)?;
            writer.flush()?;
            Ok(known as u64)
        })
        .await?
    }

    pub fn producer(
        &self,
        name: &FeedName,
        key: &ProducerKey,
    ) -> Result<ProducerView, CatalogError> {
        let feed = self.feed(name)?;
        let found = feed.state().producers.find(key);
        found.ok_or_else(|| CatalogError::UnknownProducer {
            feed: name.clone(),
            producer: key.producer.to_string(),
        })
    }

    /// A feed's producers by name; those as well that are connected or left a will, and never sent
    /// a record.
    pub fn producers(&self, feed: &Feed) -> Vec<ProducerView> {
        let mut views = feed.state().producer_views();
        views.sort_by(|a, b| (&a.producer, &a.principal).cmp(&(&b.producer, &b.principal)));
        views
    }
}

/// Opens every feed of the catalogue.
pub(super) fn load(engine: &dyn Engine) -> Result<BTreeMap<FeedName, Arc<Feed>>, StoreError> {
    let mut feeds = BTreeMap::new();
    for (_, value) in engine.scan(Space::Catalog, b"f")? {
        let spec: FeedSpec = serde_json::from_slice(&value).map_err(|e| StoreError::Damaged {
            what: "a feed in the catalogue".into(),
            detail: e.to_string(),
        })?;
        let feed = open(engine, spec)?;
        save::load(engine, &feed)?;
        cursors::load(engine, &feed)?;
        feeds.insert(feed.name().clone(), Arc::new(feed));
    }
    Ok(feeds)
}

/// The key that signs resume tokens, made once.
pub(super) fn secret(engine: &dyn Engine) -> Result<[u8; 32], StoreError> {
    if let Some(secret) = engine.get(Space::Catalog, SECRET_KEY)?
        && let Ok(secret) = secret.try_into()
    {
        return Ok(secret);
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|e| StoreError::Io {
        action: "read random bytes for",
        path: "the token secret".into(),
        source: e.into(),
    })?;
    engine.put(Space::Catalog, SECRET_KEY, Some(&secret))?;
    engine.flush()?;
    Ok(secret)
}

fn open(engine: &dyn Engine, spec: FeedSpec) -> Result<Feed, StoreError> {
    let ring = engine.open_ring(RingSpec {
        feed: spec.id,
        epoch: spec.epoch,
        max_bytes: spec.retention.max_bytes,
        visibility: spec.visibility,
    })?;
    Ok(Feed::new(spec, ring))
}

fn create(writer: &Writer, mut spec: FeedSpec) -> Result<Feed, StoreError> {
    let engine = writer.engine.as_ref();
    let next = engine.get(Space::Catalog, NEXT_FEED_KEY)?;
    let (id, last_epoch) = next.and_then(|bytes| parse_next(&bytes)).unwrap_or((1, 0));
    let now_ms = u64::try_from(model::now() / 1_000_000).unwrap_or(0);
    spec.id = FeedId(id);
    // Later than every epoch before, whatever the clock did.
    spec.epoch = now_ms.max(last_epoch + 1);
    let next = [(id + 1).to_be_bytes().as_slice(), &spec.epoch.to_be_bytes()].concat();
    let feed = open(engine, spec.clone())?;
    engine.put(Space::Catalog, NEXT_FEED_KEY, Some(&next))?;
    put_spec(engine, &spec)?;
    writer.flush()?;
    Ok(feed)
}

fn parse_next(bytes: &[u8]) -> Option<(u32, u64)> {
    let (id, epoch) = bytes.split_first_chunk()?;
    Some((
        u32::from_be_bytes(*id),
        u64::from_be_bytes(epoch.try_into().ok()?),
    ))
}

fn update(writer: &Writer, feed: &Feed, change: FeedChange) -> Result<(), CatalogError> {
    if let Some(max_bytes) = change.max_bytes {
        // A smaller ring may evict what was not saved yet.
        save::now(writer.engine.as_ref(), feed)?;
        feed.ring.resize(max_bytes)?;
    }
    if let Some(visibility) = change.visibility {
        feed.ring.set_visibility(visibility)?;
    }
    let spec = feed.change_spec(|spec| {
        spec.retention.max_bytes = change.max_bytes.unwrap_or(spec.retention.max_bytes);
        spec.retention.max_age = change.max_age.unwrap_or(spec.retention.max_age);
        spec.visibility = change.visibility.unwrap_or(spec.visibility);
    });
    put_spec(writer.engine.as_ref(), &spec)?;
    writer.flush()?;
    feed.publish(feed.ring.bounds());
    Ok(())
}

fn discard(writer: &Writer, feed: &Feed) -> Result<(), CatalogError> {
    feed.mark_deleted();
    let engine = writer.engine.as_ref();
    engine.put(Space::Catalog, &spec_key(feed.id()), None)?;
    save::delete(engine, feed.id())?;
    cursors::delete(engine, feed.id())?;
    writer.flush()?;
    engine.delete_ring(feed.id())?;
    writer.flush()?;
    writer.window.remove(feed.id());
    Ok(())
}

/// `f` ++ feed.
fn spec_key(feed: FeedId) -> Vec<u8> {
    [b"f".as_slice(), &feed.0.to_be_bytes()].concat()
}

fn put_spec(engine: &dyn Engine, spec: &FeedSpec) -> Result<(), StoreError> {
    let value = serde_json::to_vec(spec).map_err(|e| StoreError::Damaged {
        what: "a feed's description".into(),
        detail: e.to_string(),
    })?;
    engine.put(Space::Catalog, &spec_key(spec.id), Some(&value))
}
