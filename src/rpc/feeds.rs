//! Feeds: create, get, list, update, trim, delete.

use tonic::Status;

use super::{Context, access, page, request, status};
use crate::{
    hub::{Feed, FeedChange},
    layers::Call,
    model::{Action, Visibility},
    proto::{
        convert::{wire_duration, wire_timestamp},
        v1,
    },
};

pub(super) async fn create(
    context: &Context,
    asked: v1::CreateFeedRequest,
    call: &Call,
) -> Result<v1::CreateFeedResponse, Status> {
    let name = request::feed_name("name", &asked.name)?;
    access::all_of(call, Action::Admin, &name)?;
    let default = context.hub.options().retention;
    let retention = asked
        .retention
        .map(|r| request::retention(&r, default))
        .transpose()?;
    let visibility = request::visibility(asked.visibility)?;
    let created = context.hub.create_feed(name, retention, visibility).await;
    let feed = created.map_err(|e| status::catalog(&e))?;
    Ok(v1::CreateFeedResponse {
        feed: Some(describe(context, &feed)),
    })
}

pub(super) fn get(
    context: &Context,
    asked: &v1::GetFeedRequest,
    call: &Call,
) -> Result<v1::GetFeedResponse, Status> {
    let name = request::feed_name("name", &asked.name)?;
    access::sees(call, &name)?;
    let feed = context.hub.feed(&name).map_err(|e| status::catalog(&e))?;
    Ok(v1::GetFeedResponse {
        feed: Some(describe(context, &feed)),
    })
}

pub(super) fn list(
    context: &Context,
    asked: &v1::ListFeedsRequest,
    call: &Call,
) -> Result<v1::ListFeedsResponse, Status> {
    let after = page::after(&asked.page_token)?;
    let after = after
        .map(|name| request::feed_name("page_token", name))
        .transpose()?;
    let size = page::size(asked.page_size);
    let feeds = context.hub.feeds(after.as_ref(), usize::MAX);
    let seen = feeds
        .iter()
        .filter(|feed| access::may_see(call, feed.name()));
    let seen = seen.take(size + 1).map(|feed| describe(context, feed));
    let mut feeds: Vec<_> = seen.collect();
    let next_page_token = page::cut(&mut feeds, size, |feed| feed.name.clone());
    Ok(v1::ListFeedsResponse {
        feeds,
        next_page_token,
    })
}

pub(super) async fn update(
    context: &Context,
    asked: v1::UpdateFeedRequest,
    call: &Call,
) -> Result<v1::UpdateFeedResponse, Status> {
    let name = request::feed_name("name", &asked.name)?;
    access::all_of(call, Action::Admin, &name)?;
    let max_age = asked
        .max_age
        .map(|age| request::duration("max_age", &age))
        .transpose()?;
    let change = FeedChange {
        max_bytes: asked.max_bytes,
        max_age: max_age.map(|age| Some(age).filter(|age| !age.is_zero())),
        visibility: request::visibility(asked.visibility)?,
    };
    let updated = context.hub.update_feed(&name, change).await;
    let feed = updated.map_err(|e| status::catalog(&e))?;
    Ok(v1::UpdateFeedResponse {
        feed: Some(describe(context, &feed)),
    })
}

pub(super) async fn trim(
    context: &Context,
    asked: v1::TrimFeedRequest,
    call: &Call,
) -> Result<v1::TrimFeedResponse, Status> {
    let name = request::feed_name("name", &asked.name)?;
    access::all_of(call, Action::Admin, &name)?;
    let trimmed = context.hub.trim_feed(&name, asked.before_offset).await;
    let feed = trimmed.map_err(|e| status::catalog(&e))?;
    Ok(v1::TrimFeedResponse {
        feed: Some(describe(context, &feed)),
    })
}

pub(super) async fn delete(
    context: &Context,
    asked: v1::DeleteFeedRequest,
    call: &Call,
) -> Result<v1::DeleteFeedResponse, Status> {
    let name = request::feed_name("name", &asked.name)?;
    access::all_of(call, Action::Admin, &name)?;
    context
        .hub
        .delete_feed(&name)
        .await
        .map_err(|e| status::catalog(&e))?;
    Ok(v1::DeleteFeedResponse {})
}

fn describe(context: &Context, feed: &Feed) -> v1::Feed {
    let (spec, bounds, rates) = (feed.spec(), feed.bounds(), feed.rates());
    let visibility = match spec.visibility {
        Visibility::Durable => v1::Visibility::Durable,
        Visibility::Immediate => v1::Visibility::Immediate,
    };
    v1::Feed {
        name: spec.name.to_string(),
        epoch: spec.epoch,
        retention: Some(v1::Retention {
            max_bytes: spec.retention.max_bytes,
            max_age: spec.retention.max_age.map(wire_duration),
        }),
        visibility: visibility.into(),
        create_time: Some(wire_timestamp(spec.created)),
        oldest: bounds.head,
        next: bounds.tail,
        bytes: bounds.bytes,
        keys: feed.key_count() as u64,
        producers: feed.producer_count() as u64,
        subscribers: context.hub.subscribers(Some(feed)).len() as u64,
        records_per_second: rates.records_per_second,
        bytes_per_second: rates.bytes_per_second,
        ring_duration: feed.ring_duration().map(wire_duration),
        last_append_time: feed.last_append().map(wire_timestamp),
    }
}
