//! How many workers may run at once here, where that was changed while a coordinator ran.

use super::event::{document, parse};
use super::{Store, StoreError, Txn};
use crate::model::scaling::ScalingState;

/// The fact that holds it.
const SCALING: &str = "scaling";

impl Store {
    /// What was set and done; nothing where nothing was.
    pub(crate) fn scaling(&self) -> Result<ScalingState, StoreError> {
        self.read(|txn| txn.scaling())
    }
}

impl Txn<'_> {
    /// The same in a transaction.
    pub(crate) fn scaling(&self) -> Result<ScalingState, StoreError> {
        let text = self.meta(SCALING)?;
        Ok(text.map(|text| parse("state", SCALING, &text)).transpose()?.unwrap_or_default())
    }

    /// Replaces it.
    pub(crate) fn set_scaling(&self, state: &ScalingState) -> Result<(), StoreError> {
        self.set_meta(SCALING, &document("state", SCALING, state)?)
    }
}
