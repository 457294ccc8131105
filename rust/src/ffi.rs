//! What every function of the C interface shares: borrowed slices, owned buffers, and
//! the guard that turns errors and panics into one line of text.
use std::any::Any;
use std::panic::{catch_unwind, set_hook, AssertUnwindSafe};
use std::sync::Once;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slice {
    data: *const u8,
    size: usize,
}

impl Slice {
    /// # Safety
    /// `data` points to `size` bytes that outlive `'a`, or `size` is 0.
    pub unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.size == 0 {
            return &[];
        }
        std::slice::from_raw_parts(self.data, self.size)
    }

    /// # Safety
    /// As `bytes`.
    pub unsafe fn text<'a>(self) -> Result<&'a str, String> {
        std::str::from_utf8(self.bytes())
            .map_err(|e| format!("expected UTF-8, found an invalid byte at {}", e.valid_up_to()))
    }
}

/// `count` items at `data`; a null pointer or 0 is an empty slice.
///
/// # Safety
/// `data` points to `count` valid items that outlive `'a`, or is null.
pub unsafe fn items<'a, T>(data: *const T, count: usize) -> &'a [T] {
    if data.is_null() || count == 0 {
        return &[];
    }
    std::slice::from_raw_parts(data, count)
}

#[repr(C)]
pub struct Buffer {
    data: *mut u8,
    size: usize,
    capacity: usize,
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        let mut bytes = std::mem::ManuallyDrop::new(bytes);
        Buffer { data: bytes.as_mut_ptr(), size: bytes.len(), capacity: bytes.capacity() }
    }
}

impl From<String> for Buffer {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

/// # Safety
/// `buffer` came from this library and is freed once.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_buffer_free(buffer: Buffer) {
    if buffer.capacity != 0 {
        drop(Vec::from_raw_parts(buffer.data, buffer.size, buffer.capacity));
    }
}

fn panic_text(payload: Box<dyn Any + Send>) -> String {
    let text = match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload.downcast_ref::<&str>().unwrap_or(&"unknown").to_string(),
    };
    format!("internal failure: {text}")
}

/// Runs `body`; a panic becomes an error, and nothing is printed.
pub fn caught<T>(body: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| set_hook(Box::new(|_| {})));
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => result,
        Err(payload) => Err(panic_text(payload)),
    }
}

/// The frame of a function that can fail: 1 with `*out` set, or 0 with `*error` set.
///
/// # Safety
/// `out` and `error` are valid for writing.
pub unsafe fn guard<T>(
    out: *mut T,
    error: *mut Buffer,
    body: impl FnOnce() -> Result<T, String>,
) -> i32 {
    match caught(body) {
        Ok(value) => {
            out.write(value);
            1
        }
        Err(text) => {
            error.write(text.replace(['\n', '\r'], " ").into());
            0
        }
    }
}
