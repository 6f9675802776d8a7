//! A head: an output of a model as a classification, and what it promises of every answer.

use std::fmt;

use crate::tensor::{DType, Tensor, read_floats};

/// The meaning of a head's output, by which a decision is taken from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// A row of the output is one probability, of class 1.
    Binary,
    /// A row of the output has one probability a class, and they sum to 1.
    Multiclass,
    /// A row of the output has one independent probability a class.
    Multilabel,
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Binary => "binary",
            Self::Multiclass => "multiclass",
            Self::Multilabel => "multilabel",
        })
    }
}

/// An output of a model as a classification.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// The name by which a request asks for the head; empty where a model's one head has no name.
    pub name: String,
    /// The place of the output among the graph's outputs.
    pub output: usize,
    /// The meaning of the output.
    pub task: Task,
    /// The names of the classes, by index; may be empty.
    pub labels: Vec<String>,
    /// The thresholds of a decision: one for a binary task, one a class for a multi-label task, and
    /// otherwise none.
    pub thresholds: Vec<f32>,
}

/// The difference that a probability may have from [0, 1], and the sum of a multi-class row from 1.
const ROUNDING: f64 = 1e-3;
/// The same where the output is BF16: its numbers have 8 significant bits, so that two of them are
/// off by up to 0.004.
const ROUNDING_OF_BF16: f64 = 1e-2;

/// The way in which an output breaks its head's promise.
#[derive(Clone, Debug, PartialEq)]
pub enum Broken {
    /// The output has another number of rows than the request.
    Rows {
        /// The request's rows.
        expected: usize,
        /// The output's shape.
        found: Vec<usize>,
    },
    /// A row has another number of probabilities than the head has classes.
    Classes {
        /// The number of classes; none: any number over 0.
        expected: Option<usize>,
        /// The output's shape.
        found: Vec<usize>,
    },
    /// A probability is not finite.
    NotFinite {
        /// The row, from 0.
        row: usize,
    },
    /// A probability is not in [0, 1].
    OutOfRange {
        /// The row, from 0.
        row: usize,
        /// The class, from 0.
        class: usize,
        /// The number in the probability's place.
        found: f32,
    },
    /// The probabilities of a multi-class row do not sum to 1.
    Sum {
        /// The row, from 0.
        row: usize,
        /// The sum.
        found: f64,
    },
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows { expected, found } => {
                let rows = if *expected == 1 { "row" } else { "rows" };
                write!(f, "expected {expected} {rows}, got the shape {found:?}")
            }
            Self::Classes { expected: Some(expected), found } => {
                write!(f, "expected rows of {expected} probabilities, got the shape {found:?}")
            }
            Self::Classes { expected: None, found } => {
                write!(f, "expected rows of probabilities, got the shape {found:?}")
            }
            Self::NotFinite { row } => write!(f, "row {row}: expected finite probabilities"),
            Self::OutOfRange { row, class, found } => {
                write!(f, "row {row}, class {class}: expected a probability in [0, 1], got {found}")
            }
            Self::Sum { row, found } => {
                write!(
                    f,
                    "row {row}: expected probabilities with the sum 1, got the sum {found:.4}"
                )
            }
        }
    }
}

impl Head {
    /// The number of probabilities in a row of an output with this shape, which answers `rows`
    /// rows.
    pub fn classes(&self, shape: &[usize], rows: usize) -> Result<usize, Broken> {
        check_rows(shape, rows)?;
        let found = shape[1..].iter().product();
        let expected = match (self.task, self.labels.len()) {
            (Task::Binary, _) => Some(1),
            (Task::Multilabel, _) => Some(self.thresholds.len()),
            (Task::Multiclass, 0) => None,
            (Task::Multiclass, labels) => Some(labels),
        };
        match expected.map_or(found > 0, |expected| expected == found) {
            true => Ok(found),
            false => Err(Broken::Classes { expected, found: shape.to_vec() }),
        }
    }

    /// Checks the probabilities of one row, as the output has them.
    pub fn check_row(&self, row: usize, dtype: DType, row_values: &[f32]) -> Result<(), Broken> {
        let rounding = if dtype == DType::Bf16 { ROUNDING_OF_BF16 } else { ROUNDING };
        let mut sum = 0.0;
        for (class, &found) in row_values.iter().enumerate() {
            let value = f64::from(found);
            if !(-rounding..=1.0 + rounding).contains(&value) {
                return Err(match found.is_finite() {
                    true => Broken::OutOfRange { row, class, found },
                    false => Broken::NotFinite { row },
                });
            }
            sum += value;
        }
        match self.task == Task::Multiclass && (sum - 1.0).abs() > rounding {
            true => Err(Broken::Sum { row, found: sum }),
            false => Ok(()),
        }
    }

    /// Checks all rows of an output that answers `rows` rows.
    pub fn check(&self, output: &Tensor, rows: usize) -> Result<(), Broken> {
        let size = self.classes(&output.shape, rows)? * output.dtype.size();
        let mut values = Vec::new();
        output.data.chunks_exact(size).enumerate().try_for_each(|(row, bytes)| {
            values.clear();
            read_floats(output.dtype, bytes, &mut values);
            self.check_row(row, output.dtype, &values)
        })
    }
}

/// Checks that an output with this shape has a row for each of `rows`.
pub fn check_rows(shape: &[usize], rows: usize) -> Result<(), Broken> {
    match shape.first() == Some(&rows) {
        true => Ok(()),
        false => Err(Broken::Rows { expected: rows, found: shape.to_vec() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::aligned;

    fn head(task: Task, labels: usize, thresholds: usize) -> Head {
        Head {
            name: String::new(),
            output: 0,
            task,
            labels: (0..labels).map(|label| label.to_string()).collect(),
            thresholds: vec![0.5; thresholds],
        }
    }

    fn checked(head: &Head, rows: usize, shape: &[usize], values: &[f32]) -> Result<(), Broken> {
        let data = aligned(bytemuck::cast_slice(values));
        head.check(&Tensor { dtype: DType::Fp32, shape: shape.to_vec(), data }, rows)
    }

    #[test]
    fn probabilities_keep_the_promise_up_to_rounding() {
        assert_eq!(checked(&head(Task::Binary, 2, 1), 2, &[2], &[0.0, 1.0]), Ok(()));
        let multiclass = head(Task::Multiclass, 2, 0);
        assert_eq!(checked(&multiclass, 1, &[1, 2], &[-1e-7, 1.000_001]), Ok(()));
        assert_eq!(checked(&head(Task::Multilabel, 0, 2), 1, &[1, 2], &[0.9, 0.9]), Ok(()));
    }

    #[test]
    fn numbers_that_are_no_probabilities_are_told_with_their_place() {
        let binary = head(Task::Binary, 2, 1);
        let error = checked(&binary, 2, &[2, 1], &[0.5, 21.0]).expect_err("a logit");
        assert_eq!(error.to_string(), "row 1, class 0: expected a probability in [0, 1], got 21");
        let nan = checked(&binary, 1, &[1, 1], &[f32::NAN]).expect_err("not a number");
        assert_eq!(nan, Broken::NotFinite { row: 0 });
        let sums = checked(&head(Task::Multiclass, 0, 0), 1, &[1, 3], &[1.0, 1.0, 1.0]);
        let sums = sums.expect_err("a softmax over another axis").to_string();
        assert_eq!(sums, "row 0: expected probabilities with the sum 1, got the sum 3.0000");
    }

    #[test]
    fn rows_and_classes_are_counted() {
        let binary = head(Task::Binary, 2, 1);
        let rows = checked(&binary, 2, &[10, 1], &[0.5; 10]).expect_err("ten rows");
        assert_eq!(rows.to_string(), "expected 2 rows, got the shape [10, 1]");
        let classes = checked(&head(Task::Multiclass, 3, 0), 1, &[1, 2], &[0.5; 2]);
        let classes = classes.expect_err("two classes").to_string();
        assert_eq!(classes, "expected rows of 3 probabilities, got the shape [1, 2]");
        checked(&head(Task::Multiclass, 0, 0), 1, &[1, 0], &[]).expect_err("no classes");
    }
}
