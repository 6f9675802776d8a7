//! The data plane of Sigmax: everything that happens per request. It knows no Python.
//!
//! A request's way:
//!
//! 1. [`server`] accepts its connection and hands it to a shard.
//! 2. [`shard`] is one thread and one event loop. It reads HTTP/2, and runs the calls of a connection
//!    in the connection's own task.
//! 3. [`grpc`] reads a call's head and message, weighs the message and decodes it.
//! 4. [`service`] finds the call's handler by its path, and holds the inputs against the model.
//! 5. [`scheduler`] takes the request into a queue, or refuses what cannot be answered in time. A
//!    light model's batch is what one turn of the loop brought; a heavy one's is what waited when a
//!    worker became free.
//! 6. [`engine`] runs the batch.
//! 7. [`service`] encodes the answer, and [`grpc`] sends it.
//!
//! A file imports only files of its own folder, and of those that stand below it in this table;
//! `make lint` checks it.
//!
//! | folder or file | what it holds |
//! | --- | --- |
//! | [`server`] | a running server: ports, the control thread, operators' HTTP, models loaded and published |
//! | [`service`] | from a call's path to its answer: `sigmax.v1`, the Open Inference Protocol, health |
//! | [`shard`] | a thread with an event loop, its connections and its table of models |
//! | [`state`] | what all threads of a server share |
//! | [`grpc`] | gRPC over HTTP/2: heads, messages, replies, and the budget of memory that they share |
//! | [`scheduler`] | from a valid request to its prediction: admission, queues, batches, workers |
//! | [`loading`] | from a network to engines that have given the right answers |
//! | [`engine`] | what runs a network, the threads it stays on, and the watchdog that ends what hangs |
//! | [`shared_memory`] | memory that clients share with the server |
//! | [`access`] | who clients are, and what they may do |
//! | [`tls`] | certificates, handshakes, and encrypted streams |
//! | [`model`] | a model as it is served, Triton's configuration, devices, and where every model stands |
//! | [`metrics`] | what is counted, and how Prometheus reads it |
//! | [`error`] | everything that can go wrong with a request, and its words on the wire |
//! | [`tensor`] | element types, shapes and bytes |
//! | [`lifecycle`] | how far the server's end has come |
//! | [`panics`] | the words of a panic |
//! | [`log`] | what is logged, and output that never waits |
//! | [`file`] | files, read with a limit |
//! | [`proto`] | the code that is generated from `proto/` |

pub mod access;
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
pub mod tls;
