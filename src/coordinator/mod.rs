//! wip
pub(crate) mod failure;
pub(crate) mod views;
pub(crate) use failure::{Failure, FailureKind};
