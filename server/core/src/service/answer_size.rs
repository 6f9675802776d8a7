//! How long an answer may be.

use crate::error::{Error, Result};
use crate::model::ModelSpec;

/// Whether an answer with tensors of so many bytes may be made.
pub fn fits(found: usize, spec: &ModelSpec) -> Result<()> {
    match spec.limits.answer {
        limit if found > limit => Err(Error::ReplyTooLarge { found, limit }),
        _ => Ok(()),
    }
}
