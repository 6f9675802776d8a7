//! The data plane of Sigmax: everything that happens per request. It knows no Python.
//!
//! | folder | holds |
//! | --- | --- |
//! | [`server`] | |
//! | [`service`] | |
//! | [`shard`] | |
//! | [`state`] | |
//! | [`grpc`] | |
//! | [`scheduler`] | |
//! | [`loading`] | |
//! | [`engine`] | |
//! | [`shared_memory`] | |
//! | [`model`] | |
//! | [`metrics`] | |
//! | [`error`] | |
//! | [`tensor`] | |
//! | [`lifecycle`] | |
//! | [`panics`] | |
//! | [`log`] | |
//! | [`file`] | |
//! | [`proto`] | |

pub mod engine;
mod error;
pub mod file;
mod grpc;
mod lifecycle;
pub mod loading;
pub mod log;
mod metrics;
pub mod model;
mod panics;
pub mod proto;
mod scheduler;
pub mod server;
mod service;
mod shard;
mod shared_memory;
mod state;
pub mod tensor;
