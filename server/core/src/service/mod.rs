//! The services: they turn messages into checked requests, and answers into messages.

pub mod answer_size;
pub mod classifier;
pub mod dispatch;
pub mod health;
pub mod inference;
pub mod promise;
pub mod routes;
pub mod stream;
pub mod trace;
pub mod validate;
