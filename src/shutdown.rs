//! Named participants of an orderly stop.
