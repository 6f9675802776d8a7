//! The data plane of Sigmax: everything that happens per request. It knows no Python.
//!
//! A request's way, one direction:
//!
//! 1. [`listen`] accepts its connection, which finds a place among the [`connections`], and hands it
//!    to a shard;
//! 2. [`shard`]: one thread, one event loop. Its [`connection`] reads the [`socket`], where any
//!    [`authority`] is made one that HTTP/2 takes, and [`calls`] runs its calls in its own task;
//! 3. [`unary`] frames the two hot calls, tonic all others, from an [`incoming`] or a whole [`body`];
//! 4. [`message`] unpacks, weighs by its [`wire`] format, and decodes;
//! 5. [`service`] takes its inputs, and [`check`] holds them against the [`model`];
//! 6. [`served`] puts it into its [`queue`]: the batch is what this turn of the loop brought, or
//!    what waited when a [`lane`] became free;
//! 7. [`batch`] gathers, runs the [`engine`], splits;
//! 8. [`service`] encodes, and [`respond`] sends.
//!
//! Beside it: [`catalog`] knows where every model stands, [`placement`] chooses what one runs on,
//! [`maker`] makes its engines, each on its [`engine_thread`], which the [`ender`] ends, [`warmup`]
//! and [`golden`] look at one before it serves, [`pace`] knows how long its runs take, [`memory`]
//! what clients' messages hold, [`trim`] gives it back to the system, [`busy_poll`] keeps a shard awake, [`heartbeat`] looks whether all
//! turn, [`watchdog`] ends what takes too long, [`metrics`] counts, [`config`] reads Triton's files,
//! [`file`] all others, [`regions`] are memory that clients share, [`listeners`] are what they
//! connect to, [`http`] answers operators, [`descriptors`] says how many of them fit, [`error`]
//! names what can go wrong, [`orders`] are what clients have the control plane do, [`log`] is what
//! is logged and how it is written, and [`server`] is what the control plane
//! plane holds.

pub mod engine;
mod error;
pub mod file;
mod grpc;
pub mod loading;
pub mod log;
mod metrics;
pub mod model;
pub mod proto;
mod scheduler;
pub mod server;
mod service;
mod shard;
mod shared_memory;
pub mod tensor;
