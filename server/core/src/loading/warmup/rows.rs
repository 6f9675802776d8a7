//! The rows that a model is warmed up with: rows of its golden samples, and generated ones.

use half::{bf16, f16};

use crate::engine::{Engine, EngineError};
use crate::loading::golden::Sample;
use crate::model::{ModelSpec, TensorSpec};
use crate::tensor::{self, DType, Rows, Tensor, aligned, strings};

/// Sizes tried for axes that the graph leaves open; a usual length comes first.
const GUESSES: [usize; 7] = [16, 8, 1, 32, 64, 128, 256];
/// Numbers of axes tried for an input for which the graph has no shape; the usual ones come first.
const RANKS: [usize; 5] = [2, 1, 4, 3, 0];
/// The number of distinct rows that batches are made of; also the rows of the batch that shows
/// whether rows depend on each other.
const POOL_ROWS: usize = 8;
/// The bytes of the largest batch that is tried.
pub const MOST_BYTES: usize = 64 << 20;

/// A few rows for every input, of which batches are made. Without a batch axis, a row is the whole
/// input of a run.
#[derive(Debug)]
pub struct Pool {
    /// The rows of each of the model's inputs.
    pub inputs: Vec<PoolInput>,
    /// The number of rows that each input has.
    pub rows: usize,
    /// Whether the model has a batch axis.
    pub has_batch: bool,
}

/// The rows of one input.
#[derive(Debug)]
pub struct PoolInput {
    dtype: DType,
    /// The sizes of one row's axes.
    shape: Vec<usize>,
    rows: Vec<Vec<u8>>,
}

/// The values of generated rows.
#[derive(Clone, Copy, Debug)]
enum Fill {
    /// Floats in [-1, 1), integers of 0 and 1.
    Random,
    /// Integers of 1 and 2, floats in [0.5, 1): divisors.
    Positive,
    /// Ones alone.
    Ones,
    /// Zeros alone.
    Zeros,
}

impl Pool {
    /// The pools to try, the most telling first.
    pub fn candidates<'a>(
        spec: &'a ModelSpec,
        golden: &'a [Sample],
    ) -> Box<dyn Iterator<Item = Self> + 'a> {
        if let Some(pool) = Self::golden(spec, golden) {
            let shapes = pool.inputs.iter().map(|input| input.shape.clone()).collect();
            let more = Self::generated(spec, shapes, Fill::Random).map(|mut more| {
                more.append(&pool);
                more
            });
            return Box::new(more.into_iter().chain([pool]));
        }
        let any_rank = spec.inputs.iter().any(|input| input.any_rank);
        let open = spec.inputs.iter().any(|input| own_dims(spec, input).contains(&-1));
        let guesses = if open || any_rank { &GUESSES[..] } else { &GUESSES[..1] };
        let ranks = if any_rank { &RANKS[..] } else { &RANKS[..1] };
        let fills = [Fill::Random, Fill::Positive, Fill::Ones, Fill::Zeros];
        let guessed = move |(fill, &rank, &guess): (Fill, &usize, &usize)| {
            let close = |dim: &i64| usize::try_from(*dim).unwrap_or(guess);
            let shape = |input: &TensorSpec| match input.any_rank {
                true => (0..rank).map(|axis| if axis == 0 { 1 } else { guess }).collect(),
                false => own_dims(spec, input).iter().map(close).collect(),
            };
            Self::generated(spec, spec.inputs.iter().map(shape).collect(), fill)
        };
        Box::new(fills.into_iter().flat_map(move |fill| {
            let shapes = ranks.iter().flat_map(|rank| guesses.iter().map(move |it| (rank, it)));
            shapes.filter_map(move |(rank, guess)| guessed((fill, rank, guess)))
        }))
    }

    /// The rows of all golden samples whose shapes are those of the first; none where no sample has
    /// rows.
    fn golden(spec: &ModelSpec, golden: &[Sample]) -> Option<Self> {
        let mut samples = golden.iter().filter_map(|sample| Self::of_sample(spec, sample));
        let mut pool = samples.next()?;
        for sample in samples {
            if sample.inputs.iter().zip(&pool.inputs).all(|(a, b)| a.shape == b.shape) {
                pool.append(&sample);
            }
        }
        pool.truncate(POOL_ROWS);
        Some(pool)
    }

    fn of_sample(spec: &ModelSpec, sample: &Sample) -> Option<Self> {
        let has_batch = spec.max_batch_size > 0;
        let rows = if has_batch { *sample.inputs.first()?.shape.first()? } else { 1 };
        let inputs = sample
            .inputs
            .iter()
            .map(|tensor| {
                if !has_batch {
                    let (shape, rows) = (tensor.shape.clone(), vec![tensor.data.to_vec()]);
                    return Some(PoolInput { dtype: tensor.dtype, shape, rows });
                }
                if tensor.shape.first() != Some(&rows) {
                    return None;
                }
                let mut split = Rows::of(tensor);
                let split = (0..rows).map(|_| split.next(1).data.to_vec()).collect();
                let shape = tensor.shape[1..].to_vec();
                Some(PoolInput { dtype: tensor.dtype, shape, rows: split })
            })
            .collect::<Option<_>>()?;
        (rows > 0).then_some(Self { inputs, rows, has_batch })
    }

    /// A pool of generated rows of these shapes; none where one row is over [`MOST_BYTES`].
    fn generated(spec: &ModelSpec, shapes: Vec<Vec<usize>>, fill: Fill) -> Option<Self> {
        let sizes = spec.inputs.iter().zip(&shapes);
        let row_bytes = sizes
            .map(|(input, shape)| tensor::byte_size(input.dtype, shape))
            .try_fold(0usize, |sum, size| sum.checked_add(size?))?;
        if row_bytes > MOST_BYTES {
            return None;
        }
        let mut random = Random(0x5167_6d61);
        let rows = POOL_ROWS;
        let inputs = spec.inputs.iter().zip(shapes).map(|(input, shape)| {
            let elements = shape.iter().product();
            let mut row = |row| random.row(input.dtype, elements, fill, row);
            PoolInput { dtype: input.dtype, shape, rows: (0..rows).map(&mut row).collect() }
        });
        Some(Self { inputs: inputs.collect(), rows, has_batch: spec.max_batch_size > 0 })
    }

    fn append(&mut self, other: &Self) {
        for (input, other) in self.inputs.iter_mut().zip(&other.inputs) {
            input.rows.extend_from_slice(&other.rows);
        }
        self.rows += other.rows;
    }

    fn truncate(&mut self, rows: usize) {
        self.rows = self.rows.min(rows);
        self.inputs.iter_mut().for_each(|input| input.rows.truncate(rows));
    }

    /// Whether any two rows of an input differ.
    pub fn has_distinct_rows(&self) -> bool {
        self.inputs.iter().any(|input| input.rows.iter().any(|row| *row != input.rows[0]))
    }

    /// The bytes of one row, over all inputs.
    pub fn row_bytes(&self) -> usize {
        self.inputs.iter().map(|input| input.rows[0].len()).sum()
    }

    /// Runs these rows as one batch.
    pub fn run(&self, engine: &mut dyn Engine, rows: &[usize]) -> Result<Vec<Tensor>, EngineError> {
        let batch = self.batch(rows);
        engine.run(&batch.iter().map(|input| Some(input.view())).collect::<Vec<_>>())
    }

    /// The answers of rows that are run alone: as many rows as the pool has and a batch may have,
    /// but one row where all are equal, for more would show nothing.
    pub fn run_alone(
        &self,
        engine: &mut dyn Engine,
        most: usize,
    ) -> Result<Vec<Vec<Tensor>>, EngineError> {
        let rows = if self.has_distinct_rows() { self.rows.min(most).max(1) } else { 1 };
        (0..rows).map(|row| self.run(engine, &[row])).collect()
    }

    /// The inputs of a batch of these rows.
    pub fn batch(&self, rows: &[usize]) -> Vec<Tensor> {
        let gather = |input: &PoolInput| {
            let bytes: Vec<u8> = rows.iter().flat_map(|&row| &input.rows[row]).copied().collect();
            let batch = if self.has_batch { Some(rows.len()) } else { None };
            Tensor {
                dtype: input.dtype,
                shape: batch.into_iter().chain(input.shape.iter().copied()).collect(),
                data: aligned(&bytes),
            }
        };
        self.inputs.iter().map(gather).collect()
    }
}

/// The sizes of an input without its batch axis.
fn own_dims<'a>(spec: &ModelSpec, input: &'a TensorSpec) -> &'a [i64] {
    let batch = usize::from(spec.max_batch_size > 0).min(input.dims.len());
    &input.dims[batch..]
}

/// The random numbers of SplitMix64 from a fixed seed: the rows are the same at every start.
struct Random(u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The bytes of a row's elements. Integers and strings begin with the parity of the row's
    /// number, so that rows differ.
    fn row(&mut self, dtype: DType, elements: usize, fill: Fill, row: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(elements * dtype.size());
        for element in 0..elements {
            let bits = self.next();
            let bit = if element == 0 { row as u64 & 1 } else { bits & 1 };
            let (integer, float) = match fill {
                Fill::Random => (bit, unit(bits)),
                // The only values of a BOOL are 0 and 1, so 2 is not generated.
                Fill::Positive if dtype == DType::Bool => (bit, 1.0),
                Fill::Positive => (bit + 1, 0.75 + unit(bits) / 4.0),
                Fill::Ones => (1, 1.0),
                Fill::Zeros => (0, 0.0),
            };
            match dtype {
                DType::Fp16 => bytes.extend(f16::from_f64(float).to_le_bytes()),
                DType::Bf16 => bytes.extend(bf16::from_f64(float).to_le_bytes()),
                DType::Fp32 => bytes.extend((float as f32).to_le_bytes()),
                DType::Fp64 => bytes.extend(float.to_le_bytes()),
                DType::Bytes => bytes.extend(strings::tensor_of(&[integer.to_string()])),
                _ => bytes.extend(&integer.to_le_bytes()[..dtype.size()]),
            }
        }
        bytes
    }
}

/// A number in [-1, 1) from the 24 highest bits, which FP32 holds exactly.
fn unit(bits: u64) -> f64 {
    (bits >> 40) as f64 / f64::from(1 << 23) - 1.0
}
