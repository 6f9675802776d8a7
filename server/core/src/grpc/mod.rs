//! gRPC: from HTTP/2's streams to messages, and back.

pub mod body;
pub mod budget;
pub mod head;
pub mod incoming;
pub mod message;
pub mod reply;
pub mod response;
pub mod unary;
pub mod wire;
