//! Subscribe: several selectors on one stream, in fair turns, each accounting for every offset.
//! What it shares with Session is in `following`.

mod body;
mod chosen;
mod commands;
mod following;
mod info;
mod leg;
mod open;
mod outgoing;
mod route;
mod turns;

use std::sync::Arc;

use tokio_stream::Stream;
use tonic::Status;

pub use self::route::SubscribeRoute;
pub(super) use self::{
    body::respond,
    following::{Following, Happening, Kind},
    open::{Opened, Who},
    outgoing::Outgoing,
};
use super::{Context, status, token};
use crate::{layers::Call, proto::v1};

/// Selectors of one stream.
pub(super) const MAX_SELECTORS: usize = 64;

/// One Subscribe stream.
#[derive(Debug)]
pub(super) struct Subscription(Following);

/// Checks a request and finds every selector's place.
pub(super) async fn open(
    context: &Arc<Context>,
    request: v1::SubscribeRequest,
    call: Arc<Call>,
) -> Result<Subscription, Status> {
    let invalid = |message| Err(status::invalid_argument("selectors", message));
    match (request.resume_token.is_empty(), request.selectors.len()) {
        (true, 0) => invalid("is empty; say what to follow, or send a resume_token"),
        (true, 1..=MAX_SELECTORS) => anew(context, &request, call).await,
        (true, _) => invalid("has more than 64 entries; open another stream"),
        (false, 0) => {
            let following = resumed(context, request, call, Kind::Subscribe).await;
            Ok(Subscription(following?))
        }
        (false, _) => invalid("and resume_token exclude each other; send one of them"),
    }
}

async fn anew(
    context: &Arc<Context>,
    request: &v1::SubscribeRequest,
    call: Arc<Call>,
) -> Result<Subscription, Status> {
    let who = Who::read(context, call, request)?;
    let mut following = Following::new(who, Kind::Subscribe);
    for (id, selector) in (0..).zip(&request.selectors) {
        let path = format!("selectors[{id}]");
        let opened = Opened::anew(following.who(), &path, id, selector).await?;
        following.put(opened)?;
    }
    Ok(Subscription(following))
}

/// What a token stands for; what the request says of the subscriber goes over what it said then.
pub(super) async fn resumed(
    context: &Arc<Context>,
    mut request: v1::SubscribeRequest,
    call: Arc<Call>,
    kind: Kind,
) -> Result<Following, Status> {
    let token = token::read(context.hub.secret(), &request.resume_token)?;
    let before = token.request.unwrap_or_default();
    request.include_info |= before.include_info;
    request.heartbeat_interval = request.heartbeat_interval.or(before.heartbeat_interval);
    if request.subscriber.is_empty() {
        request.subscriber = before.subscriber;
    }
    let who = Who::read(context, call, &request)?;
    let mut following = Following::new(who, kind);
    for kept in &token.selectors {
        let opened = Opened::resumed(following.who(), kept).await?;
        following.put(opened)?;
    }
    Ok(following)
}

impl Subscription {
    /// The responses, until the end that was asked for, a failure, or the server's stop.
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<Outgoing, Status>> + Send {
        let Self(mut following) = self;
        async_stream::stream! {
            // One wait for all of the stream: a new one each time would queue up anew.
            let mut over = following.who().over();
            loop {
                let next = tokio::select! {
                    biased;
                    why = &mut over => {
                        // The token goes on after these.
                        while let Some(Happening::Response(response)) = following.pop_ready() {
                            yield Ok(response);
                        }
                        yield Ok(following.reconnect(why.text()));
                        match why.failure() {
                            Some(failure) => yield Err(failure),
                            None => following.who().call.stopped(),
                        }
                        return;
                    }
                    next = following.next() => next,
                };
                match next {
                    Ok(Happening::Response(response)) => yield Ok(response),
                    // Of a Session only.
                    Ok(Happening::Ended(..)) => {}
                    Ok(Happening::Over) => return,
                    Err(error) => {
                        yield Err(error);
                        return;
                    }
                }
            }
        }
    }
}
#[cfg(test)]
mod tests;
