//! Loading takes a network to engines that have given the right answers.

pub mod description;
pub mod error;
pub mod factory;
pub mod golden;
pub mod load;
pub mod placement;
pub mod warmup;
