//! The limit on the size of an answer.

use crate::error::{Error, Result};
use crate::model::ModelSpec;

/// Refuses an answer whose tensors have `found` bytes, where the model's limit is lower.
pub fn fits(found: usize, spec: &ModelSpec) -> Result<()> {
    match spec.limits.answer {
        limit if found > limit => Err(Error::ReplyTooLarge { found, limit }),
        _ => Ok(()),
    }
}
