//! Wakes the engine's thread for a future of its: a descriptor that epoll watches, and a list of who rang.

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, Mutex, PoisonError},
    task::{Wake, Waker},
};

use nix::sys::eventfd::{EfdFlags, EventFd};

#[derive(Debug)]
pub(crate) struct Bell {
    descriptor: EventFd,
    rang: Mutex<Vec<usize>>,
}

impl Bell {
    pub(crate) fn new() -> nix::Result<Arc<Bell>> {
        let descriptor = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Arc::new(Bell { descriptor, rang: Mutex::default() }))
    }

    /// Readable when somebody rang.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Who rang since the last time.
    pub(crate) fn take(&self) -> Vec<usize> {
        // Before the list: who rings in between is then on it, and rings once too often at worst.
        let _ = self.descriptor.read();
        std::mem::take(&mut *self.rang.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn waker(self: &Arc<Bell>, key: usize) -> Waker {
        Arc::new(Rope { bell: Arc::clone(self), key }).into()
    }
}

struct Rope {
    bell: Arc<Bell>,
    key: usize,
}

impl Wake for Rope {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.bell.rang.lock().unwrap_or_else(PoisonError::into_inner).push(self.key);
        // It fails where so many have rung that it is readable anyway.
        let _ = self.bell.descriptor.write(1);
    }
}
