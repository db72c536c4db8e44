//! The embedded engine: fixed slots of a pinned sled, overwritten in place.
