//! The other end of the wire: connect, upload, follow. For the command line, the demo, benches and
//! users of the library.
//!
//! ```text
//! ConnectOptions -> Connection -> Uploader       batches, resends what a cut left undecided
//!                              -> Publisher      an ack per batch, goes on after a cut
//!                              -> Subscription   resumes from its own cursors, checks P1 and P2
//! ```

mod connect;
#[cfg(test)]
mod fake;
mod ingest;
mod ledger;
mod publish;
mod retry;
mod subscribe;

pub use connect::{
    CatalogClient, ConnectError, ConnectOptions, Connection, FeedClient, TlsOptions, Token,
};
pub use ingest::{UploadError, UploadEvent, UploadOptions, UploadSummary, Uploader};
pub use ledger::{Broken, Fault, GapEntry, Lane, Ledger, Report, record_offset};
pub use publish::{PublishError, PublishOptions, Published, Publisher, Receipt};
pub use retry::{Backoff, FirstConnect, Retry, RetryOptions, is_fenced, retry, unreachable};
pub use subscribe::{Event, SelectorCursor, SubscribeError, Subscription};
