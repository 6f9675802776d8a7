//! `sigmax.v1.ClassifierService`.

pub mod classify;
pub mod decision;
pub mod reply;
pub mod service;
pub mod values;
pub mod wire;
