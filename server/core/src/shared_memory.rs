//! System shared memory that clients have registered.
//!
//! A region is read and written through its descriptor and never mapped: a client that shrinks or
//! rewrites it under a request gets an error or its own garbage, and cannot stop the server.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// The folder in which POSIX shared memory objects are files (shm_overview(7)).
const FOLDER: &str = "/dev/shm";

/// The most regions that may be registered at once, by all clients together: each keeps a
/// descriptor open.
const REGIONS: usize = 1024;

/// The registered regions by name; none at all where clients may not register any.
#[derive(Debug)]
pub struct Regions(Option<Mutex<BTreeMap<String, Arc<Region>>>>);

/// A part of a shared memory object.
#[derive(Debug)]
pub struct Region {
    /// The object's name, as the client gave it.
    pub key: String,
    /// Bytes of the object before the region.
    pub offset: u64,
    /// The region's length in bytes.
    pub size: u64,
    file: File,
}

/// A part of a region that a request uses; it outlives the region's registration.
#[derive(Clone, Debug)]
pub struct Slice {
    name: String,
    region: Arc<Region>,
    /// Bytes of the object before the slice.
    offset: u64,
    size: usize,
}

impl Regions {
    /// A table with no region yet, where clients may register some if that is `allowed`.
    pub fn new(allowed: bool) -> Self {
        Self(allowed.then(Mutex::default))
    }

    /// Whether clients may register regions.
    pub fn are_allowed(&self) -> bool {
        self.0.is_some()
    }

    /// Registers a part of a shared memory object, in bytes of the object, under a name that no
    /// other region has.
    pub fn register(&self, name: &str, key: &str, offset: u64, size: u64) -> Result<()> {
        let mut regions = self.lock()?;
        if regions.contains_key(name) {
            return Err(Error::RegionExists { region: name.to_owned() });
        }
        if regions.len() >= REGIONS {
            return Err(Error::TooManyRegions { limit: REGIONS });
        }
        let unopened = || Error::NoSharedMemory { key: key.to_owned() };
        let object = key.strip_prefix('/').unwrap_or(key);
        if matches!(object, "" | "." | "..") || object.contains(['/', '\0']) {
            return Err(unopened());
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(Path::new(FOLDER).join(object))
            .map_err(|_| unopened())?;
        let found = file.metadata().map_err(|_| unopened())?;
        let is_inside = offset.checked_add(size).is_some_and(|end| end <= found.len());
        if !found.is_file() || size == 0 || !is_inside {
            return Err(Error::BadRegion { region: name.to_owned() });
        }
        let region = Region { key: key.to_owned(), offset, size, file };
        regions.insert(name.to_owned(), region.into());
        Ok(())
    }

    /// Forgets a region, or all where the name is empty. Requests that use it still may finish.
    pub fn unregister(&self, name: &str) -> Result<()> {
        let mut regions = self.lock()?;
        match name {
            "" => regions.clear(),
            name => drop(regions.remove(name)),
        }
        Ok(())
    }

    /// A region by its name, or all where the name is empty.
    pub fn status(&self, name: &str) -> Result<BTreeMap<String, Arc<Region>>> {
        let regions = self.lock()?;
        if name.is_empty() {
            return Ok(regions.clone());
        }
        match regions.get(name) {
            Some(region) => Ok(BTreeMap::from([(name.to_owned(), region.clone())])),
            None => Err(Error::UnknownSystemRegion { region: name.to_owned() }),
        }
    }

    /// A part of a region; `offset` and `size` are in bytes of the region.
    pub fn slice(&self, name: &str, offset: u64, size: u64) -> Result<Slice> {
        let name = name.to_owned();
        let Some(region) = self.lock()?.get(&name).cloned() else {
            return Err(Error::UnknownRegion { region: name });
        };
        if offset >= region.size {
            return Err(Error::RegionOffset { region: name });
        }
        match usize::try_from(size) {
            Ok(bytes) if size <= region.size - offset => {
                Ok(Slice { name, offset: region.offset + offset, size: bytes, region })
            }
            _ => Err(Error::RegionRange { region: name }),
        }
    }

    fn lock(&self) -> Result<MutexGuard<'_, BTreeMap<String, Arc<Region>>>> {
        let regions = self.0.as_ref().ok_or(Error::SharedMemoryDisabled)?;
        Ok(regions.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Slice {
    /// The slice's length in bytes.
    pub fn len(&self) -> usize {
        self.size
    }

    /// Fills a buffer of the slice's length with the bytes that are there now.
    pub fn read(&self, buffer: &mut [u8]) -> Result<()> {
        let read = self.region.file.read_exact_at(buffer, self.offset);
        read.map_err(|_| self.shrunk())
    }

    /// Writes bytes at the slice's beginning. There must not be more of them than it is long.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        // A write past the end would make the object grow.
        let end = self.region.file.metadata().map(|found| found.len()).unwrap_or(0);
        if end < self.offset + bytes.len() as u64 {
            return Err(self.shrunk());
        }
        self.region.file.write_all_at(bytes, self.offset).map_err(|_| self.shrunk())
    }

    fn shrunk(&self) -> Error {
        Error::RegionRange { region: self.name.clone() }
    }
}
