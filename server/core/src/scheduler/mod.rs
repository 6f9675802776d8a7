//! From a checked request to its answer: what waits, for how long, and who runs it.

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
