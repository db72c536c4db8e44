//! Publish, as a device sees it: where it goes on, what each batch became, what may be in flight,
//! who has its name, and what is said when it is gone.

mod credit;
mod device;
mod fencing;
mod resume;
mod wills;

pub(crate) use device::{Device, ack_of, batch, hello};
