//! Keys: list, describe, forget.

use tonic::Status;

use super::{Context, access, page, request, status};
use crate::{
    hub::{InfoScope, KeyView},
    layers::Call,
    model::Action,
    proto::v1::{self, set_key_info_request::Scope},
};

pub(super) fn list(
    context: &Context,
    asked: &v1::ListKeysRequest,
    call: &Call,
) -> Result<v1::ListKeysResponse, Status> {
    let name = request::feed_name("feed", &asked.feed)?;
    let visible = access::visible_keys(call, &name)?;
    let feed = context.hub.feed(&name).map_err(|e| status::catalog(&e))?;
    let size = page::size(asked.page_size);
    let views = feed.keys(&visible, page::after(&asked.page_token)?, size + 1);
    let mut keys: Vec<_> = views.into_iter().map(describe).collect();
    let next_page_token = page::cut(&mut keys, size, |key| key.key.clone());
    Ok(v1::ListKeysResponse {
        keys,
        next_page_token,
    })
}

fn describe(view: KeyView) -> v1::Key {
    v1::Key {
        key: view.key,
        kinds: view
            .kinds
            .into_iter()
            .map(|kind| kind.name().to_owned())
            .collect(),
        last_offset: view.last_offset,
        last_event_time_unix_nanos: view.last_event_time,
        last_ingest_time_unix_nanos: view.last_ingest_time,
        info: Some(view.info),
    }
}

pub(super) async fn set_info(
    context: &Context,
    asked: v1::SetKeyInfoRequest,
    call: &Call,
) -> Result<v1::SetKeyInfoResponse, Status> {
    let name = request::feed_name("feed", &asked.feed)?;
    let limit = context.hub.options().max_key_bytes;
    let scope = match asked.scope {
        Some(Scope::All(v1::AllKeys {})) => InfoScope::All,
        Some(Scope::Glob(glob)) if (1..=limit).contains(&glob.len()) => InfoScope::Glob(glob),
        Some(Scope::Key(key)) if (1..=limit).contains(&key.len()) => InfoScope::Key(key),
        Some(Scope::Glob(_) | Scope::Key(_)) => {
            return Err(status::invalid_argument(
                "scope",
                &format!("is 1 to {limit} bytes"),
            ));
        }
        None => {
            return Err(status::invalid_argument(
                "scope",
                "is missing; set key, glob or all",
            ));
        }
    };
    match &scope {
        InfoScope::Key(key) => {
            let allowed = access::keys(call, Action::Admin, &name)?;
            access::each_key(&allowed, Action::Admin, &name, [key.as_str()])?;
        }
        InfoScope::Glob(_) | InfoScope::All => access::all_of(call, Action::Admin, &name)?,
    }
    let set = context.hub.set_key_info(&name, scope, asked.info).await;
    set.map_err(|e| status::catalog(&e))?;
    Ok(v1::SetKeyInfoResponse {})
}

pub(super) async fn delete(
    context: &Context,
    asked: v1::DeleteKeysRequest,
    call: &Call,
) -> Result<v1::DeleteKeysResponse, Status> {
    let name = request::feed_name("feed", &asked.feed)?;
    let allowed = access::keys(call, Action::Admin, &name)?;
    let keys = asked.keys.iter().map(String::as_str);
    access::each_key(&allowed, Action::Admin, &name, keys)?;
    let deleted = context.hub.delete_keys(&name, asked.keys).await;
    Ok(v1::DeleteKeysResponse {
        deleted: deleted.map_err(|e| status::catalog(&e))?,
    })
}
