//! What a session may change of what it follows.

use tonic::Status;

use super::following::Following;
use crate::{
    hub::Acknowledged,
    model::Cursor,
    proto::v1,
    rpc::{selector, status},
};

impl Following {
    /// Changes how much a selector gets, or its slow policy.
    pub(in crate::rpc) fn change(&mut self, change: &v1::ChangeSelector) -> Result<(), Status> {
        let id = change.selector_id;
        let chosen = self
            .chosen_mut(id)
            .ok_or_else(|| status::unknown_selector(id))?;
        let mut asked = chosen.asked();
        asked.fidelity = change.fidelity.or(asked.fidelity);
        asked.slow_policy = change.slow_policy.or(asked.slow_policy);
        let fidelity = selector::fidelity("change.fidelity", asked.fidelity.as_ref())?;
        let slow = selector::slow_policy("change.slow_policy", asked.slow_policy.as_ref())?;
        selector::agree("change.slow_policy", fidelity, slow)?;
        chosen.ask(&asked);
        if let Some(globs) = &mut chosen.globs {
            globs.wanted().fidelity = fidelity;
            globs.wanted().slow = slow;
        }
        let fidelity = change.fidelity.is_some().then_some(fidelity);
        let slow = change.slow_policy.is_some().then_some(slow);
        self.legs_of(id).for_each(|leg| leg.change(fidelity, slow));
        Ok(())
    }

    /// Notes what was processed. With a name, what is returned waits until it is durable.
    pub(in crate::rpc) fn acknowledge(
        &mut self,
        said: &v1::Acknowledge,
    ) -> Result<Option<Acknowledged>, Status> {
        let (id, field) = (said.selector_id, "acknowledge.cursor");
        let chosen = self
            .chosen_mut(id)
            .ok_or_else(|| status::unknown_selector(id))?;
        let missing = || status::invalid_argument(field, "is missing; say what was processed");
        let cursor = said.cursor.as_ref().ok_or_else(missing)?;
        let unnamed = cursor.feed.is_empty();
        if unnamed && chosen.globs.is_some() {
            let text = "is missing; the selector follows several feeds";
            return Err(status::invalid_argument(&format!("{field}.feed"), text));
        }
        let who = std::sync::Arc::clone(self.who());
        let mut legs = self.legs_of(id);
        let leg = legs.find(|leg| unnamed || leg.feed().name().as_str() == cursor.feed);
        let leg = leg.ok_or_else(|| {
            let text = format!("\"{}\" is no feed that the selector follows", cursor.feed);
            status::invalid_argument(&format!("{field}.feed"), &text)
        })?;
        let cursor = Cursor {
            epoch: cursor.epoch,
            offset: cursor.offset,
        };
        let hub = &who.context.hub;
        if who.is_named() {
            let acknowledged = hub.acknowledge(leg.feed(), who.key.clone(), cursor);
            return acknowledged.map(Some).map_err(|e| status::catalog(&e));
        }
        let cursor = hub.acknowledgeable(leg.feed(), cursor);
        leg.acknowledged(cursor.map_err(|e| status::catalog(&e))?.offset);
        Ok(None)
    }
}
