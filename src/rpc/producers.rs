//! Producers: one, or all that are known.

use std::time::Duration;

use tonic::Status;

use super::{Context, access, page, request, status};
use crate::{
    hub::{ProducerKey, ProducerView},
    layers::Call,
    model::{self, Action, FeedName},
    proto::{convert::wire_timestamp, v1},
};

/// Parts a list's entry names, for its page token; no name has it.
const SEPARATOR: char = '\0';

pub(super) fn get(
    context: &Context,
    asked: &v1::GetProducerRequest,
    call: &Call,
) -> Result<v1::GetProducerResponse, Status> {
    let name = request::feed_name("feed", &asked.feed)?;
    let key = ProducerKey {
        producer: request::producer_name("producer", &asked.producer)?,
        principal: call.principal(),
    };
    access::part_of(call, Action::Ingest, &name)?;
    let view = context
        .hub
        .producer(&name, &key)
        .map_err(|e| status::catalog(&e))?;
    Ok(v1::GetProducerResponse {
        producer: Some(describe(&name, &view)),
    })
}

pub(super) fn list(
    context: &Context,
    asked: &v1::ListProducersRequest,
    call: &Call,
) -> Result<v1::ListProducersResponse, Status> {
    let stale = asked
        .stale
        .as_ref()
        .map(|d| request::duration("stale", d))
        .transpose()?;
    let after = page::after(&asked.page_token)?;
    let feeds = if asked.feed.is_empty() {
        let all = context.hub.feeds(None, usize::MAX).into_iter();
        let observed = all.filter(|feed| access::may(call, Action::Observe, feed.name()));
        observed.collect()
    } else {
        let name = request::feed_name("feed", &asked.feed)?;
        access::part_of(call, Action::Observe, &name)?;
        vec![context.hub.feed(&name).map_err(|e| status::catalog(&e))?]
    };
    let size = page::size(asked.page_size);
    let of_feed = |feed: &std::sync::Arc<crate::hub::Feed>| {
        let views = context.hub.producers(feed);
        views
            .into_iter()
            .map(|view| describe(feed.name(), &view))
            .collect::<Vec<_>>()
    };
    let all = feeds.iter().flat_map(of_feed);
    let wanted = all.filter(|p| stale.is_none_or(|stale| silent_for(p) >= stale));
    let wanted = wanted.filter(|p| after.is_none_or(|after| place(p).as_str() > after));
    let mut producers: Vec<_> = wanted.take(size + 1).collect();
    let next_page_token = page::cut(&mut producers, size, place);
    Ok(v1::ListProducersResponse {
        producers,
        next_page_token,
    })
}

fn place(p: &v1::Producer) -> String {
    [p.feed.as_str(), &p.producer, &p.principal].join(&SEPARATOR.to_string())
}

fn silent_for(producer: &v1::Producer) -> Duration {
    let seen = producer
        .last_seen_time
        .as_ref()
        .map_or(0, |time| time.seconds);
    let now = model::now() / 1_000_000_000;
    Duration::from_secs(u64::try_from(now.saturating_sub(seen)).unwrap_or(0))
}

fn describe(feed: &FeedName, view: &ProducerView) -> v1::Producer {
    v1::Producer {
        feed: feed.to_string(),
        producer: view.producer.to_string(),
        principal: view.principal.to_string(),
        durable_sequence: view.durable_sequence,
        connected: view.connected,
        last_seen_time: Some(wire_timestamp(view.last_seen)),
        refused: view.refused,
    }
}
