//! The reasons why a model cannot be served.

use std::fmt;
use std::path::PathBuf;

use crate::engine::EngineError;
use crate::engine::thread::Unfinished;
use crate::model::device::Device;
use crate::model::head::{Broken, Task};

/// The reason why a model cannot be served. The text is for the people who run the server.
#[derive(Debug)]
pub enum LoadError {
    /// The description is not of all the graph's inputs, or outputs.
    NotDescribed {
        /// The names of the graph's inputs, or outputs.
        expected: Vec<String>,
    },
    /// A thread that makes the model's engines cannot be started, takes too long, or has ended.
    Unfinished(Unfinished),
    /// An engine cannot be made, or one of its runs failed.
    Engine(EngineError),
    /// The code that makes an engine panicked, with these words.
    Panic(String),
    /// The warm-up's rows took longer than a run may.
    RowsTakeTooLong,
    /// The types of the outputs are not those that the graph declares.
    OtherOutputs {
        /// The types that the graph declares.
        declared: Vec<&'static str>,
        /// The types that a run gave.
        found: Vec<&'static str>,
    },
    /// A row is answered otherwise in a batch than alone.
    RowDiffers {
        /// The row's place in the batch, from 0.
        row: usize,
        /// The rows of the batch.
        rows: usize,
        /// The most by which the answers may differ.
        tolerance: f64,
    },
    /// A head's output is not what the head promises.
    Promise {
        /// The head's name; may be empty.
        head: String,
        /// The head's task.
        task: Task,
        /// The output's name.
        output: String,
        /// The rows that were asked: a golden sample's, or generated ones.
        asked: String,
        /// The way in which the promise is broken.
        broken: Broken,
        /// Whether nothing shows how real rows are answered, because there is no golden sample.
        is_unproven: bool,
    },
    /// No shape tells how many axes an input has, and none of those tried runs.
    AnyRank {
        /// The input's name.
        input: String,
        /// The error of the last rows that the network was given.
        refusal: String,
    },
    /// A file of a golden sample cannot be read.
    SampleFile {
        /// The file's path.
        path: PathBuf,
        /// The reason why the file cannot be read.
        reason: String,
    },
    /// A golden sample is not answered as it must be.
    Sample {
        /// The sample's number, from 0.
        number: usize,
        /// The rows of the batch in which the sample's rows were repeated; none: the sample as it
        /// is.
        rows: Option<usize>,
        /// The difference between the expected answer and the one that came.
        reason: String,
    },
    /// A GPU runs none of the rows that the CPU runs.
    Unfit {
        /// The GPU.
        device: Device,
        /// The error of the last rows that the GPU was given.
        refusal: String,
    },
    /// There is no place where the model may run.
    NoPlacement,
    /// The model can be loaded on none of the sets of devices where it may run; each with its
    /// reason.
    Nowhere(Vec<(String, LoadError)>),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDescribed { expected } => {
                write!(f, "expected a description of {expected:?}")
            }
            Self::Unfinished(error) => error.fmt(f),
            Self::Engine(error) => error.fmt(f),
            Self::Panic(text) => f.write_str(text),
            Self::RowsTakeTooLong => f.write_str(
                "expected a run of the rows tried to take at most --max-run-seconds; it took \
                 longer, and was ended",
            ),
            Self::OtherOutputs { declared, found } => {
                write!(f, "the graph declares outputs of {declared:?}, a run gave {found:?}")
            }
            Self::RowDiffers { row, rows, tolerance } => write!(
                f,
                "row {row} of a batch of {rows} is not answered as it is alone, within \
                 {tolerance:.1e}"
            ),
            Self::Promise { head, task, output, asked, broken, is_unproven } => {
                match head.as_str() {
                    "" => write!(f, "sigmax.task is {task}")?,
                    head => write!(f, "the task of the head '{head}' is {task}")?,
                }
                write!(f, ": output '{output}' of {asked}, {broken}")?;
                f.write_str(match (broken, task) {
                    (Broken::OutOfRange { .. }, _) if !head.is_empty() => {
                        "; where the output holds raw scores, the softmax or sigmoid that makes \
                         them probabilities must be a part of the graph"
                    }
                    (Broken::OutOfRange { .. }, Task::Multiclass) => {
                        "; where the output holds raw scores, `sigmax describe --activation \
                         softmax` adds what is missing"
                    }
                    (Broken::OutOfRange { .. }, _) => {
                        "; where the output holds raw scores, `sigmax describe --activation \
                         sigmoid` adds what is missing"
                    }
                    (Broken::Sum { .. }, _) => {
                        "; a softmax over another axis gives such sums, and so do independent \
                         probabilities, whose task is multilabel"
                    }
                    _ => "",
                })?;
                f.write_str(match is_unproven {
                    true => "; where real rows are answered rightly, add a golden sample of some",
                    false => "",
                })
            }
            Self::AnyRank { input, refusal } => write!(
                f,
                "input '{input}' has no shape in the graph, and no shape that was tried runs \
                 ({refusal}): state its dims in config.pbtxt, or add a golden sample"
            ),
            Self::SampleFile { path, reason } => write!(f, "{}: {reason}", path.display()),
            Self::Sample { number, rows: None, reason } => {
                write!(f, "golden sample {number}: {reason}")
            }
            Self::Sample { number, rows: Some(rows), reason } => {
                write!(f, "golden sample {number} in a batch of {rows} rows: {reason}")
            }
            Self::Unfit { device, refusal } => write!(f, "it cannot be run on {device}: {refusal}"),
            Self::NoPlacement => f.write_str("placements: expected at least one device, got none"),
            Self::Nowhere(failures) => {
                for (number, (place, error)) in failures.iter().enumerate() {
                    write!(f, "{}{place}: {error}", if number > 0 { "; " } else { "" })?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for LoadError {}

impl From<EngineError> for LoadError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<Unfinished> for LoadError {
    fn from(error: Unfinished) -> Self {
        Self::Unfinished(error)
    }
}
