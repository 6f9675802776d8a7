//! Whether a row's answer depends on that row alone, as far as a few batches show.

use crate::engine::{Engine, EngineError};
use crate::loading::warmup::rows::Pool;
use crate::tensor::Tensor;
use crate::tensor::compare::{allowed, difference};

/// The rows of a model, as trial batches have shown them.
#[derive(Debug, PartialEq)]
pub enum Rows {
    /// Each row was answered as it was alone.
    Independent,
    /// Nothing was shown: there is no batch axis, or the rows that ran were all equal.
    NotShown,
    /// A row was answered otherwise than alone, as the text says.
    Dependent(String),
}

/// The result of a look at trial batches.
#[derive(Debug)]
pub struct Seen {
    /// What the batches have shown.
    pub rows: Rows,
    /// The rows of the first batch, and its outputs; none where there is no batch axis.
    pub batch: Option<(usize, Vec<Tensor>)>,
}

impl Rows {
    /// Whether rows count as independent, by the author's word where there is one. A contradiction,
    /// and what follows from it, is added to the warnings.
    pub fn independent(&self, word: Option<bool>, warnings: &mut Vec<String>) -> bool {
        if let Self::Dependent(seen) = self {
            warnings.push(match word {
                Some(true) => format!(
                    "{seen}; requests share batches all the same, for sigmax.rows_independent says so"
                ),
                _ => format!("{seen}; each request runs in a batch of its own"),
            });
        }
        word.unwrap_or(*self == Self::Independent)
    }

    /// Whether no batch has contradicted that rows are independent.
    pub fn may_be_independent(&self) -> bool {
        !matches!(self, Self::Dependent(_))
    }
}

/// Runs the rows together, backwards, and the first once more alone, and compares the answers with
/// `alone`, those of each row alone.
///
/// Rows that are all equal show nothing.
pub fn look(
    engine: &mut dyn Engine,
    pool: &Pool,
    alone: &[Vec<Tensor>],
    tolerance: f64,
) -> Result<Seen, EngineError> {
    if !pool.has_batch {
        return Ok(Seen { rows: Rows::NotShown, batch: None });
    }
    let count = alone.len();
    let forwards: Vec<_> = (0..count).collect();
    let together = pool.run(engine, &forwards)?;
    let seen = |rows, together| Seen { rows, batch: Some((count, together)) };
    let again = pool.run(engine, &[0])?;
    let changed = alone[0].iter().zip(&again).map(|(one, other)| match one.shape == other.shape {
        true => scaled(one, other.elements()),
        false => f64::INFINITY,
    });
    let changed = changed.fold(0.0, f64::max);
    if changed > tolerance {
        let by = match changed.is_finite() {
            true => format!("by up to {changed:.1e}"),
            false => "with another shape or numbers that are not finite".to_owned(),
        };
        let text = format!(
            "the same row is answered otherwise the second time, {by}, as by dropout or random \
             numbers"
        );
        return Ok(seen(Rows::Dependent(text), together));
    }
    if !pool.has_distinct_rows() {
        return Ok(seen(Rows::NotShown, together));
    }
    // The second batch has its rows backwards and one row less, which gives each row other
    // neighbours, another place and another size of the batch.
    let backwards: Vec<_> = (0..count).rev().skip(usize::from(count > 2)).collect();
    let other = pool.run(engine, &backwards)?;
    let mut worst = (0.0, 0);
    for (batch, outputs) in [(&forwards, &together), (&backwards, &other)] {
        for (place, &row) in batch.iter().enumerate() {
            for (one, many) in alone[row].iter().zip(outputs) {
                let difference = row_difference(one, many, place, batch.len());
                if difference > worst.0 {
                    worst = (difference, batch.len());
                }
            }
        }
    }
    let rows = match worst {
        (difference, _) if difference <= tolerance => Rows::Independent,
        (f64::INFINITY, rows) => Rows::Dependent(format!(
            "rows depend on each other: a batch of {rows} is not answered with a row of the same \
             shape for each"
        )),
        (difference, rows) => Rows::Dependent(format!(
            "rows depend on each other: in a batch of {rows} a row's answer differs by up to \
             {difference:.1e} from the row's answer alone"
        )),
    };
    Ok(seen(rows, together))
}

/// The greatest difference of the only row of `one` from the row at `place` of `many`, which must
/// have `rows` rows; infinite where the shapes differ.
pub fn row_difference(one: &Tensor, many: &Tensor, place: usize, rows: usize) -> f64 {
    let follows = one.shape.first() == Some(&1)
        && many.shape.first() == Some(&rows)
        && one.shape[1..] == many.shape[1..];
    if !follows {
        return f64::INFINITY;
    }
    let row_elements: usize = one.shape.iter().product();
    scaled(one, many.elements().skip(place * row_elements))
}

/// The greatest difference of all elements of `one` from these others, in the units that
/// [`allowed`] has at a tolerance of 1.
pub fn scaled<'a>(one: &Tensor, others: impl Iterator<Item = &'a [u8]>) -> f64 {
    let pairs = one.elements().zip(others);
    let each = pairs.map(|(a, b)| difference(one.dtype, a, b) / allowed(one.dtype, a, 1.0));
    each.fold(0.0, f64::max)
}
