//! Open subscriptions, and the named cursors of those who are away.

use tonic::Status;

use super::{Context, access, page, request, status};
use crate::{
    hub::SubscriberView,
    layers::Call,
    model::Action,
    proto::{
        convert::{wire_duration, wire_timestamp},
        v1,
    },
};

pub(super) fn list(
    context: &Context,
    asked: &v1::ListSubscribersRequest,
    call: &Call,
) -> Result<v1::ListSubscribersResponse, Status> {
    let feed = if asked.feed.is_empty() {
        None
    } else {
        let name = request::feed_name("feed", &asked.feed)?;
        access::part_of(call, Action::Observe, &name)?;
        Some(context.hub.feed(&name).map_err(|e| status::catalog(&e))?)
    };
    // Subscriptions have no unique name, so a page goes by number; it is a moving list anyway.
    let skip = match page::after(&asked.page_token)? {
        Some(number) => number.parse().map_err(|_e| {
            status::invalid_argument("page_token", "was not issued by this server")
        })?,
        None => 0_usize,
    };
    let size = page::size(asked.page_size);
    let views = context.hub.all_subscribers(feed.as_deref());
    let observed = views.iter();
    let observed = observed.filter(|view| access::may(call, Action::Observe, &view.feed));
    let page = observed.skip(skip).take(size + 1);
    let mut subscribers: Vec<_> = page.map(describe).collect();
    let next_page_token = page::cut(&mut subscribers, size, |_| String::new());
    let next_page_token = if next_page_token.is_empty() {
        next_page_token
    } else {
        page::token(&(skip + subscribers.len()).to_string())
    };
    Ok(v1::ListSubscribersResponse {
        subscribers,
        next_page_token,
    })
}

fn describe(view: &SubscriberView) -> v1::Subscriber {
    v1::Subscriber {
        name: view.name.to_string(),
        principal: view.principal.to_string(),
        feed: view.feed.to_string(),
        cursor: view.cursor,
        lag_records: view.lag_records,
        lag: Some(wire_duration(view.lag)),
        eviction_eta: view.eviction_eta.map(wire_duration),
        fidelity: view.fidelity.into(),
        start_time: view.started.map(wire_timestamp),
        acknowledged: view.acknowledged,
        connected: view.started.is_some(),
    }
}
