//! The scheduler takes a checked request to its answer: which requests wait, for how long, and
//! which thread runs them.

pub mod admission;
pub mod batch;
pub mod estimate;
pub mod give_way;
pub mod inline;
pub mod limits;
pub mod queue;
pub mod request;
pub mod served_model;
pub mod workers;
