//! A budget for what one thread allocates, so that a program of a stranger (a chat
//! template) cannot take the machine's memory. Within `metered`, an allocation beyond
//! the budget fails; what has no answer to a failed allocation unwinds to `metered`.
//! Everything else on the thread and on other threads is not touched.
use std::alloc::{set_alloc_error_hook, GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::Once;

const UNLIMITED: isize = isize::MAX;

thread_local! {
    /// Bytes that may still be allocated. Without a destructor and made at compile
    /// time: reading it allocates nothing.
    static LEFT: Cell<isize> = const { Cell::new(UNLIMITED) };
}

struct Metered;

#[global_allocator]
static ALLOCATOR: Metered = Metered;

/// Takes `bytes` (negative: gives back) from the thread's budget, if they are there.
fn take(bytes: isize) -> bool {
    LEFT.with(|left| match left.get() {
        UNLIMITED => true,
        // A panic on its way allocates, and must not meet another.
        rest if bytes > rest => std::thread::panicking(),
        rest => {
            left.set(rest.saturating_sub(bytes).min(UNLIMITED - 1));
            true
        }
    })
}

// SAFETY: every call goes to the system's allocator or fails with a null pointer.
unsafe impl GlobalAlloc for Metered {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A layout is never larger than isize::MAX.
        if !take(layout.size() as isize) {
            return std::ptr::null_mut();
        }
        System.alloc(layout)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !take(layout.size() as isize) {
            return std::ptr::null_mut();
        }
        System.alloc_zeroed(layout)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        take(-(layout.size() as isize));
        System.dealloc(at, layout)
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !take(size as isize - layout.size() as isize) {
            return std::ptr::null_mut();
        }
        System.realloc(at, layout, size)
    }
}

/// What unwinds from an allocation that failed.
struct OutOfMemory;

/// Restores the budget around, also while unwinding.
struct Restore(isize);

impl Drop for Restore {
    fn drop(&mut self) {
        LEFT.with(|left| left.set(self.0));
    }
}

fn unwind(_: Layout) {
    // What runs while unwinding may allocate.
    if LEFT.with(|left| left.replace(UNLIMITED)) != UNLIMITED {
        resume_unwind(Box::new(OutOfMemory));
    }
    // The machine itself has no memory: std aborts.
}

/// Runs `body` with `bytes` to allocate beyond what it frees. The error says so when
/// they do not suffice.
pub fn metered<T>(bytes: usize, body: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| set_alloc_error_hook(unwind));
    let budget = isize::try_from(bytes).unwrap_or(UNLIMITED).min(UNLIMITED - 1);
    let restore = Restore(LEFT.with(|left| left.replace(budget)));
    let result = catch_unwind(AssertUnwindSafe(body));
    drop(restore);
    result.unwrap_or_else(|payload| {
        if payload.is::<OutOfMemory>() {
            return Err(format!("expected at most {bytes} bytes of memory, found more"));
        }
        resume_unwind(payload)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_stopped_and_freed_bytes_come_back() {
        let grown = metered(1 << 20, || {
            let mut text = "x".repeat(1000);
            loop {
                text = format!("{text}{text}");
            }
            #[allow(unreachable_code)]
            Ok(())
        });
        assert_eq!(grown.unwrap_err(), "expected at most 1048576 bytes of memory, found more");
        let kept =
            metered(1 << 20, || Ok((0..1000).map(|_| "x".repeat(100_000).len()).sum::<usize>()));
        assert_eq!(kept, Ok(100_000_000));
    }

    #[test]
    fn what_can_fail_fails() {
        let tried = metered(1000, || {
            let mut bytes: Vec<u8> = Vec::new();
            Ok(bytes.try_reserve(2000).is_err())
        });
        assert_eq!(tried, Ok(true));
    }

    #[test]
    fn other_panics_pass_and_the_budget_ends() {
        let text = "other".repeat(100);
        let panic = catch_unwind(|| metered(0, || -> Result<(), String> { panic!("{text}") }));
        assert_eq!(panic.unwrap_err().downcast_ref::<String>(), Some(&text));
        assert_eq!("x".repeat(1 << 20).len(), 1 << 20);
        let other = metered(1 << 20, || {
            std::thread::spawn(|| "x".repeat(1 << 22).len()).join().map_err(|_| "joined".into())
        });
        assert_eq!(other, Ok(1 << 22));
    }
}
