//! The client of Sigmax, which serves classifiers over gRPC.
//!
//! ```no_run
//! # async fn ask() -> sigmax::Result<()> {
//! use sigmax::{Client, Options};
//!
//! let client = Client::connect("localhost:8001", Options::default())?;
//! let answer = client.classify("animal", [22f32, 100.0, 38.0, 3.0, 70.0, 15.0]).await?;
//! println!("{:?} {:?}", answer.rows[0].label(), answer.rows[0].probability());
//! # Ok(())
//! # }
//! ```
//!
//! [`Client`] runs in tokio; [`blocking::Client`] needs no runtime. [`Options`] say TLS, the token,
//! the time limit and the retries. An [`Error`] has the gRPC [`Code`], a reason for programs and the
//! fields at fault. The messages of the protocol are in [`v1`] and [`health`].
//!
//! # Why a transport of our own
//!
//! gRPC in Rust is mostly tonic, which stacks tower's buffer, hyper's dispatcher and boxed bodies on
//! the crate `h2`. A call of one row spends most of its time in these: measured on one core beside
//! the server on another, tonic's client takes about three times the CPU time of `h2` alone, and with
//! many calls in flight reaches half of its calls a second or less. A load tester and the bindings of
//! other languages stand on this crate, so [`transport`] speaks gRPC over `h2` itself: framing,
//! deadlines, statuses, limits, retries and the choice of a connection.

mod address;
pub mod blocking;
mod client;
mod error;
mod security;
mod tensor;
pub mod transport;

#[path = "gen/grpc.health.v1.rs"]
#[allow(clippy::all, missing_debug_implementations, missing_docs)]
pub mod health;

#[path = "gen/sigmax.v1.rs"]
#[allow(clippy::all, missing_debug_implementations, missing_docs)]
pub mod v1;

pub use client::{Answer, Classify, Client, StreamAnswers, StreamRequests};
pub use error::{Code, Error, Result};
pub use health::health_check_response::ServingStatus;
pub use security::{Tls, Token};
pub use tensor::{Element, Inputs, Number};
pub use transport::Options;
pub use v1::{
    Classification, DataType, Head, Model, ModelState, ModelSummary, ModelVersion, ScoredClass,
    Task, Tensor, TensorDescription, Timings,
};

/// The examples of the README, which must compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
