//! Principals: clients as their credentials show them.

use std::time::SystemTime;

use crate::access::identity::Identity;
use crate::access::rules::{Grants, Right};
use crate::error::{Error, Result, Unauthenticated};

/// A client as its credentials show it.
#[derive(Debug)]
pub enum Principal {
    /// Anybody: the server asks nobody who they are, and its settings alone say what may be done.
    Anybody,
    /// A client that has shown who it is, and its rights.
    Known {
        /// The client's identity.
        identity: Identity,
        /// The client's rights.
        grants: Grants,
        /// The time at which the credentials end; none: they do not.
        until: Option<SystemTime>,
        /// The generation of the policy by which the client is known.
        generation: u64,
    },
    /// A client that has shown no credentials, or wrong ones.
    Unknown(Unauthenticated),
}

impl Principal {
    /// Whether the credentials have ended.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Known { until: Some(until), .. } => *until <= SystemTime::now(),
            _ => false,
        }
    }

    /// Whether the credentials have ended, or are by another generation of the policy than this.
    pub fn is_stale(&self, now: u64) -> bool {
        matches!(self, Self::Known { generation, .. } if *generation != now) || self.is_over()
    }

    /// The client's name; none where the client has not shown who it is.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Known { identity, .. } => Some(&identity.name),
            _ => None,
        }
    }

    /// Checks that the client has shown who it is, where that is asked for.
    pub fn is_known(&self) -> Result<()> {
        match self {
            Self::Unknown(reason) => Err(Error::Unauthenticated(*reason)),
            _ => Ok(()),
        }
    }

    /// Checks a right with a model, or with the server as a whole where no model is named.
    pub fn may(&self, right: Right, model: Option<&str>) -> Result<()> {
        match self {
            Self::Anybody => Ok(()),
            Self::Unknown(reason) => Err(Error::Unauthenticated(*reason)),
            Self::Known { identity, grants, .. } => {
                let is_granted = match model {
                    Some(model) => grants.has(right, model),
                    None => grants.has_for_all(right),
                };
                is_granted.then_some(()).ok_or_else(|| Error::PermissionDenied {
                    who: identity.name.clone(),
                    right: right.name(),
                    model: model.map(str::to_owned),
                })
            }
        }
    }
}
