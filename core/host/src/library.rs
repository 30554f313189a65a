//! A plugin library, opened: the other of the two homes of unsafe code, beside the SDK's `abi.rs`.
//!
//! A library is never unloaded. Its code may be anywhere on a stalled worker's stack, and the loader does not unmap Rust libraries
//! dependably anyway; a reload costs the old library's memory until the server restarts.

use std::{ffi::c_void, panic::AssertUnwindSafe, path::Path, ptr, sync::Arc};

use libloading::{Library, Symbol};
use provost_plugin::{
    Render, Spec, TemplateFailure, Variables,
    abi::{self, Buffer, Description, HostTable, PluginTable, Slice},
};

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// libloading's own message is only "dlopen failed"; the loader's is its source.
    #[error("cannot open the library: {0}")]
    Load(String),
    #[error("it is not a plugin: it does not export `provost_plugin_v1`")]
    NoEntry,
    #[error("it is not a plugin: `provost_plugin_v1` returns no valid table")]
    NoTable,
    #[error("it was built for plugin ABI {0}, this server speaks {1}; build it again with the SDK of this version")]
    Abi(u32, u32),
    #[error(
        "it was built so that a panic in it would kill the server (panic = \"abort\"); build it with panic = \"unwind\""
    )]
    Aborts,
    #[error("{0}")]
    Refused(String),
}

/// The calls of an opened library, valid for ever since it is never unloaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenLibrary {
    table: &'static PluginTable,
}

// SAFETY: the table is immutable and its functions may be called from any thread (contract of abi.rs).
unsafe impl Send for OpenLibrary {}
// SAFETY: as above.
unsafe impl Sync for OpenLibrary {}

/// What one call ended in, before anybody judged it.
#[derive(Debug)]
pub(crate) enum Reply {
    Answer(Vec<u8>),
    ByData,
    Failed(Vec<u8>),
    Panicked(String),
    Nonsense(String),
}

impl OpenLibrary {
    /// Opens a staged copy. `path` must never be written to again.
    pub(crate) fn open(path: &Path) -> Result<OpenLibrary, OpenError> {
        // SAFETY: running a plugin's initialisers is what loading a plugin means; the file is a private copy that was tried in a
        // child process before.
        let library = unsafe { Library::new(path) }.map_err(|error| OpenError::Load(chain(&error)))?;
        // SAFETY: the entry's type is fixed by its name; a library that exports it with another type breaks the contract.
        let entry: Symbol<'_, unsafe extern "C" fn() -> *const PluginTable> =
            unsafe { library.get(abi::ENTRY) }.map_err(|_| OpenError::NoEntry)?;
        // SAFETY: the entry takes nothing and returns a pointer.
        let table = unsafe { entry() };
        if table.is_null() || !table.is_aligned() {
            return Err(OpenError::NoTable);
        }
        // SAFETY: not null and aligned; a table of whatever version begins with magic, versions, size and flags, and the library
        // stays loaded for ever (`forget` below), also when it is refused here: its initialisers have run.
        let table: &'static PluginTable = unsafe { &*table };
        std::mem::forget(library);
        if table.magic != abi::MAGIC || table.size < size_of::<PluginTable>() {
            return Err(OpenError::NoTable);
        }
        if table.abi_major != abi::ABI_MAJOR {
            return Err(OpenError::Abi(table.abi_major, abi::ABI_MAJOR));
        }
        if table.flags & abi::UNWINDS == 0 {
            return Err(OpenError::Aborts);
        }
        Ok(OpenLibrary { table })
    }

    pub(crate) fn describe(self) -> Result<Description, OpenError> {
        let mut reply = Buffer::EMPTY;
        // SAFETY: the reply has a place.
        let status = unsafe { (self.table.describe)(&mut reply) };
        match self.judge(status, reply) {
            Reply::Answer(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| OpenError::Refused(format!("its description cannot be read: {error}"))),
            other => Err(OpenError::Refused(format!("it does not describe itself: {}", other.in_words()))),
        }
    }

    pub(crate) fn create(self, vendor_yaml: &str) -> Result<Instance, OpenError> {
        let mut instance = ptr::null_mut();
        let mut reply = Buffer::EMPTY;
        // SAFETY: the text is lent for this call, and both results have a place.
        let status = unsafe { (self.table.create)(Slice::lend(vendor_yaml.as_bytes()), &mut instance, &mut reply) };
        match self.judge(status, reply) {
            Reply::Answer(_) if !instance.is_null() => Ok(Instance { library: self, instance }),
            Reply::Answer(_) => Err(OpenError::Refused("it made no instance, and no error either".into())),
            other => Err(OpenError::Refused(format!("it cannot be started: {}", other.in_words()))),
        }
    }

    /// Copies a reply out, gives it back, and reads the status.
    fn judge(self, status: i32, reply: Buffer) -> Reply {
        let bytes = if reply.ptr.is_null() && reply.len > 0 {
            return Reply::Nonsense("its answer has a length but no text".into());
        } else if reply.len > REPLY_LIMIT {
            // Not copied, but given back.
            None
        } else {
            // SAFETY: the library handed over `len` bytes at `ptr`, which stay until they are given back below.
            Some(unsafe { Slice { ptr: reply.ptr, len: reply.len }.bytes() }.to_vec())
        };
        // SAFETY: the reply came from this library and is not used again.
        unsafe { (self.table.free)(reply) };
        let Some(bytes) = bytes else {
            return Reply::Nonsense(format!("its answer is longer than {} MiB", REPLY_LIMIT >> 20));
        };
        match status {
            abi::OK => Reply::Answer(bytes),
            abi::BY_DATA => Reply::ByData,
            abi::FAILED => Reply::Failed(bytes),
            abi::PANICKED => Reply::Panicked(String::from_utf8_lossy(&bytes).chars().take(500).collect()),
            abi::NOT_UNDERSTOOD => Reply::Nonsense("it does not understand the request".into()),
            other => Reply::Nonsense(format!("it answers with the unknown status {other}")),
        }
    }
}

/// A rendered file, as JSON numbers at worst, is a few times its size.
const REPLY_LIMIT: usize = 32 << 20;

impl Reply {
    pub(crate) fn in_words(&self) -> String {
        match self {
            Reply::Answer(_) => "it answered".into(),
            Reply::ByData => "it left the answer to the data".into(),
            Reply::Failed(bytes) => serde_json::from_slice::<provost_plugin::PluginError>(bytes)
                .map_or_else(|_| String::from_utf8_lossy(bytes).chars().take(500).collect(), |error| error.to_string()),
            Reply::Panicked(message) => format!("it panicked: {message}"),
            Reply::Nonsense(what) => what.clone(),
        }
    }
}

/// One constructed plugin. Dropped when the last call that holds it has ended.
#[derive(Debug)]
pub(crate) struct Instance {
    library: OpenLibrary,
    instance: *mut c_void,
}

// SAFETY: instances may be called from several threads at once (contract of abi.rs).
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}

impl Instance {
    /// Another instance of the same library, over another `vendor.yaml`.
    pub(crate) fn another(&self, vendor_yaml: &str) -> Result<Instance, OpenError> {
        self.library.create(vendor_yaml)
    }

    /// Asks the library. Blocks for as long as the library takes: see `service` for the deadline.
    pub(crate) fn call(&self, request: &[u8], templates: &dyn Render) -> Reply {
        let mut context: &dyn Render = templates;
        let host = HostTable {
            size: size_of::<HostTable>(),
            context: ptr::from_mut(&mut context).cast(),
            render: render_for_library,
            free: abi::free,
        };
        let mut reply = Buffer::EMPTY;
        // SAFETY: the instance is alive (it is destroyed on drop only), and request and host table outlive the call.
        let status = unsafe { (self.library.table.call)(self.instance, &host, Slice::lend(request), &mut reply) };
        self.library.judge(status, reply)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: `create` made the instance; drop means that no call holds it any more.
        unsafe { (self.library.table.destroy)(self.instance) };
    }
}

/// The library's way back into the template engine.
unsafe extern "C" fn render_for_library(context: *mut c_void, request: Slice, reply: *mut Buffer) -> i32 {
    // No panic may leave this function: there is foreign code above it on the stack.
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: `call` put a live `&dyn Render` there, and the library uses it only during that call.
        let templates: &dyn Render = unsafe { *context.cast::<&dyn Render>() };
        // SAFETY: the library lends the request for this call.
        render_request(templates, unsafe { request.bytes() })
    }));
    let (status, bytes) = match result {
        Ok(Ok(text)) => (abi::OK, text.into_bytes()),
        Ok(Err(failure)) => (abi::FAILED, serde_json::to_vec(&failure).unwrap_or_default()),
        Err(_) => {
            let failure =
                TemplateFailure { template: String::new(), line: 0, message: "the template engine panicked".into() };
            (abi::FAILED, serde_json::to_vec(&failure).unwrap_or_default())
        }
    };
    // SAFETY: the library passes a place for the reply.
    unsafe { *reply = Buffer::hand_over(bytes) };
    status
}

fn render_request(templates: &dyn Render, request: &[u8]) -> Result<String, TemplateFailure> {
    #[derive(serde::Deserialize)]
    struct Wanted {
        template: String,
        variables: Variables,
    }
    let wanted: Wanted = serde_json::from_slice(request).map_err(|error| TemplateFailure {
        template: String::new(),
        line: 0,
        message: format!("the library's request to render cannot be read: {error}"),
    })?;
    templates.render(&wanted.template, &wanted.variables)
}

/// What the child process does with a staged library: everything that could kill it.
pub fn probe(path: &Path) -> Result<Arc<str>, OpenError> {
    let library = OpenLibrary::open(path)?;
    let description = library.describe()?;
    // What it is like is not known here; such a library is first started in the server, with what it inherits.
    if serde_yaml::from_str::<Spec>(&description.vendor_yaml).map_or(true, |spec| spec.like.is_none()) {
        library.create(&description.vendor_yaml)?;
    }
    Ok(description.version.into())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = error.to_string();
        cause = error.source();
    }
    words
}
