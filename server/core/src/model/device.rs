//! The devices that models run on, and the options of an engine on a GPU.

use std::fmt;
use std::str::FromStr;

/// A processor that runs models, written `cpu` or `cuda:0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Device {
    /// The machine's own cores.
    #[default]
    Cpu,
    /// A GPU, by the number that CUDA gives it in this process.
    Cuda(u32),
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_prefix("cuda:").and_then(|number| number.parse().ok());
        match (text, number) {
            ("cpu", _) => Ok(Self::Cpu),
            (_, Some(number)) => Ok(Self::Cuda(number)),
            _ => Err(format!("device: expected cpu or cuda: and a number, got '{text}'")),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// The operator's options of engines on a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GpuOptions {
    /// The most bytes that the arena of one engine may hold; 0: no limit.
    pub memory_limit: usize,
    /// Whether products may be rounded to TensorFloat-32, which is faster and less exact.
    pub tf32: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_read_as_it_is_written() {
        for text in ["cpu", "cuda:0", "cuda:12"] {
            assert_eq!(text.parse::<Device>().expect("a device").to_string(), text);
        }
        for text in ["", "gpu", "cuda", "cuda:", "cuda:-1", "CPU"] {
            let error = text.parse::<Device>().expect_err("no device");
            assert!(error.contains(&format!("got '{text}'")), "{error}");
        }
    }
}
