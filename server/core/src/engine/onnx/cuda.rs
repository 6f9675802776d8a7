//! The memory of NVIDIA GPUs, through CUDA's runtime library.
//!
//! The library is the one that the process has loaded already for ONNX Runtime's provider. It is
//! opened by its name, and nothing is linked.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fmt;
use std::hint::spin_loop;
use std::path::Path;
use std::ptr;
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};

use super::memory::{Memory, Pair};
use crate::engine::EngineError;

/// The names of the library, the newest first.
const NAMES: [&str; 2] = ["libcudart.so.13", "libcudart.so.12"];
/// The flag by which only a library is found that has been loaded already (dlfcn.h).
const RTLD_NOLOAD: c_int = 4;
/// Time for which a worker looks for the end of a batch before it sleeps: a small batch ends sooner
/// than a worker would wake up.
const SPIN: Duration = Duration::from_micros(50);

// These are values of driver_types.h and cuda_runtime_api.h.
const OUT_OF_MEMORY: c_int = 2;
const NOT_READY: c_int = 600;
const STREAM_NON_BLOCKING: c_uint = 1;
/// The flags of an event whose waiter sleeps, and which records no times.
const EVENT_FLAGS: c_uint = 1 | 2;
const TO_DEVICE: c_int = 1;
const TO_HOST: c_int = 2;

/// Declares the library's functions that are used, and how they are found in it.
macro_rules! functions {
    ($($name:ident = $symbol:literal($($argument:ty),*);)*) => {
        struct Functions {
            $($name: unsafe extern "C" fn($($argument),*) -> c_int,)*
            error_string: unsafe extern "C" fn(c_int) -> *const c_char,
        }

        impl Functions {
            #[allow(unsafe_code)]
            fn of(library: &Library) -> Result<Self, libloading::Error> {
                // SAFETY: the types are those of the library's header, the same in every version;
                // the library stays open for as long as the functions are kept.
                unsafe {
                    Ok(Self {
                        $($name: *library.get($symbol)?,)*
                        error_string: *library.get(b"cudaGetErrorString")?,
                    })
                }
            }
        }
    };
}

functions! {
    set_device = b"cudaSetDevice"(c_int);
    get_last_error = b"cudaGetLastError"();
    mem_get_info = b"cudaMemGetInfo"(*mut usize, *mut usize);
    malloc = b"cudaMalloc"(*mut *mut c_void, usize);
    free = b"cudaFree"(*mut c_void);
    malloc_host = b"cudaMallocHost"(*mut *mut c_void, usize);
    free_host = b"cudaFreeHost"(*mut c_void);
    memcpy = b"cudaMemcpyAsync"(*mut c_void, *const c_void, usize, c_int, *mut c_void);
    stream_create = b"cudaStreamCreateWithFlags"(*mut *mut c_void, c_uint);
    stream_destroy = b"cudaStreamDestroy"(*mut c_void);
    end_capture = b"cudaStreamEndCapture"(*mut c_void, *mut *mut c_void);
    graph_destroy = b"cudaGraphDestroy"(*mut c_void);
    event_create = b"cudaEventCreateWithFlags"(*mut *mut c_void, c_uint);
    event_destroy = b"cudaEventDestroy"(*mut c_void);
    event_record = b"cudaEventRecord"(*mut c_void, *mut c_void);
    event_query = b"cudaEventQuery"(*mut c_void);
    event_synchronize = b"cudaEventSynchronize"(*mut c_void);
}

/// CUDA's runtime library.
pub(super) struct Runtime {
    functions: Functions,
    _library: Library,
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

impl Runtime {
    /// Opens the library that the process has loaded, or else the one that the system finds.
    pub fn open() -> Result<Arc<Self>, EngineError> {
        let mut last = String::new();
        for flags in [RTLD_NOLOAD, 0] {
            for name in NAMES {
                match Self::open_as(Path::new(name), flags) {
                    Ok(runtime) => return Ok(runtime),
                    Err(error) => last = error.to_string(),
                }
            }
        }
        Err(EngineError::Fault(format!(
            "expected CUDA's runtime library as {}, and it cannot be opened: {last}",
            NAMES.join(" or ")
        )))
    }

    #[allow(unsafe_code)]
    pub(super) fn open_as(path: &Path, flags: c_int) -> Result<Arc<Self>, libloading::Error> {
        // SAFETY: what NVIDIA's library does when it is loaded is to register itself.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL | flags)? };
        Ok(Arc::new(Self { functions: Functions::of(&library)?, _library: library }))
    }

    /// The memory of a GPU, for a session of the calling thread, which is on that GPU from now on.
    #[allow(unsafe_code)]
    pub fn memory(self: Arc<Self>, number: u32) -> Result<Cuda, EngineError> {
        let mut stream =
            CudaStream { runtime: self, number, handle: ptr::null_mut(), event: ptr::null_mut() };
        let functions = &stream.runtime.functions;
        // SAFETY: a call without pointers, and two that write to memory of ours.
        unsafe {
            stream.check("cudaSetDevice", (functions.set_device)(number as c_int))?;
            let created = (functions.stream_create)(&mut stream.handle, STREAM_NON_BLOCKING);
            stream.check("cudaStreamCreateWithFlags", created)?;
            let created = (stream.runtime.functions.event_create)(&mut stream.event, EVENT_FLAGS);
            stream.check("cudaEventCreateWithFlags", created)?;
        }
        Ok(Cuda(Arc::new(stream)))
    }
}

/// A GPU's memory, and the stream on which all copies and runs take place.
#[derive(Debug)]
pub(super) struct Cuda(Arc<CudaStream>);

/// The handles of one worker's engine on a GPU: its stream, and the event that it waits with.
#[derive(Debug)]
struct CudaStream {
    runtime: Arc<Runtime>,
    number: u32,
    handle: *mut c_void,
    event: *mut c_void,
}

// SAFETY: CUDA's handles may be used by any thread; these are used by one at a time.
#[allow(unsafe_code)]
unsafe impl Send for CudaStream {}
// SAFETY: CUDA's handles may be used by any thread; these are shared by the parts of one engine
// alone.
#[allow(unsafe_code)]
unsafe impl Sync for CudaStream {}

impl CudaStream {
    /// The error that a call's code stands for. Only a lack of memory leaves the device usable.
    #[allow(unsafe_code)]
    fn check(&self, call: &str, code: c_int) -> Result<(), EngineError> {
        if code == 0 {
            return Ok(());
        }
        let functions = &self.runtime.functions;
        // SAFETY: the library gives a text of its own for every number. The error must be taken, or
        // the next caller that asks, perhaps ONNX Runtime, takes it for its own.
        let text = unsafe {
            (functions.get_last_error)();
            CStr::from_ptr((functions.error_string)(code)).to_string_lossy()
        };
        let text = format!("cuda:{}: {call}: CUDA error {code}: {text}", self.number);
        match code {
            OUT_OF_MEMORY => Err(EngineError::Fault(text)),
            _ => Err(EngineError::Device(text)),
        }
    }
}

impl CudaStream {
    /// The free bytes and all bytes of the GPU.
    #[allow(unsafe_code)]
    fn room(&self) -> Result<(usize, usize), EngineError> {
        let (mut free, mut all) = (0, 0);
        // SAFETY: two numbers are written to memory of ours.
        let code = unsafe { (self.runtime.functions.mem_get_info)(&mut free, &mut all) };
        self.check("cudaMemGetInfo", code).map(|()| (free, all))
    }
}

impl Drop for CudaStream {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        let functions = &self.runtime.functions;
        // SAFETY: event and stream are ours, or null, which is refused; they are used no more.
        unsafe {
            (functions.event_destroy)(self.event);
            (functions.stream_destroy)(self.handle);
        }
    }
}

impl Memory for Cuda {
    #[allow(unsafe_code)]
    fn pair(&self, bytes: usize) -> Result<Box<dyn Pair>, EngineError> {
        let functions = &self.0.runtime.functions;
        // At least one byte is allocated, for memory of no bytes has no address.
        let size = bytes.max(1);
        let mut pair = CudaPair {
            stream: self.0.clone(),
            host: ptr::null_mut(),
            device: ptr::null_mut(),
            bytes,
        };
        // SAFETY: addresses are written to memory of ours; the host's is valid for its size.
        unsafe {
            self.0.check("cudaMalloc", (functions.malloc)(&mut pair.device, size))?;
            self.0.check("cudaMallocHost", (functions.malloc_host)(&mut pair.host, size))?;
            pair.host.write_bytes(0, size);
        }
        pair.upload(bytes)?;
        Ok(Box::new(pair))
    }

    fn anew(&self) -> Result<Box<dyn Memory>, EngineError> {
        Ok(Box::new(self.0.runtime.clone().memory(self.0.number)?))
    }

    fn stream(&self) -> usize {
        self.0.handle.expose_provenance()
    }

    #[allow(unsafe_code)]
    fn wait(&self) -> Result<(), EngineError> {
        let (stream, functions) = (&self.0, &self.0.runtime.functions);
        // SAFETY: stream and event are alive, and of this GPU.
        unsafe {
            stream
                .check("cudaEventRecord", (functions.event_record)(stream.event, stream.handle))?;
            let begun = Instant::now();
            while begun.elapsed() < SPIN {
                match (functions.event_query)(stream.event) {
                    NOT_READY => spin_loop(),
                    code => return stream.check("cudaEventQuery", code),
                }
            }
            stream.check("cudaEventSynchronize", (functions.event_synchronize)(stream.event))
        }
    }

    #[allow(unsafe_code)]
    fn end_capture(&self) {
        let (stream, functions) = (&self.0, &self.0.runtime.functions);
        let mut graph = ptr::null_mut();
        // SAFETY: the stream is alive; where nothing is captured on it, the call gives an error. A
        // graph that the capture has left is ours. The error is taken, so that none is left for the
        // next caller that asks.
        unsafe {
            (functions.end_capture)(stream.handle, &mut graph);
            if !graph.is_null() {
                (functions.graph_destroy)(graph);
            }
            (functions.get_last_error)();
        }
    }

    fn info(&self) -> ort::Result<MemoryInfo<'static>> {
        let number = self.0.number as i32;
        MemoryInfo::new(AllocationDevice::CUDA, number, AllocatorType::Device, MemoryType::Default)
    }

    fn room(&self) -> Option<(usize, usize)> {
        self.0.room().ok()
    }

    /// Checks that a call still works: a kernel that has gone wrong ends the process's context on
    /// the GPU.
    fn check(&self) -> Result<(), EngineError> {
        self.0.room().map(drop)
    }
}

#[derive(Debug)]
struct CudaPair {
    stream: Arc<CudaStream>,
    /// The host's part, which is pinned, so that the GPU reads and writes it by itself.
    host: *mut c_void,
    device: *mut c_void,
    bytes: usize,
}

// SAFETY: both parts are the pair's own, and one thread at a time uses them.
#[allow(unsafe_code)]
unsafe impl Send for CudaPair {}

impl Pair for CudaPair {
    #[allow(unsafe_code)]
    fn host(&mut self) -> &mut [u8] {
        // SAFETY: the host's part has as many bytes, all of them written, and no copy is under way:
        // the caller that begins a copy waits for it.
        unsafe { slice::from_raw_parts_mut(self.host.cast(), self.bytes) }
    }

    fn address(&self) -> usize {
        self.device.expose_provenance()
    }

    #[allow(unsafe_code)]
    fn upload(&mut self, bytes: usize) -> Result<(), EngineError> {
        assert!(bytes <= self.bytes, "{bytes} of {}", self.bytes);
        let (host, stream) = (self.host, self.stream.handle);
        // SAFETY: both parts have as many bytes, and live until the copy has been waited for.
        let code = unsafe {
            (self.stream.runtime.functions.memcpy)(self.device, host, bytes, TO_DEVICE, stream)
        };
        self.stream.check("cudaMemcpyAsync", code)
    }

    #[allow(unsafe_code)]
    fn download(&mut self, bytes: usize) -> Result<(), EngineError> {
        assert!(bytes <= self.bytes, "{bytes} of {}", self.bytes);
        let (host, stream) = (self.host, self.stream.handle);
        // SAFETY: both parts have as many bytes, and live until the copy has been waited for.
        let code = unsafe {
            (self.stream.runtime.functions.memcpy)(host, self.device, bytes, TO_HOST, stream)
        };
        self.stream.check("cudaMemcpyAsync", code)
    }
}

impl Drop for CudaPair {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        let functions = &self.stream.runtime.functions;
        // SAFETY: both parts are ours or were never had; to free memory waits for the work that
        // uses it.
        unsafe {
            (functions.free)(self.device);
            (functions.free_host)(self.host);
        }
    }
}
