//! The allocator of the host's memory for ONNX Runtime: a run that takes too much fails alone.
//!
//! The library's own arena has no limit, and keeps for ever what a run has once taken. A session
//! runs on its caller's thread and allocates there, so the memory of a run is counted by its
//! thread.

use std::alloc::{Layout, alloc, dealloc};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::mem;
use std::ptr;
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use ort::environment::Environment;
use ort::{AsPointer, sys};

use super::errors::run_error;
use crate::engine::EngineError;

/// Bytes of the alignment that the library's vector kernels want.
const ALIGNMENT: usize = 64;
/// Bytes of the head that lies before a block.
const HEAD: usize = size_of::<Head>();
/// The least bytes of a block that is kept for the next run: the system would clear each of its
/// pages anew.
const LARGE: usize = 64 << 10;
/// The most bytes that a thread keeps for the next run.
const KEPT_BYTES: usize = 64 << 20;
/// The most blocks that a thread keeps for the next run.
const KEPT_BLOCKS: usize = 64;
/// The flag by which only a library is found that has been loaded already (dlfcn.h).
const RTLD_NOLOAD: c_int = 4;

/// The head of a block: where its memory begins, and the bytes that the library may use.
#[derive(Clone, Copy)]
struct Head {
    start: *mut u8,
    size: usize,
}

impl Head {
    /// The layout of the whole block, with its head and its alignment.
    fn layout(self) -> Layout {
        layout(self.size).expect("it has been allocated by this")
    }
}

fn layout(size: usize) -> Option<Layout> {
    let size = size.checked_add(HEAD + ALIGNMENT)?;
    Layout::from_size_align(size, align_of::<Head>()).ok()
}

/// Large blocks that are not in use, the newest last.
#[derive(Default)]
struct Kept {
    blocks: VecDeque<Head>,
    bytes: usize,
}

impl Kept {
    /// The smallest kept block that has `size` bytes, and at most a quarter more.
    fn take(&mut self, size: usize) -> Option<Head> {
        let fits = |block: &Head| (size..=size + size / 4).contains(&block.size);
        let blocks = self.blocks.iter().enumerate().filter(|(_, block)| fits(block));
        let (at, _) = blocks.min_by_key(|(_, block)| block.size)?;
        let block = self.blocks.remove(at)?;
        self.bytes -= block.size;
        Some(block)
    }

    fn put(&mut self, block: Head) {
        self.bytes += block.size;
        self.blocks.push_back(block);
        while self.bytes > KEPT_BYTES || self.blocks.len() > KEPT_BLOCKS {
            let Some(oldest) = self.blocks.pop_front() else { break };
            self.bytes -= oldest.size;
            free_now(oldest);
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.blocks.drain(..).for_each(free_now);
    }
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
    /// The bytes that the thread's run holds. They are below zero where the run has freed blocks of
    /// earlier runs.
    static USED: Cell<isize> = const { Cell::new(0) };
    static LIMIT: Cell<isize> = const { Cell::new(isize::MAX) };
    /// The bytes that the run would have held, had it not been refused; 0: it was not refused.
    static REFUSED: Cell<usize> = const { Cell::new(0) };
}

/// A guard that lifts the limit when it is dropped.
struct Limited;

impl Drop for Limited {
    fn drop(&mut self) {
        LIMIT.set(isize::MAX);
    }
}

/// Does work that may hold at most `limit` bytes of the library's memory. The second result is the
/// bytes that the work wanted to hold; none where it was refused nothing.
pub(super) fn within<T>(limit: usize, work: impl FnOnce() -> T) -> (T, Option<usize>) {
    USED.set(0);
    REFUSED.set(0);
    LIMIT.set(isize::try_from(limit).unwrap_or(isize::MAX));
    let limited = Limited;
    let came = work();
    drop(limited);
    let refused = REFUSED.get();
    (came, (refused > 0).then_some(refused))
}

/// Registers the allocator, from which those sessions of the environment take their memory that are
/// told to.
#[allow(unsafe_code)]
pub(super) fn register(environment: &Environment) -> Result<(), EngineError> {
    let _ = THROW.set(find_throw());
    if throw().is_none() {
        tracing::warn!("no limit of a model's memory is kept: there is no libstdc++.so.6");
    }
    let mut info = ptr::null_mut();
    let (kind, place) =
        (sys::OrtAllocatorType::OrtDeviceAllocator, sys::OrtMemType::OrtMemTypeDefault);
    // SAFETY: the address is written to memory of ours.
    let status = unsafe { (ort::api().CreateCpuMemoryInfo)(kind, place, &mut info) };
    // SAFETY: the status is the library's.
    unsafe { ort::Error::result_from_status(status) }.map_err(|error| run_error(&error))?;
    // SAFETY: functions that unwind are called as others are, and the library's own allocators
    // throw, too.
    let allocate: unsafe extern "system" fn(*mut sys::OrtAllocator, usize) -> *mut c_void =
        unsafe { mem::transmute(allocate as unsafe extern "C-unwind" fn(_, _) -> _) };
    // SAFETY: the same holds for this function.
    let reserve: unsafe extern "system" fn(*const sys::OrtAllocator, usize) -> *mut c_void =
        unsafe { mem::transmute(reserve as unsafe extern "C-unwind" fn(_, _) -> _) };
    // SAFETY: there are no fields that could be wrong.
    let allocator = sys::OrtAllocator {
        Alloc: Some(allocate),
        Free: Some(free),
        Info: Some(info_of),
        Reserve: Some(reserve),
        ..unsafe { sys::OrtAllocator::default() }
    };
    // The allocator is leaked, for it must live as long as the environment, which is the process.
    let allocator = Box::leak(Box::new(Heap { allocator, info }));
    // SAFETY: environment and allocator are alive from now on.
    unsafe {
        let environment = environment.ptr().cast_mut();
        let status = (ort::api().RegisterAllocator)(environment, &mut allocator.allocator);
        ort::Error::result_from_status(status).map_err(|error| run_error(&error))
    }
}

/// The allocator as the library knows it.
#[repr(C)]
struct Heap {
    allocator: sys::OrtAllocator,
    info: *mut sys::OrtMemoryInfo,
}

#[allow(unsafe_code)]
unsafe extern "system" fn info_of(heap: *const sys::OrtAllocator) -> *const sys::OrtMemoryInfo {
    // SAFETY: the library gives what it was given.
    unsafe { (*heap.cast::<Heap>()).info }
}

#[allow(unsafe_code)]
unsafe extern "C-unwind" fn allocate(_: *mut sys::OrtAllocator, size: usize) -> *mut c_void {
    give(size)
}

#[allow(unsafe_code)]
unsafe extern "C-unwind" fn reserve(_: *const sys::OrtAllocator, size: usize) -> *mut c_void {
    give(size)
}

/// A block of memory, or an exception of C++ where there is none, because the library does not
/// check that it has got one. This function holds nothing that an exception would leave undropped.
extern "C-unwind" fn give(size: usize) -> *mut c_void {
    if size == 0 {
        return ptr::null_mut();
    }
    match block(size) {
        Some(block) => block,
        None => match throw() {
            // SAFETY: the function takes nothing, and its exception is the library's to catch.
            #[allow(unsafe_code)]
            Some(throw) => unsafe { throw() },
            None => ptr::null_mut(),
        },
    }
}

/// A block of `size` bytes; none where the run may not have it, or the system has no memory.
fn block(size: usize) -> Option<*mut c_void> {
    let held = USED.get().saturating_add_unsigned(size);
    if held > LIMIT.get() && throw().is_some() {
        REFUSED.set(usize::try_from(held).unwrap_or(size));
        return None;
    }
    let kept = (size >= LARGE).then(|| KEPT.try_with(|kept| kept.borrow_mut().take(size)).ok());
    let head = match kept.flatten().flatten() {
        Some(head) => head,
        None => new(size)?,
    };
    USED.set(USED.get().saturating_add_unsigned(head.size));
    Some(with_head(head).cast())
}

#[allow(unsafe_code)]
fn new(size: usize) -> Option<Head> {
    // SAFETY: the layout's size is not zero.
    let start = unsafe { alloc(layout(size)?) };
    (!start.is_null()).then_some(Head { start, size })
}

/// The address of the block's first byte that is the library's. The head is written right before
/// it.
#[allow(unsafe_code)]
fn with_head(head: Head) -> *mut u8 {
    // SAFETY: there is room for a head and for what the alignment takes.
    unsafe {
        let block = head.start.add(HEAD);
        let block = block.add(block.align_offset(ALIGNMENT));
        block.sub(HEAD).cast::<Head>().write(head);
        block
    }
}

#[allow(unsafe_code)]
unsafe extern "system" fn free(_: *mut sys::OrtAllocator, block: *mut c_void) {
    if block.is_null() {
        return;
    }
    // SAFETY: the block is one of ours, and its head lies before it.
    let head = unsafe { block.cast::<u8>().sub(HEAD).cast::<Head>().read() };
    USED.set(USED.get().saturating_sub_unsigned(head.size));
    // A thread that is ending keeps no block any more.
    let kept = head.size >= LARGE && KEPT.try_with(|kept| kept.borrow_mut().put(head)).is_ok();
    if !kept {
        free_now(head);
    }
}

#[allow(unsafe_code)]
fn free_now(head: Head) {
    // SAFETY: the block has been allocated with this layout, and is used no more.
    unsafe { dealloc(head.start, head.layout()) };
}

type Throw = unsafe extern "C-unwind" fn() -> !;

static THROW: OnceLock<Option<Throw>> = OnceLock::new();

/// The function that throws `std::bad_alloc`, as the library's own allocators do; none where
/// libstdc++ was not found.
fn throw() -> Option<Throw> {
    THROW.get().copied().flatten()
}

#[allow(unsafe_code)]
fn find_throw() -> Option<Throw> {
    // SAFETY: the library has been loaded already, with ONNX Runtime, which stays loaded.
    let library =
        unsafe { Library::open(Some("libstdc++.so.6"), RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD).ok()? };
    // SAFETY: `void std::__throw_bad_alloc()` is part of the library's stable interface.
    let throw = unsafe { *library.get::<Throw>(b"_ZSt17__throw_bad_allocv").ok()? };
    mem::forget(library);
    Some(throw)
}
