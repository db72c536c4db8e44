//! GetLatest: the last record of each key and payload kind, paged.

use tonic::Status;

use super::{Context, MAX_PAGE_BYTES, access, page, request, status};
use crate::{hub::LatestBy, layers::Call, model::Action, proto::v1};

pub(super) fn get(
    context: &Context,
    asked: &v1::GetLatestRequest,
    call: &Call,
) -> Result<v1::GetLatestResponse, Status> {
    let name = request::feed_name("feed", &asked.feed)?;
    let allowed = access::keys(call, Action::Subscribe, &name)?;
    let named = asked.keys.iter().map(String::as_str);
    access::each_key(&allowed, Action::Subscribe, &name, named)?;
    let feed = context.hub.feed(&name).map_err(|e| status::catalog(&e))?;
    let by = match v1::LatestBy::try_from(asked.by) {
        Ok(v1::LatestBy::Unspecified | v1::LatestBy::EventTime) => LatestBy::EventTime,
        Ok(v1::LatestBy::Arrival) => LatestBy::Arrival,
        Err(_) => {
            return Err(status::invalid_argument(
                "by",
                "is not a value of this enum",
            ));
        }
    };
    let after = page::after(&asked.page_token)?;
    let size = page::size(asked.page_size);
    let page = feed.latest(&asked.keys, &allowed, by, after, size, MAX_PAGE_BYTES);
    let as_of = v1::Cursor {
        feed: feed.name().to_string(),
        epoch: feed.epoch(),
        offset: page.as_of,
    };
    Ok(v1::GetLatestResponse {
        as_of: Some(as_of),
        next_page_token: page.next.map(|last| page::token(&last)).unwrap_or_default(),
        records: page
            .records
            .into_iter()
            .map(|record| record.bytes)
            .collect(),
    })
}
