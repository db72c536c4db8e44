//! Named cursors, for those who have no Session: acknowledged and forgotten.

use std::sync::Arc;

use tonic::Status;

use super::{Context, access, request, status};
use crate::{
    hub::{CursorKey, Feed},
    layers::Call,
    model::{Action, Cursor},
    proto::v1,
};

pub(super) async fn acknowledge(
    context: &Context,
    asked: v1::AcknowledgeCursorRequest,
    call: &Call,
) -> Result<v1::AcknowledgeCursorResponse, Status> {
    let missing = || status::invalid_argument("cursor", "is missing; say what was processed");
    let cursor = asked.cursor.ok_or_else(missing)?;
    let feed = feed(context, call, "cursor.feed", &cursor.feed)?;
    let key = key(&asked.subscriber, call)?;
    let cursor = Cursor {
        epoch: cursor.epoch,
        offset: cursor.offset,
    };
    let durable = context.hub.acknowledge(&feed, key, cursor);
    let durable = durable.map_err(|e| status::catalog(&e))?.await;
    durable.map_err(|e| status::catalog(&e))?;
    Ok(v1::AcknowledgeCursorResponse {})
}

pub(super) async fn delete(
    context: &Context,
    asked: v1::DeleteCursorRequest,
    call: &Call,
) -> Result<v1::DeleteCursorResponse, Status> {
    let feed = feed(context, call, "feed", &asked.feed)?;
    let key = key(&asked.subscriber, call)?;
    let deleted = context.hub.delete_cursor(&feed, key).await;
    deleted.map_err(|e| status::catalog(&e))?;
    Ok(v1::DeleteCursorResponse {})
}

fn feed(context: &Context, call: &Call, field: &str, name: &str) -> Result<Arc<Feed>, Status> {
    let name = request::feed_name(field, name)?;
    access::part_of(call, Action::Subscribe, &name)?;
    context.hub.feed(&name).map_err(|e| status::catalog(&e))
}

fn key(subscriber: &str, call: &Call) -> Result<CursorKey, Status> {
    let subscriber = request::subscriber_name(subscriber)?;
    if subscriber.is_empty() {
        let text = "is missing; name the subscriber";
        return Err(status::invalid_argument("subscriber", text));
    }
    Ok(CursorKey {
        principal: call.principal(),
        subscriber,
    })
}
